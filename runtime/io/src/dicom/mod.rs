//! DICOM images and cines, ultrasound above all: native, RLE, deflated and JPEG (baseline and lossless) pixel data.

mod charset;
mod colour;
mod dataset;
mod derived;
mod elements;
#[cfg(test)]
mod fixtures;
mod jpeg;
mod layout;
mod modality;
mod palette;
mod pixels;
mod rle;
mod seg;
mod space;
mod spacing;
mod sr;
#[cfg(test)]
mod tests;
mod times;
mod walk;

use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use self::colour::Colours;
pub(crate) use self::dataset::bare_syntax;
pub use self::derived::DicomAlgorithm;
use self::layout::Layout;
pub use self::seg::{DicomSeg, DicomSegKind};
pub use self::sr::{DicomChamber, DicomMeasurement, DicomQuantity, DicomReport};
use super::recording::{Cine, Recording};
use super::{Geometry, Image, Limits, OutputForm, picture};
use ldseg::{Error, ErrorKind, Result};

/// Reads a still image, or a cine where there is more than one frame.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Recording> {
    let data = dataset::open(path, false, &[], limits)?;
    let object = &data.object;
    if text(object, tags::SOP_CLASS_UID).as_deref() == Some(uids::SEGMENTATION_STORAGE) {
        return Err(Error::new(ErrorKind::Format, "is a DICOM segmentation, expected an image"));
    }
    let layout = Layout::read(object, &limits.without(data.bytes))?;
    space::refuse(object, &layout)?;
    let mut notes = Vec::new();
    let scale = spacing::scale(object, [layout.rows, layout.columns], &mut notes);
    let colours = Colours::read(object, &layout, &mut notes)?;
    let frames = pixels::frames(object, &data.syntax, &layout, &mut |frame| colour::picture(frame, &layout, &colours))?;
    let recording = match <[_; 1]>::try_from(frames) {
        Ok([frame]) => {
            let mut data = picture::intensities(&frame)?;
            colours.scale(0, &layout).apply(&mut data);
            let geometry =
                scale.spacing.map_or_else(Geometry::default, |spacing| Geometry::with_spacing(spacing.to_vec()));
            Recording::still(Image { data, geometry }, OutputForm::picture())
        }
        Err(frames) => {
            let seconds = times::seconds(object, layout.frames, &mut notes);
            let scales = (0..frames.len()).map(|index| colours.scale(index, &layout)).collect();
            Recording::cine(Cine::new(frames, seconds, scale.spacing)?.scaled(scales))
        }
    };
    Ok(recording.noted(notes).with_regions(scale.regions, scale.views))
}

/// Reads a file, whatever object it holds.
pub(super) fn check_whole(path: &Path) -> Result<()> {
    dataset::open(path, false, &[], &Limits::default()).map(drop)
}

/// What keeps the pixels from being labels: that they are compressed with loss or once were, or are shown by a palette.
pub(super) fn not_labels(path: &Path, limits: &Limits) -> Result<Option<&'static str>> {
    let data = dataset::open(path, true, &[], limits)?;
    let lossy = [uids::JPEG_BASELINE8_BIT, uids::JPEG_EXTENDED12_BIT].contains(&data.syntax.as_str())
        || text(&data.object, tags::LOSSY_IMAGE_COMPRESSION).as_deref() == Some("01");
    let palette = text(&data.object, tags::PHOTOMETRIC_INTERPRETATION).as_deref() == Some("PALETTE COLOR");
    Ok(if lossy {
        Some("a DICOM with lossy compression")
    } else if palette {
        Some("a DICOM with a palette")
    } else {
        None
    })
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
