//! How far two label maps overlap: Dice, intersection over union.

use crate::image::Labels;

/// How many voxels of each label value two label maps hold, and how many they share.
#[derive(Debug, Clone)]
pub struct Overlap {
    prediction: [u64; 256],
    reference: [u64; 256],
    both: [u64; 256],
}

impl Overlap {
    /// Counts every value of two label maps in one pass.
    ///
    /// # Panics
    /// When the two shapes differ.
    pub fn between(prediction: &Labels, reference: &Labels) -> Self {
        let mut counts = Self { prediction: [0; 256], reference: [0; 256], both: [0; 256] };
        ndarray::Zip::from(prediction).and(reference).for_each(|&p, &r| {
            counts.prediction[usize::from(p)] += 1;
            counts.reference[usize::from(r)] += 1;
            counts.both[usize::from(p)] += u64::from(p == r);
        });
        counts
    }

    /// Voxels of a value in the prediction.
    pub fn in_prediction(&self, value: u8) -> u64 {
        self.prediction[usize::from(value)]
    }

    /// Voxels of a value in the reference.
    pub fn in_reference(&self, value: u8) -> u64 {
        self.reference[usize::from(value)]
    }

    /// Dice, `2 |A and B| / (|A| + |B|)`, in [0, 1]. NaN where a value is in neither map (nnU-Net's convention): there is
    /// nothing to agree on, so it counts neither for nor against; [`nanmean`] leaves it out.
    pub fn dice(&self, value: u8) -> f64 {
        let sizes = self.in_prediction(value) + self.in_reference(value);
        2.0 * self.both[usize::from(value)] as f64 / sizes as f64
    }

    /// Intersection over union, `|A and B| / |A or B|`, in [0, 1]; NaN as for [`Self::dice`].
    pub fn iou(&self, value: u8) -> f64 {
        let both = self.both[usize::from(value)];
        both as f64 / (self.in_prediction(value) + self.in_reference(value) - both) as f64
    }
}

/// [`Overlap::dice`] of each class index below `classes`, background included. Voxels of a class at or above `classes`
/// count as no class; a class above 255 is in no map.
///
/// # Panics
/// When the two shapes differ.
pub fn dice_per_class(prediction: &Labels, reference: &Labels, classes: usize) -> Vec<f64> {
    let overlap = Overlap::between(prediction, reference);
    (0..classes).map(|class| u8::try_from(class).map_or(f64::NAN, |class| overlap.dice(class))).collect()
}

/// The mean of all values that are not NaN; NaN where there is none.
pub fn nanmean(values: &[f64]) -> f64 {
    let known = values.iter().filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0_u64), |(sum, n), value| (sum + value, n + 1));
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn dice_counts_each_class_and_is_nan_where_absent_from_both() {
        let prediction = array![[0, 0, 1], [1, 1, 3]].into_dyn();
        let reference = array![[0, 1, 1], [1, 2, 3]].into_dyn();
        let dice = dice_per_class(&prediction, &reference, 5);
        assert_eq!(dice[..4], [2.0 / 3.0, 4.0 / 6.0, 0.0, 1.0]);
        assert!(dice[4].is_nan());
        let overlap = Overlap::between(&prediction, &reference);
        assert_eq!([0, 1, 2, 3].map(|class| overlap.iou(class)), [1.0 / 2.0, 2.0 / 4.0, 0.0, 1.0]);
        assert!(overlap.iou(4).is_nan());
        assert_eq!((overlap.in_prediction(1), overlap.in_reference(2)), (3, 1));
    }

    #[test]
    fn nanmean_leaves_nan_out() {
        assert_eq!(nanmean(&[0.5, f64::NAN, 1.0]), 0.75);
        assert!(nanmean(&[f64::NAN]).is_nan());
        assert!(nanmean(&[]).is_nan());
    }
}
