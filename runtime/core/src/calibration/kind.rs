//! Whether an image is of the kind that a bundle was trained on: how far statistics of its way through the networks lie
//! from those of training images (Mahalanobis 1936; Lee et al. 2018, A Simple Unified Framework for Detecting
//! Out-of-Distribution Samples).

use ndarray::Axis;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::image::Labels;
use crate::{Error, ErrorKind, Result, Tensor};

/// Part of the correlations between statistics that is not believed: of few images they are uncertain.
const SHRINKAGE: f64 = 0.02;
/// Added to what is small before its logarithm is taken: standard deviations and areas; entropies.
const SMALL: [f64; 2] = [1e-3, 1e-4];
/// A statistic that varies less than this, over its size, counts as varying so much.
const LEAST_SPREAD: f64 = 1e-6;

/// Mean and standard deviation of each channel over all positions of some arrays.
#[derive(Debug, Clone, Default)]
pub struct Pooled {
    /// Count, sum and sum of squares of each channel.
    sums: Vec<[f64; 3]>,
}

impl Pooled {
    /// Adds arrays `[N, C, ...]`.
    pub fn add(&mut self, values: &Tensor) {
        for sample in values.axis_iter(Axis(0)) {
            self.sums.resize(sample.shape()[0], [0.0; 3]);
            for (sums, channel) in self.sums.iter_mut().zip(sample.axis_iter(Axis(0))) {
                for value in channel.iter().map(|value| f64::from(*value)) {
                    sums[0] += 1.0;
                    sums[1] += value;
                    sums[2] += value * value;
                }
            }
        }
    }

    /// The mean of each channel, then the logarithm of each one's standard deviation.
    fn statistics(&self) -> impl Iterator<Item = f64> {
        let mean = |sums: &[f64; 3]| sums[1] / sums[0];
        let deviation = move |sums: &[f64; 3]| (sums[2] / sums[0] - mean(sums).powi(2)).max(0.0).sqrt();
        self.sums.iter().map(mean).chain(self.sums.iter().map(move |sums| (deviation(sums) + SMALL[0]).ln()))
    }
}

/// The statistics of one image, in this order: mean, then logarithm of the standard deviation, of each channel of z_i;
/// the same of each channel of the refined label latents; the logarithm of each foreground class's part of the image; the
/// logarithm of the mean entropy.
///
/// # Shapes
/// labels and uncertainty `[...]`, the latter in [0, 1], of a model with `classes` classes.
pub fn statistics(
    embedding: &Pooled,
    latents: &Pooled,
    labels: &Labels,
    uncertainty: &Tensor,
    classes: usize,
) -> Vec<f64> {
    let mut voxels = [0.0; 256];
    labels.iter().for_each(|label| voxels[usize::from(*label)] += 1.0);
    let count = labels.len().max(1) as f64;
    let areas = voxels[..classes.min(256)].iter().skip(1).map(|area| (area / count + SMALL[0]).ln());
    let entropy = uncertainty.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let all = embedding.statistics().chain(latents.statistics()).chain(areas);
    all.chain([(entropy + SMALL[1]).ln()]).collect()
}

/// Training images' statistics, and how far from them an image may lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// The mean of each statistic.
    #[serde(serialize_with = "write_row", deserialize_with = "read_row")]
    pub mean: Vec<f64>,
    /// A lower triangle, row by row: it makes differences from the mean uncorrelated, with a variance of 1.
    #[serde(serialize_with = "write_rows", deserialize_with = "read_rows")]
    pub whitening: Vec<Vec<f64>>,
    /// The largest score of an image of the right kind.
    pub threshold: f64,
    /// Part of the images of the right kind that has a larger one, at most.
    pub false_alarms: f64,
}

impl Kind {
    /// Mean and whitening of the statistics of training images; no threshold yet, so that every image passes.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] for fewer than two images, or statistics that are not finite or differ in number.
    pub fn fit(images: &[Vec<f64>]) -> Result<Self> {
        let fail = |message: &str| Err(Error::new(ErrorKind::Setting, message));
        let [first, _, ..] = images else { return fail("statistics of fewer than two images, expected more") };
        let size = first.len();
        if images.iter().any(|own| own.len() != size || own.iter().any(|value| !value.is_finite())) {
            return fail("statistics of images are not finite, or not equally many");
        }
        let count = images.len() as f64;
        let mean: Vec<f64> = (0..size).map(|index| images.iter().map(|own| own[index]).sum::<f64>() / count).collect();
        let covariance = |a: usize, b: usize| {
            images.iter().map(|own| (own[a] - mean[a]) * (own[b] - mean[b])).sum::<f64>() / (count - 1.0)
        };
        let spread: Vec<f64> = (0..size)
            .map(|index| covariance(index, index).sqrt().max(LEAST_SPREAD * (1.0 + mean[index].abs())))
            .collect();
        // Cholesky: correlations = L L^T, and the inverse of L is the whitening of standardised statistics.
        let mut root = vec![vec![0.0; size]; size];
        for row in 0..size {
            for column in 0..=row {
                let own = covariance(row, column) / (spread[row] * spread[column]);
                let shrunk = if row == column { 1.0 } else { (1.0 - SHRINKAGE) * own };
                let rest = shrunk - (0..column).map(|k| root[row][k] * root[column][k]).sum::<f64>();
                root[row][column] =
                    if row == column { rest.max(LEAST_SPREAD).sqrt() } else { rest / root[column][column] };
            }
        }
        let mut inverse = vec![vec![0.0; size]; size];
        #[expect(clippy::needless_range_loop, reason = "rows and columns are indexed as in the formula")]
        for column in 0..size {
            for row in column..size {
                let own = f64::from(u8::from(row == column));
                let rest = own - (column..row).map(|k| root[row][k] * inverse[k][column]).sum::<f64>();
                inverse[row][column] = rest / root[row][row];
            }
        }
        let row = |row: usize| (0..=row).map(|column| inverse[row][column] / spread[column]).collect();
        Ok(Self { mean, whitening: (0..size).map(row).collect(), threshold: f64::MAX, false_alarms: 0.0 })
    }

    /// How far an image's statistics lie from those of training images, over what is usual: about 1 for these. Infinite
    /// where they are not finite.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] for another number of statistics.
    pub fn score(&self, statistics: &[f64]) -> Result<f64> {
        if statistics.len() != self.mean.len() {
            let message = format!("{} statistics of an image, expected {}", statistics.len(), self.mean.len());
            return Err(Error::new(ErrorKind::ShapeMismatch, message));
        }
        let difference: Vec<f64> = statistics.iter().zip(&self.mean).map(|(own, mean)| own - mean).collect();
        let white = |row: &Vec<f64>| row.iter().zip(&difference).map(|(w, d)| w * d).sum::<f64>();
        let squares: f64 = self.whitening.iter().map(white).map(|white| white * white).sum();
        let score = (squares / self.mean.len() as f64).sqrt();
        Ok(if score.is_nan() { f64::INFINITY } else { score })
    }

    /// What is wrong with it, for networks that give so many statistics.
    pub(super) fn problem(&self, statistics: usize) -> Option<String> {
        let rows = self.whitening.len() == statistics
            && self.whitening.iter().enumerate().all(|(index, row)| row.len() == index + 1);
        if self.mean.len() != statistics || !rows {
            return Some(format!("kind has {} means, expected {statistics} and as many rows", self.mean.len()));
        }
        let finite = self.mean.iter().chain(self.whitening.iter().flatten()).all(|value| value.is_finite());
        if !(finite && self.threshold > 0.0 && (0.0..1.0).contains(&self.false_alarms)) {
            return Some("kind has numbers that are not finite, or out of range".into());
        }
        None
    }
}

// In YAML a row of numbers is one line of text: as lists they would be the whole manifest.

fn row_text(row: &[f64]) -> String {
    row.iter().map(|value| format!("{:?}", *value as f32)).collect::<Vec<_>>().join(" ")
}

fn row_numbers<E: de::Error>(text: &str) -> std::result::Result<Vec<f64>, E> {
    let number = |text: &str| text.parse::<f32>().map(f64::from);
    text.split(' ').map(number).collect::<std::result::Result<_, _>>().map_err(E::custom)
}

fn write_row<S: Serializer>(row: &[f64], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&row_text(row))
}

fn read_row<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<f64>, D::Error> {
    row_numbers(&String::deserialize(deserializer)?)
}

fn write_rows<S: Serializer>(rows: &[Vec<f64>], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.iter().map(|row| row_text(row)))
}

fn read_rows<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Vec<f64>>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| row_numbers(text)).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Three statistics, the second mostly the first.
    fn images(count: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        (0..count)
            .map(|_| {
                let (a, b, c) = (draw(), draw(), draw());
                vec![5.0 + 2.0 * a, a + 0.3 * b, 0.01 * c]
            })
            .collect()
    }

    #[test]
    fn a_score_is_one_on_average_and_large_off_the_usual() {
        let kind = Kind::fit(&images(2000, 1)).unwrap();
        let scores: Vec<f64> = images(2000, 2).iter().map(|own| kind.score(own).unwrap()).collect();
        let mean_square = scores.iter().map(|score| score * score).sum::<f64>() / 2000.0;
        assert!((mean_square - 1.0).abs() < 0.2, "{mean_square}");
        // Each statistic alone is usual, but not the two together.
        let odd = kind.score(&[9.0, -2.0, 0.0]).unwrap();
        assert!(scores.iter().filter(|score| **score > odd).count() == 0, "{odd}");
        assert_eq!(kind.score(&[9.0, f64::NAN, 0.0]).unwrap(), f64::INFINITY);
        assert_eq!(kind.score(&[9.0]).unwrap_err().kind(), ErrorKind::ShapeMismatch);
        assert!(Kind::fit(&images(1, 1)).is_err());
        assert!(Kind::fit(&[vec![1.0], vec![f64::INFINITY]]).is_err());
    }

    #[test]
    fn a_constant_statistic_is_no_division_by_zero() {
        let kind = Kind::fit(&[vec![1.0, 3.0], vec![2.0, 3.0], vec![4.0, 3.0]]).unwrap();
        assert!(kind.score(&[2.0, 3.0]).unwrap() < 1.0);
        assert!(kind.score(&[2.0, 3.1]).unwrap() > 1000.0);
    }

    #[test]
    fn it_survives_yaml() {
        let kind = Kind { threshold: 2.5, ..Kind::fit(&images(50, 1)).unwrap() };
        let text = yaml_serde::to_string(&kind).unwrap();
        let read: Kind = yaml_serde::from_str(&text).unwrap();
        assert_eq!(read.problem(3), None);
        assert!(read.problem(4).is_some());
        for own in images(20, 3) {
            assert!((read.score(&own).unwrap() / kind.score(&own).unwrap() - 1.0).abs() < 1e-4);
        }
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(yaml_serde::from_str::<Kind>(&text.replacen("mean: ", "mean: x", 1)).is_err());
    }

    #[test]
    fn statistics_are_those_of_channels_areas_and_entropy() {
        let mut pooled = Pooled::default();
        pooled.add(&array![[[1.0_f32, 3.0], [0.0, 0.0]]].into_dyn());
        pooled.add(&array![[[1.0_f32, 3.0], [2.0, 2.0]]].into_dyn());
        let labels = array![0u8, 1, 1, 2].into_dyn();
        let uncertainty = array![0.0_f32, 0.2, 0.2, 0.0].into_dyn();
        let found = statistics(&pooled, &Pooled::default(), &labels, &uncertainty, 3);
        let expected =
            [2.0, 1.0, (1.0 + SMALL[0]).ln(), (1.0 + SMALL[0]).ln(), 0.501_f64.ln(), 0.251_f64.ln(), 0.1001_f64.ln()];
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }
}
