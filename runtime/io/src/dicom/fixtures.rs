//! DICOM files for tests.

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, Tag};

pub(super) const SOP_INSTANCE: &str = "1.2.826.0.1.3680043.8.498.1.3";

pub(super) fn text(tag: Tag, vr: VR, value: &str) -> InMemElement {
    DataElement::new(tag, vr, PrimitiveValue::from(value))
}

pub(super) fn number(tag: Tag, value: u16) -> InMemElement {
    DataElement::new(tag, VR::US, PrimitiveValue::from(value))
}

/// Ultrasound of somebody, with what `elements` say of the image.
pub(super) fn write(path: &Path, syntax: &str, elements: impl IntoIterator<Item = InMemElement>) {
    let mut object = InMemDicomObject::from_element_iter([
        text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100"),
        text(tags::SOP_CLASS_UID, VR::UI, uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE),
        text(tags::SOP_INSTANCE_UID, VR::UI, SOP_INSTANCE),
        text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.826.0.1.3680043.8.498.1.1"),
        text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.826.0.1.3680043.8.498.1.2"),
        text(tags::SERIES_NUMBER, VR::IS, "4"),
        text(tags::MODALITY, VR::CS, "US"),
        text(tags::PATIENT_NAME, VR::PN, "Müller^Jörg"),
        text(tags::PATIENT_ID, VR::LO, "0815"),
        text(tags::STUDY_DATE, VR::DA, "20260102"),
        text(tags::STUDY_TIME, VR::TM, "101112"),
    ]);
    for element in elements {
        object.put(element);
    }
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    object.with_meta(meta).unwrap().write_to_file(path).unwrap();
}

/// What describes pixels: rows and columns, frames, samples a pixel and how they are to be understood, bits.
pub(super) fn describe(size: [u16; 2], frames: u16, samples: u16, photometric: &str, bits: u16) -> Vec<InMemElement> {
    vec![
        number(tags::ROWS, size[0]),
        number(tags::COLUMNS, size[1]),
        text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.to_string()),
        number(tags::SAMPLES_PER_PIXEL, samples),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric),
        number(tags::BITS_ALLOCATED, if bits > 8 { 16 } else { 8 }),
        number(tags::BITS_STORED, bits),
        number(tags::HIGH_BIT, bits - 1),
        number(tags::PIXEL_REPRESENTATION, 0),
    ]
}

/// Pixel data that are not compressed.
pub(super) fn native(bytes: Vec<u8>) -> InMemElement {
    DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(bytes))
}
