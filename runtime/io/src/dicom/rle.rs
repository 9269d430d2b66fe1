//! RLE Lossless (PS3.5, annex G).

use super::layout::Layout;
use super::pixels::{Frame, Samples, fail};
use ldseg::Result;

/// Offsets of segments in the header of a frame, after their number.
const MOST_SEGMENTS: usize = 15;
const HEADER: usize = 64;

/// One frame: a segment a byte of each sample, the higher byte first.
pub(super) fn decode(stored: &[u8], layout: &Layout) -> Result<Frame> {
    let pixels = layout.rows * layout.columns;
    let wide = layout.allocated == 16;
    let planes = layout.samples * if wide { 2 } else { 1 };
    let starts = segments(stored).filter(|starts| starts.len() == planes).ok_or_else(|| {
        fail(format!("is not readable as RLE: a frame does not have the {planes} segments that its pixels need"))
    })?;
    let mut decoded = Vec::with_capacity(planes);
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(stored.len());
        let segment = stored.get(start..end).and_then(|segment| unpack(segment, pixels));
        decoded.push(segment.ok_or_else(|| fail("is not readable as RLE: a segment ends early".into()))?);
    }
    let at =
        |sample: usize, pixel: usize| u16::from_be_bytes([decoded[2 * sample][pixel], decoded[2 * sample + 1][pixel]]);
    let order = (0..pixels).flat_map(|pixel| (0..layout.samples).map(move |sample| (sample, pixel)));
    let samples = match wide {
        true => Samples::Words(order.map(|(sample, pixel)| at(sample, pixel)).collect()),
        false => Samples::Bytes(order.map(|(sample, pixel)| decoded[sample][pixel]).collect()),
    };
    Ok(Frame { samples, photometric: layout.photometric })
}

/// Where the segments start.
fn segments(stored: &[u8]) -> Option<Vec<usize>> {
    let words = stored.get(..HEADER)?.as_chunks::<4>().0;
    let number = u32::from_le_bytes(words[0]) as usize;
    (number <= MOST_SEGMENTS).then(|| words[1..=number].iter().map(|&word| u32::from_le_bytes(word) as usize).collect())
}

/// Undoes PackBits; `None` where `size` bytes do not come out. What comes after them is padding.
fn unpack(mut packed: &[u8], size: usize) -> Option<Vec<u8>> {
    // Two bytes stand for 128 at most, so what is stored bounds the memory.
    let mut bytes = Vec::with_capacity(size.min(packed.len() * 64));
    while bytes.len() < size {
        let (&control, rest) = packed.split_first()?;
        packed = match control {
            0..=127 => {
                let (literal, rest) = rest.split_at_checked(usize::from(control) + 1)?;
                bytes.extend_from_slice(literal);
                rest
            }
            128 => rest,
            129..=255 => {
                let (&value, rest) = rest.split_first()?;
                bytes.extend(std::iter::repeat_n(value, 257 - usize::from(control)));
                rest
            }
        };
    }
    bytes.truncate(size);
    Some(bytes)
}
