//! Objects that are read back with the DICOM library; the project's other tests have other readers look at them.

use dicom_dictionary_std::uids;
use dicom_object::{DefaultDicomObject, InMemDicomObject, Tag, open_file};
use ndarray::{Array4, Axis, IxDyn};
use tempfile::TempDir;

use super::super::fixtures;
use super::*;

const FRAMES: usize = 3;
/// No multiple of 8 pixels, so frames share bytes.
const SIZE: [usize; 2] = [5, 7];

fn classes() -> Vec<Class> {
    let class = |name: &str, colour| Class { name: name.into(), colour, unsure_below: None };
    vec![class("background", [0; 3]), class("left ventricle", [220, 50, 47]), class("Zyste, größer", [38, 120, 210])]
}

fn algorithm(parameters: &str) -> DicomAlgorithm {
    let text = |text: &str| text.to_owned();
    DicomAlgorithm { name: text("ldseg test"), version: text("1"), parameters: text(parameters), identity: text("abc") }
}

fn probabilities() -> Array4<f32> {
    Array4::from_shape_fn((FRAMES, 3, SIZE[0], SIZE[1]), |(f, k, y, x)| {
        ((f * 5 + k * 11 + y * 3 + x * 7) % 13) as f32 / 13.0
    })
}

fn labels(probabilities: &Tensor) -> Labels {
    ldseg::segmenter::argmax(probabilities)
}

struct Written {
    folder: TempDir,
}

impl Written {
    fn new() -> Self {
        let written = Self { folder: tempfile::tempdir().unwrap() };
        let size = SIZE.map(|size| size as u16);
        let mut elements = fixtures::describe(size, FRAMES as u16, 1, "MONOCHROME2", 8);
        elements.push(fixtures::native(vec![9; FRAMES * SIZE[0] * SIZE[1] + 1]));
        fixtures::write(&written.source(), uids::EXPLICIT_VR_LITTLE_ENDIAN, elements);
        written
    }

    fn source(&self) -> std::path::PathBuf {
        self.folder.path().join("a.dcm")
    }

    fn seg(&self, kind: DicomSegKind, parameters: &str) -> DicomSeg {
        DicomSeg::new(&self.source(), kind, &classes(), algorithm(parameters)).unwrap()
    }

    /// The bytes of the file.
    fn write(&self, kind: DicomSegKind, parameters: &str) -> Vec<u8> {
        let mut seg = self.seg(kind, parameters);
        for frame in probabilities().axis_iter(Axis(0)) {
            let frame = frame.to_owned().into_dyn();
            seg.add(&labels(&frame), &frame).unwrap();
        }
        let path = self.folder.path().join("a.seg.dcm");
        seg.write(&path).unwrap();
        std::fs::read(path).unwrap()
    }

    fn read(&self) -> DefaultDicomObject {
        open_file(self.folder.path().join("a.seg.dcm")).unwrap()
    }
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|element| element.items()).unwrap()
}

fn whole(object: &InMemDicomObject, tag: Tag) -> usize {
    object.element(tag).unwrap().to_int().unwrap()
}

/// Frame and segment of the `index`-th frame of an object.
fn place(object: &InMemDicomObject, index: usize) -> (usize, usize) {
    let group = &items(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)[index];
    let source = &items(&items(group, tags::DERIVATION_IMAGE_SEQUENCE)[0], tags::SOURCE_IMAGE_SEQUENCE)[0];
    assert_eq!(text(source, tags::REFERENCED_SOP_INSTANCE_UID).as_deref(), Some(fixtures::SOP_INSTANCE));
    let segment = whole(&items(group, tags::SEGMENT_IDENTIFICATION_SEQUENCE)[0], tags::REFERENCED_SEGMENT_NUMBER);
    let frame = whole(source, tags::REFERENCED_FRAME_NUMBER);
    let indices = items(group, tags::FRAME_CONTENT_SEQUENCE)[0].element(tags::DIMENSION_INDEX_VALUES).unwrap();
    assert_eq!(indices.to_multi_int::<usize>().unwrap(), [frame, segment]);
    (frame - 1, segment)
}

#[test]
fn bits_are_those_of_the_labels() {
    let written = Written::new();
    written.write(DicomSegKind::Binary, "");
    let object = written.read();
    let frames = whole(&object, tags::NUMBER_OF_FRAMES);
    assert_eq!((frames, whole(&object, tags::BITS_ALLOCATED)), (2 * FRAMES, 1));
    let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
    let area = SIZE[0] * SIZE[1];
    assert_eq!(pixels.len(), (frames * area).div_ceil(16) * 2);
    for index in 0..frames {
        let (frame, segment) = place(&object, index);
        let labels = labels(&probabilities().index_axis_move(Axis(0), frame).into_dyn());
        for (voxel, &label) in labels.iter().enumerate() {
            let at = index * area + voxel;
            let bit = pixels[at / 8] >> (at % 8) & 1;
            assert_eq!(bit == 1, usize::from(label) == segment, "frame {frame}, segment {segment}, voxel {voxel}");
        }
    }
}

#[test]
fn bytes_are_those_of_the_probabilities() {
    let written = Written::new();
    written.write(DicomSegKind::Fractional, "");
    let object = written.read();
    assert_eq!(text(&object, tags::SEGMENTATION_FRACTIONAL_TYPE).as_deref(), Some("PROBABILITY"));
    let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
    let area = SIZE[0] * SIZE[1];
    for (index, stored) in pixels.chunks_exact(area).enumerate() {
        let (frame, segment) = place(&object, index);
        let expected = probabilities().index_axis_move(Axis(0), frame).index_axis_move(Axis(0), segment);
        let expected: Vec<u8> = expected.iter().map(|p| (255.0 * p).round() as u8).collect();
        assert_eq!(stored, expected, "frame {frame}, segment {segment}");
    }
}

#[test]
fn patient_and_segments_are_told() {
    let written = Written::new();
    written.write(DicomSegKind::Binary, "");
    let object = written.read();
    let is = |tag, expected: &str| assert_eq!(text(&object, tag).as_deref(), Some(expected), "{tag}");
    is(tags::SOP_CLASS_UID, uids::SEGMENTATION_STORAGE);
    is(tags::PATIENT_NAME, "Müller^Jörg");
    is(tags::PATIENT_ID, "0815");
    is(tags::STUDY_INSTANCE_UID, "1.2.826.0.1.3680043.8.498.1.1");
    is(tags::SERIES_NUMBER, "1004");
    assert!(object.get(tags::PATIENT_SEX).is_some(), "empty where the source doesn't know");
    let segments = items(&object, tags::SEGMENT_SEQUENCE);
    assert_eq!(text(&segments[1], tags::SEGMENT_LABEL).as_deref(), Some("Zyste, größer"));
    let structure = &items(&segments[0], tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE)[0];
    assert_eq!(text(structure, tags::CODE_VALUE).as_deref(), Some("87878005"));
}

#[test]
fn the_same_run_gives_the_same_object_and_another_one_another() {
    let written = Written::new();
    let first = written.write(DicomSegKind::Binary, "seed 0");
    let uid = |tag| text(&written.read(), tag).unwrap();
    let uid_of_first = [uid(tags::SOP_INSTANCE_UID), uid(tags::SERIES_INSTANCE_UID)];
    assert!(uid_of_first.iter().all(|uid| uid.starts_with("2.25.") && uid.len() <= 64), "{uid_of_first:?}");
    assert_eq!(written.write(DicomSegKind::Binary, "seed 0"), first);
    written.write(DicomSegKind::Binary, "seed 1");
    assert_ne!(uid(tags::SOP_INSTANCE_UID), uid_of_first[0]);
    assert_ne!(uid(tags::SERIES_INSTANCE_UID), uid_of_first[1]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let written = Written::new();
    let mut seg = written.seg(DicomSegKind::Binary, "");
    let small = Tensor::zeros(IxDyn(&[3, 4, 7]));
    assert_eq!(seg.add(&labels(&small), &small).unwrap_err().kind(), ErrorKind::ShapeMismatch);
    let error = seg.write(&written.folder.path().join("a.seg.dcm")).unwrap_err();
    assert!(error.to_string().contains("a.seg.dcm: 0 frames were segmented, the source has 3"), "{error}");
    std::fs::write(written.source(), "no DICOM").unwrap();
    let error = DicomSeg::new(&written.source(), DicomSegKind::Binary, &classes(), algorithm("")).unwrap_err();
    assert!(error.to_string().contains("a.dcm: is not a readable DICOM"), "{error}");
}
