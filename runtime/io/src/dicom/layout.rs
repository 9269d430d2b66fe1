//! How a file says that its pixels are stored (PS3.3, C.7.6.3), checked.

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, Tag};

use super::{number, text};
use crate::Limits;
use ldseg::{Error, ErrorKind, Result};

/// What the samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Photometric {
    /// Grey, 0 is white.
    Monochrome1,
    /// Grey, 0 is black.
    Monochrome2,
    /// An index into tables of red, green and blue.
    Palette,
    Rgb,
    /// Y, Cb and Cr of full range (ITU-R BT.601).
    YbrFull,
    /// The same; where it is not compressed, two neighbours share Cb and Cr.
    YbrFull422,
    /// What JPEG 2000 makes of RGB by itself: its decoder gives RGB.
    YbrOfJpeg2000,
}

/// Size, frames and numbers of the stored samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) frames: usize,
    /// 1, or 3 for colour.
    pub(super) samples: usize,
    pub(super) photometric: Photometric,
    /// Whether all of a frame's first samples come first, then all second ones, then all third ones.
    pub(super) planar: bool,
    /// 8 or 16.
    pub(super) allocated: u32,
    /// At most `allocated`.
    pub(super) stored: u32,
    /// By how many bits the stored ones are shifted up.
    pub(super) shift: u32,
    pub(super) signed: bool,
}

impl Layout {
    /// # Errors
    /// [`ErrorKind::Format`] for what is missing, contradicts itself or is not supported.
    pub(super) fn read(object: &InMemDicomObject, limits: &Limits) -> Result<Self> {
        let frames = number(object, tags::NUMBER_OF_FRAMES).unwrap_or(1.0);
        if !(frames >= 1.0 && frames.fract() == 0.0 && frames <= f64::from(u32::MAX)) {
            return Err(fail(format!("says that it has {frames} frames, expected 1 or more")));
        }
        let samples = whole(object, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")?;
        let allocated = whole(object, tags::BITS_ALLOCATED, "Bits Allocated")?;
        let stored = whole(object, tags::BITS_STORED, "Bits Stored").unwrap_or(allocated);
        let high = whole(object, tags::HIGH_BIT, "High Bit").unwrap_or(stored.saturating_sub(1));
        let layout = Self {
            rows: whole(object, tags::ROWS, "Rows")? as usize,
            columns: whole(object, tags::COLUMNS, "Columns")? as usize,
            frames: frames as usize,
            samples: samples as usize,
            photometric: photometric(object)?,
            planar: samples == 3 && number(object, tags::PLANAR_CONFIGURATION) == Some(1.0),
            allocated,
            stored,
            shift: (high + 1).saturating_sub(stored),
            signed: number(object, tags::PIXEL_REPRESENTATION) == Some(1.0),
        };
        layout.check(high, limits)?;
        Ok(layout)
    }

    fn check(&self, high: u32, limits: &Limits) -> Result<()> {
        limits.check(self.frames, [self.rows, self.columns, self.samples], self.allocated as usize / 8)?;
        if !matches!(self.allocated, 8 | 16) {
            return Err(fail(format!("stores {} bits a sample, expected 8 or 16", self.allocated)));
        }
        if !(1..=self.allocated).contains(&self.stored) || high >= self.allocated || high + 1 < self.stored {
            let (stored, allocated) = (self.stored, self.allocated);
            return Err(fail(format!("stores {stored} bits below bit {high} of {allocated}, which cannot be")));
        }
        let grey =
            matches!(self.photometric, Photometric::Monochrome1 | Photometric::Monochrome2 | Photometric::Palette);
        let expected = if grey { 1 } else { 3 };
        if self.samples != expected {
            let photometric = self.photometric;
            return Err(fail(format!("has {} samples a pixel, expected {expected} of {photometric:?}", self.samples)));
        }
        Ok(())
    }

    /// Samples of one frame.
    pub(super) fn area(&self) -> usize {
        self.rows * self.columns * self.samples
    }
}

fn photometric(object: &InMemDicomObject) -> Result<Photometric> {
    let name = text(object, tags::PHOTOMETRIC_INTERPRETATION)
        .ok_or_else(|| fail("lacks its Photometric Interpretation".into()))?;
    Ok(match name.as_str() {
        "MONOCHROME1" => Photometric::Monochrome1,
        "MONOCHROME2" => Photometric::Monochrome2,
        "PALETTE COLOR" => Photometric::Palette,
        "RGB" => Photometric::Rgb,
        "YBR_FULL" => Photometric::YbrFull,
        "YBR_FULL_422" => Photometric::YbrFull422,
        "YBR_RCT" | "YBR_ICT" => Photometric::YbrOfJpeg2000,
        other => return Err(fail(format!("has the photometric interpretation {other}, which is not supported"))),
    })
}

fn whole(object: &InMemDicomObject, tag: Tag, name: &str) -> Result<u32> {
    let value = object.get(tag).and_then(|element| element.to_int::<u16>().ok());
    value.map(u32::from).ok_or_else(|| fail(format!("lacks its {name}")))
}

fn fail(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
}
