//! The pictures in a figure.

use ::image::{Rgb, RgbImage};
use ndarray::{ArrayViewD, Axis, Ix3};

use ldseg::image::{Geometry, Image, Labels};
use ldseg::preprocess::{Resampling, image_to_grid, labels_to_grid};
use ldseg::{Error, ErrorKind, Result, Tensor};
use ldseg_io::overlay;

/// Colours of the most negative, of no, and of the most positive value of a latent.
const DIVERGING: [[f32; 3]; 3] = [[33.0, 102.0, 172.0], [247.0, 247.0, 247.0], [178.0, 24.0, 43.0]];
/// Between the channels of a latent.
const GRID: Rgb<u8> = Rgb([120; 3]);

/// Which slice of a volume is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Across this axis, 0 being the slowest one.
    pub axis: usize,
    /// Counted from 0; the middle one if `None`.
    pub index: Option<usize>,
}

/// How images are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Of a volume; pictures take none.
    pub cut: Option<Cut>,
    /// Longest side of a panel in pixels; an image keeps its proportions in mm.
    pub size: usize,
}

/// A view made to fit an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Axis, index, and the number of slices.
    cut: Option<[usize; 3]>,
    /// Height and width of a panel in pixels.
    size: [usize; 2],
}

impl Window {
    /// # Errors
    /// [`ErrorKind::Setting`] where a picture is to be cut, the axis or slice does not exist, or the size is 0.
    pub(super) fn new(view: View, image: &Image) -> Result<Self> {
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
        let mut grid = image.data.shape()[1..].to_vec();
        let mut spacing = image.spacing_or_ones();
        let cut = match (grid.len(), view.cut) {
            (2, None) => None,
            (2, Some(_)) => return fail("a picture has no slices to choose from".into()),
            (_, cut) => {
                let Cut { axis, index } = cut.unwrap_or(Cut { axis: 0, index: None });
                if axis >= grid.len() {
                    return fail(format!("axis is {axis}, expected 0 to {}", grid.len() - 1));
                }
                let slices = grid.remove(axis);
                spacing.remove(axis);
                let index = index.unwrap_or(slices / 2);
                if index >= slices {
                    return fail(format!("slice is {index}, expected 0 to {}", slices - 1));
                }
                Some([axis, index, slices])
            }
        };
        if !(1..=8192).contains(&view.size) {
            return fail(format!("the size of a panel is {}, expected 1 to 8192 pixels", view.size));
        }
        let (height, width) = (grid[0] as f64 * spacing[0], grid[1] as f64 * spacing[1]);
        let pixels = |side: f64| ((side / height.max(width) * view.size as f64).round() as usize).max(1);
        Ok(Self { cut, size: [pixels(height), pixels(width)] })
    }

    /// An image's slice, or the picture, at a panel's size.
    pub(super) fn image(&self, image: &Image) -> Result<Image> {
        let data = self.slice(image.data.view(), 1);
        let plane = Image { data: data.to_owned(), geometry: Geometry::default() };
        let data = image_to_grid(&plane, plane.data.shape()[0], &self.size, Resampling::Linear)?;
        Ok(Image { data, ..plane })
    }

    /// A label map's slice at a panel's size.
    pub(super) fn labels(&self, labels: &Labels) -> Labels {
        labels_to_grid(&self.slice(labels.view(), 0).to_owned(), &self.size)
    }

    /// The slice of a grid that may be coarser than the image's; `leading` axes come before the spatial ones.
    fn slice<'a, A>(&self, array: ArrayViewD<'a, A>, leading: usize) -> ArrayViewD<'a, A> {
        match self.cut {
            None => array,
            Some([axis, index, slices]) => {
                let stored = array.shape()[axis + leading];
                array.index_axis_move(Axis(axis + leading), (2 * index + 1) * stored / (2 * slices))
            }
        }
    }

    /// The channels of a latent `[C, ...]` as tiles, every value a rectangle, blue below 0 and red above; `limit` has the
    /// full colour.
    pub(super) fn latent(&self, latent: &Tensor, limit: f32) -> Result<RgbImage> {
        let latent = self.slice(latent.view(), 1).into_dimensionality::<Ix3>().map_err(|e| {
            Error::with_source(ErrorKind::ShapeMismatch, "a latent is shown with 2 or 3 spatial axes", e)
        })?;
        let (channels, h, w) = latent.dim();
        let across = (1..channels).find(|across| across * across >= channels).unwrap_or(channels.max(1));
        let down = channels.div_ceil(across);
        let [height, width] = self.size;
        Ok(RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let (row, inner_y) = tile(y as usize, height, down);
            let (column, inner_x) = tile(x as usize, width, across);
            match (inner_y, inner_x, row * across + column) {
                (Some(y), Some(x), channel) if channel < channels => {
                    diverging(latent[Ix3(channel, (y * h as f64) as usize, (x * w as f64) as usize)] / limit)
                }
                _ => GRID,
            }
        }))
    }
}

/// The tile that a pixel lies in, and where in it, 0 to below 1; `None` on the line after a tile.
fn tile(pixel: usize, pixels: usize, tiles: usize) -> (usize, Option<f64>) {
    let tile = pixel * tiles / pixels;
    let start = (tile * pixels).div_ceil(tiles);
    let end = ((tile + 1) * pixels).div_ceil(tiles) - usize::from(tile + 1 < tiles);
    (tile, (pixel < end).then(|| (pixel - start) as f64 / (end - start) as f64))
}

fn diverging(value: f32) -> Rgb<u8> {
    let [low, middle, high] = DIVERGING;
    let end = if value < 0.0 { low } else { high };
    let part = value.abs().min(1.0);
    Rgb(std::array::from_fn(|c| (middle[c] + part * (end[c] - middle[c])).round() as u8))
}

/// An image's intensities, from black to white.
pub(super) fn intensities(image: &Image, colours: &[[u8; 3]]) -> Result<RgbImage> {
    overlay(image, &Labels::zeros(&image.data.shape()[1..]), colours)
}

/// A label map in its classes' colours.
pub(super) fn flat(labels: &Labels, colours: &[[u8; 3]]) -> RgbImage {
    let (height, width) = (labels.shape()[0], labels.shape()[1]);
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        Rgb(colours.get(usize::from(labels[[y as usize, x as usize]])).copied().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    fn image(shape: &[usize], spacing: &[f64]) -> Image {
        let data = Tensor::from_shape_fn(IxDyn(shape), |i| i[1] as f32);
        Image { data, geometry: Geometry::with_spacing(spacing.to_vec()) }
    }

    fn window(image: &Image, cut: Option<Cut>) -> Result<Window> {
        Window::new(View { cut, size: 100 }, image)
    }

    #[test]
    fn panels_keep_the_proportions_in_mm() {
        let picture = image(&[1, 50, 200], &[1.0; 2]);
        assert_eq!(window(&picture, None).unwrap().size, [25, 100]);
        let volume = image(&[1, 10, 20, 40], &[2.0, 1.0, 0.5]);
        let cut = |axis, index| window(&volume, Some(Cut { axis, index }));
        assert_eq!(window(&volume, None).unwrap(), Window { cut: Some([0, 5, 10]), size: [100, 100] });
        assert_eq!(cut(1, Some(3)).unwrap(), Window { cut: Some([1, 3, 20]), size: [100, 100] });
        assert_eq!(cut(1, None).unwrap().image(&volume).unwrap().data.shape(), [1, 100, 100]);
        let slice = cut(0, Some(7)).unwrap().image(&volume).unwrap().data;
        assert!(slice.iter().all(|v| *v == 7.0));
    }

    #[test]
    fn slices_that_are_not_there_are_errors() {
        let picture = image(&[1, 5, 5], &[1.0; 2]);
        let volume = image(&[1, 5, 5, 5], &[1.0; 3]);
        let cut = |axis, index| Some(Cut { axis, index: Some(index) });
        for (image, cut) in [(&picture, cut(0, 0)), (&volume, cut(3, 0)), (&volume, cut(0, 5))] {
            assert_eq!(window(image, cut).unwrap_err().kind(), ErrorKind::Setting);
        }
    }

    #[test]
    fn latents_are_tiles_on_a_symmetric_scale() {
        let picture = image(&[1, 100, 100], &[1.0; 2]);
        // Five channels of 2 x 2 on 3 x 2 tiles: all of channel c is c - 2.
        let latent = Tensor::from_shape_fn(IxDyn(&[5, 2, 2]), |i| i[0] as f32 - 2.0);
        let drawn = window(&picture, None).unwrap().latent(&latent, 2.0).unwrap();
        let at = |x: u32, y: u32| drawn.get_pixel(x, y).0;
        assert_eq!((at(10, 10), at(90, 10), at(50, 75)), ([33, 102, 172], [247; 3], [178, 24, 43]));
        assert_eq!(at(90, 75), GRID.0);
        let slice = image(&[1, 8, 100, 100], &[1.0; 3]);
        let latent = Tensor::from_shape_fn(IxDyn(&[1, 4, 2, 2]), |i| if i[1] == 3 { 9.0 } else { 0.0 });
        let drawn = window(&slice, Some(Cut { axis: 0, index: Some(6) })).unwrap().latent(&latent, 2.0).unwrap();
        assert_eq!(drawn.get_pixel(99, 99).0, [178, 24, 43]);
    }

    #[test]
    fn tiles_cover_a_panel_with_lines_between() {
        for (pixels, tiles) in [(100, 3), (7, 2), (64, 4), (5, 1)] {
            let all: Vec<_> = (0..pixels).map(|pixel| tile(pixel, pixels, tiles)).collect();
            assert_eq!(all.iter().filter(|(_, inner)| inner.is_none()).count(), tiles - 1);
            assert!(all.windows(2).all(|two| two[0].0 <= two[1].0) && all[pixels - 1].0 == tiles - 1);
            assert!(all.iter().filter_map(|(_, inner)| *inner).all(|inner| (0.0..1.0).contains(&inner)));
        }
    }
}
