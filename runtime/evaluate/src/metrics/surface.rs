//! Distances between the surfaces of a class in two label maps, by either of the two conventions in use.

use serde::Serialize;

use super::distance::distance_transform;
use super::mask::{Mask, padded};
use super::surfels::surfels;
use ldseg::image::Labels;

/// What counts as the surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SurfaceKind {
    /// The centres of the border voxels, all of equal weight: those with a neighbour along some axis outside the class or
    /// the image. As in medpy 0.5.
    Voxel,
    /// The surface that marching cubes draws between the voxels, each piece weighted by its area. As in DeepMind's
    /// surface-distance (Nikolov et al. 2021).
    Surfel,
}

/// A piece of a surface.
#[derive(Debug, Clone, Copy)]
struct Element {
    /// To the nearest element of the other surface, mm; infinite where the other surface is empty.
    distance: f64,
    /// Its weight: 1, or its area in mm^2 (length in mm in 2-D).
    size: f64,
}

/// The distances from the elements of two surfaces to the nearest element of the other one.
#[derive(Debug, Clone)]
pub struct SurfaceDistances {
    kind: SurfaceKind,
    /// Of the prediction's surface to the reference's and of the reference's to the prediction's, each in ascending order.
    directions: [Vec<Element>; 2],
}

impl SurfaceDistances {
    /// Compares the surfaces of the voxels of `value` in two label maps.
    ///
    /// # Shapes
    /// Both maps `[H, W]` or `[D, H, W]`; `spacing` in mm along their axes.
    ///
    /// # Panics
    /// When the shapes differ, or the number of axes is not 2 or 3 or not that of `spacing`.
    pub fn between(prediction: &Labels, reference: &Labels, value: u8, spacing: &[f64], kind: SurfaceKind) -> Self {
        assert_eq!(prediction.ndim(), spacing.len(), "one spacing an axis");
        let spacing = padded(spacing, 1.0);
        let Some(masks) = Mask::pair(prediction, reference, value) else {
            return Self { kind, directions: [Vec::new(), Vec::new()] };
        };
        let surfaces = masks.map(|mask| surface(&mask, spacing, kind));
        let directions = [0, 1].map(|which| directed(&surfaces[which], &surfaces[1 - which].0, spacing));
        Self { kind, directions }
    }

    /// The Hausdorff distance in mm: the greatest of all distances. NaN where either map lacks the class.
    pub fn hausdorff(&self) -> f64 {
        self.unless_empty(|directions| {
            let greatest = |elements: &Vec<Element>| elements.last().map_or(f64::NAN, |element| element.distance);
            greatest(&directions[0]).max(greatest(&directions[1]))
        })
    }

    /// The 95th percentile of the distances in mm. NaN where either map lacks the class.
    ///
    /// Between voxels: of all distances of both directions together, interpolated linearly (medpy). Between surfels: the
    /// greater of the two directions' distances that 95 % of the area does not exceed (surface-distance).
    pub fn hd95(&self) -> f64 {
        const PART: f64 = 0.95;
        self.unless_empty(|directions| match self.kind {
            SurfaceKind::Voxel => {
                let mut pooled: Vec<f64> = directions.iter().flatten().map(|element| element.distance).collect();
                pooled.sort_by(f64::total_cmp);
                quantile(&pooled, PART)
            }
            SurfaceKind::Surfel => {
                let [a, b] = directions.each_ref().map(|elements| area_quantile(elements, PART));
                a.max(b)
            }
        })
    }

    /// The average symmetric surface distance in mm: the mean over both surfaces' elements together, weighted by their
    /// size. NaN where either map lacks the class.
    pub fn assd(&self) -> f64 {
        self.unless_empty(|directions| weighted_mean(directions.iter().flatten()))
    }

    /// The mean distance in mm of the prediction's surface to the reference's, and of the reference's to the
    /// prediction's, weighted by size. NaN where either map lacks the class.
    pub fn averages(&self) -> [f64; 2] {
        [0, 1].map(|which| self.unless_empty(|directions| weighted_mean(directions[which].iter())))
    }

    /// The normalised surface Dice, in [0, 1]: the part of both surfaces, by size, that lies within `tolerance` mm of the
    /// other one (Nikolov et al. 2021). 0 where one map lacks the class, NaN where both do.
    pub fn nsd(&self, tolerance: f64) -> f64 {
        let all = || self.directions.iter().flatten();
        let near = all().filter(|element| element.distance <= tolerance);
        near.map(|element| element.size).sum::<f64>() / all().map(|element| element.size).sum::<f64>()
    }

    fn unless_empty(&self, measure: impl Fn(&[Vec<Element>; 2]) -> f64) -> f64 {
        if self.directions.iter().any(Vec::is_empty) { f64::NAN } else { measure(&self.directions) }
    }
}

/// The elements' places, and the size of each place's element.
fn surface(mask: &Mask, spacing: [f64; 3], kind: SurfaceKind) -> (Mask, Vec<f64>) {
    match kind {
        SurfaceKind::Voxel => (mask.border(), vec![1.0; mask.voxels.len()]),
        SurfaceKind::Surfel => {
            let surfels = surfels(mask, spacing);
            (surfels.cubes, surfels.areas)
        }
    }
}

/// The elements of one surface with their distances to the places of the other, ascending.
fn directed((places, sizes): &(Mask, Vec<f64>), other: &Mask, spacing: [f64; 3]) -> Vec<Element> {
    if places.is_empty() {
        return Vec::new();
    }
    let distances = distance_transform(other, spacing);
    let set = places.voxels.iter().zip(distances).zip(sizes).filter(|((set, _), _)| **set);
    let mut elements: Vec<_> = set.map(|((_, distance), size)| Element { distance, size: *size }).collect();
    elements.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    elements
}

fn weighted_mean<'a>(elements: impl Iterator<Item = &'a Element>) -> f64 {
    let add = |(sum, size), element: &Element| (sum + element.size * element.distance, size + element.size);
    let (sum, size) = elements.fold((0.0, 0.0), add);
    sum / size
}

/// The quantile of ascending values, linear between neighbours (Hyndman and Fan 1996, definition 7); NaN for none.
pub(super) fn quantile(ascending: &[f64], part: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return f64::NAN };
    let at = part * last as f64;
    let (low, beyond) = (at.floor() as usize, at.fract());
    let (a, b) = (ascending[low], ascending[(low + 1).min(last)]);
    a + beyond * (b - a)
}

/// The smallest distance within which elements make up at least `part` of the area. `elements` are in ascending order.
fn area_quantile(elements: &[Element], part: f64) -> f64 {
    let total: f64 = elements.iter().map(|element| element.size).sum();
    let mut sum = 0.0;
    let reached = elements.iter().find(|element| {
        sum += element.size;
        sum / total >= part
    });
    reached.or(elements.last()).map_or(f64::NAN, |element| element.distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    const KINDS: [SurfaceKind; 2] = [SurfaceKind::Voxel, SurfaceKind::Surfel];

    #[test]
    fn shifted_squares_are_as_far_apart_as_their_shift() {
        let square = |left: usize| {
            Array2::from_shape_fn((12, 14), |(y, x)| u8::from((3..8).contains(&y) && (left..left + 5).contains(&x)))
        };
        for kind in KINDS {
            let distances =
                SurfaceDistances::between(&square(3).into_dyn(), &square(5).into_dyn(), 1, &[2.0, 0.5], kind);
            assert_eq!(distances.hausdorff(), 1.0);
            assert_eq!(distances.averages()[0], distances.averages()[1]);
            assert!(distances.hd95() <= 1.0 && distances.assd() > 0.0 && distances.assd() < 1.0);
            assert_eq!(distances.nsd(1.0), 1.0);
            assert!(distances.nsd(0.0) < 1.0 && distances.nsd(0.0) > 0.0);
        }
    }

    #[test]
    fn a_class_that_one_side_lacks_has_no_distances_and_no_surface_in_common() {
        let (with, without) = (array![[0, 1], [0, 0]].into_dyn(), Labels::zeros(vec![2, 2]));
        for kind in KINDS {
            for (prediction, reference) in [(&with, &without), (&without, &with), (&without, &without)] {
                let distances = SurfaceDistances::between(prediction, reference, 1, &[1.0, 1.0], kind);
                assert!(distances.hausdorff().is_nan() && distances.hd95().is_nan() && distances.assd().is_nan());
                let nsd = distances.nsd(5.0);
                if prediction == reference { assert!(nsd.is_nan()) } else { assert_eq!(nsd, 0.0) }
            }
            let same = SurfaceDistances::between(&with, &with, 1, &[1.0, 1.0], kind);
            assert_eq!((same.hausdorff(), same.hd95(), same.assd(), same.nsd(0.0)), (0.0, 0.0, 0.0, 1.0));
        }
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[5.0], 0.95), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
        let elements = [(1.0, 9.0), (2.0, 0.4), (3.0, 0.6)].map(|(distance, size)| Element { distance, size });
        assert_eq!(area_quantile(&elements, 0.9), 1.0);
        assert_eq!(area_quantile(&elements, 0.95), 3.0);
    }
}
