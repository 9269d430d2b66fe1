//! What the denoiser predicts, and what follows from it.

use ndarray::Axis;
use serde::{Deserialize, Serialize};

use super::{combine, noise_coefficients};
use crate::Tensor;

/// What the denoiser's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Prediction {
    /// The noise (Ho et al. 2020).
    Epsilon,
    /// The velocity (Salimans and Ho 2022), well conditioned at every t.
    V,
    /// The clean latent.
    X0,
    /// The noise, and the decoder sees `z_t - eps_hat` in training, as LDSeg was published.
    Reference,
}

/// Where latents are brought to zero mean and unit variance, always per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LatentStandardisation {
    /// Nowhere.
    None,
    /// The estimate of the clean latent, in every step and before decoding.
    Clean,
    /// The starting latent and the latent after every step, as published; nowhere for the `direct` sampler.
    EachStep,
}

/// The formulas, each a pair of coefficients, and the same applied to arrays of any one shape.
/// Those applied to arrays panic when the shapes differ.
impl Prediction {
    /// What the denoiser is trained to output: `target = c.0 z_0 + c.1 eps`.
    pub fn target_coefficients(self, a_t: f64) -> (f64, f64) {
        let (signal, noise) = noise_coefficients(a_t);
        match self {
            Self::Epsilon | Self::Reference => (0.0, 1.0),
            Self::V => (-noise, signal),
            Self::X0 => (1.0, 0.0),
        }
    }

    /// The clean latent that an output implies: `z_0_hat = c.0 z_t + c.1 output`.
    ///
    /// For epsilon and reference the coefficients grow as `1 / sqrt(a_t)`.
    pub fn z_0_coefficients(self, a_t: f64) -> (f64, f64) {
        let (signal, noise) = noise_coefficients(a_t);
        match self {
            Self::Epsilon | Self::Reference => (1.0 / signal, -noise / signal),
            Self::V => (signal, -noise),
            Self::X0 => (0.0, 1.0),
        }
    }

    /// The noise that an output implies: `eps_hat = c.0 z_t + c.1 output`.
    ///
    /// For x0 at `a_t = 1`, where `z_t` holds no noise to recover, it is the noise's mean, 0.
    pub fn eps_coefficients(self, a_t: f64) -> (f64, f64) {
        let (signal, noise) = noise_coefficients(a_t);
        match self {
            Self::Epsilon | Self::Reference => (0.0, 1.0),
            Self::V => (noise, signal),
            Self::X0 if noise == 0.0 => (0.0, 0.0),
            Self::X0 => (1.0 / noise, -signal / noise),
        }
    }

    /// What the decoder sees in training and after the `direct` sampler: `c.0 z_t + c.1 output`.
    ///
    /// `z_0_hat`, but for reference `z_t - eps_hat`, without rescaling.
    pub fn decoder_coefficients(self, a_t: f64) -> (f64, f64) {
        match self {
            Self::Reference => (1.0, -1.0),
            Self::Epsilon | Self::V | Self::X0 => self.z_0_coefficients(a_t),
        }
    }

    /// What the denoiser is trained to output.
    pub fn target(self, z_0: &Tensor, eps: &Tensor, a_t: f64) -> Tensor {
        combine(self.target_coefficients(a_t), z_0, eps)
    }

    /// The clean latent that an output implies.
    pub fn z_0(self, z_t: &Tensor, output: &Tensor, a_t: f64) -> Tensor {
        combine(self.z_0_coefficients(a_t), z_t, output)
    }

    /// The noise that an output implies.
    pub fn eps(self, z_t: &Tensor, output: &Tensor, a_t: f64) -> Tensor {
        combine(self.eps_coefficients(a_t), z_t, output)
    }

    /// What the decoder sees in training and after the `direct` sampler.
    pub fn decoder_input(self, z_t: &Tensor, output: &Tensor, a_t: f64) -> Tensor {
        combine(self.decoder_coefficients(a_t), z_t, output)
    }
}

/// `(z - mean) / (std + 1e-5)` for each sample of `[N, C, ...]` alone, with the population's standard deviation,
/// accumulated in f64.
///
/// # Panics
/// When `z` has no axis.
pub fn standardise_per_sample(z: &mut Tensor) {
    for mut sample in z.axis_iter_mut(Axis(0)) {
        let n = sample.len() as f64;
        let mean = sample.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let squares = sample.iter().map(|&x| (f64::from(x) - mean).powi(2));
        let std = (squares.sum::<f64>() / n).sqrt();
        sample.mapv_inplace(|x| ((f64::from(x) - mean) / (std + 1e-5)) as f32);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::diffusion::add_noise;

    const KINDS: [Prediction; 4] = [Prediction::Epsilon, Prediction::V, Prediction::X0, Prediction::Reference];

    fn close(x: &Tensor, y: &Tensor, tolerance: f32) -> bool {
        x.iter().zip(y).all(|(x, y)| (x - y).abs() < tolerance)
    }

    #[test]
    fn the_target_gives_back_clean_latent_and_noise() {
        let z_0 = array![[0.5, -1.25, 2.0]].into_dyn();
        let eps = array![[-0.75, 1.5, 0.25]].into_dyn();
        for kind in KINDS {
            for a_t in [0.01, 0.5, 0.99] {
                let z_t = add_noise(&z_0, &eps, a_t);
                let output = kind.target(&z_0, &eps, a_t);
                // The coefficients reach 10 here, the roundings to f32 about 1e-7.
                assert!(close(&kind.z_0(&z_t, &output, a_t), &z_0, 1e-5), "{kind:?}");
                assert!(close(&kind.eps(&z_t, &output, a_t), &eps, 1e-5), "{kind:?}");
                let decoder_input = match kind {
                    Prediction::Reference => &z_t - &eps,
                    _ => z_0.clone(),
                };
                assert!(close(&kind.decoder_input(&z_t, &output, a_t), &decoder_input, 1e-5));
            }
        }
    }

    #[test]
    fn no_coefficient_is_infinite_at_the_clean_end() {
        for kind in KINDS {
            let pairs = [
                kind.target_coefficients(1.0),
                kind.z_0_coefficients(1.0),
                kind.eps_coefficients(1.0),
                kind.decoder_coefficients(1.0),
            ];
            assert!(pairs.iter().all(|c| c.0.is_finite() && c.1.is_finite()), "{kind:?}");
        }
    }

    #[test]
    fn standardisation_is_per_sample() {
        let mut z = array![[1.0, 3.0], [10.0, 50.0], [7.0, 7.0]].into_dyn();
        standardise_per_sample(&mut z);
        assert!(close(&z, &array![[-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]].into_dyn(), 1.1e-5));
    }

    #[test]
    fn names_in_a_manifest_are_the_documented_ones() {
        let names = KINDS.map(|kind| serde_json::to_string(&kind).unwrap());
        assert_eq!(names, [r#""epsilon""#, r#""v""#, r#""x0""#, r#""reference""#]);
    }
}
