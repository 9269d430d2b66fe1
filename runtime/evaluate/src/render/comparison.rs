//! An image beside its reference and its segmentation.

use ::image::RgbImage;
use ndarray::Axis;

use super::panels::{Window, intensities};
use super::{Cut, View};
use ldseg::bundle::Class;
use ldseg::image::{Image, Labels};
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::overlay;

/// Three pictures of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Comparison {
    /// The image.
    pub image: RgbImage,
    /// With the reference over it.
    pub reference: RgbImage,
    /// With the segmentation over it.
    pub found: RgbImage,
}

/// Draws the three, `size` pixels along the longest side. Of a volume, the slice across the slowest axis in which most of
/// the reference lies.
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] where the label maps have another size than the image, [`ErrorKind::Setting`] where a
/// label has no colour or the size is 0.
pub fn comparison(
    image: &Image,
    reference: &Labels,
    found: &Labels,
    classes: &[Class],
    size: usize,
) -> Result<Comparison> {
    let grid = &image.data.shape()[1..];
    if let Some(labels) = [reference, found].into_iter().find(|labels| labels.shape() != grid) {
        let message = format!("has size {grid:?}, but its label map has {:?}", labels.shape());
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    }
    let labelled = |index: usize| reference.index_axis(Axis(0), index).iter().filter(|label| **label != 0).count();
    let fullest = (0..grid[0]).rev().max_by_key(|index| labelled(*index));
    let cut = (grid.len() == 3).then_some(Cut { axis: 0, index: fullest });
    let window = Window::new(View { cut, size }, image)?;
    let colours: Vec<_> = classes.iter().map(|class| class.colour).collect();
    let shown = window.image(image)?;
    let over = |labels: &Labels| overlay(&shown, &window.labels(labels), &colours);
    Ok(Comparison { image: intensities(&shown, &colours)?, reference: over(reference)?, found: over(found)? })
}
