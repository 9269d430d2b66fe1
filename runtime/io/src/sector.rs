//! The ultrasound sector of a frame that also shows text, scales, an ECG and empty corners.

use ndarray::{Array2, ArrayD, ArrayView2, Axis, IxDyn, Slice, Zip, s};

use super::cine::{Cine, Content, Recording};
use super::{Geometry, Image};
use ldseg::image::luminance;
use ldseg::segmenter::Segmentation;
use ldseg::{Error, ErrorKind, Result, Tensor};

/// Frames of a cine that are looked at, spread evenly over it.
const LOOKED_AT: usize = 32;
/// What counts as a change from frame to frame, or from pixel to pixel, as part of the brightest value: what lossy
/// compression does to black is less.
const CHANGE: f32 = 0.012;
/// Cells along the longer side of the frame: small against a sector, large against letters and the line of an ECG.
const CELLS: usize = 96;
/// Part of a cell's pixels that have to change.
const FILLED: f64 = 0.5;
/// Part of the frame that a sector takes at least.
const LEAST: f64 = 0.05;

/// A box of pixels around the sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sector {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Number of rows, at least 1.
    pub height: usize,
    /// Number of columns, at least 1.
    pub width: usize,
}

impl Recording {
    /// Where the sector lies: where the file says it, if that can be believed, else as the pixels show it. In a cine it is
    /// what changes from frame to frame, in a still picture what changes from pixel to pixel, each in the largest connected
    /// area that is left when all that is thin is taken away. `None` where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] for a volume; [`ErrorKind::Format`] where a frame is transparent.
    pub fn sector(&self) -> Result<Option<Sector>> {
        let changes = match &self.content {
            _ if self.region.is_some() => return Ok(self.region),
            Content::Still(image) => {
                if image.spatial_axes() != 2 {
                    let message = "is a volume, a sector is found in pictures and cines";
                    return Err(Error::new(ErrorKind::ShapeMismatch, message));
                }
                texture(&grey(image))
            }
            Content::Cine(cine) if cine.len() == 1 => texture(&grey(&cine.frame(0)?)),
            Content::Cine(cine) => motion(cine)?,
        };
        Ok(find(changes.view()))
    }
}

impl Sector {
    /// The part of a picture `[C, H, W]` that shows the sector.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where it reaches beyond the picture.
    pub fn crop(&self, image: &Image) -> Result<Image> {
        let [_, rows, columns] = *image.data.shape() else { return Err(self.beyond(image.data.shape())) };
        if self.top + self.height > rows || self.left + self.width > columns {
            return Err(self.beyond(image.data.shape()));
        }
        let data = image
            .data
            .slice_axis(Axis(1), Slice::from(self.top..self.top + self.height))
            .slice_axis(Axis(2), Slice::from(self.left..self.left + self.width))
            .to_owned();
        let geometry =
            image.spacing().map_or_else(Geometry::default, |spacing| Geometry::with_spacing(spacing.to_vec()));
        Ok(Image { data, geometry })
    }

    /// A segmentation of the sector as one of the whole frame of `size` (H, W): all else is background, for certain.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the segmentation is none of this sector, or the frame is smaller.
    pub fn whole(&self, segmentation: Segmentation, size: [usize; 2]) -> Result<Segmentation> {
        let mut probabilities = self.paste(&segmentation.probabilities, size, 0.0)?;
        // Of one class the background is sure where the sector isn't.
        let sure = self.paste(&Tensor::zeros(segmentation.uncertainty.raw_dim()), size, 1.0)?;
        Zip::from(probabilities.index_axis_mut(Axis(0), 0)).and(&sure).for_each(|p, &outside| *p += outside);
        let samples = segmentation.samples.iter().map(|labels| self.paste(labels, size, 0)).collect::<Result<_>>()?;
        Ok(Segmentation {
            labels: self.paste(&segmentation.labels, size, 0)?,
            uncertainty: self.paste(&segmentation.uncertainty, size, 0.0)?,
            probabilities,
            samples,
            ..segmentation
        })
    }

    /// `part` `[..., h, w]` in a larger array `[..., H, W]` that holds `outside` around it.
    fn paste<A: Clone>(&self, part: &ArrayD<A>, [rows, columns]: [usize; 2], outside: A) -> Result<ArrayD<A>> {
        let axes = part.ndim();
        let fits = self.top + self.height <= rows && self.left + self.width <= columns;
        if axes < 2 || part.shape()[axes - 2..] != [self.height, self.width] || !fits {
            return Err(self.beyond(part.shape()));
        }
        let shape = [&part.shape()[..axes - 2], &[rows, columns]].concat();
        let mut whole = ArrayD::from_elem(IxDyn(&shape), outside);
        whole
            .slice_axis_mut(Axis(axes - 2), Slice::from(self.top..self.top + self.height))
            .slice_axis_mut(Axis(axes - 1), Slice::from(self.left..self.left + self.width))
            .assign(part);
        Ok(whole)
    }

    fn beyond(&self, shape: &[usize]) -> Error {
        Error::new(ErrorKind::ShapeMismatch, format!("the sector {self:?} does not fit an array of {shape:?}"))
    }
}

/// The luminance `[H, W]` of a picture `[C, H, W]`.
fn grey(image: &Image) -> Array2<f32> {
    let [channels, rows, columns] = *image.data.shape() else { return Array2::zeros((0, 0)) };
    Array2::from_shape_fn((rows, columns), |(y, x)| match channels {
        3 => luminance([0, 1, 2].map(|c| image.data[[c, y, x]])),
        _ => image.data[[0, y, x]],
    })
}

/// Where pixels change over time.
fn motion(cine: &Cine) -> Result<Array2<bool>> {
    let step = cine.len().div_ceil(LOOKED_AT);
    let (mut least, mut most) = (grey(&cine.frame(0)?), grey(&cine.frame(0)?));
    for index in (step..cine.len()).step_by(step) {
        let frame = grey(&cine.frame(index)?);
        least.zip_mut_with(&frame, |least, &value| *least = least.min(value));
        most.zip_mut_with(&frame, |most, &value| *most = most.max(value));
    }
    let change = CHANGE * most.iter().copied().fold(0.0, f32::max);
    Ok(Zip::from(&least).and(&most).map_collect(|least, most| most - least > change))
}

/// Where pixels differ from the one to the right or below, as speckle does and areas of one colour don't.
fn texture(picture: &Array2<f32>) -> Array2<bool> {
    let change = CHANGE * picture.iter().copied().fold(0.0, f32::max);
    Array2::from_shape_fn(picture.raw_dim(), |(y, x)| {
        [(y, x + 1), (y + 1, x)]
            .into_iter()
            .filter_map(|at| picture.get(at))
            .any(|neighbour| (neighbour - picture[(y, x)]).abs() > change)
    })
}

/// The box around the largest area of changes, with a margin of one cell.
fn find(changes: ArrayView2<'_, bool>) -> Option<Sector> {
    let (rows, columns) = changes.dim();
    let side = rows.max(columns).div_ceil(CELLS).max(1);
    // An empty border lets all neighbours be looked at.
    let border = 2;
    let size = (rows.div_ceil(side) + 2 * border, columns.div_ceil(side) + 2 * border);
    let cells = Array2::from_shape_fn(size, |(y, x)| {
        let (Some(y), Some(x)) = (y.checked_sub(border), x.checked_sub(border)) else { return false };
        if y * side >= rows || x * side >= columns {
            return false;
        }
        let cell = changes.slice(s![y * side..rows.min((y + 1) * side), x * side..columns.min((x + 1) * side)]);
        cell.iter().filter(|changes| **changes).count() as f64 >= FILLED * cell.len() as f64
    });
    // Closes gaps, then takes away what is thin.
    let solid = dilate(&erode(&erode(&dilate(&cells))));
    let (count, [top, left, bottom, right]) = largest_area(&solid)?;
    if ((count * side * side) as f64) < LEAST * (rows * columns) as f64 {
        return None;
    }
    let from = |cell: usize| cell.saturating_sub(border + 1) * side;
    let (top, left) = (from(top), from(left));
    let to = |cell: usize, end: usize| ((cell + 2).saturating_sub(border) * side).min(end);
    let (bottom, right) = (to(bottom, rows), to(right, columns));
    Some(Sector { top, left, height: bottom - top, width: right - left })
}

fn dilate(cells: &Array2<bool>) -> Array2<bool> {
    near(cells, true)
}

fn erode(cells: &Array2<bool>) -> Array2<bool> {
    near(cells, false).mapv(|empty| !empty)
}

/// Whether a cell or one of its eight neighbours is `value`.
fn near(cells: &Array2<bool>, value: bool) -> Array2<bool> {
    let (rows, columns) = cells.dim();
    Array2::from_shape_fn((rows, columns), |(y, x)| {
        let block = s![y.saturating_sub(1)..rows.min(y + 2), x.saturating_sub(1)..columns.min(x + 2)];
        cells.slice(block).iter().any(|&cell| cell == value)
    })
}

/// Number of cells of the largest 4-connected area, and its first and last row and column.
fn largest_area(cells: &Array2<bool>) -> Option<(usize, [usize; 4])> {
    let mut left = cells.clone();
    let mut largest = None;
    for (start, _) in cells.indexed_iter().filter(|(_, cell)| **cell) {
        let mut waiting = vec![start];
        let (mut count, mut bounds) = (0, [start.0, start.1, start.0, start.1]);
        while let Some((y, x)) = waiting.pop() {
            if !left.get((y, x)).is_some_and(|cell| *cell) {
                continue;
            }
            left[(y, x)] = false;
            count += 1;
            bounds = [bounds[0].min(y), bounds[1].min(x), bounds[2].max(y), bounds[3].max(x)];
            waiting.extend([(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)]);
        }
        if count > largest.map_or(0, |(count, _)| count) {
            largest = Some((count, bounds));
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use ::image::{DynamicImage, GrayImage, Luma};

    use super::*;
    use ldseg::image::Labels;

    const SIZE: [u32; 2] = [320, 240];

    /// A sector with its apex at (160, 20), 160 high and at most 120 wide to each side, with speckle that differs from frame
    /// to frame; text and a bar that stay; and an ECG whose line moves.
    fn frame(n: u32) -> DynamicImage {
        GrayImage::from_fn(SIZE[0], SIZE[1], |x, y| {
            let (dx, dy) = (f64::from(x) - 160.0, f64::from(y) - 20.0);
            let noise = (x * 7919 + y * 104_729 + n * 1_299_709).wrapping_mul(2_654_435_761) >> 25;
            let inside = dy > 0.0 && dx.abs() < 0.75 * dy && dx.hypot(dy) < 160.0;
            let text = (4..12).contains(&y) && (8..120).contains(&x) && (x * x + y) % 5 < 2;
            let bar = (200..208).contains(&y);
            let ecg = y == 215 + ((x + 9 * n) % 40) / 4;
            Luma([match () {
                () if inside => 20 + noise as u8,
                () if text || ecg => 255,
                () if bar => 90,
                () => 0,
            }])
        })
        .into()
    }

    fn recording(frames: Vec<DynamicImage>) -> Recording {
        let seconds = vec![0.03; frames.len()];
        Recording::cine(Cine::new(frames, seconds, None).unwrap())
    }

    /// The sector's own box, to within two cells.
    fn check(found: Option<Sector>) {
        let found = found.unwrap();
        let bounds = [found.top, found.left, found.top + found.height, found.left + found.width];
        let near = |(found, expected): (usize, usize)| found.abs_diff(expected) <= 12;
        assert!(bounds.into_iter().zip([20, 64, 180, 256]).all(near), "{found:?}");
    }

    #[test]
    fn what_moves_is_the_sector() {
        check(recording((0..6).map(frame).collect()).sector().unwrap());
    }

    #[test]
    fn what_is_rough_is_the_sector_of_a_still() {
        check(recording(vec![frame(0)]).sector().unwrap());
    }

    #[test]
    fn a_region_of_the_file_counts_more_and_nothing_is_found_in_the_dark() {
        let region = Sector { top: 1, left: 2, height: 30, width: 40 };
        let told = Recording { region: Some(region), ..recording(vec![frame(0)]) };
        assert_eq!(told.sector().unwrap(), Some(region));
        let dark = DynamicImage::new_luma8(SIZE[0], SIZE[1]);
        assert_eq!(recording(vec![dark.clone(), dark]).sector().unwrap(), None);
    }

    #[test]
    fn what_was_cut_out_comes_back_in_its_place() {
        let sector = Sector { top: 1, left: 2, height: 2, width: 3 };
        let data = Tensor::from_shape_fn(IxDyn(&[1, 4, 6]), |i| (i[1] * 6 + i[2]) as f32);
        let image = Image { data, geometry: Geometry::default() };
        let cut = sector.crop(&image).unwrap();
        assert_eq!(cut.data.iter().copied().collect::<Vec<_>>(), [8.0, 9.0, 10.0, 14.0, 15.0, 16.0]);
        let probabilities = Tensor::from_shape_fn(IxDyn(&[2, 2, 3]), |i| if i[0] == 0 { 0.25 } else { 0.75 });
        let segmentation = Segmentation {
            labels: Labels::ones(IxDyn(&[2, 3])),
            probabilities,
            uncertainty: Tensor::ones(IxDyn(&[2, 3])),
            samples: vec![Labels::ones(IxDyn(&[2, 3]))],
            latents: Tensor::zeros(IxDyn(&[1, 1])),
            steps: 1,
            timings: Default::default(),
        };
        let whole = sector.whole(segmentation, [4, 6]).unwrap();
        assert_eq!((whole.labels.sum(), whole.labels[[1, 2]], whole.labels[[2, 4]]), (6, 1, 1));
        assert_eq!((whole.uncertainty.sum(), whole.samples[0].sum()), (6.0, 6));
        assert!(whole.probabilities.sum_axis(Axis(0)).iter().all(|&p| p == 1.0));
        assert_eq!((whole.probabilities[[1, 0, 0]], whole.probabilities[[1, 1, 2]]), (0.0, 0.75));
        let beyond = Sector { width: 5, ..sector };
        assert_eq!(beyond.crop(&image).unwrap_err().kind(), ErrorKind::ShapeMismatch);
    }
}
