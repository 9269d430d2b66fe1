//! A walk over the headers of a data set before the DICOM library reads it. The library takes the lengths that a file tells
//! for memory to ask for, and sequences in sequences for calls in calls; here they are held against the bytes that are there
//! and against a depth.

use std::ops::Range;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::pixels::fail;
use ldseg::Result;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

/// How headers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    /// Whether a header tells its value representation.
    pub(super) explicit: bool,
    pub(super) big_endian: bool,
}

/// What the walk is in.
#[derive(Clone, Copy)]
enum Level {
    /// Elements: the data set, or an item of a sequence.
    Elements,
    /// The items of a sequence.
    Items,
    /// The fragments of compressed pixel data.
    Fragments,
}

struct Open {
    level: Level,
    /// `None` where a delimiter ends it.
    end: Option<usize>,
    /// Unknown values of undefined length hold implicit headers (PS3.5, 6.2.2).
    explicit: bool,
}

/// Looks at every header; `see` gets the elements of the data set itself, with where they begin and, unless a delimiter ends
/// them, where their values lie.
///
/// # Errors
/// [`ldseg::ErrorKind::Format`] where a value is longer than what is stored, sequences are too deep, or no header is where one
/// has to be.
pub(super) fn walk(
    bytes: &[u8],
    encoding: Encoding,
    depth: usize,
    mut see: impl FnMut(Tag, usize, Option<Range<usize>>),
) -> Result<()> {
    let mut open = vec![Open { level: Level::Elements, end: Some(bytes.len()), explicit: encoding.explicit }];
    let mut at = 0;
    while let Some(inner) = open.last() {
        // The library takes a file that ends within compressed pixels for whole, and sees to what ends elsewhere.
        if inner.end.is_some_and(|end| at >= end) || bytes.len() - at < 8 {
            open.pop();
            continue;
        }
        let header = Header::read(bytes, at, Encoding { explicit: inner.explicit, ..encoding }, inner.level)?;
        let explicit = inner.explicit;
        let start = at + header.size;
        at = start;
        let delimiter = matches!(header.tag, ITEM_END | SEQUENCE_END);
        let value = match (header.length, delimiter) {
            (UNDEFINED, _) | (_, true) => None,
            (length, false) => {
                let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
                Some(end.filter(|end| *end <= bytes.len()).ok_or_else(|| {
                    let stored = bytes.len() - start.min(bytes.len());
                    unreadable(&format!("the value of {} promises {length} bytes, {stored} are there", header.tag))
                })?)
            }
        };
        let inside = match (inner.level, header.tag) {
            (Level::Elements, ITEM_END) if open.len() > 1 => {
                open.pop();
                continue;
            }
            (Level::Items | Level::Fragments, SEQUENCE_END) => {
                open.pop();
                continue;
            }
            (Level::Elements, ITEM_END) => return Err(unreadable("an item ends that did not begin")),
            (Level::Elements, tag) => {
                if open.len() == 1 {
                    see(tag, start - header.size, value.map(|end| start..end));
                }
                let pixels = tag == tags::PIXEL_DATA && value.is_none();
                match (header.vr, value) {
                    _ if pixels => Some((Level::Fragments, explicit)),
                    (VR::SQ, _) => Some((Level::Items, explicit)),
                    (VR::UN, None) => Some((Level::Items, false)),
                    (_, None) => return Err(unreadable(&format!("the value of {tag} has no length"))),
                    (_, Some(_)) => None,
                }
            }
            (Level::Items, ITEM) => Some((Level::Elements, explicit)),
            (Level::Fragments, ITEM) => None,
            (_, tag) => return Err(unreadable(&format!("{tag} stands where an item of a sequence is expected"))),
        };
        match (inside, value) {
            (Some((level, explicit)), end) => {
                // A sequence and its item are one step.
                if open.len() > 2 * depth {
                    return Err(unreadable(&format!("its sequences lie more than {depth} deep in one another")));
                }
                open.push(Open { level, end, explicit });
            }
            (None, Some(end)) => at = end,
            (None, None) => return Err(unreadable("a fragment of its pixel data has no length")),
        }
    }
    Ok(())
}

struct Header {
    tag: Tag,
    vr: VR,
    length: u32,
    /// Bytes of the header itself.
    size: usize,
}

impl Header {
    /// The header at a place that at least 8 bytes follow.
    fn read(bytes: &[u8], at: usize, encoding: Encoding, level: Level) -> Result<Self> {
        let cut = || unreadable("it ends within a header");
        let stored = |from: usize, size: usize| bytes.get(at + from..at + from + size).ok_or_else(cut);
        let number = |from: usize, size: usize| {
            let digit = |n: u32, &byte: &u8| n << 8 | u32::from(byte);
            let stored = stored(from, size)?;
            Ok::<u32, ldseg::Error>(match encoding.big_endian {
                true => stored.iter().fold(0, digit),
                false => stored.iter().rev().fold(0, digit),
            })
        };
        let tag = Tag(number(0, 2)? as u16, number(2, 2)? as u16);
        if tag.0 == 0xFFFE || !matches!(level, Level::Elements) {
            return Ok(Self { tag, vr: VR::UN, length: number(4, 4)?, size: 8 });
        }
        if !encoding.explicit {
            let entry = StandardDataDictionary.by_tag(tag);
            let vr = entry.map_or(VR::UN, |entry| entry.vr().relaxed());
            return Ok(Self { tag, vr, length: number(4, 4)?, size: 8 });
        }
        let name = stored(4, 2)?;
        // The library takes what it doesn't know for unknown, with a long header.
        let vr = VR::from_binary([name[0], name[1]]).unwrap_or(VR::UN);
        use VR::{AE, AS, AT, CS, DA, DS, DT, FD, FL, IS, LO, LT, PN, SH, SL, SS, ST, TM, UI, UL, US};
        if matches!(
            vr,
            AE | AS | AT | CS | DA | DS | DT | FD | FL | IS | LO | LT | PN | SH | SL | SS | ST | TM | UI | UL | US
        ) {
            return Ok(Self { tag, vr, length: number(6, 2)?, size: 8 });
        }
        Ok(Self { tag, vr, length: number(8, 4)?, size: 12 })
    }
}

fn unreadable(what: &str) -> ldseg::Error {
    fail(format!("is not a readable DICOM: {what}"))
}
