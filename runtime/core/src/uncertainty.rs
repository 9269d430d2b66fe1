//! How sure a segmentation is of itself: voxel by voxel, and structure by structure.

use ndarray::{Axis, Zip};

use crate::image::Labels;
use crate::sum::sum;
use crate::{Error, ErrorKind, Result, Tensor};

/// Entropy along the first axis over its maximum: -sum_k p_k ln p_k / ln K, in [0, 1].
pub fn entropy(probabilities: &Tensor) -> Tensor {
    let scale = -1.0 / (probabilities.shape()[0] as f32).ln();
    let mut total = Tensor::zeros(&probabilities.shape()[1..]);
    for p in probabilities.axis_iter(Axis(0)) {
        Zip::from(&mut total).and(&p).for_each(|total, &p| *total += if p > 0.0 { p * p.ln() } else { 0.0 });
    }
    total.mapv_inplace(|total| (total * scale).clamp(0.0, 1.0));
    total
}

/// For each class, the Dice that the probabilities `[K, ...]` themselves let expect of the label map `[...]`:
/// 2 sum_x p_k(x) [label(x) = k] / (sum_x p_k(x) + sum_x [label(x) = k]), in [0, 1]; `None` for a class that no voxel has.
///
/// If the probabilities were right and voxels independent, this would be the expected Dice, except that the
/// expectations of numerator and denominator are taken apart. It is as good as the probabilities are calibrated.
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] where the two have different grids.
pub fn expected_dice(probabilities: &Tensor, labels: &Labels) -> Result<Vec<Option<f64>>> {
    if probabilities.shape().get(1..) != Some(labels.shape()) {
        let message = format!("probabilities {:?} for labels {:?}", probabilities.shape(), labels.shape());
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    }
    let (probabilities, labels) = (probabilities.as_standard_layout(), labels.as_standard_layout());
    let (p, labels) = probabilities.as_slice().zip(labels.as_slice()).expect("both are in the standard layout");
    let classes = p.chunks_exact(labels.len().max(1)).enumerate();
    let dice = classes.map(|(class, p)| {
        let labelled = labels.iter().filter(|label| usize::from(**label) == class).count();
        let both = sum(p, labels, |p, label| if usize::from(label) == class { p } else { 0.0 });
        let expected = sum(p, p, |p, _| p);
        (labelled > 0).then(|| 2.0 * both / (expected + labelled as f64))
    });
    Ok(dice.collect())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn entropy_spans_its_range() {
        let entropy = entropy(&array![[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]].into_dyn());
        assert!((entropy[0] - 1.0).abs() < 1e-6 && entropy[1] == 0.0 && entropy[2] == 0.0, "{entropy}");
    }

    #[test]
    fn a_sure_structure_is_expected_to_be_right() {
        let labels = array![0u8, 1, 1].into_dyn();
        let sure = array![[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]].into_dyn();
        assert_eq!(expected_dice(&sure, &labels).unwrap(), [Some(1.0), Some(1.0), None]);
        // 2 (0.6 + 0.8) / (0.4 + 0.6 + 0.8 + 2)
        let unsure = array![[0.6, 0.4, 0.2], [0.4, 0.6, 0.8], [0.0, 0.0, 0.0]].into_dyn();
        let found = expected_dice(&unsure, &labels).unwrap()[1].unwrap();
        assert!((found - 2.8 / 3.8).abs() < 1e-6, "{found}");
        assert_eq!(expected_dice(&sure, &array![0u8].into_dyn()).unwrap_err().kind(), ErrorKind::ShapeMismatch);
    }
}
