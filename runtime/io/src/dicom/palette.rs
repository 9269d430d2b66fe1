//! Tables of red, green and blue (PS3.3, C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::modality::{descriptor_entries, entries_of};
use super::numbers;
use super::pixels::{bytes, fail};
use ldseg::Result;

/// Descriptor, data and segmented data of red, green and blue.
const COLOURS: [[Tag; 3]; 3] = [
    [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
];
/// The largest entry of 8 bits.
const BYTE: u16 = 255;

/// Colours by index, 8 bits each.
#[derive(Debug)]
pub(super) struct Palette {
    channels: [Channel; 3],
}

#[derive(Debug)]
struct Channel {
    first: usize,
    table: Vec<u8>,
}

impl Palette {
    /// # Errors
    /// [`ldseg::ErrorKind::Format`] where a table is missing, shorter than it says, or not described.
    pub(super) fn read(object: &InMemDicomObject, notes: &mut Vec<String>) -> Result<Self> {
        let mut raw = Vec::with_capacity(3);
        for tags in COLOURS {
            raw.push(channel(object, tags)?);
        }
        // What the entries hold counts more than what the descriptor says of their bits: writers get it wrong both ways, and
        // the one reading is a constant image, the other noise.
        let described = raw.iter().map(|(_, _, bits)| *bits).fold(0.0, f64::max);
        let most = raw.iter().flat_map(|(_, entries, _)| entries).copied().max().unwrap_or(0);
        let wide = most > BYTE;
        match (wide, described > 8.0) {
            (true, false) => notes.push(format!(
                "its palettes say that entries have {described} bits, but the largest is {most}: they are taken for 16 bits"
            )),
            (false, true) => notes.push(format!(
                "its palettes say that entries have {described} bits, but none is above {BYTE}: they are taken for 8 bits"
            )),
            _ => {}
        }
        // Of 16-bit entries the upper half is what a display of 8 bits shows.
        let shift = match (wide, described) {
            (false, _) => 0,
            (true, bits) if bits > 8.0 && bits < 16.0 => bits as u32 - 8,
            (true, _) => 8,
        };
        let channels = raw.into_iter().map(|(first, entries, _)| {
            let table = entries.into_iter().map(|entry| (entry >> shift).min(BYTE) as u8).collect();
            Channel { first, table }
        });
        let channels: Vec<Channel> = channels.collect();
        let channels = channels.try_into().map_err(|_| fail("is in PALETTE COLOR, and a palette is missing".into()))?;
        Ok(Self { channels })
    }

    /// Red, green and blue of an index; below the first entry and above the last one, these are taken.
    pub(super) fn look(&self, index: usize) -> [u8; 3] {
        let look = |channel: &Channel| channel.table[index.saturating_sub(channel.first).min(channel.table.len() - 1)];
        [look(&self.channels[0]), look(&self.channels[1]), look(&self.channels[2])]
    }
}

/// First index, entries and their bits, at least one entry.
fn channel(object: &InMemDicomObject, [descriptor, data, segmented]: [Tag; 3]) -> Result<(usize, Vec<u16>, f64)> {
    let fail = |what: &str| fail(format!("is in PALETTE COLOR, and {what}"));
    let [entries, first, bits] = numbers(object, descriptor)[..] else {
        return Err(fail("a palette is not described by three numbers"));
    };
    let count = descriptor_entries(entries);
    if !(1..=65_536).contains(&count) {
        return Err(fail("a palette has an impossible number of entries"));
    }
    let stored = |tag| object.get(tag).and_then(|element| element.value().primitive()).map(bytes);
    let entries = match (stored(data), stored(segmented)) {
        (Some(data), _) if !data.is_empty() => {
            entries_of(&data, count).ok_or_else(|| fail("a palette is shorter than it says"))?
        }
        (_, Some(data)) => {
            // Offsets are in bytes by the standard, and in entries by most that read and write them: what gives as many
            // entries as there have to be is right.
            let units = if bits > 8.0 { &[1, 2][..] } else { &[1] };
            let expanded = units.iter().filter_map(|unit| expand(&data, bits > 8.0, *unit, count));
            expanded
                .into_iter()
                .find(|entries| entries.len() == count)
                .ok_or_else(|| fail("its segmented palette is damaged, or does not have as many entries as it says"))?
        }
        _ => return Err(fail("a palette is missing")),
    };
    Ok((first.max(0.0) as usize, entries, bits))
}

/// Undoes segmentation, up to `most` entries and the last segment; `None` where it makes no sense. `unit` is by what offsets
/// are divided.
fn expand(data: &[u8], wide: bool, unit: usize, most: usize) -> Option<Vec<u16>> {
    let entries: Vec<u16> = match wide {
        true => data.as_chunks::<2>().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect(),
        false => data.iter().copied().map(u16::from).collect(),
    };
    let mut table = Vec::new();
    Segments { entries, wide, unit, most }.append(0, None, &mut table)?;
    Some(table)
}

/// A palette in segments.
struct Segments {
    entries: Vec<u16>,
    wide: bool,
    unit: usize,
    most: usize,
}

impl Segments {
    /// Appends segments from a place on, all or so many of them. Those that an indirect segment repeats are discrete or
    /// linear ones, so the calls are two deep.
    fn append(&self, mut at: usize, number: Option<usize>, table: &mut Vec<u16>) -> Option<()> {
        const DISCRETE: u16 = 0;
        const LINEAR: u16 = 1;
        const INDIRECT: u16 = 2;
        let mut read = 0;
        // One entry may be left as padding.
        while at + 1 < self.entries.len() && number.is_none_or(|number| read < number) && table.len() < self.most {
            let (kind, length) = (self.entries[at], usize::from(self.entries[at + 1]));
            at += 2;
            match kind {
                DISCRETE => {
                    table.extend_from_slice(self.entries.get(at..at + length)?);
                    at += length;
                }
                LINEAR => {
                    let (from, to) = (f64::from(*table.last()?), f64::from(*self.entries.get(at)?));
                    let step = (to - from) / length as f64;
                    table.extend((1..=length).map(|n| (from + step * n as f64).round_ties_even() as u16));
                    at += 1;
                }
                INDIRECT if number.is_none() => {
                    // An offset of 32 bits, the lowest first.
                    let (count, bits) = if self.wide { (2, 16) } else { (4, 8) };
                    let parts = self.entries.get(at..at + count)?;
                    let offset = parts.iter().rev().fold(0_usize, |offset, &part| offset << bits | usize::from(part));
                    self.append(offset / self.unit, Some(length), table)?;
                    at += count;
                }
                _ => return None,
            }
            read += 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_expanded() {
        // 10 20, up to 40 in 4 steps, both once more; the project's tests compare with pydicom.
        let words = [0, 2, 10, 20, 1, 4, 40, 2, 2, 0, 0];
        let expected = [10, 20, 25, 30, 35, 40, 10, 20, 25, 30, 35, 40];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u16| word.to_le_bytes()).collect();
        assert_eq!(expand(&bytes, true, 1, 12).unwrap(), expected);
        assert_eq!(expand(&[0, 2, 10, 20, 1, 4, 40, 2, 2, 0, 0, 0, 0], false, 1, 12).unwrap(), expected);
        // Nothing to start from, more than is stored, a repetition of itself, an unknown segment.
        for damaged in [&[1, 4, 40, 0][..], &[0, 9, 1, 2], &[0, 1, 5, 2, 2, 0, 0, 0, 0], &[7, 1, 1, 1]] {
            assert_eq!(expand(damaged, false, 1, 99), None, "{damaged:?}");
        }
    }
}
