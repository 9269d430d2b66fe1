//! Elements and sequences of a data set, made in one line each.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;
use dicom_object::{InMemDicomObject, Tag};

/// Characters that a long string (LO) may have (PS3.5, 6.2).
const LONG_STRING: usize = 64;

/// A code of a coding scheme, such as SNOMED CT: its value, scheme and meaning.
pub(super) type Code = (&'static str, &'static str, &'static str);

pub(super) fn element(tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) -> InMemElement {
    DataElement::new(tag, vr, value.into())
}

pub(super) fn number(tag: Tag, value: u16) -> InMemElement {
    element(tag, VR::US, value)
}

/// Text as a long string: what is longer is cut off, and a backslash, which would separate values, becomes a slash.
pub(super) fn long_string(tag: Tag, text: &str) -> InMemElement {
    let text: String =
        text.chars().map(|c| if c == '\\' || c.is_control() { '/' } else { c }).take(LONG_STRING).collect();
    element(tag, VR::LO, text)
}

pub(super) fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
}

/// A sequence of one item.
pub(super) fn one(tag: Tag, elements: impl IntoIterator<Item = InMemElement>) -> InMemElement {
    sequence(tag, vec![InMemDicomObject::from_element_iter(elements)])
}

/// A sequence that holds one code.
pub(super) fn code(tag: Tag, (value, scheme, meaning): Code) -> InMemElement {
    let parts = [
        element(tags::CODE_VALUE, VR::SH, value),
        element(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
        element(tags::CODE_MEANING, VR::LO, meaning),
    ];
    one(tag, parts)
}
