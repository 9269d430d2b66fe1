//! What a file holds: one picture or volume, or the frames of a cine.

use std::borrow::Cow;
use std::path::Path;

use ::image::DynamicImage;
use ldseg::image::{Geometry, Image, Region};
use ldseg::{Error, ErrorKind, Result};

use super::regions::UltrasoundRegion;
use super::{OutputForm, picture};

/// One file with its frames, or one image whose channels lie in several files.
#[derive(Debug, Clone)]
pub struct Recording {
    content: Content,
    notes: Vec<String>,
    form: OutputForm,
    regions: Vec<UltrasoundRegion>,
    views: usize,
}

/// One image, or several.
#[derive(Debug, Clone)]
enum Content {
    Still(Image),
    Cine(Cine),
}

impl Recording {
    /// One picture or volume, and nothing odd.
    pub(crate) fn still(image: Image, form: OutputForm) -> Self {
        Self { content: Content::Still(image), notes: Vec::new(), form, regions: Vec::new(), views: 0 }
    }

    /// Several frames, and nothing odd.
    pub(crate) fn cine(cine: Cine) -> Self {
        let form = OutputForm::cine(cine.spacing);
        Self { content: Content::Cine(cine), notes: Vec::new(), form, regions: Vec::new(), views: 0 }
    }

    /// The same with what is odd about the file.
    pub(crate) fn noted(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// The same with where the file says that ultrasound images lie, the one that decides first, and how many of them are
    /// views side by side.
    #[cfg(any(feature = "dicom", test))]
    pub(crate) fn with_regions(self, regions: Vec<UltrasoundRegion>, views: usize) -> Self {
        Self { regions, views, ..self }
    }

    /// Whether it holds frames over time.
    pub fn is_cine(&self) -> bool {
        matches!(self.content, Content::Cine(_))
    }

    /// Number of frames, at least 1; 1 for a picture or volume.
    pub fn frame_count(&self) -> usize {
        self.seconds().len().max(1)
    }

    /// How long each frame of a cine is shown, seconds; empty for a picture or volume.
    pub fn seconds(&self) -> &[f64] {
        match &self.content {
            Content::Still(_) => &[],
            Content::Cine(cine) => &cine.seconds,
        }
    }

    /// Frame `index`, counted from 0, `[C, H, W]`; frame 0 of a volume is all of it, `[C, D, H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where there is no such frame, [`ErrorKind::Format`] where it is transparent.
    pub fn frame(&self, index: usize) -> Result<Cow<'_, Image>> {
        match &self.content {
            Content::Still(image) if index == 0 => Ok(Cow::Borrowed(image)),
            Content::Cine(cine) if index < cine.frames.len() => cine.frame(index).map(Cow::Owned),
            _ => {
                let message = format!("frame {index} was asked for, of {} frames", self.frame_count());
                Err(Error::new(ErrorKind::Setting, message))
            }
        }
    }

    /// Number of spatial axes of a frame, 2 or 3.
    pub fn spatial_axes(&self) -> usize {
        match &self.content {
            Content::Still(image) => image.spatial_axes(),
            Content::Cine(_) => 2,
        }
    }

    /// Number of channels as stored, without one of transparency.
    pub fn channels(&self) -> usize {
        match &self.content {
            Content::Still(image) => image.data.shape()[0],
            Content::Cine(cine) if cine.frames[0].color().has_color() => 3,
            Content::Cine(_) => 1,
        }
    }

    /// Whether some pixel of some frame has a colour. Channels that are all equal are none.
    pub fn is_coloured(&self) -> bool {
        match &self.content {
            Content::Still(image) => image.is_coloured(),
            Content::Cine(cine) => cine.frames.iter().any(is_coloured),
        }
    }

    /// Spacing in mm along each spatial axis of a frame, slowest first; `None` where the file does not tell it.
    pub fn spacing(&self) -> Option<Vec<f64>> {
        match &self.content {
            Content::Still(image) => image.geometry.spacing.clone(),
            Content::Cine(cine) => cine.spacing.map(|spacing| spacing.to_vec()),
        }
    }

    /// What is odd about the file and was not believed, for the user to know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What outputs need of the file.
    pub fn form(&self) -> &OutputForm {
        &self.form
    }

    /// Where the file says that ultrasound images lie in the frame, those in two dimensions, if that can be. The first is the
    /// one whose pixel spacing counts.
    pub fn regions(&self) -> &[UltrasoundRegion] {
        &self.regions
    }

    /// How many views the file says lie side by side in a frame; 0 where it says nothing. More than one is not one image that
    /// could be measured as a whole.
    pub fn views(&self) -> usize {
        self.views
    }

    /// Where the file says that the ultrasound image lies in the frame, the first of [`Self::regions`].
    pub fn region(&self) -> Option<Region> {
        self.regions.first().map(|region| region.area)
    }

    /// The image of a recording that is no cine; `path` is what the error names.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a cine.
    pub fn into_still(self, path: &Path) -> Result<Image> {
        match self.content {
            Content::Still(image) => Ok(image),
            Content::Cine(cine) => {
                let message = format!("is a cine of {} frames, expected a single image", cine.frames.len());
                Err(Error::new(ErrorKind::Format, message).in_file(path))
            }
        }
    }
}

/// Frames of one size, at least one, as decoded: 8 or 16 bits a channel, so that a long cine fits into memory.
#[derive(Debug, Clone)]
pub(crate) struct Cine {
    frames: Vec<DynamicImage>,
    seconds: Vec<f64>,
    spacing: Option<[f64; 2]>,
    /// From the numbers of each frame to values; empty where they are the values.
    scales: Vec<Scale>,
}

/// From stored numbers to values: value = slope * number + intercept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { slope: 1.0, intercept: 0.0 }
    }
}

impl Scale {
    pub(crate) fn apply(self, numbers: &mut ldseg::Tensor) {
        if self != Self::default() {
            numbers.mapv_inplace(|number| (self.slope * f64::from(number) + self.intercept) as f32);
        }
    }
}

impl Cine {
    /// `seconds` holds how long each frame is shown, `spacing` the pixel spacing in mm along (y, x), where it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where there is no frame, or frames differ in size or channels.
    pub(crate) fn new(frames: Vec<DynamicImage>, seconds: Vec<f64>, spacing: Option<[f64; 2]>) -> Result<Self> {
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
        Ok(Self { frames, seconds, spacing, scales: Vec::new() })
    }

    /// The same, of frames that hold other numbers than the values that they stand for; one scale a frame.
    #[cfg(feature = "dicom")]
    pub(crate) fn scaled(self, scales: Vec<Scale>) -> Self {
        Self { scales, ..self }
    }

    fn frame(&self, index: usize) -> Result<Image> {
        let mut data = picture::intensities(&self.frames[index])?;
        if let Some(scale) = self.scales.get(index) {
            scale.apply(&mut data);
        }
        let geometry = self.spacing.map_or_else(Geometry::default, |spacing| Geometry::with_spacing(spacing.to_vec()));
        Ok(Image { data, geometry })
    }
}

fn is_coloured(frame: &DynamicImage) -> bool {
    fn differ<T: PartialEq>([r, g, b]: &[T; 3]) -> bool {
        r != g || g != b
    }
    match frame {
        DynamicImage::ImageRgb8(pixels) => pixels.pixels().any(|pixel| differ(&pixel.0)),
        DynamicImage::ImageRgb16(pixels) => pixels.pixels().any(|pixel| differ(&pixel.0)),
        other => other.color().has_color(),
    }
}

#[cfg(test)]
mod tests {
    use ::image::{Rgb, RgbImage};

    use super::*;

    fn recording(pixel: [u8; 3]) -> Recording {
        let frames =
            vec![RgbImage::from_pixel(2, 2, Rgb([7; 3])).into(), RgbImage::from_pixel(2, 2, Rgb(pixel)).into()];
        Recording::cine(Cine::new(frames, vec![0.1; 2], None).unwrap())
    }

    #[test]
    fn colour_in_any_frame_is_colour() {
        assert!(recording([200, 100, 50]).is_coloured());
        assert!(!recording([9; 3]).is_coloured());
        let found = recording([9; 3]);
        assert_eq!((found.channels(), found.frame_count(), found.spatial_axes()), (3, 2, 2));
        assert_eq!(found.frame(1).unwrap().with_channels(1).unwrap()[[0, 0, 0]], 9.0);
        assert_eq!(found.frame(2).unwrap_err().kind(), ErrorKind::Setting);
    }
}
