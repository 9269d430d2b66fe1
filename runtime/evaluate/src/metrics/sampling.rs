//! What several samples of one image, and their mean probabilities, are worth: how far the samples are from the reference
//! and from each other, whether a probability is what it says, and whether errors lie where the model is unsure.

use ndarray::{Axis, Zip};
use serde::Serialize;

use ldseg::Tensor;
use ldseg::image::Labels;
use ldseg::metrics::{Overlap, nanmean};

/// Bins of the confidence, as usual (Guo et al. 2017).
pub const BINS: usize = 15;
/// Part of each side of the image by which the box around the foreground is enlarged at either end.
const MARGIN: f64 = 0.1;

/// Distance of two label maps: 1 - IoU, averaged over the classes 1 to `classes` - 1 that either holds. Two maps without
/// any foreground are equal: 0.
///
/// # Panics
/// When the two shapes differ.
fn distance(a: &Labels, b: &Labels, classes: usize) -> f64 {
    let overlap = Overlap::between(a, b);
    let iou: Vec<f64> = (1..classes.min(256)).map(|class| overlap.iou(class as u8)).collect();
    let mean = nanmean(&iou);
    if mean.is_nan() { 0.0 } else { 1.0 - mean }
}

/// Squared generalised energy distance between the samples and one reference (Kohl et al. 2018, A Probabilistic U-Net for
/// Segmentation of Ambiguous Images): 2 E d(S, Y) - E d(S, S'), with d = 1 - IoU averaged over the foreground classes that
/// either map holds, 0 for two maps without any. Expectations are means over all samples and over all N^2 pairs of them,
/// those of a sample with itself included; the reference alone has no spread, E d(Y, Y') = 0. NaN without a sample.
///
/// # Panics
/// When shapes differ.
pub fn energy_distance(samples: &[Labels], reference: &Labels, classes: usize) -> f64 {
    let count = samples.len() as f64;
    let to_reference: f64 = samples.iter().map(|sample| distance(sample, reference, classes)).sum();
    let mut among = 0.0;
    for (index, a) in samples.iter().enumerate() {
        among += samples[index + 1..].iter().map(|b| 2.0 * distance(a, b, classes)).sum::<f64>();
    }
    2.0 * to_reference / count - among / (count * count)
}

/// Voxels whose confidence, the largest of their probabilities, falls between two values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reliability {
    bins: [Bin; BINS],
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bin {
    voxels: u64,
    confidence: f64,
    right: u64,
}

/// A bin of a reliability diagram; without a voxel it has neither confidence nor accuracy (NaN, `null` in JSON).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReliabilityBin {
    /// Confidences above this one,
    pub above: f64,
    /// up to this one.
    pub up_to: f64,
    /// Their mean.
    pub confidence: f64,
    /// Part of the voxels that are right.
    pub accuracy: f64,
    /// How many there are.
    pub voxels: u64,
}

impl Reliability {
    /// Adds one voxel. Bins hold what is above their lower end up to their upper one.
    fn add(&mut self, confidence: f64, right: bool) {
        let index = (confidence * BINS as f64).ceil().clamp(1.0, BINS as f64) as usize - 1;
        let bin = &mut self.bins[index];
        bin.voxels += 1;
        bin.confidence += confidence;
        bin.right += u64::from(right);
    }

    /// Adds the voxels of another image.
    pub fn merge(&mut self, other: &Self) {
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.voxels += other.voxels;
            bin.confidence += other.confidence;
            bin.right += other.right;
        }
    }

    /// Expected calibration error: sum_b n_b / n |accuracy_b - confidence_b| (Naeini et al. 2015; Guo et al. 2017), in
    /// [0, 1]; NaN without a voxel.
    pub fn calibration_error(&self) -> f64 {
        let voxels: u64 = self.bins.iter().map(|bin| bin.voxels).sum();
        let gaps: f64 = self.bins.iter().map(|bin| (bin.right as f64 - bin.confidence).abs()).sum();
        gaps / voxels as f64
    }

    /// The bins.
    pub fn bins(&self) -> Vec<ReliabilityBin> {
        let end = |index: usize| index as f64 / BINS as f64;
        let bin = |(index, bin): (usize, &Bin)| ReliabilityBin {
            above: end(index),
            up_to: end(index + 1),
            confidence: bin.confidence / bin.voxels as f64,
            accuracy: bin.right as f64 / bin.voxels as f64,
            voxels: bin.voxels,
        };
        self.bins.iter().enumerate().map(bin).collect()
    }
}

/// The reliability of all voxels, and of those in the box around the foreground of either map, enlarged at both ends of
/// each axis by a tenth of the image's side: far from the structures a model is right and sure, which hides the rest.
///
/// # Shapes
/// probabilities `[K, ...]`, both label maps `[...]`; `found` holds the most probable classes.
///
/// # Panics
/// When shapes differ.
pub fn reliability(probabilities: &Tensor, found: &Labels, reference: &Labels) -> [Reliability; 2] {
    let confidence = probabilities.fold_axis(Axis(0), 0.0_f32, |largest, p| largest.max(*p));
    let bounds = foreground_box(found, reference);
    let (mut all, mut near) = (Reliability::default(), Reliability::default());
    let voxels = ndarray::indices(reference.raw_dim()).into_iter();
    for (((index, confidence), found), reference) in voxels.zip(&confidence).zip(found).zip(reference) {
        let (confidence, right) = (f64::from(*confidence), found == reference);
        all.add(confidence, right);
        let inside = |bounds: &Vec<[usize; 2]>| {
            (0..bounds.len()).all(|axis| (bounds[axis][0]..bounds[axis][1]).contains(&index[axis]))
        };
        if bounds.as_ref().is_some_and(inside) {
            near.add(confidence, right);
        }
    }
    [all, near]
}

/// The box around the foreground of either map, enlarged as for [`reliability`]: first and one past the last index along
/// each axis; `None` where neither map has a foreground.
pub fn foreground_box(found: &Labels, reference: &Labels) -> Option<Vec<[usize; 2]>> {
    let mut bounds = vec![[usize::MAX, 0]; found.ndim()];
    for ((index, found), reference) in found.indexed_iter().zip(reference) {
        if *found != 0 || *reference != 0 {
            for (axis, bounds) in bounds.iter_mut().enumerate() {
                *bounds = [bounds[0].min(index[axis]), bounds[1].max(index[axis] + 1)];
            }
        }
    }
    let sides = found.shape().iter().zip(&bounds);
    let enlarged = sides.map(|(side, [first, end])| {
        let margin = (MARGIN * *side as f64).round() as usize;
        [first.saturating_sub(margin), (end + margin).min(*side)]
    });
    (bounds.first()?[0] != usize::MAX).then(|| enlarged.collect())
}

/// Spearman's rank correlation of a voxel's uncertainty with its being wrong, in [-1, 1]. It is 1 if all wrong voxels,
/// and no others, share the greatest uncertainty. Equal values share their mean rank. NaN where either is constant, as
/// where no voxel is wrong.
///
/// # Panics
/// When shapes differ.
pub fn uncertainty_error_correlation(uncertainty: &Tensor, found: &Labels, reference: &Labels) -> f64 {
    let mut voxels: Vec<(f32, bool)> = Vec::with_capacity(uncertainty.len());
    Zip::from(uncertainty).and(found).and(reference).for_each(|&value, a, b| voxels.push((value, a != b)));
    voxels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = voxels.len() as f64;
    let wrong = voxels.iter().filter(|voxel| voxel.1).count() as f64;
    // Ranks from 0. Those of what is right, and of what is wrong, are equal among themselves.
    let middle = (count - 1.0) / 2.0;
    let (rank_right, rank_wrong) = ((count - wrong - 1.0) / 2.0, count - (wrong + 1.0) / 2.0);
    let (mut covariance, mut variance) = (0.0, 0.0);
    let mut start = 0;
    for equal in voxels.chunk_by(|a, b| a.0 == b.0) {
        let rank = start as f64 + (equal.len() - 1) as f64 / 2.0 - middle;
        let wrong_here = equal.iter().filter(|voxel| voxel.1).count() as f64;
        let right_here = equal.len() as f64 - wrong_here;
        covariance += rank * (wrong_here * (rank_wrong - middle) + right_here * (rank_right - middle));
        variance += rank * rank * equal.len() as f64;
        start += equal.len();
    }
    let of_errors = wrong * (rank_wrong - middle).powi(2) + (count - wrong) * (rank_right - middle).powi(2);
    if variance == 0.0 || of_errors == 0.0 { f64::NAN } else { covariance / (variance * of_errors).sqrt() }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn energy_distance_is_the_sum_over_all_pairs() {
        let reference = array![0u8, 1, 1, 2].into_dyn();
        let samples =
            [array![0u8, 1, 1, 2].into_dyn(), array![1u8, 1, 0, 2].into_dyn(), array![0u8, 0, 1, 0].into_dyn()];
        // IoU of classes 1 and 2 by hand. To the reference: (1, 1), (1/3, 1), (1/2, 0).
        let to_reference = [0.0, 1.0 - (1.0 / 3.0 + 1.0) / 2.0, 1.0 - 0.25];
        // Among each other: 0-1 as above, 0-2 as above, 1-2: (0 of 3, 0 of 1).
        let among = [1.0 / 3.0, 0.75, 1.0];
        let expected = 2.0 * to_reference.iter().sum::<f64>() / 3.0 - 2.0 * among.iter().sum::<f64>() / 9.0;
        near(energy_distance(&samples, &reference, 3), expected);
        // A class that only one pair holds counts there alone; two empty maps are equal.
        let empty = array![0u8, 0, 0, 0].into_dyn();
        near(energy_distance(std::slice::from_ref(&empty), &empty, 3), 0.0);
        near(energy_distance(&[empty.clone(), reference.clone()], &empty, 3), 2.0 * 0.5 - 2.0 / 4.0);
        near(energy_distance(&[reference.clone(), reference.clone()], &reference, 3), 0.0);
        assert!(energy_distance(&[], &reference, 3).is_nan());
    }

    #[test]
    fn calibration_error_weighs_the_bins_by_their_voxels() {
        // Confidences 0.5 (right), 0.6 (wrong), 0.95 (right), 1.0 (right), 1/15 * 9 exactly on a bin's upper end.
        let probabilities = array![[0.5, 0.4, 0.05, 0.0, 0.4], [0.5, 0.6, 0.95, 1.0, 0.6]].into_dyn();
        let (found, reference) = (array![0u8, 1, 1, 1, 1].into_dyn(), array![0u8, 0, 1, 1, 1].into_dyn());
        let [all, near_foreground] = reliability(&probabilities, &found, &reference);
        // 0.5 in bin 7; both 0.6 in one bin, half of them right; 0.95 and 1.0 in the last.
        let expected = ((1.0 - 0.5) + (1.0 - 2.0 * 0.6_f64).abs() + (2.0 - 1.95)) / 5.0;
        assert!((all.calibration_error() - expected).abs() < 1e-6, "{}", all.calibration_error());
        let bins = all.bins();
        assert_eq!(bins.iter().map(|bin| bin.voxels).sum::<u64>(), 5);
        assert_eq!((bins[7].voxels, bins[8].voxels + bins[9].voxels, bins[14].voxels), (1, 2, 2));
        assert!(bins[0].confidence.is_nan() && bins[14].accuracy == 1.0);
        // The box is voxels 1 to 4; a tenth of 5 rounds to 1.
        assert_eq!(near_foreground, all);
        let mut twice = all;
        twice.merge(&all);
        near(twice.calibration_error(), all.calibration_error());
        assert!(Reliability::default().calibration_error().is_nan());
    }

    #[test]
    fn the_box_is_enlarged_and_stays_in_the_image() {
        let mut found = Labels::zeros(vec![20, 10]);
        assert_eq!(foreground_box(&found, &found), None);
        found[[0, 5]] = 1;
        let mut reference = Labels::zeros(vec![20, 10]);
        reference[[7, 6]] = 2;
        assert_eq!(foreground_box(&found, &reference), Some(vec![[0, 10], [4, 8]]));
        let probabilities = Tensor::from_elem(vec![2, 20, 10], 0.5);
        let [all, near] = reliability(&probabilities, &found, &reference).map(|r| r.bins()[7].voxels);
        assert_eq!((all, near), (200, 40));
    }

    /// Pearson's correlation of mean ranks, pair by pair.
    fn brute_force(values: &[f32], wrong: &[bool]) -> f64 {
        let ranks = |values: Vec<f64>| -> Vec<f64> {
            let rank = |v: f64| {
                let (below, equal) =
                    (values.iter().filter(|o| **o < v).count(), values.iter().filter(|o| **o == v).count());
                below as f64 + (equal as f64 + 1.0) / 2.0
            };
            values.iter().map(|v| rank(*v)).collect()
        };
        let a = ranks(values.iter().map(|v| f64::from(*v)).collect());
        let b = ranks(wrong.iter().map(|v| f64::from(u8::from(*v))).collect());
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (ma, mb) = (mean(&a), mean(&b));
        let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(a, b)| f(a - ma, b - mb)).sum::<f64>();
        sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
    }

    #[test]
    fn rank_correlation_is_that_of_mean_ranks() {
        let values: Vec<f32> = (0..60).map(|i| ((i * 37 + 11) % 17) as f32 / 16.0).collect();
        let wrong: Vec<bool> = (0..60).map(|i| (i * 37 + 11) % 17 + (i % 5) * 3 > 17).collect();
        let uncertainty = Tensor::from_shape_vec(vec![6, 10], values.clone()).unwrap();
        let found = Labels::from_shape_vec(vec![6, 10], wrong.iter().map(|w| u8::from(*w)).collect()).unwrap();
        let reference = Labels::zeros(vec![6, 10]);
        near(uncertainty_error_correlation(&uncertainty, &found, &reference), brute_force(&values, &wrong));
        // scipy.stats.spearmanr([0.1, 0.4, 0.4, 0.9, 0.2], [0, 0, 1, 1, 0]).statistic
        let uncertainty = array![0.1f32, 0.4, 0.4, 0.9, 0.2].into_dyn();
        let (found, reference) = (array![0u8, 0, 1, 2, 0].into_dyn(), Labels::zeros(vec![5]));
        let correlation = uncertainty_error_correlation(&uncertainty, &found, &reference);
        near(correlation, 0.7404360971988655);
        assert!(uncertainty_error_correlation(&uncertainty, &reference, &reference).is_nan());
        assert!(uncertainty_error_correlation(&Tensor::zeros(vec![5]), &found, &reference).is_nan());
    }
}
