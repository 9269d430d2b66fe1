//! Temperature scaling of class probabilities (Guo et al. 2017, On Calibration of Modern Neural Networks).

use ndarray::Axis;

use crate::Tensor;
use crate::image::Labels;

/// Temperatures that are looked at, as natural logarithms: 1/20 to 20.
const RANGE: [f64; 2] = [-3.0, 3.0];
/// How near the minimum is found, in the logarithm.
const PRECISION: f64 = 1e-4;
/// What a probability counts as at least: a logarithm of 0 is no number.
const LEAST: f32 = 1e-7;
/// A voxel as sure as this is left as it is: nothing that is read of it would change, and most voxels are.
const SURE: f32 = 0.9999;

/// p^(1/T) of each class, over their sum: T above 1 makes probabilities less sure, and the most probable class stays so.
///
/// # Shapes
/// probabilities `[K, ...]`, in [0, 1].
pub fn temper(probabilities: &mut Tensor, temperature: f64) {
    if temperature == 1.0 {
        return;
    }
    let exponent = (1.0 / temperature) as f32;
    for mut voxel in probabilities.lanes_mut(Axis(0)) {
        if voxel.iter().any(|p| *p > SURE) {
            continue;
        }
        voxel.mapv_inplace(|p| p.max(0.0).powf(exponent));
        let sum = voxel.sum();
        if sum > 0.0 {
            voxel.mapv_inplace(|p| p / sum);
        }
    }
}

/// Voxels with their probabilities and their true class, to fit a temperature to.
#[derive(Debug, Clone, Default)]
pub struct Voxels {
    /// ln p, one class after the other, voxel by voxel.
    logarithms: Vec<f32>,
    truth: Vec<u8>,
}

impl Voxels {
    /// Adds an image's voxels that `take` says, at most `most` of them, evenly spread.
    ///
    /// # Shapes
    /// probabilities `[K, ...]`, reference `[...]`, of classes below K.
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn add(&mut self, probabilities: &Tensor, reference: &Labels, take: &dyn Fn(&[usize]) -> bool, most: usize) {
        assert_eq!(&probabilities.shape()[1..], reference.shape(), "one probability a class for each voxel");
        let lanes = probabilities.lanes(Axis(0)).into_iter();
        let taken: Vec<_> = ndarray::indices(reference.raw_dim())
            .into_iter()
            .zip(lanes)
            .zip(reference)
            .filter(|((index, _), _)| take(ndarray::Dimension::slice(index)))
            .collect();
        let every = taken.len().div_ceil(most.max(1)).max(1);
        for ((_, p), truth) in taken.into_iter().step_by(every) {
            self.logarithms.extend(p.iter().map(|p| p.max(LEAST).ln()));
            self.truth.push(*truth);
        }
    }

    /// Adds all of another's, of as many classes.
    pub fn extend(&mut self, other: Self) {
        self.logarithms.extend(other.logarithms);
        self.truth.extend(other.truth);
    }

    /// Number of voxels.
    pub fn count(&self) -> usize {
        self.truth.len()
    }

    /// Mean of -ln p of the true class at a temperature; NaN without a voxel.
    pub fn log_loss(&self, temperature: f64) -> f64 {
        let beta = (1.0 / temperature) as f32;
        let classes = self.logarithms.len() / self.truth.len().max(1);
        let losses = self.logarithms.chunks_exact(classes.max(1)).zip(&self.truth).map(|(l, truth)| {
            let largest = l.iter().copied().fold(f32::MIN, f32::max);
            let sum: f32 = l.iter().map(|l| (beta * (l - largest)).exp()).sum();
            f64::from(sum.ln() - beta * (l.get(usize::from(*truth)).copied().unwrap_or(LEAST.ln()) - largest))
        });
        losses.sum::<f64>() / self.truth.len() as f64
    }

    /// The temperature of the least log loss; 1 without a voxel. The loss is convex in 1/T, so it has one minimum, which
    /// a golden-section search over ln T finds.
    pub fn fit(&self) -> f64 {
        if self.truth.is_empty() {
            return 1.0;
        }
        let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
        let [mut low, mut high] = RANGE;
        let loss = |x: f64| self.log_loss(x.exp());
        let at = |low: f64, high: f64| [high - golden * (high - low), low + golden * (high - low)];
        let mut inner = at(low, high);
        let mut values = inner.map(loss);
        while high - low > PRECISION {
            if values[0] <= values[1] {
                high = inner[1];
                let next = at(low, high);
                values = [loss(next[0]), values[0]];
                inner = next;
            } else {
                low = inner[0];
                let next = at(low, high);
                values = [values[1], loss(next[1])];
                inner = next;
            }
        }
        ((low + high) / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::segmenter::argmax;

    #[test]
    fn tempering_keeps_sums_and_order() {
        let mut p = array![[0.7_f32, 0.99995, 0.0], [0.2, 0.00005, 0.5], [0.1, 0.0, 0.5]].into_dyn();
        let before = p.clone();
        temper(&mut p, 1.0);
        assert_eq!(p, before);
        temper(&mut p, 2.0);
        let sum: f32 = [0.7_f32, 0.2, 0.1].map(f32::sqrt).iter().sum();
        assert!((p[[0, 0]] - 0.7_f32.sqrt() / sum).abs() < 1e-6, "{p}");
        assert!(p.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        assert_eq!(argmax(&p), argmax(&before));
        assert_eq!(p[[0, 1]], 0.99995, "what is sure stays");
    }

    /// Labels drawn from probabilities, which are then made too sure.
    #[test]
    fn the_temperature_that_spoiled_probabilities_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let count = 200_000;
        let mut voxels = Voxels::default();
        let mut p = Tensor::zeros(vec![3, count]);
        let mut labels = Labels::zeros(vec![count]);
        for (mut own, label) in p.lanes_mut(Axis(0)).into_iter().zip(&mut labels) {
            own.mapv_inplace(|_| (4.0 * rng.random::<f32>()).exp());
            let sum = own.sum();
            own.mapv_inplace(|p| p / sum);
            let drawn: f32 = rng.random();
            *label = u8::from(drawn > own[0]) + u8::from(drawn > own[0] + own[1]);
        }
        for spoiled in [0.5_f64, 1.0, 1.7] {
            let mut sure = p.clone();
            temper(&mut sure, spoiled);
            voxels.clone_from(&Voxels::default());
            voxels.add(&sure, &labels, &|_| true, usize::MAX);
            let found = voxels.fit();
            assert!((found * spoiled - 1.0).abs() < 0.02, "{found} for {spoiled}");
            assert!(voxels.log_loss(found) <= voxels.log_loss(1.0));
        }
        let mut few = Voxels::default();
        few.add(&p, &labels, &|index| index[0] < 1000, 100);
        assert_eq!(few.count(), 100);
        assert_eq!(Voxels::default().fit(), 1.0);
    }
}
