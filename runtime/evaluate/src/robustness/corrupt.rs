//! What can be wrong with an image, in seeded strengths.

use ndarray::{Axis, Dimension};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};

use ldseg::Tensor;
use ldseg::diffusion::{NoiseKey, normal_latent};
use ldseg::image::Image;
use ldseg::preprocess::{Normalisation, normalise};

/// Along each axis drop-out divides the image into so many cells.
const CELLS: usize = 16;

/// A way to corrupt an image. All work on the file's own grid, on intensities scaled to [0, 1] over the image, and the
/// result is scaled to [0, 1] again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Corruption {
    /// x + s n with white Gaussian noise n of unit variance (Zaman et al. 2024, section on robustness to noise).
    Gaussian,
    /// Multiplicative noise: x max(0, 1 + s n).
    Speckle,
    /// Gain that saturates: min(1, (1 + s) x).
    Gain,
    /// Gaussian blur with a standard deviation of s times the longest side, in voxels along every axis.
    Blur,
    /// Signal lost in a part s of the image: that many of its cells, a sixteenth of each side long, are 0.
    DropOut,
}

ldseg::named!(
    "corruption",
    Corruption { Gaussian = "gaussian", Speckle = "speckle", Gain = "gain", Blur = "blur", DropOut = "drop_out" }
);

impl Corruption {
    /// So many strengths above 0, evenly up to the greatest.
    pub fn strengths(self, levels: usize) -> Vec<f64> {
        let step = self.greatest_strength() / levels as f64;
        (1..=levels).map(|level| step * level as f64).collect()
    }

    /// The greatest strength s that is studied unless asked for otherwise; the noise's is the paper's.
    pub fn greatest_strength(self) -> f64 {
        match self {
            Self::Gaussian => 0.2,
            Self::Speckle => 0.8,
            Self::Gain => 1.0,
            Self::Blur => 0.02,
            Self::DropOut => 0.4,
        }
    }
}

/// The image corrupted with a strength of 0 or more; with 0 it is only scaled. `name` and `seed` decide about all that is
/// random: with the same two, a stronger corruption has the same pattern.
pub fn corrupt(image: &Image, name: &str, corruption: Corruption, strength: f64, seed: u64) -> Image {
    let mut corrupted = image.clone();
    normalise(&mut corrupted.data, Normalisation::MinMax);
    if strength == 0.0 {
        return corrupted;
    }
    let x = &mut corrupted.data;
    let s = strength as f32;
    let key = NoiseKey { seed, sample: name_key(name), frame: corruption as u64, window: 0, step: 0 };
    match corruption {
        Corruption::Gaussian => x.zip_mut_with(&normal_latent(key, image.data.shape()), |x, n| *x += s * n),
        Corruption::Speckle => {
            x.zip_mut_with(&normal_latent(key, image.data.shape()), |x, n| *x *= (1.0 + s * n).max(0.0));
        }
        Corruption::Gain => x.mapv_inplace(|x| ((1.0 + s) * x).min(1.0)),
        Corruption::Blur => {
            let longest = image.data.shape()[1..].iter().max().copied().unwrap_or(1);
            (1..x.ndim()).for_each(|axis| blur(x, axis, strength * longest as f64));
        }
        Corruption::DropOut => drop_out(x, strength, key),
    }
    normalise(x, Normalisation::MinMax);
    corrupted
}

/// A number that a name stands for, whatever other images there are.
fn name_key(name: &str) -> u64 {
    Sha256::digest(name.as_bytes()).iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Blurs along one axis with a Gaussian of `sigma` voxels, cut off at 4 sigma; the borders are repeated outwards.
fn blur(image: &mut Tensor, axis: usize, sigma: f64) {
    let radius = (4.0 * sigma).ceil() as usize;
    let weight = |away: usize| (-0.5 * (away as f64 / sigma).powi(2)).exp();
    let total: f64 = weight(0) + 2.0 * (1..=radius).map(weight).sum::<f64>();
    let weights: Vec<f64> = (0..=radius).map(|away| weight(away) / total).collect();
    for mut lane in image.lanes_mut(Axis(axis)) {
        let values: Vec<f64> = lane.iter().map(|value| f64::from(*value)).collect();
        let last = values.len() - 1;
        for (at, blurred) in lane.iter_mut().enumerate() {
            let pair = |away: usize| values[at.saturating_sub(away)] + values[(at + away).min(last)];
            let sides: f64 = (1..=radius).map(|away| weights[away] * pair(away)).sum();
            *blurred = (weights[0] * values[at] + sides) as f32;
        }
    }
}

fn drop_out(image: &mut Tensor, part: f64, key: NoiseKey) {
    let shape = image.shape()[1..].to_vec();
    let cells: Vec<usize> = shape.iter().map(|size| CELLS.min(*size)).collect();
    let count: usize = cells.iter().product();
    let mut order: Vec<usize> = (0..count).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(key.seed ^ key.sample);
    rng.set_stream(key.frame);
    order.shuffle(&mut rng);
    let mut lost = vec![false; count];
    order.iter().take((part * count as f64).round() as usize).for_each(|cell| lost[*cell] = true);
    for (index, value) in image.indexed_iter_mut() {
        let place = index.slice()[1..].iter().zip(&shape).zip(&cells);
        let cell = place.fold(0, |cell, ((at, size), cells)| cell * cells + at * cells / size);
        if lost[cell] {
            *value = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ldseg::image::Geometry;

    fn ramp(shape: &[usize]) -> Image {
        let count: usize = shape.iter().product();
        let data = Tensor::from_shape_vec(shape, (0..count).map(|v| v as f32 + 7.0).collect()).unwrap();
        Image { data, geometry: Geometry::default() }
    }

    fn spans_unit(image: &Image) -> bool {
        let fold = |f: fn(f32, f32) -> f32| image.data.iter().copied().reduce(f).unwrap();
        fold(f32::min) == 0.0 && fold(f32::max) == 1.0
    }

    #[test]
    fn all_span_the_unit_interval_grow_with_strength_and_repeat_themselves() {
        for shape in [&[1, 48, 40][..], &[3, 30, 20], &[1, 18, 20, 17]] {
            let image = ramp(shape);
            let clean = corrupt(&image, "a", Corruption::Gain, 0.0, 1);
            assert!(spans_unit(&clean));
            for corruption in Corruption::ALL {
                let at = |part: f64, name: &str, seed: u64| {
                    corrupt(&image, name, corruption, part * corruption.greatest_strength(), seed)
                };
                let off = |image: &Image| (&image.data - &clean.data).mapv(f32::abs).sum();
                let (weak, strong) = (at(0.5, "a", 1), at(1.0, "a", 1));
                assert!(spans_unit(&weak) && spans_unit(&strong), "{corruption:?}");
                assert!(0.0 < off(&weak) && off(&weak) < off(&strong), "{corruption:?} {shape:?}");
                assert_eq!(strong.data, at(1.0, "a", 1).data);
                let random = !matches!(corruption, Corruption::Gain | Corruption::Blur);
                assert_eq!(strong.data != at(1.0, "b", 1).data, random, "{corruption:?}");
                assert_eq!(strong.data != at(1.0, "a", 2).data, random, "{corruption:?}");
            }
        }
    }

    #[test]
    fn noise_has_the_strength_that_it_says() {
        let mut image = ramp(&[1, 200, 200]);
        // Half dark, half bright: the noise does not decide about the mean of either.
        image.data.indexed_iter_mut().for_each(|(i, v)| *v = if i[1] < 100 { 0.0 } else { 1.0 });
        let noisy = corrupt(&image, "a", Corruption::Gaussian, 0.1, 5).data;
        let half = |from: usize| noisy.slice_axis(Axis(1), ndarray::Slice::from(from..from + 100)).to_owned();
        let (dark, bright) = (half(0), half(100));
        let step = bright.mean().unwrap() - dark.mean().unwrap();
        // Scaled again, signal and noise keep their proportion.
        assert!((dark.std(0.0) / step - 0.1).abs() < 0.002, "{}", dark.std(0.0) / step);
        let lost = corrupt(&image, "a", Corruption::DropOut, 0.25, 5).data;
        let bright = lost.iter().filter(|v| **v == 1.0).count() as f64 / 20_000.0;
        assert!((bright - 0.75).abs() < 0.1, "{bright}");
    }

    #[test]
    fn blur_keeps_the_mean_and_spreads_a_point() {
        let mut data = Tensor::zeros(vec![1, 41, 41]);
        data[[0, 20, 20]] = 1.0;
        (1..3).for_each(|axis| blur(&mut data, axis, 2.0));
        assert!((data.sum() - 1.0).abs() < 1e-5);
        let ratio = data[[0, 20, 22]] / data[[0, 20, 20]];
        assert!((ratio - (-0.5_f32).exp()).abs() < 1e-5, "{ratio}");
    }
}
