//! Averages over cases, with their uncertainty.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::surface::quantile;
use ldseg::metrics::nanmean;

/// How intervals are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// Samples drawn with replacement.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 10_000, seed: 0 }
    }
}

/// A measure over all cases in which it is defined. What cannot be computed is NaN, `null` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation, with n - 1; NaN for fewer than two cases.
    pub std: f64,
    /// 95 % interval of the mean, NaN for fewer than two groups.
    pub ci95: [f64; 2],
    /// Cases in which the measure is defined, those averaged here.
    pub n: usize,
}

impl Summary {
    /// Summarises `values`, leaving NaN out (nnU-Net's nanmean). `groups` numbers the group of each value, say the
    /// patient: the interval is that between the 2.5th and 97.5th percentile of means over as many groups, drawn with
    /// replacement (Efron 1979; cases of one group are not independent, so whole groups are drawn).
    ///
    /// # Panics
    /// When there are not as many groups as values.
    pub fn of(values: &[f64], groups: &[usize], bootstrap: Bootstrap) -> Self {
        assert_eq!(values.len(), groups.len(), "every value has a group");
        let known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        let (n, mean) = (known.len(), nanmean(&known));
        let squares: f64 = known.iter().map(|value| (value - mean).powi(2)).sum();
        let std = if n < 2 { f64::NAN } else { (squares / (n - 1) as f64).sqrt() };
        Self { mean, std, ci95: interval(&sums(values, groups), bootstrap), n }
    }
}

/// Sum and number of the known values of each group that has any.
fn sums(values: &[f64], groups: &[usize]) -> Vec<(f64, usize)> {
    let mut sums = vec![(0.0, 0); groups.iter().max().map_or(0, |last| last + 1)];
    for (value, group) in values.iter().zip(groups).filter(|(value, _)| !value.is_nan()) {
        sums[*group].0 += value;
        sums[*group].1 += 1;
    }
    sums.retain(|(_, count)| *count > 0);
    sums
}

fn interval(groups: &[(f64, usize)], bootstrap: Bootstrap) -> [f64; 2] {
    if groups.len() < 2 || bootstrap.resamples == 0 {
        return [f64::NAN; 2];
    }
    let mut rng = ChaCha8Rng::seed_from_u64(bootstrap.seed);
    let mut mean = || {
        let (mut sum, mut count) = (0.0, 0);
        for _ in 0..groups.len() {
            let group = groups[rng.random_range(0..groups.len())];
            sum += group.0;
            count += group.1;
        }
        sum / count as f64
    };
    let mut means: Vec<f64> = (0..bootstrap.resamples).map(|_| mean()).collect();
    means.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|part| quantile(&means, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_undefined_values_out() {
        let summary = Summary::of(&[1.0, f64::NAN, 3.0], &[0, 1, 2], Bootstrap::default());
        assert_eq!((summary.mean, summary.std, summary.n), (2.0, 2.0_f64.sqrt(), 2));
        assert_eq!(summary.ci95, [1.0, 3.0]);
        let none = Summary::of(&[f64::NAN], &[0], Bootstrap::default());
        assert!(none.mean.is_nan() && none.std.is_nan() && none.ci95[0].is_nan() && none.n == 0);
        let one = Summary::of(&[0.5], &[0], Bootstrap::default());
        assert!(one.mean == 0.5 && one.std.is_nan() && one.ci95[1].is_nan());
    }

    #[test]
    fn the_interval_has_the_width_that_theory_gives() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 20)).collect();
        let alone: Vec<usize> = (0..400).collect();
        let bootstrap = Bootstrap { resamples: 4000, seed: 3 };
        let summary = Summary::of(&values, &alone, bootstrap);
        let expected = 2.0 * 1.96 * summary.std / 20.0;
        let width = summary.ci95[1] - summary.ci95[0];
        assert!((width / expected - 1.0).abs() < 0.05, "{width} {expected}");
        assert_eq!(summary, Summary::of(&values, &alone, bootstrap));
        assert_ne!(summary.ci95, Summary::of(&values, &alone, Bootstrap { seed: 4, ..bootstrap }).ci95);
        // Ten copies of each value in a group of their own tell no more than one does.
        let groups: Vec<usize> = (0..400).map(|i| i % 20 + 20 * (i / 200)).collect();
        let wide = Summary::of(&values, &groups, bootstrap).ci95;
        assert!(((wide[1] - wide[0]) / (10.0_f64.sqrt() * width) - 1.0).abs() < 0.1);
    }
}
