//! Object-level measures for glands (Sirinukunwattana et al., Gland segmentation in colon histology images: The GlaS
//! challenge contest, Medical Image Analysis 35, 2017, section 3.3).
//!
//! Every object of one map has a partner in the other: the object that it overlaps most; of equals, the one with the
//! lowest number. Detection asks whether objects are found; Dice and Hausdorff distance are averaged over the objects of
//! both maps, each weighted by its share of its map's area.

use std::collections::BTreeMap;

use super::distance::distance_transform;
use super::mask::{Mask, padded};
use ldseg::image::Labels;

/// Part of a reference object that a predicted one must cover to have found it.
const FOUND: f64 = 0.5;

/// The objects of a label map.
#[derive(Debug, Clone)]
pub struct Objects {
    size: [usize; 3],
    axes: usize,
    /// The number of each voxel's object, from 1 on; 0 is no object.
    numbers: Vec<u32>,
    /// Voxels of each object, in order.
    voxels: Vec<u64>,
}

/// How well the objects of a prediction match those of a reference.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ObjectScores {
    /// 2 TP / (2 TP + FP + FN). A predicted object that covers at least half of its partner is a true positive, any other
    /// a false one; a reference object that no true positive has found is a false negative.
    pub f1: f64,
    /// Object-level Dice, in [0, 1]; an object that overlaps none has 0.
    pub dice: f64,
    /// Object-level Hausdorff distance in mm, between all voxels of object and partner; an object that overlaps none is
    /// compared with the one at the smallest Hausdorff distance.
    pub hausdorff: f64,
}

impl Objects {
    /// The connected components of the voxels that hold `value`; voxels that share a face, an edge or a corner are
    /// connected.
    pub fn components(labels: &Labels, value: u8) -> Self {
        let (size, axes) = (padded(labels.shape(), 1), labels.ndim());
        let set: Vec<bool> = labels.iter().map(|label| *label == value).collect();
        let mut objects = Self { size, axes, numbers: vec![0; set.len()], voxels: Vec::new() };
        let mut front = Vec::new();
        for start in (0..set.len()).filter(|voxel| set[*voxel]) {
            if objects.numbers[start] != 0 {
                continue;
            }
            let number = objects.voxels.len() as u32 + 1;
            objects.voxels.push(0);
            objects.numbers[start] = number;
            front.push(start);
            while let Some(voxel) = front.pop() {
                objects.voxels[number as usize - 1] += 1;
                for near in neighbours(voxel, size) {
                    if set[near] && objects.numbers[near] == 0 {
                        objects.numbers[near] = number;
                        front.push(near);
                    }
                }
            }
        }
        objects
    }

    /// One object for each value above 0, as instance ids; in the order of the values.
    pub fn instances(labels: &Labels) -> Self {
        let mut counts = [0_u64; 256];
        labels.iter().for_each(|label| counts[usize::from(*label)] += 1);
        let mut number_of = [0_u32; 256];
        let mut voxels = Vec::new();
        for value in (1..256).filter(|value| counts[*value] > 0) {
            voxels.push(counts[value]);
            number_of[value] = voxels.len() as u32;
        }
        let numbers = labels.iter().map(|label| number_of[usize::from(*label)]).collect();
        Self { size: padded(labels.shape(), 1), axes: labels.ndim(), numbers, voxels }
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.voxels.len()
    }

    fn mask(&self, index: usize) -> Mask {
        let voxels = self.numbers.iter().map(|number| *number as usize == index + 1).collect();
        Mask { size: self.size, axes: self.axes, voxels }
    }

    /// The mean of `measure` over all objects, weighted by their voxels.
    fn weighted_mean(&self, measure: impl Fn(usize) -> f64) -> f64 {
        let total: u64 = self.voxels.iter().sum();
        self.voxels.iter().enumerate().map(|(index, voxels)| *voxels as f64 * measure(index)).sum::<f64>()
            / total as f64
    }
}

/// Voxels that share a face, an edge or a corner with `voxel`.
fn neighbours(voxel: usize, size: [usize; 3]) -> impl Iterator<Item = usize> {
    let at = [voxel / (size[1] * size[2]), voxel / size[2] % size[1], voxel % size[2]];
    let range = |axis: usize| at[axis].saturating_sub(1)..(at[axis] + 2).min(size[axis]);
    let (rows, columns) = (range(1), range(2));
    range(0)
        .flat_map(move |z| rows.clone().map(move |y| (z, y)))
        .flat_map(move |(z, y)| columns.clone().map(move |x| (z * size[1] + y) * size[2] + x))
        .filter(move |near| *near != voxel)
}

/// Compares the objects of two maps. All is NaN where neither map has an object; where one has none, F1 and Dice are 0
/// and the Hausdorff distance is NaN.
///
/// # Shapes
/// `spacing` in mm along the maps' axes.
///
/// # Panics
/// When the maps' shapes differ or `spacing` has another number of axes.
pub fn compare_objects(prediction: &Objects, reference: &Objects, spacing: &[f64]) -> ObjectScores {
    assert_eq!(prediction.size, reference.size, "both maps have one shape");
    assert_eq!(prediction.axes, spacing.len(), "one spacing an axis");
    match (prediction.count(), reference.count()) {
        (0, 0) => return ObjectScores { f1: f64::NAN, dice: f64::NAN, hausdorff: f64::NAN },
        (0, _) | (_, 0) => return ObjectScores { f1: 0.0, dice: 0.0, hausdorff: f64::NAN },
        _ => {}
    }
    let overlaps = Overlaps::between(prediction, reference);
    ObjectScores {
        f1: overlaps.f1(reference),
        dice: overlaps.dice(prediction, reference),
        hausdorff: overlaps.hausdorff(prediction, reference, padded(spacing, 1.0)),
    }
}

/// For each object its partner in the other map and the voxels that they share, by index.
struct Overlaps {
    /// Of the predicted objects.
    predicted: Vec<Option<(usize, u64)>>,
    /// Of the reference objects.
    reference: Vec<Option<(usize, u64)>>,
}

impl Overlaps {
    fn between(prediction: &Objects, reference: &Objects) -> Self {
        let mut shared = BTreeMap::<(usize, usize), u64>::new();
        for (p, r) in prediction.numbers.iter().zip(&reference.numbers) {
            if *p != 0 && *r != 0 {
                *shared.entry((*p as usize - 1, *r as usize - 1)).or_default() += 1;
            }
        }
        let mut overlaps = Self { predicted: vec![None; prediction.count()], reference: vec![None; reference.count()] };
        // In ascending order, so that only a larger overlap replaces the first of equals.
        for ((p, r), voxels) in shared {
            for (partner, of) in [(r, &mut overlaps.predicted[p]), (p, &mut overlaps.reference[r])] {
                if of.is_none_or(|(_, most)| voxels > most) {
                    *of = Some((partner, voxels));
                }
            }
        }
        overlaps
    }

    fn f1(&self, reference: &Objects) -> f64 {
        let mut found = vec![false; reference.count()];
        let mut true_positives = 0;
        for (partner, shared) in self.predicted.iter().flatten() {
            if *shared as f64 >= FOUND * reference.voxels[*partner] as f64 {
                true_positives += 1;
                found[*partner] = true;
            }
        }
        let false_positives = self.predicted.len() - true_positives;
        let false_negatives = found.iter().filter(|found| !**found).count();
        2.0 * true_positives as f64 / (2 * true_positives + false_positives + false_negatives) as f64
    }

    fn dice(&self, prediction: &Objects, reference: &Objects) -> f64 {
        let mean = |from: &Objects, to: &Objects, partners: &[Option<(usize, u64)>]| {
            from.weighted_mean(|index| {
                partners[index].map_or(0.0, |(partner, shared)| {
                    2.0 * shared as f64 / (from.voxels[index] + to.voxels[partner]) as f64
                })
            })
        };
        0.5 * (mean(prediction, reference, &self.predicted) + mean(reference, prediction, &self.reference))
    }

    fn hausdorff(&self, prediction: &Objects, reference: &Objects, spacing: [f64; 3]) -> f64 {
        let there = greatest_distances(prediction, reference, spacing);
        let back = greatest_distances(reference, prediction, spacing);
        let between = |p: usize, r: usize| there[p][r].max(back[r][p]);
        let smallest = |distances: &mut dyn Iterator<Item = f64>| distances.fold(f64::INFINITY, f64::min);
        let of_predicted = prediction.weighted_mean(|p| match self.predicted[p] {
            Some((partner, _)) => between(p, partner),
            None => smallest(&mut (0..reference.count()).map(|r| between(p, r))),
        });
        let of_reference = reference.weighted_mean(|r| match self.reference[r] {
            Some((partner, _)) => between(partner, r),
            None => smallest(&mut (0..prediction.count()).map(|p| between(p, r))),
        });
        0.5 * (of_predicted + of_reference)
    }
}

/// The greatest distance of any voxel of each object of `from` (rows) to the nearest voxel of each object of `to`
/// (columns).
fn greatest_distances(from: &Objects, to: &Objects, spacing: [f64; 3]) -> Vec<Vec<f64>> {
    let mut greatest = vec![vec![0.0_f64; to.count()]; from.count()];
    for column in 0..to.count() {
        let distances = distance_transform(&to.mask(column), spacing);
        for (number, distance) in from.numbers.iter().zip(distances).filter(|(number, _)| **number != 0) {
            let row = &mut greatest[*number as usize - 1];
            row[column] = row[column].max(distance);
        }
    }
    greatest
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn components_touch_at_corners_and_instances_go_by_value() {
        let labels = array![[9, 0, 0, 0], [0, 9, 0, 9], [0, 0, 0, 9], [5, 5, 0, 9]].into_dyn();
        let components = Objects::components(&labels, 9);
        assert_eq!(components.voxels, [2, 3]);
        assert_eq!(components.numbers[..8], [1, 0, 0, 0, 0, 1, 0, 2]);
        let instances = Objects::instances(&labels);
        assert_eq!(instances.voxels, [2, 5]);
        assert_eq!((instances.numbers[0], instances.numbers[12]), (2, 1));
        let volume = Labels::from_shape_fn(vec![2, 2, 2], |i| u8::from(i[0] == i[1] && i[1] == i[2]));
        assert_eq!(Objects::components(&volume, 1).voxels, [2]);
    }

    #[test]
    fn empty_maps_follow_the_convention() {
        let (none, some) = (array![[0, 0]].into_dyn(), array![[0, 3]].into_dyn());
        let compare = |p: &Labels, r: &Labels| {
            let scores = compare_objects(&Objects::instances(p), &Objects::instances(r), &[1.0, 1.0]);
            [scores.f1, scores.dice, scores.hausdorff]
        };
        assert!(compare(&none, &none).iter().all(|score| score.is_nan()));
        for scores in [compare(&none, &some), compare(&some, &none)] {
            assert!(scores[..2] == [0.0, 0.0] && scores[2].is_nan());
        }
        assert_eq!(compare(&some, &some), [1.0, 1.0, 0.0]);
    }

    /// Instance ids as digits, one row a line; no object is a dot.
    fn drawn(rows: &[&str]) -> Objects {
        let value = |i: ndarray::IxDyn| rows[i[0]].as_bytes()[i[1]];
        let digit = |byte: u8| if byte == b'.' { 0 } else { byte - b'0' };
        Objects::instances(&Labels::from_shape_fn(vec![rows.len(), rows[0].len()], |i| digit(value(i))))
    }

    fn check(prediction: &[&str], reference: &[&str], spacing: [f64; 2], expected: [f64; 3]) {
        let scores = compare_objects(&drawn(prediction), &drawn(reference), &spacing);
        for (found, expected) in [scores.f1, scores.dice, scores.hausdorff].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{scores:?}, expected {expected}");
        }
    }

    /// The expected numbers come from a program of its own, over all pairs of pixels.
    #[test]
    fn equals_brute_force_on_small_maps() {
        // One object over two, one apart, one missed.
        let prediction = ["........3.", ".1111...3.", ".1111.....", ".1111.....", "..........", "....5....."];
        let reference = [".11.......", ".11..22...", ".11.22....", "..........", ".......333", ".......333"];
        let expected = [0.3333333333333333, 0.2767361111111111, 2.906001855979982];
        check(&prediction, &reference, [1.0, 1.0], expected);
        // One object found by both of its halves, one by less than its half, pixels four times as wide as high.
        let prediction = ["1122....", "1122..4.", "1122..4.", "......4.", ".3333...", ".3333..."];
        let reference = ["1111....", "1111..2.", "1111..2.", "1111..2.", "....3322", "3333...."];
        let expected = [0.5714285714285714, 0.5851370851370852, 3.14138931740888];
        check(&prediction, &reference, [0.5, 2.0], expected);
        // No overlap at all: the nearest counts, and the dot inside the ring is no nearer for that.
        let prediction = [".......", ".22222.", ".2...2.", ".2...2.", ".2...2.", ".22222.", "......."];
        let reference = ["11.....", "1......", ".......", "...3...", ".......", ".......", "......."];
        check(&prediction, &reference, [1.0, 1.5], [0.0, 0.0, 5.1823131756299885]);
    }
}
