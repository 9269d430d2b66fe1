//! From a file's pixel data to the samples of its frames: not compressed, RLE or JPEG.

use std::collections::HashSet;

use dicom_core::PrimitiveValue;
use dicom_core::value::Value;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::jpeg;
use super::layout::{Layout, Photometric};
use super::rle;
use ldseg::{Error, ErrorKind, Result};

/// The samples of one frame as stored, of a pixel next to one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Samples {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

/// A frame's samples and what they mean once they are no longer compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) samples: Samples,
    pub(super) photometric: Photometric,
}

/// What to call the transfer syntaxes that are not supported, by the start of their identifiers.
const UNSUPPORTED: [(&str, &str); 9] = [
    ("1.2.840.10008.1.2.4.8", "JPEG-LS"),
    ("1.2.840.10008.1.2.4.9", "JPEG 2000"),
    ("1.2.840.10008.1.2.4.10", "MPEG"),
    ("1.2.840.10008.1.2.4.11", "JPEG XL"),
    ("1.2.840.10008.1.2.4.20", "High-Throughput JPEG 2000"),
    ("1.2.840.10008.1.2.4.5", "an old JPEG process"),
    ("1.2.840.10008.1.2.4.6", "an old JPEG process"),
    ("1.2.840.10008.1.2.7", "SMPTE ST 2110"),
    ("1.2.840.10008.1.2.8", "Deflated Image Frame"),
];

/// All frames, each as `take` makes it, one after the other.
///
/// # Errors
/// Those of `take`; [`ErrorKind::Format`] where the pixel data are missing, cut off, damaged, of another size than the file
/// says, or in a transfer syntax that is not supported, which the message names.
pub(super) fn frames<T>(
    object: &InMemDicomObject,
    syntax: &str,
    layout: &Layout,
    take: &mut dyn FnMut(Frame) -> Result<T>,
) -> Result<Vec<T>> {
    let element = object.get(tags::PIXEL_DATA).ok_or_else(|| fail("has no pixel data".into()))?;
    match (syntax, element.value()) {
        (_, Value::Primitive(stored)) => native(stored, layout, take),
        (uids::RLE_LOSSLESS, Value::PixelSequence(stored)) => {
            let frames = fragments(stored.fragments(), stored.offset_table(), layout.frames)?;
            frames.iter().map(|frame| take(rle::decode(&frame.concat(), layout)?)).collect()
        }
        (
            uids::JPEG_BASELINE8_BIT | uids::JPEG_EXTENDED12_BIT | uids::JPEG_LOSSLESS | uids::JPEG_LOSSLESS_SV1,
            Value::PixelSequence(stored),
        ) => {
            // A process or a precision of JPEG may be one that the decoder hasn't.
            let named = |e: Error| fail(format!("{e} (transfer syntax {syntax})"));
            let frames = fragments(stored.fragments(), stored.offset_table(), layout.frames)?;
            frames.iter().map(|frame| take(jpeg::decode(&frame.concat(), layout).map_err(named)?)).collect()
        }
        _ => {
            let name = UNSUPPORTED.iter().find(|(start, _)| syntax.starts_with(start)).map_or("unknown", |(_, n)| n);
            Err(fail(format!(
                "is in the transfer syntax {syntax} ({name}), which is not supported: expected no compression, RLE or \
                 JPEG (baseline, extended with 8 bits, lossless)"
            )))
        }
    }
}

fn native<T>(stored: &PrimitiveValue, layout: &Layout, take: &mut dyn FnMut(Frame) -> Result<T>) -> Result<Vec<T>> {
    let area = layout.area();
    let whole = area.checked_mul(layout.frames).ok_or_else(|| fail("has an absurd number of frames".into()))?;
    let bytes = bytes(stored);
    let mut photometric = layout.photometric;
    let subsampled = photometric == Photometric::YbrFull422 && bytes.len() / (layout.allocated as usize / 8) < whole;
    let promised = if subsampled { whole / 3 * 2 } else { whole };
    let size = layout.allocated as usize / 8;
    if promised.checked_mul(size).is_none_or(|promised| bytes.len() < promised) {
        return Err(fail(format!(
            "is truncated: its header promises {promised} samples of {size} bytes, but only {} bytes are stored",
            bytes.len()
        )));
    }
    if subsampled {
        if layout.allocated != 8 || !layout.columns.is_multiple_of(2) {
            return Err(fail("is in YBR_FULL_422 with more than 8 bits or an odd number of columns".into()));
        }
    } else if photometric == Photometric::YbrFull422 {
        photometric = Photometric::YbrFull;
    }
    let frames = bytes[..promised * size].chunks_exact(promised / layout.frames * size);
    frames
        .map(|frame| {
            let samples = match (subsampled, layout.allocated) {
                (true, _) => Samples::Bytes(share_chroma(frame)),
                (false, 8) => Samples::Bytes(interleave(frame.to_vec(), layout)),
                _ => {
                    let words = frame.as_chunks::<2>().0.iter().map(|&word| u16::from_le_bytes(word)).collect();
                    Samples::Words(interleave(words, layout))
                }
            };
            let photometric = if subsampled { Photometric::YbrFull } else { photometric };
            take(Frame { samples, photometric })
        })
        .collect()
}

/// The stored bytes, those of wider numbers with the lowest first.
pub(super) fn bytes(stored: &PrimitiveValue) -> std::borrow::Cow<'_, [u8]> {
    match stored {
        PrimitiveValue::U8(bytes) => bytes.as_slice().into(),
        PrimitiveValue::U16(words) => {
            let mut bytes = Vec::with_capacity(2 * words.len());
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes.into()
        }
        other => other.to_bytes(),
    }
}

/// Of two neighbours Y, Y, Cb, Cr are stored (PS3.3, C.7.6.3.1.2).
fn share_chroma(stored: &[u8]) -> Vec<u8> {
    stored.as_chunks::<4>().0.iter().flat_map(|&[first, second, cb, cr]| [first, cb, cr, second, cb, cr]).collect()
}

fn interleave<T: Copy>(stored: Vec<T>, layout: &Layout) -> Vec<T> {
    if !layout.planar {
        return stored;
    }
    let plane = stored.len() / layout.samples;
    (0..plane)
        .flat_map(|pixel| (0..layout.samples).map(move |sample| sample * plane + pixel))
        .map(|at| stored[at])
        .collect()
}

/// The fragments of each frame: one each, else all of them, else by the table of offsets, else by the marker that a JPEG image
/// starts with.
fn fragments<'a>(stored: &'a [Vec<u8>], offsets: &[u32], frames: usize) -> Result<Vec<&'a [Vec<u8>]>> {
    if stored.len() == frames {
        return Ok(stored.chunks(1).collect());
    }
    if frames == 1 {
        return Ok(vec![stored]);
    }
    // Offsets count the 8 bytes before each fragment.
    let starts = stored.iter().scan(0_u64, |at, fragment| {
        let start = *at;
        *at += fragment.len() as u64 + 8;
        Some(start)
    });
    let begin: HashSet<u64> = offsets.iter().copied().map(u64::from).collect();
    let begins = |(fragment, start): (&Vec<u8>, u64)| match offsets.len() == frames {
        true => begin.contains(&start),
        false => fragment.starts_with(&[0xFF, 0xD8]),
    };
    // The first fragment begins a frame, whatever it says.
    let first = stored.iter().zip(starts).enumerate().filter(|(index, place)| *index == 0 || begins(*place));
    let bounds: Vec<usize> = first.map(|(index, _)| index).chain([stored.len()]).collect();
    let parts: Vec<_> = bounds.windows(2).map(|pair| &stored[pair[0]..pair[1]]).collect();
    if parts.len() == frames && !stored.is_empty() {
        return Ok(parts);
    }
    let found = if stored.is_empty() { 0 } else { parts.len() };
    Err(fail(format!("says that it has {frames} frames, but {found} are stored")))
}

pub(super) fn fail(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
}
