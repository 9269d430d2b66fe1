//! JPEG (ITU-T T.81) frames of DICOM files: baseline, extended with 8 bits, and lossless.

use jpeg_decoder::{CodingProcess, ColorTransform, Decoder};

use super::layout::{Layout, Photometric};
use super::pixels::{Frame, Samples, fail};
use ldseg::Result;

const START_OF_SCAN: u8 = 0xDA;
const APP0: u8 = 0xE0;
const APP14: u8 = 0xEE;
/// A block of 64 samples takes at least two bits. If the image stores fewer colours than pixels, a block stands for
/// twice as many samples.
const MOST_SAMPLES_A_BYTE: usize = 1024;
/// Start of frame, all processes; the numbers between them are other markers.
const START_OF_FRAME: [u8; 13] = [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF];

/// One frame. Colour comes out as RGB.
pub(super) fn decode(stored: &[u8], layout: &Layout) -> Result<Frame> {
    let unreadable = |e: jpeg_decoder::Error| fail(format!("is not readable as JPEG: {e}"));
    let mut decoder = Decoder::new(stored);
    decoder.read_info().map_err(unreadable)?;
    let info = decoder.info().ok_or_else(|| fail("is not readable as JPEG: it has no frame header".into()))?;
    let markers = Markers::read(stored);
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    if (width, height, markers.components.len()) != (layout.columns, layout.rows, layout.samples) {
        let (columns, rows, samples) = (layout.columns, layout.rows, layout.samples);
        let components = markers.components.len();
        return Err(fail(format!(
            "has a JPEG frame of {width} x {height} pixels of {components} samples, expected {columns} x {rows} of \
             {samples}"
        )));
    }
    let area = layout.area();
    if area > stored.len().saturating_mul(MOST_SAMPLES_A_BYTE) {
        return Err(fail(format!("is truncated: {} bytes cannot hold a JPEG frame of {area} samples", stored.len())));
    }
    let mut photometric = layout.photometric;
    if layout.samples == 3 {
        let lossless = info.coding_process == CodingProcess::Lossless;
        let ycc = if lossless { photometric != Photometric::Rgb } else { markers.ycc(photometric) };
        decoder.set_color_transform(if ycc { ColorTransform::YCbCr } else { ColorTransform::RGB });
        photometric = Photometric::Rgb;
    }
    let bytes = decoder.decode().map_err(unreadable)?;
    // The decoder gives words for any number of bits but 8.
    let samples = if bytes.len() == area {
        Samples::Bytes(bytes)
    } else if bytes.len() == 2 * area {
        Samples::Words(bytes.as_chunks::<2>().0.iter().map(|&word| u16::from_ne_bytes(word)).collect())
    } else {
        return Err(fail(format!("has a JPEG frame of {} bytes, expected {area} samples", bytes.len())));
    };
    Ok(Frame { samples, photometric })
}

/// What a JPEG image says of its colours.
#[derive(Debug, Default)]
struct Markers {
    /// Adobe's colour transform: 0 none, 1 YCbCr.
    adobe: Option<u8>,
    jfif: bool,
    /// Identifiers of the components.
    components: Vec<u8>,
}

impl Markers {
    fn read(stored: &[u8]) -> Self {
        let mut markers = Self::default();
        // What cannot be read is for the decoder to report.
        let _ = markers.scan(stored);
        markers
    }

    fn scan(&mut self, stored: &[u8]) -> Option<()> {
        let mut rest = stored.get(2..)?;
        loop {
            let [0xFF, marker, tail @ ..] = rest else { return None };
            if *marker == 0xFF {
                rest = rest.get(1..)?; // a fill byte
                continue;
            }
            let length = usize::from(u16::from_be_bytes([*tail.first()?, *tail.get(1)?]));
            let segment = tail.get(2..length)?;
            match *marker {
                START_OF_SCAN => return None,
                APP0 => self.jfif |= segment.starts_with(b"JFIF\0"),
                APP14 if segment.starts_with(b"Adobe") => self.adobe = segment.get(11).copied(),
                marker if START_OF_FRAME.contains(&marker) => {
                    let number = usize::from(*segment.get(5)?);
                    self.components = segment.get(6..)?.chunks_exact(3).take(number).map(|c| c[0]).collect();
                }
                _ => {}
            }
            rest = tail.get(length..)?;
        }
    }

    /// Whether the components are Y, Cb and Cr. What the image itself says counts more than the photometric interpretation,
    /// which writers forget to change when they compress.
    fn ycc(&self, photometric: Photometric) -> bool {
        match (self.adobe, self.components.as_slice()) {
            (Some(transform), _) => transform != 0,
            (None, b"RGB" | b"rgb") => false,
            _ => self.jfif || photometric != Photometric::Rgb,
        }
    }
}
