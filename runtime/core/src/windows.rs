//! Sliding windows: an image larger than the network's input is segmented piece by piece, and the pieces' probabilities
//! are blended (Isensee et al., nnU-Net, Nature Methods 18, 2021): neighbours overlap by half, and a Gaussian around its
//! centre says how much a window counts at a voxel. 2-D and 3-D alike.

use ndarray::{ArrayD, ArrayViewD, Axis, AxisDescription, IxDyn, Slice};

use crate::{Error, ErrorKind, Result, Tensor};

/// Standard deviation of the Gaussian, as a part of the window's length.
const SIGMA: f64 = 0.125;

/// Where an array of length `size` begins so that one of length `length`, shorter or equal, lies in its middle: at or
/// before 0.
pub fn padded_start(length: usize, size: usize) -> isize {
    -((size.saturating_sub(length) / 2) as isize)
}

/// A piece of `array`, `[C, ...]`, that begins at `start` along each spatial axis and measures `size`. Where it reaches
/// over the array's border it has its channel's `fill`, one value for each channel.
pub fn cut<A: Copy>(array: ArrayViewD<'_, A>, start: &[isize], size: &[usize], fill: &[A]) -> ArrayD<A> {
    let common = Overlap::new(start, size, &array.shape()[1..]);
    if common.length == size {
        return array.slice_each_axis(common.grid()).to_owned();
    }
    let shape = [&[array.shape()[0]], size].concat();
    let mut piece = ArrayD::from_shape_fn(IxDyn(&shape), |index| fill[index[0]]);
    if !common.is_empty() {
        piece.slice_each_axis_mut(common.window()).assign(&array.slice_each_axis(common.grid()));
    }
    piece
}

/// What a window and the grid have in common: where that begins in both, and how long it is along each axis.
struct Overlap {
    in_window: Vec<usize>,
    in_grid: Vec<usize>,
    length: Vec<usize>,
}

impl Overlap {
    fn new(start: &[isize], size: &[usize], grid: &[usize]) -> Self {
        let in_window: Vec<usize> = start.iter().map(|start| start.min(&0).unsigned_abs()).collect();
        let in_grid: Vec<usize> = start.iter().map(|start| *start.max(&0) as usize).collect();
        let left = |(&all, &before): (&usize, &usize)| all.saturating_sub(before);
        let (window, grid) = (size.iter().zip(&in_window).map(left), grid.iter().zip(&in_grid).map(left));
        let length = window.zip(grid).map(|(window, grid)| window.min(grid)).collect();
        Self { in_window, in_grid, length }
    }

    fn is_empty(&self) -> bool {
        self.length.contains(&0)
    }

    /// Its place in the window.
    fn window(&self) -> impl Fn(AxisDescription) -> Slice + '_ {
        spatial(&self.in_window, &self.length)
    }

    /// Its place in the grid.
    fn grid(&self) -> impl Fn(AxisDescription) -> Slice + '_ {
        spatial(&self.in_grid, &self.length)
    }
}

/// All channels, which are the first axis, and of the others so much.
fn spatial<'a>(start: &'a [usize], length: &'a [usize]) -> impl Fn(AxisDescription) -> Slice + 'a {
    move |axis| match axis.axis.index().checked_sub(1) {
        None => Slice::from(..),
        Some(axis) => Slice::from(start[axis]..start[axis] + length[axis]),
    }
}

/// One axis: where windows begin, and how much each counts at each of its voxels; over all windows that counts 1 at every
/// voxel of the grid.
struct Line {
    starts: Vec<isize>,
    weights: Vec<Vec<f32>>,
}

impl Line {
    fn new(length: usize, size: usize) -> Self {
        let starts = starts(length, size);
        let centre = (size as f64 - 1.0) / 2.0;
        let gaussian = |i: usize| (-((i as f64 - centre) / (SIGMA * size as f64)).powi(2) / 2.0).exp();
        let mut sums = vec![0.0; length];
        let voxel = |start: isize, i: usize| usize::try_from(start + i as isize).ok().filter(|at| *at < length);
        for &start in &starts {
            (0..size).for_each(|i| {
                if let Some(at) = voxel(start, i) {
                    sums[at] += gaussian(i)
                }
            });
        }
        let weight = |start: isize, i: usize| voxel(start, i).map_or(0.0, |at| (gaussian(i) / sums[at]) as f32);
        let weights = starts.iter().map(|&start| (0..size).map(|i| weight(start, i)).collect()).collect();
        Self { starts, weights }
    }
}

/// From the first window to the last.
fn steps(length: usize, size: usize) -> usize {
    length.saturating_sub(size).div_ceil((size / 2).max(1))
}

/// As few windows as lie half a window apart at most, evenly from end to end; one, around it, of a shorter axis.
fn starts(length: usize, size: usize) -> Vec<isize> {
    let Some(span) = length.checked_sub(size).filter(|span| *span > 0) else {
        return vec![padded_start(length, size)];
    };
    let steps = steps(length, size);
    (0..=steps).map(|step| ((2 * step * span + steps) / (2 * steps)) as isize).collect()
}

/// The windows that cover an image.
pub struct Windows {
    grid: Vec<usize>,
    size: Vec<usize>,
    lines: Vec<Line>,
}

impl Windows {
    /// Windows of `size` over an image of `grid` voxels, slowest axis first; no axis is empty.
    pub fn new(grid: &[usize], size: &[usize]) -> Self {
        let lines = grid.iter().zip(size).map(|(&length, &size)| Line::new(length, size)).collect();
        Self { grid: grid.to_vec(), size: size.to_vec(), lines }
    }

    /// How many there would be.
    pub fn count_over(grid: &[usize], size: &[usize]) -> usize {
        let along = |(&length, &size): (&usize, &usize)| steps(length, size) + 1;
        grid.iter().zip(size).map(along).fold(1, usize::saturating_mul)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lines.iter().map(|line| line.starts.len()).product()
    }

    /// A window's index along each axis; windows count in C order.
    fn place(&self, mut index: usize) -> Vec<usize> {
        let mut place = vec![0; self.lines.len()];
        for (place, line) in place.iter_mut().zip(&self.lines).rev() {
            *place = index % line.starts.len();
            index /= line.starts.len();
        }
        place
    }

    /// Where a window begins along each axis: before 0 where the image is smaller.
    pub fn start(&self, index: usize) -> Vec<isize> {
        self.lines.iter().zip(self.place(index)).map(|(line, at)| line.starts[at]).collect()
    }

    /// A window of the image `[C, grid...]`, as [`cut`].
    pub fn cut<A: Copy>(&self, image: ArrayViewD<'_, A>, index: usize, fill: &[A]) -> ArrayD<A> {
        cut(image, &self.start(index), &self.size, fill)
    }

    /// Blends what `segment` gives for each window, counted from 0: class probabilities `[K, size...]`, or whatever may be
    /// averaged. Of one window it is what lies on the grid, unchanged.
    ///
    /// # Shapes
    /// Returns `[K, grid...]`.
    ///
    /// # Errors
    /// What `segment` fails with, and [`ErrorKind::ShapeMismatch`] where its answer has another size.
    pub fn blend(&self, segment: &mut dyn FnMut(usize) -> Result<Tensor>) -> Result<Tensor> {
        if self.count() == 1 {
            let window = self.check(segment(0)?)?;
            if self.grid == self.size {
                return Ok(window);
            }
            let (start, fill) = (self.start(0), vec![0.0; window.shape()[0]]);
            let from: Vec<isize> = start.iter().map(|start| -start).collect();
            return Ok(cut(window.view(), &from, &self.grid, &fill));
        }
        let mut sum: Option<Tensor> = None;
        for index in 0..self.count() {
            let window = self.check(segment(index)?)?;
            let shape = [&window.shape()[..1], &self.grid].concat();
            self.add(sum.get_or_insert_with(|| Tensor::zeros(shape)), window, index);
        }
        sum.ok_or_else(|| Error::new(ErrorKind::ShapeMismatch, "expected one window at least"))
    }

    fn add(&self, sum: &mut Tensor, mut window: Tensor, index: usize) {
        for (axis, (line, at)) in self.lines.iter().zip(self.place(index)).enumerate() {
            for (mut plane, weight) in window.axis_iter_mut(Axis(axis + 1)).zip(&line.weights[at]) {
                plane *= *weight;
            }
        }
        let common = Overlap::new(&self.start(index), &self.size, &self.grid);
        let mut part = sum.slice_each_axis_mut(common.grid());
        part += &window.slice_each_axis(common.window());
    }

    fn check(&self, window: Tensor) -> Result<Tensor> {
        match window.shape().split_first() {
            Some((_, size)) if *size == self.size => Ok(window),
            _ => {
                let message =
                    format!("a window has shape {:?}, expected [K, ...] with {:?}", window.shape(), self.size);
                Err(Error::new(ErrorKind::ShapeMismatch, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, grid: &[usize]) -> Tensor {
        let mut value = 0.0_f32;
        Tensor::from_shape_simple_fn([&[channels], grid].concat(), || {
            value = (value * 1.7 + 0.37) % 1.0;
            value
        })
    }

    /// Two classes: below and above one half.
    fn threshold(image: &Tensor) -> Tensor {
        let class = |index: IxDyn| {
            let above = image[[&[0], &ndarray::Dimension::slice(&index)[1..]].concat().as_slice()] > 0.5;
            f32::from(u8::from(above == (index[0] == 1)))
        };
        Tensor::from_shape_fn([&[2], &image.shape()[1..]].concat(), class)
    }

    #[test]
    fn windows_cover_everything_and_overlap_by_half() {
        for (length, size) in [(1, 1), (5, 1), (8, 8), (9, 8), (12, 8), (13, 8), (100, 8), (31, 7), (32, 7), (300, 64)]
        {
            let starts = starts(length, size);
            assert_eq!((starts[0], starts[starts.len() - 1] + size as isize), (0, length as isize), "{length} {size}");
            for pair in starts.windows(2) {
                let apart = (pair[1] - pair[0]) as usize;
                assert!(apart >= 1 && apart <= size.div_ceil(2), "{length} {size}: {starts:?}");
            }
            let line = Line::new(length, size);
            let mut sums = vec![0.0; length];
            for (start, weights) in line.starts.iter().zip(&line.weights) {
                weights.iter().enumerate().for_each(|(i, weight)| sums[*start as usize + i] += weight);
            }
            assert!(sums.iter().all(|sum: &f32| (sum - 1.0).abs() < 1e-6), "{length} {size}: {sums:?}");
        }
        assert_eq!(starts(5, 8), [-1]);
    }

    #[test]
    fn the_centre_of_a_window_counts_most() {
        let line = Line::new(96, 64);
        assert_eq!(line.starts, [0, 32]);
        // Halfway between both centres they count alike; sigma is an eighth of 64 voxels.
        assert!((line.weights[0][47] - line.weights[1][16]).abs() < 1e-6, "{:?}", line.weights[0]);
        let gaussian = |distance: f64| (-(distance / 8.0).powi(2) / 2.0).exp();
        let expected = gaussian(8.5) / (gaussian(8.5) + gaussian(23.5));
        assert!((f64::from(line.weights[0][40]) - expected).abs() < 1e-6);
        assert_eq!((line.weights[0][0], line.weights[1][63]), (1.0, 1.0));
    }

    #[test]
    fn what_looks_at_each_voxel_alone_answers_as_on_the_whole() {
        for (grid, size) in
            [(&[21, 34][..], &[8, 16][..]), (&[5, 40], &[8, 16]), (&[12, 9, 20], &[8, 8, 8]), (&[3, 30, 7], &[4, 8, 8])]
        {
            let image = image(1, grid);
            let windows = Windows::new(grid, size);
            let blended = windows.blend(&mut |index| Ok(threshold(&windows.cut(image.view(), index, &[9.0])))).unwrap();
            assert_eq!(blended.shape(), [&[2], grid].concat());
            let expected = threshold(&image);
            assert!(blended.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{grid:?}");
        }
    }

    #[test]
    fn one_window_is_left_as_it_is() {
        let whole = image(3, &[8, 16]);
        let windows = Windows::new(&[8, 16], &[8, 16]);
        assert_eq!(windows.blend(&mut |index| Ok(windows.cut(whole.view(), index, &[0.0; 3]))).unwrap(), whole);
        let small = image(3, &[5, 16]);
        let windows = Windows::new(&[5, 16], &[8, 16]);
        let window = windows.cut(small.view(), 0, &[7.0, 8.0, 9.0]);
        assert_eq!((window[[1, 0, 0]], window[[2, 7, 3]], window[[0, 1, 4]]), (8.0, 9.0, small[[0, 0, 4]]));
        assert_eq!(windows.blend(&mut |_| Ok(window.clone())).unwrap(), small);
    }

    #[test]
    fn pieces_may_lie_anywhere() {
        let image = image(1, &[4, 4]);
        let piece = cut(image.view(), &[2, -3], &[3, 4], &[5.0]);
        assert_eq!((piece[[0, 0, 3]], piece[[0, 1, 3]]), (image[[0, 2, 0]], image[[0, 3, 0]]));
        assert_eq!(piece.iter().filter(|value| **value == 5.0).count(), 10);
        assert!(cut(image.view(), &[9, 0], &[2, 2], &[5.0]).iter().all(|value| *value == 5.0));
    }

    #[test]
    fn a_failure_or_another_size_is_an_error() {
        let windows = Windows::new(&[10, 10], &[4, 4]);
        let error = windows.blend(&mut |_| Ok(Tensor::zeros(vec![2, 4, 5]))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
        let error = windows.blend(&mut |_| Err(Error::new(ErrorKind::Engine, "no"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Engine);
    }
}
