//! Overlap metrics.

use crate::image::Labels;

/// Dice of each class index below `classes`, background included: `2 |A and B| / (|A| + |B|)`, in [0, 1].
///
/// NaN where a class is in neither map (nnU-Net's convention): there is nothing to agree on, so it counts neither for
/// nor against; [`nanmean`] leaves it out. Voxels of a class at or above `classes` count as no class.
///
/// # Panics
/// When the two shapes differ.
pub fn dice_per_class(prediction: &Labels, reference: &Labels, classes: usize) -> Vec<f64> {
    let mut sizes = [0_u64; 256];
    let mut overlaps = [0_u64; 256];
    ndarray::Zip::from(prediction).and(reference).for_each(|&p, &r| {
        sizes[usize::from(p)] += 1;
        sizes[usize::from(r)] += 1;
        overlaps[usize::from(p)] += u64::from(p == r);
    });
    let count = |counts: &[u64; 256], class: usize| counts.get(class).map_or(0.0, |&n| n as f64);
    (0..classes).map(|class| 2.0 * count(&overlaps, class) / count(&sizes, class)).collect()
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
    }

    #[test]
    fn nanmean_leaves_nan_out() {
        assert_eq!(nanmean(&[0.5, f64::NAN, 1.0]), 0.75);
        assert!(nanmean(&[f64::NAN]).is_nan());
        assert!(nanmean(&[]).is_nan());
    }
}
