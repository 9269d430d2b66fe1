//! Cines: frames of one size over time.

use ::image::DynamicImage;

use super::{Geometry, Image, picture};
use crate::{Error, ErrorKind, Result};

/// What a file holds.
#[derive(Debug, Clone)]
pub enum Study {
    /// One picture or volume.
    Still(Image),
    /// Several frames.
    Cine(Cine),
}

/// Frames of one size, at least one, as decoded: 8 or 16 bits a channel, so that a long cine fits into memory.
#[derive(Debug, Clone)]
pub struct Cine {
    frames: Vec<DynamicImage>,
    seconds: Vec<f64>,
    spacing: [f64; 2],
}

impl Cine {
    /// `seconds` holds how long each frame is shown, `spacing` the pixel spacing in mm along (y, x), 1 where unknown.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where there is no frame, or frames differ in size or channels.
    pub(super) fn new(frames: Vec<DynamicImage>, seconds: Vec<f64>, spacing: [f64; 2]) -> Result<Self> {
        let fail = |message: String| Err(Error::new(ErrorKind::Format, message));
        let Some(first) = frames.first() else {
            return fail("holds no frame".into());
        };
        let look = |frame: &DynamicImage| (frame.width(), frame.height(), frame.color());
        if let Some((index, frame)) = frames.iter().enumerate().find(|(_, frame)| look(frame) != look(first)) {
            return fail(format!("frame {index} is {:?}, the first frame is {:?}", look(frame), look(first)));
        }
        if seconds.len() != frames.len() || seconds.iter().any(|seconds| !(seconds.is_finite() && *seconds > 0.0)) {
            return fail("does not say how long each of its frames is shown".into());
        }
        Ok(Self { frames, seconds, spacing })
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Never: a cine has a frame at least.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Seconds that each frame is shown.
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// The geometry of outputs that hold all frames.
    pub fn geometry(&self) -> Geometry {
        Geometry::Cine { spacing: self.spacing }
    }

    /// Frame `index`, counted from 0, as an image `[C, H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where there is no such frame, [`ErrorKind::Format`] where it is transparent.
    pub fn frame(&self, index: usize) -> Result<Image> {
        let frame = self.frames.get(index).ok_or_else(|| {
            Error::new(ErrorKind::Setting, format!("frame {index} was asked for, of {} frames", self.len()))
        })?;
        let data = picture::intensities(frame)?;
        Ok(Image { data, spacing: self.spacing.to_vec(), geometry: Geometry::Picture })
    }
}
