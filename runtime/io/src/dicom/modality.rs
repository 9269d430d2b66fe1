//! From stored numbers to values (PS3.3, C.11.1): a modality lookup table, or slope and intercept, of the file or of each
//! frame.

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::layout::Layout;
use super::pixels::{bytes, fail};
use super::spacing::{first, groups};
use super::{number, numbers};
use crate::recording::Scale;
use ldseg::Result;

/// What stored numbers of a grey image stand for.
#[derive(Debug, Clone)]
pub(super) enum Modality {
    /// Value = slope * number + intercept: one for all frames, or one for each.
    Linear(Vec<Scale>),
    Table(Table),
}

/// A lookup table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// The stored number that the first entry is for.
    first: i64,
    values: Vec<u16>,
}

impl Modality {
    /// # Errors
    /// [`ldseg::ErrorKind::Format`] where what is said is not usable, or some frames say it and others don't.
    pub(super) fn read(object: &InMemDicomObject, layout: &Layout) -> Result<Self> {
        if let Some(table) = first(object, tags::MODALITY_LUT_SEQUENCE) {
            return Table::read(table, layout).map(Self::Table);
        }
        let transform = |groups| first(groups, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE).and_then(linear);
        let frames: Vec<_> = groups(object).map(transform).collect();
        if frames.iter().any(Option::is_some) {
            let all: Option<Vec<_>> = frames.into_iter().collect();
            let all = all.filter(|all| all.len() == layout.frames).ok_or_else(|| {
                fail("has a rescale slope for some of its frames, expected one for each or for none".into())
            })?;
            return all.into_iter().map(checked).collect::<Result<_>>().map(Self::Linear);
        }
        let shared = first(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).and_then(transform);
        let one = linear(object).or(shared).unwrap_or((1.0, 0.0));
        Ok(Self::Linear(vec![checked(one)?]))
    }

    /// How the numbers that a frame's picture holds become values: `shift` is by how much signed ones were raised.
    pub(super) fn scale(&self, frame: usize, shift: i64) -> Scale {
        match self {
            Self::Table(_) => Scale::default(),
            Self::Linear(all) => {
                let Scale { slope, intercept } = all[if all.len() == 1 { 0 } else { frame }];
                Scale { slope, intercept: intercept - slope * shift as f64 }
            }
        }
    }
}

/// Slope and intercept; either alone leaves the other what changes nothing.
fn linear(object: &InMemDicomObject) -> Option<(f64, f64)> {
    let (slope, intercept) = (number(object, tags::RESCALE_SLOPE), number(object, tags::RESCALE_INTERCEPT));
    (slope.is_some() || intercept.is_some()).then(|| (slope.unwrap_or(1.0), intercept.unwrap_or(0.0)))
}

fn checked((slope, intercept): (f64, f64)) -> Result<Scale> {
    if !(slope.is_finite() && intercept.is_finite() && slope != 0.0) {
        return Err(fail(format!("has rescale slope {slope} and intercept {intercept}, expected finite numbers")));
    }
    Ok(Scale { slope, intercept })
}

impl Table {
    fn read(item: &InMemDicomObject, layout: &Layout) -> Result<Self> {
        let fail = |what: &str| fail(format!("has a modality lookup table, and {what}"));
        let [entries, first, bits] = numbers(item, tags::LUT_DESCRIPTOR)[..] else {
            return Err(fail("it is not described by three numbers"));
        };
        let (entries, mut first) = (descriptor_entries(entries), first as i64);
        // The descriptor's second number is signed where the stored ones are, but may be stored as if it were not.
        if layout.signed && first > i64::from(i16::MAX) {
            first -= 1 << 16;
        }
        if !(1.0..=16.0).contains(&bits) {
            return Err(fail("its entries have an impossible number of bits"));
        }
        let data = item.get(tags::LUT_DATA).and_then(|element| element.value().primitive());
        let data = bytes(data.ok_or_else(|| fail("its entries are missing"))?);
        let values = entries_of(&data, entries).ok_or_else(|| fail("it is shorter than it says"))?;
        Ok(Self { first, values })
    }

    /// Below the first entry and above the last one, these are taken.
    pub(super) fn look(&self, stored: i64) -> u16 {
        let last = self.values.len() as i64 - 1;
        self.values[(stored - self.first).clamp(0, last) as usize]
    }

    /// The largest value that there is.
    pub(super) fn most(&self) -> u16 {
        self.values.iter().copied().max().unwrap_or(0)
    }
}

/// Entries of a lookup table by its descriptor: 0 stands for 65536, which 16 bits cannot hold.
pub(super) fn descriptor_entries(entries: f64) -> usize {
    match entries as i64 {
        0 => 65_536,
        // Stored as if it had a sign.
        negative @ i64::MIN..0 => (negative + 65_536).max(0) as usize,
        entries => entries as usize,
    }
}

/// The entries of a lookup table, which are stored in 16 bits each, or in 8 where there is no more.
pub(super) fn entries_of(data: &[u8], entries: usize) -> Option<Vec<u16>> {
    if !(1..=65_536).contains(&entries) {
        return None;
    }
    if data.len() >= 2 * entries {
        return Some(data[..2 * entries].as_chunks::<2>().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect());
    }
    data.get(..entries).map(|bytes| bytes.iter().copied().map(u16::from).collect())
}
