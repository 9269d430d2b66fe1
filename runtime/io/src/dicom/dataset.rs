//! Opening a DICOM file: with its preamble and its meta information, or as the bare data set that some devices write.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use flate2::read::DeflateDecoder;

use super::walk::{Encoding, walk};
use super::{chain, pixels::fail};
use crate::Limits;
use ldseg::{Error, ErrorKind, Result};

const PREAMBLE: usize = 128;
const MAGIC: &[u8; 4] = b"DICM";
/// Explicit, retired, and still in archives.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
const LITTLE: Encoding = Encoding { explicit: true, big_endian: false };

/// A file's data set.
#[derive(Debug)]
pub(super) struct DataSet {
    pub(super) object: InMemDicomObject,
    /// Identifier of the transfer syntax.
    pub(super) syntax: String,
    /// Values of the data set's own elements as they are stored, of those that were asked for.
    pub(super) stored: BTreeMap<Tag, Vec<u8>>,
    /// How long it is.
    pub(super) bytes: usize,
}

/// Opens a file, without its pixel data where `header_only`; the stored values of `keep` are kept.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read; [`ErrorKind::Format`] where it is no DICOM, damaged, or passes a limit.
pub(super) fn open(path: &Path, header_only: bool, keep: &[Tag], limits: &Limits) -> Result<DataSet> {
    let bytes = limits.read(path)?;
    let (meta, data) = parts(&bytes)?;
    let told = meta.map(|meta| transfer_syntax(meta, limits)).transpose()?.flatten();
    let syntax = told.or_else(|| bare_syntax(data).map(str::to_owned)).ok_or_else(|| {
        unreadable(
            "it has neither meta information with a transfer syntax nor a data set that shows which one it is in",
        )
    })?;
    let inflated;
    let (data, read_as) = if syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        inflated = inflate(data, limits.decoded_bytes)?;
        (&inflated[..], uids::EXPLICIT_VR_LITTLE_ENDIAN)
    } else {
        (data, syntax.as_str())
    };
    let encoding = Encoding { explicit: read_as != uids::IMPLICIT_VR_LITTLE_ENDIAN, big_endian: read_as == BIG_ENDIAN };
    let mut stored = BTreeMap::new();
    let mut end = data.len();
    walk(data, encoding, limits.depth, |tag, start, value| {
        if let Some(value) = value.filter(|_| keep.contains(&tag)) {
            stored.insert(tag, data[value].to_vec());
        }
        if header_only && tag >= tags::PIXEL_DATA {
            end = end.min(start);
        }
    })?;
    let named = TransferSyntaxRegistry.get(read_as).ok_or_else(|| {
        let message = format!("is in the transfer syntax {syntax}, which is unknown");
        Error::new(ErrorKind::Format, message)
    })?;
    let object = InMemDicomObject::read_dataset_with_ts(&data[..end], named);
    let object = object.map_err(|e| unreadable(&chain(&e)))?;
    Ok(DataSet { object, syntax, stored, bytes: data.len() })
}

/// The meta information, where there is any, and the data set.
fn parts(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8])> {
    let after_magic = [PREAMBLE, 0].into_iter().find_map(|at| bytes.get(at..)?.strip_prefix(MAGIC));
    let Some(rest) = after_magic.or_else(|| bytes.starts_with(&[2, 0]).then_some(bytes)) else {
        return Ok((None, bytes));
    };
    // Elements of group 2, with explicit headers in every file.
    let mut end = 0;
    while rest.get(end..end + 2) == Some(&[2, 0]) {
        let header = rest.get(end..end + 12).ok_or_else(|| unreadable("its meta information is cut off"))?;
        let long = matches!(&header[4..6], b"OB" | b"OW" | b"SQ" | b"UN" | b"UT");
        let (size, length) = match long {
            true => (12, u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize),
            false => (8, usize::from(u16::from_le_bytes([header[6], header[7]]))),
        };
        end = end.checked_add(size + length).filter(|end| *end <= rest.len()).ok_or_else(|| {
            unreadable(&format!("its meta information promises {length} bytes, {} are there", rest.len() - end))
        })?;
    }
    let (meta, data) = rest.split_at(end);
    Ok((Some(meta), data))
}

fn transfer_syntax(meta: &[u8], limits: &Limits) -> Result<Option<String>> {
    let mut found = None;
    walk(meta, LITTLE, limits.depth, |tag, _, value| {
        if let Some(value) = value.filter(|_| tag == tags::TRANSFER_SYNTAX_UID) {
            found = Some(String::from_utf8_lossy(&meta[value]).trim_matches(['\0', ' ']).to_owned());
        }
    })?;
    Ok(found)
}

/// The transfer syntax of a data set that no meta information tells it of, if this is one.
pub(crate) fn bare_syntax(data: &[u8]) -> Option<&'static str> {
    let header = data.get(..8)?;
    // The first element belongs to group 8, and is short.
    if header[..2] != [8, 0] || header[3] != 0 {
        return None;
    }
    if header[4..6].iter().all(u8::is_ascii_uppercase) {
        return Some(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    }
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    (length <= 256).then_some(uids::IMPLICIT_VR_LITTLE_ENDIAN)
}

/// How many times as long as it is stored a data set may be; a shorter one than [`FREELY_INFLATED`] may in any case. Images
/// come to a few times their size.
const MOST_INFLATION: usize = 100;
const FREELY_INFLATED: usize = 64 << 20;

fn inflate(data: &[u8], most: usize) -> Result<Vec<u8>> {
    let most = most.min(data.len().saturating_mul(MOST_INFLATION).max(FREELY_INFLATED));
    let mut inflated = Vec::new();
    let limit = most as u64 + 1;
    DeflateDecoder::new(data)
        .take(limit)
        .read_to_end(&mut inflated)
        .map_err(|e| unreadable(&format!("its deflated data set is damaged: {e}")))?;
    if inflated.len() > most {
        return Err(unreadable(&format!("its deflated data set holds more than {} MiB", most >> 20)));
    }
    Ok(inflated)
}

fn unreadable(what: &str) -> Error {
    fail(format!("is not a readable DICOM: {what}"))
}
