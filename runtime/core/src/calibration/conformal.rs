//! Split-conformal prediction: how far a measurement may be off, learned from patients that nothing else was learned from.
//!
//! Where a patient comes with several measurements, they are no independent draws. Patients are, so each counts as one,
//! its measurements sharing its weight (hierarchical conformal prediction; Lee, Barber and Willett 2023). With one
//! measurement a patient this is the ceil((n + 1) level)-th smallest of n scores (Vovk et al. 2005; Lei et al. 2018).

use serde::{Deserialize, Serialize};

/// In what an error is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// In the measure's own unit: |y - m|.
    Absolute,
    /// In parts of what was measured: |y - m| / |m|. It needs no unit, and so no pixel spacing.
    Relative,
}

impl Scale {
    /// How far the `truth` y is from what was `measured`, m. Infinite where nothing finite was measured: an interval
    /// about nothing does not hold the truth.
    pub fn score(self, measured: Option<f64>, truth: f64) -> f64 {
        let score = measured.map_or(f64::INFINITY, |measured| (truth - measured).abs() / self.unit(measured));
        if score.is_nan() { f64::INFINITY } else { score }
    }

    /// All values whose score is at most `within`.
    pub fn interval(self, measured: f64, within: f64) -> [f64; 2] {
        let reach = within * self.unit(measured);
        [measured - reach, measured + reach]
    }

    fn unit(self, measured: f64) -> f64 {
        match self {
            Self::Absolute => 1.0,
            Self::Relative => measured.abs(),
        }
    }
}

/// The score that a new patient's measurement stays at or below with probability `level` or more, whatever the
/// distribution, as long as the new patient is drawn as those of `scores` were. `None` where so few patients don't tell:
/// level 0.9 takes 9 of them, 0.99 takes 99.
///
/// `scores` holds the scores of each patient; patients without any don't count.
pub fn quantile(scores: &[Vec<f64>], level: f64) -> Option<f64> {
    let patients = scores.iter().filter(|own| !own.is_empty());
    let mut weighted: Vec<(f64, f64)> =
        patients.clone().flat_map(|own| own.iter().map(|score| (*score, 1.0 / own.len() as f64))).collect();
    weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // The new patient is one more; its score counts as infinite.
    let needed = level * (patients.count() + 1) as f64;
    let mut weight = 0.0;
    let reached = weighted.into_iter().find(|(_, own)| {
        weight += own;
        weight >= needed - 1e-9
    });
    reached.map(|(score, _)| score).filter(|score| score.is_finite())
}

/// The largest level that [`quantile`] can give for so many patients.
pub fn highest_level(patients: usize) -> f64 {
    patients as f64 / (patients + 1) as f64
}

/// Part of the patients' measurements whose score is at most `within`, each patient counting as one; NaN without any.
pub fn coverage(scores: &[Vec<f64>], within: f64) -> f64 {
    let own = |own: &Vec<f64>| own.iter().filter(|score| **score <= within).count() as f64 / own.len() as f64;
    let patients: Vec<f64> = scores.iter().filter(|own| !own.is_empty()).map(own).collect();
    patients.iter().sum::<f64>() / patients.len() as f64
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_rank_is_that_of_one_more_patient() {
        let single = |n: usize| (1..=n).rev().map(|score| vec![score as f64]).collect::<Vec<_>>();
        // ceil(0.9 * 20) = 18 of 19; ceil(0.9 * 10) = 9 of 9; with 8 the 9th is not there.
        assert_eq!(quantile(&single(19), 0.9), Some(18.0));
        assert_eq!(quantile(&single(9), 0.9), Some(9.0));
        assert_eq!(quantile(&single(8), 0.9), None);
        assert_eq!(quantile(&single(99), 0.99), Some(99.0));
        assert_eq!(quantile(&single(98), 0.99), None);
        assert_eq!(quantile(&[], 0.5), None);
        let mut failed = single(9);
        failed[3] = vec![f64::INFINITY];
        assert_eq!((quantile(&failed, 0.9), quantile(&failed, 0.8)), (None, Some(9.0)));
    }

    #[test]
    fn a_patient_of_many_measurements_counts_once() {
        let mut scores: Vec<Vec<f64>> = (1..=9).map(|score| vec![f64::from(score)]).collect();
        scores.push(vec![100.0; 50]);
        // 0.8 of 11 is 8.8: the nine patients below reach it.
        assert_eq!(quantile(&scores, 0.8), Some(9.0));
        assert_eq!(coverage(&scores, 9.0), 0.9);
        assert!(coverage(&[], 1.0).is_nan());
    }

    #[test]
    fn scores_and_intervals_are_each_other_s_inverse() {
        for (scale, measured, truth) in [(Scale::Absolute, 0.5, 0.62), (Scale::Relative, 80.0, 100.0)] {
            let score = scale.score(Some(measured), truth);
            let [low, high] = scale.interval(measured, score);
            assert!((high - truth).abs() < 1e-9 && (measured - low - (high - measured)).abs() < 1e-9);
        }
        assert_eq!(Scale::Relative.score(Some(80.0), 100.0), 0.25);
        assert_eq!(Scale::Absolute.score(None, 1.0), f64::INFINITY);
        assert_eq!(Scale::Relative.score(Some(0.0), 0.0), f64::INFINITY);
    }

    #[test]
    fn new_patients_are_covered_at_the_level() {
        // Patients with an error of their own, each measured twice or once: 400 times 40 patients and a new one.
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut patient = || {
            let own: f64 = rng.random::<f64>() - 0.5;
            let count = 1 + usize::from(rng.random::<f64>() < 0.5);
            (0..count).map(|_| (own + 0.3 * (rng.random::<f64>() - 0.5)).abs()).collect::<Vec<f64>>()
        };
        let (mut covered, rounds) = (0.0, 400);
        for _ in 0..rounds {
            let calibration: Vec<_> = (0..40).map(|_| patient()).collect();
            covered += coverage(&[patient()], quantile(&calibration, 0.9).unwrap());
        }
        let covered = covered / f64::from(rounds);
        // At least 0.9, at most 1 / 41 more; a standard error is 0.015.
        assert!((0.87..0.96).contains(&covered), "{covered}");
    }
}
