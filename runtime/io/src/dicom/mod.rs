//! DICOM images and cines, ultrasound above all: native, RLE, deflated and JPEG (baseline and lossless) pixel data.

mod colour;
mod derived;
mod elements;
#[cfg(test)]
mod fixtures;
mod jpeg;
mod layout;
mod pixels;
mod rle;
mod seg;
mod sr;
#[cfg(test)]
mod tests;

use std::path::Path;

use dicom_dictionary_std::{tags, uids};
use dicom_object::{InMemDicomObject, Tag, open_file};

pub use self::derived::DicomAlgorithm;
use self::layout::Layout;
pub use self::seg::{DicomSeg, DicomSegKind};
pub use self::sr::{DicomChamber, DicomMeasurement, DicomQuantity, DicomReport};
use super::recording::{Cine, Recording};
use super::{Geometry, Image, OutputForm, picture};
use ldseg::image::Region;
use ldseg::{Error, ErrorKind, Result};

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
/// [`REGION_FORMAT`] of a 2-D tissue or flow image.
const TWO_DIMENSIONAL: f64 = 1.0;
/// [`REGION_UNITS`] of lengths.
const CENTIMETRES: f64 = 3.0;
/// How long a frame is shown whose file does not say, as for GIF.
const UNTIMED: f64 = 0.1;

/// Reads a still image, or a cine where there is more than one frame.
pub(super) fn read(path: &Path) -> Result<Recording> {
    let object = open_file(path).map_err(|e| unreadable(&e))?;
    if text(&object, tags::SOP_CLASS_UID).as_deref() == Some(uids::SEGMENTATION_STORAGE) {
        return Err(Error::new(ErrorKind::Format, "is a DICOM segmentation, expected an image"));
    }
    let layout = Layout::read(&object)?;
    let mut notes = Vec::new();
    let (known, region) = spacing(&object, [layout.columns as u32, layout.rows as u32], &mut notes);
    let mut frames = pixels::frames(&object, &layout)?;
    let recording = match (frames.len(), frames.pop()) {
        (1, Some(frame)) => {
            let data = colour::intensities(&object, frame, &layout)?;
            let geometry = known.map_or_else(Geometry::default, |spacing| Geometry::with_spacing(spacing.to_vec()));
            Recording::still(Image { data, geometry }, OutputForm::picture())
        }
        (_, last) => {
            let seconds = seconds(&object, layout.frames, &mut notes);
            let frames = frames.into_iter().chain(last).map(|frame| colour::picture(&object, frame, &layout));
            Recording::cine(Cine::new(frames.collect::<Result<_>>()?, seconds, known)?)
        }
    };
    Ok(recording.noted(notes).with_region(region))
}

/// What keeps the pixels from being labels: that they are compressed with loss or once were, or are shown by a palette.
pub(super) fn not_labels(path: &Path) -> Result<Option<&'static str>> {
    let object = open_file(path).map_err(|e| unreadable(&e))?;
    let syntax = object.meta().transfer_syntax().trim_end_matches('\0');
    let lossy = [uids::JPEG_BASELINE8_BIT, uids::JPEG_EXTENDED12_BIT].contains(&syntax)
        || text(&object, tags::LOSSY_IMAGE_COMPRESSION).as_deref() == Some("01");
    let palette = text(&object, tags::PHOTOMETRIC_INTERPRETATION).as_deref() == Some("PALETTE COLOR");
    Ok(if lossy {
        Some("a DICOM with lossy compression")
    } else if palette {
        Some("a DICOM with a palette")
    } else {
        None
    })
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

/// The text of an element without the padding; `None` where there is none.
fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let text = text.trim_matches([' ', '\0']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// The numbers of an element; empty where it is absent or holds none.
fn numbers(object: &InMemDicomObject, tag: Tag) -> Vec<f64> {
    object.get(tag).and_then(|element| element.to_multi_float64().ok()).unwrap_or_default()
}

fn number(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    numbers(object, tag).first().copied()
}

/// Pixel spacing in mm along (y, x): from the region that covers a 2-D image, else from the attribute Pixel Spacing; `None`
/// with a note where neither can be used. And that region, if it lies inside the frame.
fn spacing(
    object: &InMemDicomObject,
    [columns, rows]: [u32; 2],
    notes: &mut Vec<String>,
) -> (Option<[f64; 2]>, Option<Region>) {
    let mut covered = None;
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
        // Both corners belong to it.
        let pixels = |from: f64, to: f64| (to - from) as usize + 1;
        let (height, width) = (pixels(y0, y1), pixels(x0, x1));
        covered.get_or_insert(Region { top: y0 as usize, left: x0 as usize, height, width });
        let lengths = REGION_UNITS.iter().all(|tag| number(region, *tag) == Some(CENTIMETRES));
        let [x, y] = REGION_DELTA.map(|tag| number(region, tag).map(|delta| 10.0 * delta.abs()));
        if let (true, Some(x), Some(y)) = (lengths, x, y)
            && x.is_finite()
            && y.is_finite()
            && x > 0.0
            && y > 0.0
        {
            return (Some([y, x]), covered);
        }
    }
    match numbers(object, PIXEL_SPACING)[..] {
        [y, x] if y > 0.0 && x > 0.0 && y.is_finite() && x.is_finite() => (Some([y, x]), covered),
        _ => {
            notes.push("its pixel spacing is unknown".into());
            (None, covered)
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
