//! Cines: frames of one size over time.

use ::image::{DynamicImage, ImageBuffer, Luma};
use ndarray::{Axis, Zip};

use super::{Geometry, Image, picture};
use crate::{Error, ErrorKind, Result, Tensor};

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Study {
    /// The image or images.
    pub content: Content,
    /// What is odd about the file and was not believed, for the user to know.
    pub notes: Vec<String>,
    /// Whether the file says that it is ultrasound. Devices store grey images in colour, with lossy compression and
    /// coloured marks: a model of grey images takes their luminance.
    pub ultrasound: bool,
    /// Whether the file tells its spacing; where it does not, spacings are 1.
    pub spacing_known: bool,
}

/// One image, or several.
#[derive(Debug, Clone)]
pub enum Content {
    /// One picture or volume.
    Still(Image),
    /// Several frames.
    Cine(Cine),
}

impl Study {
    /// A file that holds `content` and nothing odd.
    pub fn new(content: Content, spacing_known: bool) -> Self {
        Self { content, notes: Vec::new(), ultrasound: false, spacing_known }
    }

    /// Replaces colour by its luminance (ITU-R BT.601), and notes it.
    pub fn into_grey(mut self) -> Self {
        let coloured = match &mut self.content {
            Content::Still(image) => image.make_grey(),
            Content::Cine(cine) => cine.make_grey(),
        };
        if coloured {
            self.notes.push("is in colour, and its luminance is taken".into());
        }
        self
    }
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

    /// Whether there was any colour.
    fn make_grey(&mut self) -> bool {
        let coloured = self.frames.iter().any(|frame| frame.color().has_color());
        for frame in self.frames.iter_mut().filter(|frame| frame.color().has_color()) {
            let rgb = frame.to_rgb16();
            let grey = |x, y| Luma([luminance(rgb.get_pixel(x, y).0.map(f32::from)).round() as u16]);
            *frame = DynamicImage::ImageLuma16(ImageBuffer::from_fn(rgb.width(), rgb.height(), grey));
        }
        coloured
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

    /// Pixel spacing along (y, x), mm; 1 where the file doesn't say.
    pub fn spacing(&self) -> [f64; 2] {
        self.spacing
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

impl Image {
    /// Colour replaced by its luminance (ITU-R BT.601).
    pub fn into_grey(mut self) -> Self {
        self.make_grey();
        self
    }

    /// Whether there was any colour.
    fn make_grey(&mut self) -> bool {
        if self.data.shape()[0] != 3 {
            return false;
        }
        let plane = |c| self.data.index_axis(Axis(0), c);
        let mut grey = Tensor::zeros(plane(0).raw_dim());
        Zip::from(&mut grey)
            .and(plane(0))
            .and(plane(1))
            .and(plane(2))
            .for_each(|grey, &r, &g, &b| *grey = luminance([r, g, b]));
        self.data = grey.insert_axis(Axis(0));
        true
    }
}

/// Luminance of R, G and B (ITU-R BT.601).
fn luminance([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}
