//! Cines: frames of one size over time.

use ::image::{DynamicImage, ImageBuffer, Luma};

use std::path::Path;

use super::{Geometry, Image, OutputForm, Sector, picture};
use ldseg::image::luminance;
use ldseg::{Error, ErrorKind, Result};

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The image or images.
    pub content: Content,
    /// What is odd about the file and was not believed, for the user to know.
    pub notes: Vec<String>,
    /// Whether the file says that it is ultrasound. Devices store grey images in colour, with lossy compression and
    /// coloured marks: a model of grey images takes their luminance.
    pub ultrasound: bool,
    /// What outputs need of the file.
    pub form: OutputForm,
    /// Where the file says that the ultrasound image lies in the frame, if that can be.
    pub region: Option<Sector>,
}

/// One image, or several.
#[derive(Debug, Clone)]
pub enum Content {
    /// One picture or volume.
    Still(Image),
    /// Several frames.
    Cine(Cine),
}

impl Recording {
    /// A file that holds `content` and nothing odd.
    fn new(content: Content, form: OutputForm) -> Self {
        Self { content, notes: Vec::new(), ultrasound: false, form, region: None }
    }

    /// One picture or volume, and nothing odd.
    pub(crate) fn still(image: Image, form: OutputForm) -> Self {
        Self::new(Content::Still(image), form)
    }

    /// Several frames, and nothing odd.
    pub(crate) fn cine(cine: Cine) -> Self {
        let form = OutputForm::cine(cine.spacing);
        Self::new(Content::Cine(cine), form)
    }

    /// Spacing in mm along each spatial axis of a frame, slowest first; `None` where the file does not tell it.
    pub fn spacing(&self) -> Option<Vec<f64>> {
        match &self.content {
            Content::Still(image) => image.geometry.spacing.clone(),
            Content::Cine(cine) => cine.spacing.map(|spacing| spacing.to_vec()),
        }
    }

    /// The image of a recording that is no cine; `path` is what the error names.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a cine.
    pub fn into_still(self, path: &Path) -> Result<Image> {
        match self.content {
            Content::Still(image) => Ok(image),
            Content::Cine(cine) => {
                let message = format!("is a cine of {} frames, expected a single image", cine.len());
                Err(Error::new(ErrorKind::Format, message).in_file(path))
            }
        }
    }

    /// Whether a model of grey images may take the luminance: of ultrasound, and of any cine, as the formats of cines store
    /// grey in colour, with lossy compression or a palette, and devices draw coloured marks.
    pub fn luminance_serves(&self) -> bool {
        self.ultrasound || matches!(self.content, Content::Cine(_))
    }

    /// Replaces colour by its luminance (ITU-R BT.601), and notes it. Channels that are all equal are no colour.
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
    spacing: Option<[f64; 2]>,
}

impl Cine {
    /// `seconds` holds how long each frame is shown, `spacing` the pixel spacing in mm along (y, x), where it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where there is no frame, or frames differ in size or channels.
    pub(super) fn new(frames: Vec<DynamicImage>, seconds: Vec<f64>, spacing: Option<[f64; 2]>) -> Result<Self> {
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

    /// Whether there was any colour. Frames whose channels are equal stay as they are where all frames are so.
    fn make_grey(&mut self) -> bool {
        let coloured = self.frames.iter().any(is_coloured);
        for frame in self.frames.iter_mut().filter(|frame| coloured && frame.color().has_color()) {
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

    /// Pixel spacing along (y, x), mm; `None` where the file doesn't say.
    pub fn spacing(&self) -> Option<[f64; 2]> {
        self.spacing
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
    fn colour_becomes_luminance_and_is_noted() {
        let recording = recording([200, 100, 50]);
        assert!(recording.luminance_serves());
        let recording = recording.into_grey();
        assert_eq!(recording.notes, ["is in colour, and its luminance is taken"]);
        let Content::Cine(cine) = recording.content else { panic!("it was a cine") };
        let [grey, luminance] = [0, 1].map(|index| cine.frame(index).unwrap().data);
        assert_eq!((grey.shape(), luminance.shape()), (&[1, 2, 2][..], &[1, 2, 2][..]));
        // 16 bits: an 8-bit value times 257.
        assert_eq!((grey[[0, 0, 0]], luminance[[0, 1, 1]]), (7.0 * 257.0, (124.2_f32 * 257.0).round()));
    }

    #[test]
    fn grey_in_the_guise_of_colour_is_left_alone() {
        let recording = recording([9; 3]).into_grey();
        assert!(recording.notes.is_empty());
        let Content::Cine(cine) = recording.content else { panic!("it was a cine") };
        assert_eq!(cine.frame(1).unwrap().with_channels(1).unwrap()[[0, 0, 0]], 9.0);
    }
}
