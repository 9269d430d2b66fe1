//! The ultrasound sector of a frame that also shows text, scales, an ECG and empty corners.

use ldseg::components::largest_component;
use ldseg::image::{Image, Region, luminance};
use ldseg::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2, Zip, s};

use super::Recording;

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

impl Recording {
    /// Where the sector lies: where the file says it, if that can be believed, else as the pixels show it. In a cine it is
    /// what changes from frame to frame, in a still picture what changes from pixel to pixel, each in the largest connected
    /// area that is left when all that is thin is taken away. `None` where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] for a volume; [`ErrorKind::Format`] where a frame is transparent.
    pub fn sector(&self) -> Result<Option<Region>> {
        if self.region().is_some() {
            return Ok(self.region());
        }
        if self.spatial_axes() != 2 {
            let message = "is a volume, a sector is found in pictures and cines";
            return Err(Error::new(ErrorKind::ShapeMismatch, message));
        }
        let changes = if self.frame_count() == 1 { texture(&grey(self.frame(0)?.as_ref())) } else { motion(self)? };
        Ok(find(changes.view()))
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
fn motion(cine: &Recording) -> Result<Array2<bool>> {
    let step = cine.frame_count().div_ceil(LOOKED_AT);
    let (mut least, mut most) = (grey(cine.frame(0)?.as_ref()), grey(cine.frame(0)?.as_ref()));
    for index in (step..cine.frame_count()).step_by(step) {
        let frame = grey(cine.frame(index)?.as_ref());
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
fn find(changes: ArrayView2<'_, bool>) -> Option<Region> {
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
    Some(Region { top, left, height: bottom - top, width: right - left })
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

/// Number of cells of the largest connected area, and its first and last row and column.
fn largest_area(cells: &Array2<bool>) -> Option<(usize, [usize; 4])> {
    let area = largest_component(cells.view());
    let bounds = area.iter().map(|[y, x]| [*y, *x, *y, *x]);
    let bounds = bounds.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])?;
    Some((area.len(), bounds))
}

#[cfg(test)]
mod tests {
    use ::image::{DynamicImage, GrayImage, Luma};

    use super::super::recording::Cine;
    use super::*;
    use crate::regions::{RegionKind, UltrasoundRegion};

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
    fn check(found: Option<Region>) {
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
        let region = Region { top: 1, left: 2, height: 30, width: 40 };
        let said = UltrasoundRegion { area: region, kind: RegionKind::Tissue, spacing: None };
        let told = recording(vec![frame(0)]).with_regions(vec![said], 1);
        assert_eq!(told.sector().unwrap(), Some(region));
        let dark = DynamicImage::new_luma8(SIZE[0], SIZE[1]);
        assert_eq!(recording(vec![dark.clone(), dark]).sector().unwrap(), None);
    }
}
