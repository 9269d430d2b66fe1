//! Binary masks in C order. A 2-D mask is a volume of one slice, so that 2-D and 3-D are one code path.

use ldseg::image::Labels;

/// A binary mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mask {
    /// Voxels along each axis, slowest first; 1 along the axes that are made up.
    pub(super) size: [usize; 3],
    /// Spatial axes, 2 or 3: the last ones of `size`.
    pub(super) axes: usize,
    /// C-ordered.
    pub(super) voxels: Vec<bool>,
}

/// A box of voxels: first and one past the last along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    first: [usize; 3],
    end: [usize; 3],
}

/// Sizes or spacings of the last axes, filled up in front with `filling`.
///
/// # Panics
/// When there are more than three.
pub(super) fn padded<T: Copy>(values: &[T], filling: T) -> [T; 3] {
    let mut padded = [filling; 3];
    padded[3 - values.len()..].copy_from_slice(values);
    padded
}

impl Mask {
    /// Where `prediction` and `reference` hold `value`, both cropped to the smallest box that has all of it; `None` where
    /// neither holds it.
    ///
    /// # Panics
    /// When the shapes differ or have more than three axes.
    pub(super) fn pair(prediction: &Labels, reference: &Labels, value: u8) -> Option<[Self; 2]> {
        assert_eq!(prediction.shape(), reference.shape(), "prediction and reference have one shape");
        let size = padded(prediction.shape(), 1);
        let maps = [prediction, reference].map(|labels| labels.as_standard_layout());
        let maps = maps.each_ref().map(|labels| labels.as_slice().unwrap_or_default());
        let bounds = Bounds::around(size, |voxel| maps[0][voxel] == value || maps[1][voxel] == value)?;
        let axes = prediction.ndim();
        Some(maps.map(|map| Self { size: bounds.size(), axes, voxels: bounds.crop(size, |voxel| map[voxel] == value) }))
    }

    /// Whether no voxel is set.
    pub(super) fn is_empty(&self) -> bool {
        !self.voxels.contains(&true)
    }

    /// The axes that are not made up.
    pub(super) fn used_axes(&self) -> std::ops::Range<usize> {
        3 - self.axes..3
    }

    /// How far apart in memory neighbours along each axis are.
    pub(super) fn strides(&self) -> [usize; 3] {
        [self.size[1] * self.size[2], self.size[2], 1]
    }

    /// The set voxels with a neighbour along some axis that is not set or outside: the mask without its erosion by a
    /// cross.
    pub(super) fn border(&self) -> Self {
        let strides = self.strides();
        let inner = |voxel: usize, axis: usize| {
            let at = voxel / strides[axis] % self.size[axis];
            at > 0
                && at + 1 < self.size[axis]
                && self.voxels[voxel - strides[axis]]
                && self.voxels[voxel + strides[axis]]
        };
        let border = |voxel: usize| self.voxels[voxel] && !self.used_axes().all(|axis| inner(voxel, axis));
        Self { voxels: (0..self.voxels.len()).map(border).collect(), ..*self }
    }
}

impl Bounds {
    /// The smallest box around all voxels of a volume of `size` that are `inside`.
    fn around(size: [usize; 3], inside: impl Fn(usize) -> bool) -> Option<Self> {
        let mut bounds: Option<Self> = None;
        let rows = (0..size[0]).flat_map(|z| (0..size[1]).map(move |y| (z, y)));
        for (row, (z, y)) in rows.enumerate() {
            let start = row * size[2];
            let Some(first) = (0..size[2]).find(|x| inside(start + x)) else { continue };
            let last = (first..size[2]).rfind(|x| inside(start + x)).unwrap_or(first);
            let [first, end] = [[z, y, first], [z + 1, y + 1, last + 1]];
            bounds = Some(bounds.map_or(Self { first, end }, |b| Self {
                first: std::array::from_fn(|axis| b.first[axis].min(first[axis])),
                end: std::array::from_fn(|axis| b.end[axis].max(end[axis])),
            }));
        }
        bounds
    }

    fn size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.end[axis] - self.first[axis])
    }

    /// The box's part of a volume of `size`, C-ordered.
    fn crop<T>(&self, size: [usize; 3], value: impl Fn(usize) -> T) -> Vec<T> {
        let mut cropped = Vec::with_capacity(self.size().iter().product());
        for z in self.first[0]..self.end[0] {
            for y in self.first[1]..self.end[1] {
                let start = (z * size[1] + y) * size[2];
                cropped.extend((start + self.first[2]..start + self.end[2]).map(&value));
            }
        }
        cropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn crops_to_what_either_map_holds() {
        let prediction = array![[0, 0, 0, 0], [0, 7, 0, 0], [0, 0, 0, 0]].into_dyn();
        let reference = array![[0, 0, 7, 0], [0, 7, 7, 0], [0, 0, 0, 0]].into_dyn();
        let [p, r] = Mask::pair(&prediction, &reference, 7).unwrap();
        assert_eq!((p.size, p.axes), ([1, 2, 2], 2));
        assert_eq!(p.voxels, [false, false, true, false]);
        assert_eq!(r.voxels, [false, true, true, true]);
        assert!(Mask::pair(&prediction, &reference, 1).is_none());
    }

    #[test]
    fn borders_have_a_neighbour_outside_along_a_real_axis() {
        let square = Mask { size: [1, 3, 3], axes: 2, voxels: vec![true; 9] };
        let mut border = vec![true; 9];
        border[4] = false;
        assert_eq!(square.border().voxels, border);
        let slab = Mask { axes: 3, ..square };
        assert_eq!(slab.border().voxels, [true; 9]);
        let cube = Mask { size: [3; 3], axes: 3, voxels: vec![true; 27] };
        assert_eq!(cube.border().voxels.iter().filter(|set| !**set).count(), 1);
    }
}
