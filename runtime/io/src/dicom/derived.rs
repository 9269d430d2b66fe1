//! What all objects have in common that are made from a DICOM image: the source's patient and study, a series of their own,
//! references, and identifiers that are hashes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use dicom_core::{DataElement, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, Tag};
use sha2::{Digest, Sha256};

use super::charset::Charset;
use super::elements::{element, long_string};
use super::{chain, dataset, text};
use crate::Limits;
use ldseg::files::write_atomically;
use ldseg::{Error, ErrorKind, Result};

/// What the source tells of patient and study, and has to be told again, empty where the source doesn't know.
const REQUIRED: [(Tag, VR); 9] = [
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::STUDY_ID, VR::SH),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
];
/// What is told where the source tells it.
const OPTIONAL: [Tag; 5] =
    [tags::ISSUER_OF_PATIENT_ID, tags::PATIENT_AGE, tags::PATIENT_SIZE, tags::PATIENT_WEIGHT, tags::STUDY_DESCRIPTION];

/// What segmented or measured, for an object to tell.
#[derive(Debug, Clone)]
pub struct DicomAlgorithm {
    /// Its name, e.g. `ldseg echo`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its settings, in words.
    pub parameters: String,
    /// All that identifies the model, such as the hashes of its weights: object identifiers are made from it.
    pub identity: String,
}

/// The source of an object, and what makes the object.
#[derive(Debug)]
pub(super) struct Derived {
    /// Attributes of the source, without its pixels.
    pub(super) source: InMemDicomObject,
    pub(super) algorithm: DicomAlgorithm,
    /// What kind of object it is; identifiers differ by it.
    kind: String,
    /// What had to be assumed of the source.
    pub(super) notes: Vec<String>,
}

/// Attributes in the source's own character set, and what they are called.
const TEXTS: [(Tag, VR, &str); 8] = [
    (tags::PATIENT_NAME, VR::PN, "Patient's Name"),
    (tags::PATIENT_ID, VR::LO, "Patient ID"),
    (tags::STUDY_ID, VR::SH, "Study ID"),
    (tags::ACCESSION_NUMBER, VR::SH, "Accession Number"),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Referring Physician's Name"),
    (tags::ISSUER_OF_PATIENT_ID, VR::LO, "Issuer of Patient ID"),
    (tags::STUDY_DESCRIPTION, VR::LO, "Study Description"),
    (tags::POSITION_REFERENCE_INDICATOR, VR::LO, "Position Reference Indicator"),
];

impl Derived {
    /// Reads what the DICOM image or cine in `source` tells of itself.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::Format`], naming the file, where it cannot be read, is no DICOM, or lacks an
    /// identifier that has to be referred to.
    pub(super) fn open(source: &Path, kind: String, algorithm: DicomAlgorithm) -> Result<Self> {
        let keep = TEXTS.map(|(tag, ..)| tag);
        let data = dataset::open(source, true, &keep, &Limits::default()).map_err(|e| e.in_file(source))?;
        let mut object = data.object;
        for (tag, name) in [
            (tags::SOP_CLASS_UID, "SOP Class UID"),
            (tags::SOP_INSTANCE_UID, "SOP Instance UID"),
            (tags::STUDY_INSTANCE_UID, "Study Instance UID"),
            (tags::SERIES_INSTANCE_UID, "Series Instance UID"),
        ] {
            if text(&object, tag).is_none() {
                return Err(lacks(name).in_file(source));
            }
        }
        let notes = to_unicode(&mut object, &data.stored).map_err(|e| e.in_file(source))?;
        Ok(Self { source: object, algorithm, kind, notes })
    }

    pub(super) fn patient_and_study(&self, object: &mut InMemDicomObject) {
        // What is copied was converted to Unicode.
        object.put(element(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"));
        for (tag, vr) in REQUIRED {
            object.put(self.source.get(tag).cloned().unwrap_or_else(|| DataElement::empty(tag, vr)));
        }
        for tag in [tags::STUDY_INSTANCE_UID].into_iter().chain(OPTIONAL) {
            self.source.get(tag).cloned().map(|element| object.put(element));
        }
    }

    /// A series of its own, whose number is `offset` above the source's, so that a study's list shows both side by side.
    pub(super) fn series_and_equipment(&self, object: &mut InMemDicomObject, modality: &str, what: &str, offset: i64) {
        let whole = |tag| self.source.get(tag).and_then(|element| element.to_int::<i64>().ok());
        // An integer string has at most 12 characters.
        let series = whole(tags::SERIES_NUMBER).filter(|n| (0..1_000_000_000).contains(n)).unwrap_or(0) + offset;
        let instance = whole(tags::INSTANCE_NUMBER).filter(|n| (0..1_000_000_000).contains(n)).unwrap_or(1);
        object.put(element(tags::MODALITY, VR::CS, modality));
        object.put(element(tags::SERIES_INSTANCE_UID, VR::UI, self.uid("series", &[])));
        object.put(element(tags::SERIES_NUMBER, VR::IS, series.to_string()));
        object.put(element(tags::INSTANCE_NUMBER, VR::IS, instance.to_string()));
        object.put(long_string(tags::SERIES_DESCRIPTION, &format!("{what} by {}", self.algorithm.name)));
        object.put(long_string(tags::MANUFACTURER, "ldseg"));
        object.put(long_string(tags::MANUFACTURER_MODEL_NAME, &self.algorithm.name));
        object.put(long_string(tags::SOFTWARE_VERSIONS, &self.algorithm.version));
        // Software has no serial number, but the element must have a value.
        object.put(element(tags::DEVICE_SERIAL_NUMBER, VR::LO, "0"));
    }

    /// Refers to the source.
    pub(super) fn source_instance(&self) -> [InMemElement; 2] {
        let uid = |tag, of| element(tag, VR::UI, text(&self.source, of).unwrap_or_default());
        [
            uid(tags::REFERENCED_SOP_CLASS_UID, tags::SOP_CLASS_UID),
            uid(tags::REFERENCED_SOP_INSTANCE_UID, tags::SOP_INSTANCE_UID),
        ]
    }

    /// When the source's content was made, since the clock's time would make every run's object another one.
    pub(super) fn content_date(&self) -> (String, String) {
        let known = [
            (tags::CONTENT_DATE, tags::CONTENT_TIME),
            (tags::ACQUISITION_DATE, tags::ACQUISITION_TIME),
            (tags::SERIES_DATE, tags::SERIES_TIME),
            (tags::STUDY_DATE, tags::STUDY_TIME),
        ];
        known
            .into_iter()
            .find_map(|(date, time)| {
                Some((text(&self.source, date)?, text(&self.source, time).unwrap_or_else(|| "000000".into())))
            })
            .unwrap_or_else(|| ("19000101".into(), "000000".into()))
    }

    /// An identifier below 2.25 (PS3.5, B.2): a UUID, of version 8 (RFC 9562), that is a hash of what it identifies.
    pub(super) fn uid(&self, purpose: &str, content: &[u8]) -> String {
        // A series holds the objects of all images of the source's series; all others are the source's own.
        let of = if purpose == "series" { tags::SERIES_INSTANCE_UID } else { tags::SOP_INSTANCE_UID };
        let source = text(&self.source, of).unwrap_or_default();
        let algorithm = &self.algorithm;
        let parts = [purpose, &source, &self.kind, &algorithm.name, &algorithm.version, &algorithm.parameters];
        let mut hash = Sha256::new();
        for part in parts.map(str::as_bytes).into_iter().chain([algorithm.identity.as_bytes(), content]) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        bytes[6] = bytes[6] & 0x0F | 0x80;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        format!("2.25.{}", u128::from_be_bytes(bytes))
    }
}

/// Converts the texts of a data set, as `stored`, to Unicode; returns what had to be assumed.
///
/// # Errors
/// [`ErrorKind::Format`] where the character set is unknown, or a text is none in it.
fn to_unicode(object: &mut InMemDicomObject, stored: &BTreeMap<Tag, Vec<u8>>) -> Result<Vec<String>> {
    let terms = text(object, tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
    let charset = Charset::parse(&terms).ok_or_else(|| {
        let message = format!("is in the character set {terms}, which is unknown, so its texts cannot be told again");
        Error::new(ErrorKind::Format, message)
    })?;
    let mut assumed = Vec::new();
    for (tag, vr, name) in TEXTS {
        let Some(bytes) = stored.get(&tag) else { continue };
        let (text, guessed) = charset.decode(bytes, vr == VR::PN).ok_or_else(|| {
            let set = if terms.is_empty() { "ASCII" } else { &terms };
            Error::new(ErrorKind::Format, format!("its {name} is no text in its character set, {set}"))
        })?;
        if guessed {
            assumed.push(name);
        }
        object.put(element(tag, vr, text));
    }
    Ok(match assumed.is_empty() {
        true => Vec::new(),
        false => vec![format!("names no character set for its {}: Latin-1 is assumed", assumed.join(", "))],
    })
}

/// Writes an object as a DICOM file, which appears whole or not at all.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be written.
pub(super) fn write(object: InMemDicomObject, path: &Path) -> Result<()> {
    write_atomically(path, |out| encode(object, out)).map_err(|e| e.in_file(path))
}

fn encode(object: InMemDicomObject, out: &mut dyn Write) -> Result<()> {
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let failed =
        |e: &dyn std::error::Error| Error::new(ErrorKind::Io, format!("cannot be written as DICOM: {}", chain(e)));
    object.with_meta(meta).map_err(|e| failed(&e))?.write_all(out).map_err(|e| failed(&e))
}

pub(super) fn lacks(name: &str) -> Error {
    Error::new(ErrorKind::Format, format!("lacks its {name}, expected a DICOM image"))
}

#[cfg(test)]
mod tests {
    use ldseg::files::{FullAfter, write_checked};

    use super::*;

    #[test]
    fn a_full_disk_is_an_error_at_every_byte() {
        let object = || {
            InMemDicomObject::from_element_iter([
                element(tags::SOP_CLASS_UID, VR::UI, uids::SEGMENTATION_STORAGE),
                element(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
                DataElement::new(tags::PIXEL_DATA, VR::OB, dicom_core::PrimitiveValue::from(vec![7_u8; 50])),
            ])
        };
        let whole = write_checked(Vec::new(), |out| encode(object(), out)).unwrap();
        for room in 0..whole.len() {
            let error = write_checked(FullAfter(room), |out| encode(object(), out)).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{room} of {}: {error}", whole.len());
        }
    }
}
