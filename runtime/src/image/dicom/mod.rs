//! DICOM images and cines, ultrasound above all: native, RLE, deflated and JPEG (baseline and lossless) pixel data.

#[cfg(test)]
mod fixtures;
mod seg;

use std::path::Path;

use ::image::{DynamicImage, RgbImage};
use dicom_object::{DefaultDicomObject, InMemDicomObject, Tag, open_file};
use dicom_pixeldata::{
    ConvertOptions, DecodedPixelData, ModalityLutOption, PhotometricInterpretation, PixelDecoder, VoiLutOption,
};

pub use self::seg::{DicomSeg, DicomSegAlgorithm, DicomSegKind};
use super::cine::{Cine, Content, Study};
use super::{Geometry, Image, picture};
use crate::{Error, ErrorKind, Result};

const MODALITY: Tag = Tag(0x0008, 0x0060);
const CINE_RATE: Tag = Tag(0x0018, 0x0040);
const FRAME_TIME: Tag = Tag(0x0018, 0x1063);
const FRAME_TIME_VECTOR: Tag = Tag(0x0018, 0x1065);
const REGIONS: Tag = Tag(0x0018, 0x6011);
const REGION_FORMAT: Tag = Tag(0x0018, 0x6012);
/// Min X0, min Y0, max X1, max Y1, in pixels.
const REGION_CORNERS: [Tag; 4] = [Tag(0x0018, 0x6018), Tag(0x0018, 0x601A), Tag(0x0018, 0x601C), Tag(0x0018, 0x601E)];
/// Along X, along Y.
const REGION_UNITS: [Tag; 2] = [Tag(0x0018, 0x6024), Tag(0x0018, 0x6026)];
const REGION_DELTA: [Tag; 2] = [Tag(0x0018, 0x602C), Tag(0x0018, 0x602E)];
/// Along Y, along X.
const PIXEL_SPACING: Tag = Tag(0x0028, 0x0030);
/// Of red, green and blue.
const PALETTE_DESCRIPTORS: [Tag; 3] = [Tag(0x0028, 0x1101), Tag(0x0028, 0x1102), Tag(0x0028, 0x1103)];
const PALETTES: [Tag; 3] = [Tag(0x0028, 0x1201), Tag(0x0028, 0x1202), Tag(0x0028, 0x1203)];
/// [`REGION_FORMAT`] of a 2-D tissue or flow image.
const TWO_DIMENSIONAL: f64 = 1.0;
/// [`REGION_UNITS`] of lengths.
const CENTIMETRES: f64 = 3.0;
/// How long a frame is shown whose file does not say, as for GIF.
const UNTIMED: f64 = 0.1;

/// Reads a still image, or a cine where there is more than one frame.
pub(super) fn read(path: &Path) -> Result<Study> {
    let object = open_file(path).map_err(|e| unreadable(&e))?;
    let pixels = object.decode_pixel_data().map_err(|e| unreadable(&e))?;
    let size = [pixels.columns(), pixels.rows()];
    let mut notes = Vec::new();
    let known = spacing(&object, size, &mut notes);
    let spacing = known.unwrap_or([1.0; 2]);
    let mut frames =
        (0..pixels.number_of_frames()).map(|frame| picture_of(&object, &pixels, frame)).collect::<Result<Vec<_>>>()?;
    let content = if frames.len() == 1 {
        let data = picture::intensities(&frames.remove(0))?;
        Content::Still(Image { data, spacing: spacing.to_vec(), geometry: Geometry::Picture })
    } else {
        let seconds = seconds(&object, frames.len(), &mut notes);
        Content::Cine(Cine::new(frames, seconds, spacing)?)
    };
    let ultrasound = object.get(MODALITY).and_then(|element| element.to_str().ok()).is_some_and(|m| m.trim() == "US");
    Ok(Study { content, notes, ultrasound, spacing_known: known.is_some() })
}

fn unreadable(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Format, format!("is not a readable DICOM: {}", chain(error)))
}

/// An error with all that it says of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// One frame; a window that only serves its display is not applied.
fn picture_of(object: &DefaultDicomObject, pixels: &DecodedPixelData, frame: u32) -> Result<DynamicImage> {
    let failed = |e: dicom_pixeldata::Error| {
        Error::new(ErrorKind::Format, format!("frame {frame} cannot be read: {}", chain(&e)))
    };
    if pixels.samples_per_pixel() == 1 && pixels.photometric_interpretation().as_str() == "PALETTE COLOR" {
        return paint(object, pixels.frame_data(frame).map_err(failed)?, pixels);
    }
    let plain = matches!(pixels.photometric_interpretation(), PhotometricInterpretation::Monochrome2)
        && pixels.bits_allocated() == 8;
    let modality = if plain { ModalityLutOption::None } else { ModalityLutOption::Default };
    let options = ConvertOptions::new().with_modality_lut(modality).with_voi_lut(VoiLutOption::Identity);
    pixels.to_dynamic_image_with_options(frame, &options).map_err(failed)
}

/// Looks up 8-bit indices in the file's palettes (DICOM PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6).
fn paint(object: &DefaultDicomObject, indices: &[u8], pixels: &DecodedPixelData) -> Result<DynamicImage> {
    let fail = |what: &str| Error::new(ErrorKind::Format, format!("is in PALETTE COLOR, and {what}"));
    if pixels.bits_allocated() != 8 {
        return Err(fail("its indices have more than 8 bits, which is not supported"));
    }
    let mut palettes = Vec::with_capacity(3);
    for (descriptor, palette) in PALETTE_DESCRIPTORS.into_iter().zip(PALETTES) {
        let [entries, first, bits] = numbers(object, descriptor)[..] else {
            return Err(fail("a palette is not described by three numbers"));
        };
        // 0 stands for 65536, which 16 bits cannot hold.
        let entries = if entries == 0.0 { 65_536 } else { entries as usize };
        if !(1..=65_536).contains(&entries) {
            return Err(fail("a palette has an impossible number of entries"));
        }
        let data = object.get(palette).and_then(|element| element.to_bytes().ok());
        let data = data.ok_or_else(|| fail("a palette is missing"))?;
        // Of 16-bit entries the upper half is what a display of 8 bits shows. 8-bit entries may be stored in 16 bits.
        let wide = data.len() >= 2 * entries;
        let shift = if bits > 8.0 { 8 } else { 0 };
        let entry = |k: usize| match wide {
            true => data.get(2 * k..2 * k + 2).map(|pair| (u16::from_le_bytes([pair[0], pair[1]]) >> shift) as u8),
            false => data.get(k).copied(),
        };
        let table: Option<Vec<u8>> = (0..entries).map(entry).collect();
        palettes.push((first as usize, table.ok_or_else(|| fail("a palette is shorter than it says"))?));
    }
    let look = |(first, table): &(usize, Vec<u8>), index: u8| {
        table[usize::from(index).saturating_sub(*first).min(table.len() - 1)]
    };
    let data: Vec<u8> = indices.iter().flat_map(|&index| palettes.iter().map(move |p| look(p, index))).collect();
    RgbImage::from_raw(pixels.columns(), pixels.rows(), data)
        .map(DynamicImage::ImageRgb8)
        .ok_or_else(|| fail("a frame has another size than the file says"))
}

/// The numbers of an element; empty where it is absent or holds none.
fn numbers(object: &InMemDicomObject, tag: Tag) -> Vec<f64> {
    object.get(tag).and_then(|element| element.to_multi_float64().ok()).unwrap_or_default()
}

fn number(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    numbers(object, tag).first().copied()
}

/// Pixel spacing in mm along (y, x): from the region that covers a 2-D image, else from the attribute Pixel Spacing; `None`
/// with a note where neither can be used.
fn spacing(object: &InMemDicomObject, [columns, rows]: [u32; 2], notes: &mut Vec<String>) -> Option<[f64; 2]> {
    let regions = object.get(REGIONS).and_then(|element| element.items()).unwrap_or_default();
    for region in regions.iter().filter(|region| number(region, REGION_FORMAT) == Some(TWO_DIMENSIONAL)) {
        let corners: Vec<f64> = REGION_CORNERS.iter().filter_map(|tag| number(region, *tag)).collect();
        let &[x0, y0, x1, y1] = &corners[..] else { continue };
        let inside = 0.0 <= x0 && x0 <= x1 && x1 < f64::from(columns) && 0.0 <= y0 && y0 <= y1 && y1 < f64::from(rows);
        if !inside {
            notes.push(format!(
                "its ultrasound region reaches from ({x0}, {y0}) to ({x1}, {y1}), but the stored frame has {columns} x \
                 {rows} pixels: the region and its pixel spacing are not used"
            ));
            continue;
        }
        let lengths = REGION_UNITS.iter().all(|tag| number(region, *tag) == Some(CENTIMETRES));
        let [x, y] = REGION_DELTA.map(|tag| number(region, tag).map(|delta| 10.0 * delta.abs()));
        if let (true, Some(x), Some(y)) = (lengths, x, y)
            && x.is_finite()
            && y.is_finite()
            && x > 0.0
            && y > 0.0
        {
            return Some([y, x]);
        }
    }
    match numbers(object, PIXEL_SPACING)[..] {
        [y, x] if y > 0.0 && x > 0.0 && y.is_finite() && x.is_finite() => Some([y, x]),
        _ => {
            notes.push("its pixel spacing is unknown".into());
            None
        }
    }
}

/// How long each of `frames` frames is shown.
fn seconds(object: &InMemDicomObject, frames: usize, notes: &mut Vec<String>) -> Vec<f64> {
    let usable = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
    let constant = number(object, FRAME_TIME).map(|milliseconds| milliseconds / 1000.0);
    if let Some(constant) = constant.filter(usable) {
        return vec![constant; frames];
    }
    // The times from each frame to the one before it, so the first is 0.
    let vector = numbers(object, FRAME_TIME_VECTOR);
    let steps: Vec<f64> = vector.iter().skip(1).map(|milliseconds| milliseconds / 1000.0).collect();
    if vector.len() == frames && frames > 1 && steps.iter().all(usable) {
        return steps.iter().copied().chain(steps.last().copied()).collect();
    }
    if let Some(constant) = number(object, CINE_RATE).map(|rate| 1.0 / rate).filter(usable) {
        return vec![constant; frames];
    }
    notes.push(format!("its frame time is unknown: {UNTIMED} s is assumed"));
    vec![UNTIMED; frames]
}
