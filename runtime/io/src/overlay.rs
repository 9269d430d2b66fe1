//! Pictures of an image with its segmentation drawn over it.

use std::path::Path;

use ::image::{Rgb, RgbImage, imageops};
use ndarray::{ArrayView, ArrayView2, ArrayView3, Axis, Dimension, Ix2, Ix3};

use super::{Image, Labels, picture};
use ldseg::{Error, ErrorKind, Result};

/// Share of a class's colour inside its region; its contour has all of it.
const OPACITY: f32 = 0.35;

/// Draws the classes other than 0 over the image, whose intensities are stretched to 0..255 (of 2 channels, or more than 3,
/// those of the first): each region tinted with its colour, with a solid contour of one pixel. Of a volume, the middle slices along its three axes are shown side by
/// side, one pixel a voxel.
///
/// # Shapes
/// image `[C, H, W]` or `[C, D, H, W]`, labels without the `C`; `colours` holds one entry a class, class 0 included.
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] where the grids differ, [`ErrorKind::Setting`] where a label has no colour.
pub fn overlay(image: &Image, labels: &Labels, colours: &[[u8; 3]]) -> Result<RgbImage> {
    let grid = &image.data.shape()[1..];
    if grid != labels.shape() {
        let message = format!("the labels have size {:?}, expected the image's {grid:?}", labels.shape());
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    }
    if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= colours.len()) {
        let message = format!("label {label} has no colour, expected labels below {}", colours.len());
        return Err(Error::new(ErrorKind::Setting, message));
    }
    let colour = image.data.shape()[0] == 3;
    let shown = image.data.axis_iter(Axis(0)).take(if colour { 3 } else { 1 });
    let (min, max) = shown.flatten().fold((f32::MAX, f32::MIN), |(min, max), &v| (min.min(v), max.max(v)));
    let window = Window { min, scale: if max > min { 255.0 / (max - min) } else { 0.0 } };
    if labels.ndim() == 2 {
        return Ok(panel(fixed(image.data.view())?, fixed(labels.view())?, window, colours));
    }
    let mut panels = Vec::with_capacity(3);
    for axis in 0..3 {
        let middle = *labels.shape().get(axis).unwrap_or(&0) / 2;
        let plane = fixed::<_, ndarray::Ix4>(image.data.view())?.index_axis_move(Axis(axis + 1), middle);
        let classes = fixed::<_, Ix3>(labels.view())?.index_axis_move(Axis(axis), middle);
        panels.push(panel(plane, classes, window, colours));
    }
    Ok(side_by_side(&panels))
}

/// Writes a picture as PNG. The file appears whole or not at all.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be written.
pub fn write_picture(path: &Path, picture: &RgbImage) -> Result<()> {
    picture::write_png(path, &picture.clone().into()).map_err(|e| e.in_file(path))
}

/// A picture as the bytes of a PNG file.
///
/// # Errors
/// [`ErrorKind::Format`] where it cannot be encoded.
pub fn png_bytes(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ::image::ImageFormat::Png)
        .map_err(|e| Error::with_source(ErrorKind::Format, "cannot be written as PNG", e))?;
    Ok(bytes.into_inner())
}

/// Maps intensities to grey values.
#[derive(Clone, Copy)]
struct Window {
    min: f32,
    scale: f32,
}

fn fixed<A, D: Dimension>(array: ndarray::ArrayViewD<'_, A>) -> Result<ArrayView<'_, A, D>> {
    array
        .into_dimensionality()
        .map_err(|e| Error::with_source(ErrorKind::ShapeMismatch, "an overlay needs 2 or 3 spatial axes", e))
}

fn panel(image: ArrayView3<'_, f32>, labels: ArrayView2<'_, u8>, window: Window, colours: &[[u8; 3]]) -> RgbImage {
    let (h, w) = labels.dim();
    RgbImage::from_fn(w as u32, h as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let label = labels[Ix2(y, x)];
        let colour = colours[usize::from(label)];
        let contour = label != 0 && is_contour(labels, y, x);
        Rgb(std::array::from_fn(|c| {
            let channel = if image.dim().0 == 3 { c } else { 0 };
            let grey = (image[Ix3(channel, y, x)] - window.min) * window.scale;
            match (label, contour) {
                (0, _) => grey.round() as u8,
                (_, true) => colour[c],
                (_, false) => (grey + OPACITY * (f32::from(colour[c]) - grey)).round() as u8,
            }
        }))
    })
}

/// Whether one of the four neighbours belongs to another class. The picture's border is no contour.
fn is_contour(labels: ArrayView2<'_, u8>, y: usize, x: usize) -> bool {
    let neighbours = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
    neighbours.into_iter().filter_map(|at| labels.get(at)).any(|&other| other != labels[Ix2(y, x)])
}

fn side_by_side(panels: &[RgbImage]) -> RgbImage {
    let width = panels.iter().map(RgbImage::width).sum();
    let height = panels.iter().map(RgbImage::height).max().unwrap_or(0);
    let mut canvas = RgbImage::new(width, height);
    let mut left = 0;
    for panel in panels {
        imageops::replace(&mut canvas, panel, left, 0);
        left += i64::from(panel.width());
    }
    canvas
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::super::Geometry;
    use super::*;
    use ldseg::Tensor;

    const COLOURS: [[u8; 3]; 2] = [[0, 0, 0], [200, 100, 0]];

    fn image(shape: &[usize]) -> Image {
        let mut data = Tensor::zeros(IxDyn(shape));
        data.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 2) as f32 * 10.0);
        Image { data, geometry: Geometry::default() }
    }

    #[test]
    fn background_stays_regions_are_tinted_and_contours_solid() {
        let mut labels = Labels::zeros(IxDyn(&[6, 6]));
        labels.slice_mut(ndarray::s![1..4, 1..4]).fill(1);
        let drawn = overlay(&image(&[1, 6, 6]), &labels, &COLOURS).unwrap();
        assert_eq!(drawn.get_pixel(4, 5).0, [0; 3]);
        assert_eq!(drawn.get_pixel(5, 5).0, [255; 3]);
        assert_eq!(drawn.get_pixel(1, 2).0, COLOURS[1]);
        assert_eq!(drawn.get_pixel(2, 2).0, [70, 35, 0]);
    }

    #[test]
    fn a_volume_shows_three_slices() {
        let labels = Labels::ones(IxDyn(&[2, 3, 5]));
        let drawn = overlay(&image(&[1, 2, 3, 5]), &labels, &COLOURS).unwrap();
        assert_eq!(drawn.dimensions(), (5 + 5 + 3, 3));
        assert_eq!(drawn.get_pixel(9, 2).0, [0; 3]);
        assert_ne!(drawn.get_pixel(9, 1).0, [0; 3]);
    }

    #[test]
    fn mismatches_are_errors() {
        let labels = Labels::ones(IxDyn(&[2, 3]));
        let kind = |image: &Image, colours| overlay(image, &labels, colours).unwrap_err().kind();
        assert_eq!(kind(&image(&[1, 3, 2]), &COLOURS), ErrorKind::ShapeMismatch);
        assert_eq!(kind(&image(&[1, 2, 3]), &COLOURS[..1]), ErrorKind::Setting);
    }
}
