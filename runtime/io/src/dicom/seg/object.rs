//! The data set of a segmentation object, module by module (PS3.3, A.51.3).

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::mem::InMemElement;
use dicom_object::{InMemDicomObject, Tag};

use super::super::elements::{Code, code, element, long_string, number, one, sequence};
use super::{DicomSeg, DicomSegKind, MAX_FRACTION};

/// Added to the source's series number.
const SERIES_OFFSET: i64 = 1000;
const SOURCE_PURPOSE: Code = ("121322", "DCM", "Source image for image processing operation");
const SEGMENTATION: Code = ("113076", "DCM", "Segmentation");

/// What is told of the source's compression where the source tells it.
const COMPRESSION: [Tag; 2] = [tags::LOSSY_IMAGE_COMPRESSION_RATIO, tags::LOSSY_IMAGE_COMPRESSION_METHOD];

impl DicomSeg {
    /// The whole data set.
    pub(super) fn object(self) -> InMemDicomObject {
        let mut object = InMemDicomObject::new_empty();
        self.derived.patient_and_study(&mut object);
        self.derived.series_and_equipment(&mut object, "SEG", "Segmentation", SERIES_OFFSET);
        self.references(&mut object);
        self.image(&mut object);
        self.dimensions(&mut object);
        self.functional_groups(&mut object);
        object.put(element(tags::SOP_INSTANCE_UID, VR::UI, self.derived.uid("instance", &self.pixels)));
        object.put(self.segments);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(self.pixels)));
        object
    }

    /// The source as a whole.
    fn references(&self, object: &mut InMemDicomObject) {
        let instance = vec![InMemDicomObject::from_element_iter(self.derived.source_instance())];
        let series = self.derived.source.get(tags::SERIES_INSTANCE_UID).cloned();
        let reference = [sequence(tags::REFERENCED_INSTANCE_SEQUENCE, instance)].into_iter().chain(series);
        object.put(one(tags::REFERENCED_SERIES_SEQUENCE, reference));
        object.put(one(tags::SOURCE_IMAGE_SEQUENCE, self.derived.source_instance()));
    }

    /// The Segmentation Image module (PS3.3, C.8.20.2) and what an image has besides.
    fn image(&self, object: &mut InMemDicomObject) {
        let [rows, columns] = self.size;
        let bits = if self.kind == DicomSegKind::Binary { 1_u16 } else { 8 };
        let (date, time) = self.derived.content_date();
        for tag in COMPRESSION {
            self.derived.source.get(tag).cloned().map(|element| object.put(element));
        }
        for element in [
            element(tags::SOP_CLASS_UID, VR::UI, uids::SEGMENTATION_STORAGE),
            element(tags::IMAGE_TYPE, VR::CS, PrimitiveValue::Strs(vec!["DERIVED".into(), "PRIMARY".into()].into())),
            element(tags::CONTENT_DATE, VR::DA, date),
            element(tags::CONTENT_TIME, VR::TM, time),
            element(tags::CONTENT_LABEL, VR::CS, "SEGMENTATION"),
            long_string(tags::CONTENT_DESCRIPTION, &format!("Segmentation by {}", self.derived.algorithm.name)),
            DataElement::empty(tags::CONTENT_CREATOR_NAME, VR::PN),
            DataElement::empty(tags::PATIENT_ORIENTATION, VR::CS),
            element(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if self.lossy { "01" } else { "00" }),
            number(tags::SAMPLES_PER_PIXEL, 1),
            element(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
            // Read from 16 bits.
            number(tags::ROWS, rows as u16),
            number(tags::COLUMNS, columns as u16),
            number(tags::BITS_ALLOCATED, bits),
            number(tags::BITS_STORED, bits),
            number(tags::HIGH_BIT, bits - 1),
            number(tags::PIXEL_REPRESENTATION, 0),
            element(tags::NUMBER_OF_FRAMES, VR::IS, (self.frames * (self.classes - 1)).to_string()),
        ] {
            object.put(element);
        }
        match self.kind {
            DicomSegKind::Binary => {
                object.put(element(tags::SEGMENTATION_TYPE, VR::CS, "BINARY"));
                object.put(element(tags::SEGMENTS_OVERLAP, VR::CS, "NO"));
            }
            DicomSegKind::Fractional => {
                object.put(element(tags::SEGMENTATION_TYPE, VR::CS, "FRACTIONAL"));
                object.put(element(tags::SEGMENTATION_FRACTIONAL_TYPE, VR::CS, "PROBABILITY"));
                object.put(number(tags::MAXIMUM_FRACTIONAL_VALUE, MAX_FRACTION));
                object.put(element(tags::SEGMENTS_OVERLAP, VR::CS, "YES"));
            }
        }
    }

    /// Frames are counted by their place in time and by segment.
    fn dimensions(&self, object: &mut InMemDicomObject) {
        let organisation = self.derived.uid("dimensions", &[]);
        let dimension = |pointer: Tag, group: Tag, name: &str| {
            InMemDicomObject::from_element_iter([
                element(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organisation.as_str()),
                element(tags::DIMENSION_INDEX_POINTER, VR::AT, pointer),
                element(tags::FUNCTIONAL_GROUP_POINTER, VR::AT, group),
                long_string(tags::DIMENSION_DESCRIPTION_LABEL, name),
            ])
        };
        let uid = element(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organisation.as_str());
        object.put(one(tags::DIMENSION_ORGANIZATION_SEQUENCE, [uid]));
        let (segment, content) = (tags::SEGMENT_IDENTIFICATION_SEQUENCE, tags::FRAME_CONTENT_SEQUENCE);
        let dimensions = vec![
            dimension(tags::TEMPORAL_POSITION_INDEX, content, "Temporal Position Index"),
            dimension(tags::REFERENCED_SEGMENT_NUMBER, segment, "Referenced Segment Number"),
        ];
        object.put(sequence(tags::DIMENSION_INDEX_SEQUENCE, dimensions));
    }

    fn functional_groups(&self, object: &mut InMemDicomObject) {
        let segments = (self.classes - 1) as u32;
        let frames = (1..=self.frames as u32).flat_map(|frame| (1..=segments).map(move |segment| (frame, segment)));
        let frames: Vec<_> = frames.map(|(frame, segment)| self.frame(frame, segment)).collect();
        object.put(sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frames));
        let shared = self.place(object);
        object.put(one(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, shared));
    }

    fn frame(&self, frame: u32, segment: u32) -> InMemDicomObject {
        let mut source = InMemDicomObject::from_element_iter(self.derived.source_instance());
        source.put(code(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, SOURCE_PURPOSE));
        source.put(element(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES"));
        if self.frames > 1 {
            source.put(element(tags::REFERENCED_FRAME_NUMBER, VR::IS, frame.to_string()));
        }
        let derivation =
            [sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![source]), code(tags::DERIVATION_CODE_SEQUENCE, SEGMENTATION)];
        let content = [
            element(tags::DIMENSION_INDEX_VALUES, VR::UL, [frame, segment]),
            element(tags::TEMPORAL_POSITION_INDEX, VR::UL, frame),
        ];
        // A segment's number is a label of 8 bits.
        let identification = [number(tags::REFERENCED_SEGMENT_NUMBER, segment as u16)];
        InMemDicomObject::from_element_iter([
            one(tags::DERIVATION_IMAGE_SEQUENCE, derivation),
            one(tags::FRAME_CONTENT_SEQUENCE, content),
            one(tags::SEGMENT_IDENTIFICATION_SEQUENCE, identification),
        ])
    }

    /// Where the frames lie in the patient, of a source that tells position and orientation. The frame of reference says
    /// nothing without them.
    fn place(&self, object: &mut InMemDicomObject) -> Vec<InMemElement> {
        let get = |tag| self.derived.source.get(tag).cloned();
        let (position, orientation) = (get(tags::IMAGE_POSITION_PATIENT), get(tags::IMAGE_ORIENTATION_PATIENT));
        let (Some(position), Some(orientation), Some(frame), Some(spacing)) =
            (position, orientation, get(tags::FRAME_OF_REFERENCE_UID), get(tags::PIXEL_SPACING))
        else {
            return Vec::new();
        };
        object.put(frame);
        let reference = get(tags::POSITION_REFERENCE_INDICATOR);
        object.put(reference.unwrap_or_else(|| DataElement::empty(tags::POSITION_REFERENCE_INDICATOR, VR::LO)));
        let thickness = get(tags::SLICE_THICKNESS);
        vec![
            one(tags::PLANE_POSITION_SEQUENCE, [position]),
            one(tags::PLANE_ORIENTATION_SEQUENCE, [orientation]),
            one(tags::PIXEL_MEASURES_SEQUENCE, [spacing].into_iter().chain(thickness)),
        ]
    }
}
