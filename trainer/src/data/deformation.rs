//! A deformation of the network's grid into itself, or into a larger image, applied to an image and its labels in one pass.

/// Where each output voxel comes from: start + c + M (o - c - shift) + bend(o), c the centre of the grid, all in voxels; the
/// grid begins at `start` in the image that is read.
///
/// A 2-D grid is a volume of one slice, so that 2-D and 3-D are one code path.
#[derive(Debug, Clone)]
pub(super) struct Deformation {
    size: [usize; 3],
    /// Size of the image that is read, and where the grid begins in it.
    from: [usize; 3],
    start: [f32; 3],
    axes: usize,
    matrix: [[f32; 3]; 3],
    shift: [f32; 3],
    /// The displacement of every output voxel along each of the three axes; an empty field is 0 throughout.
    bend: [Vec<f32>; 3],
}

/// A place between voxels: its lower neighbour along each axis and how far beyond that it lies, 0 to 1.
struct Place {
    low: [i32; 3],
    beyond: [f32; 3],
}

impl Deformation {
    /// The identity on a grid of `size`, `[H, W]` or `[D, H, W]`.
    pub(super) fn identity(size: &[usize]) -> Self {
        let mut padded = [1; 3];
        padded[3 - size.len()..].copy_from_slice(size);
        let matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Self {
            size: padded,
            from: padded,
            start: [0.0; 3],
            axes: size.len(),
            matrix,
            shift: [0.0; 3],
            bend: Default::default(),
        }
    }

    /// The same map, of the part of an image of size `from` that begins at `start`.
    pub(super) fn of_part(mut self, from: &[usize], start: &[isize]) -> Self {
        for axis in 0..self.axes {
            self.from[3 - self.axes + axis] = from[axis];
            self.start[3 - self.axes + axis] = start[axis] as f32;
        }
        self
    }

    /// Mirrors the input along a spatial axis.
    pub(super) fn flip(&mut self, axis: usize) {
        self.matrix[3 - self.axes + axis].iter_mut().for_each(|value| *value = -*value);
    }

    /// Rotates by `angle` radians, in 3-D around the direction `axis`, in 2-D in the plane (Rodrigues' formula).
    pub(super) fn rotate(&mut self, axis: [f64; 3], angle: f64) {
        let axis = if self.axes == 2 { [1.0, 0.0, 0.0] } else { axis };
        let length = axis.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        let [x, y, z] = axis.map(|value| value / length);
        let (sin, cos) = angle.sin_cos();
        let cross = [[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]];
        let outer = [[x * x, x * y, x * z], [y * x, y * y, y * z], [z * x, z * y, z * z]];
        let rotation: [[f32; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let diagonal = if i == j { cos } else { 0.0 };
                (diagonal + sin * cross[i][j] + (1.0 - cos) * outer[i][j]) as f32
            })
        });
        let matrix = self.matrix;
        self.matrix =
            std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| matrix[i][k] * rotation[k][j]).sum()));
    }

    /// Makes things grow by `factor`.
    pub(super) fn magnify(&mut self, factor: f64) {
        self.matrix.iter_mut().flatten().for_each(|value| *value /= factor as f32);
    }

    /// Moves things along a spatial axis, by a fraction of its length.
    pub(super) fn shift(&mut self, axis: usize, fraction: f64) {
        let axis = 3 - self.axes + axis;
        self.shift[axis] += fraction as f32 * self.size[axis] as f32;
    }

    /// Bends the grid: along each spatial axis, a cubic B-spline through the plane or space with `spacings` intervals
    /// between control points along each axis, whose coefficients are `draw()` times the axis' length (Rueckert et al.
    /// 1999, free-form deformation).
    pub(super) fn bend(&mut self, spacings: usize, mut draw: impl FnMut() -> f64) {
        for axis in 3 - self.axes..3 {
            let mut shape = [1; 3];
            shape[3 - self.axes..].fill(spacings + 3);
            let length = self.size[axis] as f64;
            let mut field: Vec<f32> = (0..shape.iter().product()).map(|_| (length * draw()) as f32).collect();
            for along in 3 - self.axes..3 {
                field = spline(&field, shape, along, self.size[along], spacings);
                shape[along] = self.size[along];
            }
            self.bend[axis] = field;
        }
    }

    /// Maps `image` (any number of channels) linearly and `labels` by nearest neighbour; outside is 0. All in C order.
    pub(super) fn apply(&self, image: &[f32], labels: &[u8], to_image: &mut [f32], to_labels: &mut [u8]) {
        let [depth, height, width] = self.size;
        let (read, voxels) = (self.from.iter().product(), depth * height * width);
        let step: [f32; 3] = std::array::from_fn(|axis| self.matrix[axis][2]);
        let mut places = Vec::with_capacity(width);
        for row in 0..depth * height {
            let start = self.source(row / height, row % height);
            let place = |x: usize| {
                let bend = |axis: usize| self.bend[axis].get(row * width + x).copied().unwrap_or(0.0);
                Place::new(std::array::from_fn(|axis| start[axis] + x as f32 * step[axis] + bend(axis)))
            };
            places.clear();
            places.extend((0..width).map(place));
            let row = row * width..(row + 1) * width;
            for (to, place) in to_labels[row.clone()].iter_mut().zip(&places) {
                *to = self.nearest(place).map_or(0, |index| labels[index]);
            }
            for (from, to) in image.chunks_exact(read).zip(to_image.chunks_exact_mut(voxels)) {
                for (to, place) in to[row.clone()].iter_mut().zip(&places) {
                    *to = match self.inner(place) {
                        Some(index) => self.blend(from, index, place),
                        None => self.blend_at_border(from, place),
                    };
                }
            }
        }
    }

    /// Where the first voxel of an output row comes from.
    fn source(&self, z: usize, y: usize) -> [f32; 3] {
        let centre = self.size.map(|size| (size as f32 - 1.0) / 2.0);
        let output = [z as f32, y as f32, 0.0];
        std::array::from_fn(|i| {
            self.start[i]
                + centre[i]
                + (0..3).map(|j| self.matrix[i][j] * (output[j] - centre[j] - self.shift[j])).sum::<f32>()
        })
    }

    /// The index of a voxel, if it is inside.
    fn index(&self, at: [i32; 3]) -> Option<usize> {
        // Negative numbers become huge ones.
        let [z, y, x] = at.map(|at| at as u32 as usize);
        let [depth, height, width] = self.from;
        (z < depth && y < height && x < width).then(|| (z * height + y) * width + x)
    }

    /// The index of the nearest voxel, if it is inside.
    fn nearest(&self, place: &Place) -> Option<usize> {
        self.index(std::array::from_fn(|axis| place.low[axis] + i32::from(place.beyond[axis] >= 0.5)))
    }

    /// Whether some neighbour of the place is inside.
    fn touches(&self, place: &Place) -> bool {
        place.low.iter().zip(self.from).all(|(low, size)| *low >= -1 && *low < size as i32)
    }

    /// The index of the lower neighbour of a place all of whose neighbours are inside. Along the only slice of a 2-D grid
    /// there is one neighbour.
    fn inner(&self, place: &Place) -> Option<usize> {
        let inside = |axis: usize| {
            let low = place.low[axis];
            low >= 0 && low + i32::from(self.from[axis] > 1) < self.from[axis] as i32
        };
        if inside(0) && inside(1) && inside(2) { self.index(place.low) } else { None }
    }

    /// Linear interpolation upwards from the voxel at `index`.
    fn blend(&self, from: &[f32], index: usize, place: &Place) -> f32 {
        let [depth, height, width] = self.from;
        let [z, y, x] = place.beyond;
        let next = |size: usize, stride: usize| if size > 1 { stride } else { 0 };
        let (slice, row, column) = (next(depth, height * width), next(height, width), next(width, 1));
        let line = |index: usize| from[index] + x * (from[index + column] - from[index]);
        let plane = |index: usize| {
            let first = line(index);
            first + y * (line(index + row) - first)
        };
        let first = plane(index);
        if slice == 0 { first } else { first + z * (plane(index + slice) - first) }
    }

    /// The same where some neighbours are outside: those are 0.
    fn blend_at_border(&self, from: &[f32], place: &Place) -> f32 {
        if !self.touches(place) {
            return 0.0;
        }
        let corner = |corner: usize| {
            let far: [usize; 3] = std::array::from_fn(|axis| corner >> axis & 1);
            let index = self.index(std::array::from_fn(|axis| place.low[axis] + far[axis] as i32))?;
            let weight = |axis: usize| if far[axis] == 1 { place.beyond[axis] } else { 1.0 - place.beyond[axis] };
            Some(from[index] * weight(0) * weight(1) * weight(2))
        };
        (0..8).filter_map(corner).sum()
    }
}

impl Place {
    fn new(p: [f32; 3]) -> Self {
        let low = p.map(floor);
        Self { low, beyond: std::array::from_fn(|axis| p[axis] - low[axis] as f32) }
    }
}

/// Values at `size` evenly spaced places of the uniform cubic B-spline whose coefficients lie along the axis `along` of a
/// C-ordered array of `shape`, `spacings` intervals from the first place to the last.
fn spline(coefficients: &[f32], shape: [usize; 3], along: usize, size: usize, spacings: usize) -> Vec<f32> {
    let stride: usize = shape[along + 1..].iter().product();
    let mut values = Vec::with_capacity(coefficients.len() / shape[along] * size);
    for block in coefficients.chunks_exact(shape[along] * stride) {
        for at in 0..size {
            let position = spacings as f32 * at as f32 / (size - 1).max(1) as f32;
            let first = (position as usize).min(spacings - 1);
            let t = position - first as f32;
            let weights = [
                (1.0 - t).powi(3),
                3.0 * t.powi(3) - 6.0 * t * t + 4.0,
                -3.0 * t.powi(3) + 3.0 * t * t + 3.0 * t + 1.0,
                t.powi(3),
            ];
            let rows = &block[first * stride..];
            values.extend((0..stride).map(|lane| {
                weights.iter().enumerate().map(|(tap, weight)| weight * rows[tap * stride + lane]).sum::<f32>() / 6.0
            }));
        }
    }
    values
}

/// Rounds down, except that a negative whole number comes out one less; its upper neighbour then weighs 1, the same.
/// `f32::floor` is a function call on plain x86-64.
fn floor(p: f32) -> i32 {
    p as i32 - i32::from(p < 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(affine: &Deformation, image: &[f32], labels: &[u8]) -> (Vec<f32>, Vec<u8>) {
        let (mut to_image, mut to_labels) = (vec![9.0; image.len()], vec![9; labels.len()]);
        affine.apply(image, labels, &mut to_image, &mut to_labels);
        (to_image, to_labels)
    }

    #[test]
    fn flips_are_exact() {
        let labels: Vec<u8> = (0..24).collect();
        let image: Vec<f32> = labels.iter().map(|value| f32::from(*value)).collect();
        for (axis, stride, count) in [(0, 12, 2), (1, 4, 3), (2, 1, 4)] {
            let mut affine = Deformation::identity(&[2, 3, 4]);
            affine.flip(axis);
            let (moved_image, moved_labels) = applied(&affine, &image, &labels);
            for (voxel, value) in moved_labels.iter().enumerate() {
                let at = voxel / stride % count;
                assert_eq!(usize::from(*value), voxel - at * stride + (count - 1 - at) * stride);
                assert_eq!(moved_image[voxel], f32::from(*value));
            }
        }
    }

    #[test]
    fn a_quarter_turn_in_the_plane_and_around_the_slice_axis_agree() {
        let labels: Vec<u8> = (0..9).collect();
        let image: Vec<f32> = labels.iter().map(|value| f32::from(*value)).collect();
        for size in [&[3, 3][..], &[1, 3, 3]] {
            let mut affine = Deformation::identity(size);
            affine.rotate([2.0, 0.0, 0.0], std::f64::consts::FRAC_PI_2);
            let (moved_image, moved_labels) = applied(&affine, &image, &labels);
            assert_eq!(moved_labels, [6, 3, 0, 7, 4, 1, 8, 5, 2]);
            assert!(moved_image.iter().zip(&moved_labels).all(|(x, label)| (x - f32::from(*label)).abs() < 1e-4));
        }
    }

    #[test]
    fn a_spline_is_linear_through_linear_coefficients_and_smooth_through_any() {
        // Coefficients -1, 0, 1, ... stand for the identity, in units of the interval.
        let values = spline(&[-1.0, 0.0, 1.0, 2.0, 3.0], [1, 1, 5], 2, 9, 2);
        for (at, value) in values.iter().enumerate() {
            assert!((value - at as f32 / 4.0).abs() < 1e-6, "{values:?}");
        }
        let values = spline(&[0.0, 0.0, 6.0, 0.0, 0.0], [5, 1, 1], 0, 9, 2);
        assert_eq!([values[0], values[4], values[8]], [1.0, 4.0, 1.0]);
    }

    #[test]
    fn bends_image_and_labels_alike_and_folds_nothing() {
        for size in [&[24, 32][..], &[12, 16, 20]] {
            // An image of its own columns' numbers: what comes out is the place that was read.
            let (count, fast) = (size.iter().product(), size[size.len() - 1]);
            let labels: Vec<u8> = (0..count).map(|index| (index % fast) as u8).collect();
            let image: Vec<f32> = labels.iter().map(|value| f32::from(*value)).collect();
            let mut coefficients = [0.03, -0.04, 0.05, 0.0, -0.02, 0.04, -0.05].into_iter().cycle();
            let mut bent = Deformation::identity(size);
            bent.bend(4, || coefficients.next().unwrap());
            let (moved_image, moved_labels) = applied(&bent, &image, &labels);
            let [_, height, width] = bent.size;
            let (mut compared, mut most) = (0, 0_f32);
            for index in 0..count {
                let at = [index / width / height, index / width % height, index % width];
                let place: [f32; 3] =
                    std::array::from_fn(|axis| at[axis] as f32 + bent.bend[axis].get(index).copied().unwrap_or(0.0));
                if (0..3).all(|axis| place[axis] >= 0.0 && place[axis] <= (bent.size[axis] - 1) as f32) {
                    assert!((moved_image[index] - place[2]).abs() < 1e-4, "{} {place:?}", moved_image[index]);
                    assert!((f32::from(moved_labels[index]) - place[2]).abs() < 0.5001);
                    (compared, most) = (compared + 1, most.max(bent.bend[2][index].abs()));
                }
                if at[2] > 0 {
                    assert!(1.0 + bent.bend[2][index] - bent.bend[2][index - 1] > 0.0, "no fold");
                }
            }
            assert!(compared > count / 2 && most > 0.3, "{compared} voxels, {most}");
        }
    }

    #[test]
    fn a_part_reads_its_surroundings() {
        let image: Vec<f32> = (0..36).map(|value| value as f32).collect();
        let labels: Vec<u8> = (0..36).collect();
        let part = |affine: &Deformation| {
            let (mut to_image, mut to_labels) = ([9.0; 9], [9; 9]);
            affine.apply(&image, &labels, &mut to_image, &mut to_labels);
            (to_image, to_labels)
        };
        let affine = Deformation::identity(&[3, 3]).of_part(&[6, 6], &[2, 1]);
        assert_eq!(
            part(&affine),
            ([13.0, 14.0, 15.0, 19.0, 20.0, 21.0, 25.0, 26.0, 27.0], [13, 14, 15, 19, 20, 21, 25, 26, 27])
        );
        let mut affine = affine;
        affine.magnify(0.5);
        assert_eq!(part(&affine).0, [6.0, 8.0, 10.0, 18.0, 20.0, 22.0, 30.0, 32.0, 34.0]);
        let outside = Deformation::identity(&[3, 3]).of_part(&[6, 6], &[-1, 4]);
        assert_eq!(part(&outside).1, [0, 0, 0, 4, 5, 0, 10, 11, 0]);
    }

    #[test]
    fn shifts_and_magnifies_linearly_with_zero_outside() {
        let mut affine = Deformation::identity(&[1, 4]);
        affine.shift(1, 0.125);
        let (image, _) = applied(&affine, &[2.0, 4.0, 6.0, 8.0, 20.0, 40.0, 60.0, 80.0], &[0; 4]);
        assert_eq!(image, [1.0, 3.0, 5.0, 7.0, 10.0, 30.0, 50.0, 70.0]);
        let mut affine = Deformation::identity(&[1, 5]);
        affine.magnify(2.0);
        assert_eq!(applied(&affine, &[0.0, 2.0, 4.0, 6.0, 8.0], &[1, 1, 2, 3, 3]).0, [2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
