//! Seeded Gaussian noise that depends on seed, sample, frame, window and step alone.

use ndarray::IxDyn;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use crate::Tensor;

/// Names one noise stream. Two keys that differ anywhere give independent noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseKey {
    /// The user's seed.
    pub seed: u64,
    /// Index of the sample of one image.
    pub sample: u64,
    /// Index of the frame of a cine; 0 for a still.
    pub frame: u64,
    /// Index of the window of an image that is segmented in several; 0 where there is one.
    pub window: u64,
    /// 0 for the starting latent, k for the noise that DDPM adds after its k-th step.
    pub step: u64,
}

impl NoiseKey {
    /// All numbers but the window, little endian, as ChaCha's 256-bit key; the window is ChaCha's stream.
    fn chacha_key(self) -> [u8; 32] {
        let mut key = [0; 32];
        let words = [self.seed, self.sample, self.frame, self.step];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        key
    }
}

/// A standard normal latent `[C, ...]`, drawn in C order from ChaCha8 keyed by `key`.
pub fn normal_latent(key: NoiseKey, shape: &[usize]) -> Tensor {
    let mut rng = ChaCha8Rng::from_seed(key.chacha_key());
    rng.set_stream(key.window);
    Tensor::from_shape_simple_fn(IxDyn(shape), || StandardNormal.sample(&mut rng))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: NoiseKey = NoiseKey { seed: 1, sample: 2, frame: 3, window: 0, step: 4 };

    #[test]
    fn noise_is_standard_normal() {
        let z = normal_latent(KEY, &[1, 128, 128]);
        let n = z.len() as f64;
        let moment = |power: i32| z.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / n;
        // Five standard errors of each moment's estimate for 16 384 draws.
        assert!(moment(1).abs() < 0.04, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.056, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.39, "kurtosis {}", moment(4));
    }

    #[test]
    fn every_field_of_the_key_matters() {
        let z = normal_latent(KEY, &[8]);
        assert_eq!(z, normal_latent(KEY, &[8]));
        for other in [
            NoiseKey { seed: 9, ..KEY },
            NoiseKey { sample: 9, ..KEY },
            NoiseKey { frame: 9, ..KEY },
            NoiseKey { window: 9, ..KEY },
            NoiseKey { step: 9, ..KEY },
        ] {
            assert_ne!(z, normal_latent(other, &[8]));
        }
    }

    /// A seed must mean the same noise in every release: these draws are pinned.
    #[test]
    fn a_seed_keeps_its_meaning() {
        let z = normal_latent(KEY, &[4]);
        assert_eq!(z.as_slice().unwrap(), [-0.32534668, -0.44603178, -0.95169085, -0.55725735]);
    }
}
