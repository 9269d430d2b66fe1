//! Noise schedules in f64 and the Gaussian block.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use super::combine;
use crate::{Error, ErrorKind, Result, Tensor};

/// The longest schedule: far beyond it alpha bar underflows, and a division by its square root is no longer finite.
pub const MAX_TIMESTEPS: usize = 10_000;

/// Offset of the cosine schedule: keeps beta from vanishing near t = 0.
const COSINE_OFFSET: f64 = 0.008;
/// beta of the linear and quadratic schedules at t = 0.
const BETA_FIRST: f64 = 1e-4;
/// beta of the linear and quadratic schedules at t = T-1.
const BETA_LAST: f64 = 0.02;

/// How alpha bar falls with the timestep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScheduleKind {
    /// Cosine (Nichol and Dhariwal 2021, Eq. 17): `a_t = c(t) / c(0)`, `c(t) = cos^2(((t/T + s) / (1 + s)) pi/2)`,
    /// s = 0.008.
    Cosine,
    /// beta linear from 1e-4 to 0.02 (Ho et al. 2020, Section 4).
    Linear,
    /// The square root of beta linear between the same ends.
    Quadratic,
}

/// alpha bar for every timestep. Strictly decreasing, each value in (0, 1].
#[derive(Debug, Clone)]
pub struct Schedule {
    alpha_bar: Vec<f64>,
}

/// Largest shift of ln(SNR): beyond it alpha bar has no meaning left at one end or the other.
pub const MAX_LOG_SNR_SHIFT: f64 = 10.0;

impl Schedule {
    /// The schedule of the given kind over T = `timesteps`, as published.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] unless 2 <= T <= [`MAX_TIMESTEPS`].
    pub fn new(kind: ScheduleKind, timesteps: usize) -> Result<Self> {
        Self::shifted(kind, timesteps, 0.0)
    }

    /// The same with `shift` added to the logarithm of the signal-to-noise ratio `a_t / (1 - a_t)` at every t
    /// (Hoogeboom et al. 2023, Section 3.1): `a'_t = a_t / (a_t + (1 - a_t) exp(-shift))`.
    ///
    /// Neighbouring elements of a latent say much the same, and together they outweigh the noise long before each one
    /// does. A shift below 0 makes up for that; it is what latents scaled by `exp(shift / 2)` would give (Chen 2023).
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] unless 2 <= T <= [`MAX_TIMESTEPS`] and |shift| <= [`MAX_LOG_SNR_SHIFT`].
    pub fn shifted(kind: ScheduleKind, timesteps: usize, shift: f64) -> Result<Self> {
        if !(-MAX_LOG_SNR_SHIFT..=MAX_LOG_SNR_SHIFT).contains(&shift) {
            let message = format!("log_snr_shift is {shift}, expected -{MAX_LOG_SNR_SHIFT} to {MAX_LOG_SNR_SHIFT}");
            return Err(Error::new(ErrorKind::Setting, message));
        }
        if !(2..=MAX_TIMESTEPS).contains(&timesteps) {
            return Err(Error::new(
                ErrorKind::Setting,
                format!("the schedule has {timesteps} timesteps, expected 2 to {MAX_TIMESTEPS}"),
            ));
        }
        let (first, last) = (BETA_FIRST, BETA_LAST);
        let alpha_bar = match kind {
            ScheduleKind::Cosine => cosine(timesteps),
            ScheduleKind::Linear => cumulative(linspace(first, last, timesteps)),
            ScheduleKind::Quadratic => {
                cumulative(linspace(first.sqrt(), last.sqrt(), timesteps).map(|root| root * root))
            }
        };
        let noise = (-shift).exp();
        let alpha_bar = match shift == 0.0 {
            true => alpha_bar,
            false => alpha_bar.into_iter().map(|a_t| a_t / (a_t + (1.0 - a_t) * noise)).collect(),
        };
        Ok(Self { alpha_bar })
    }

    /// `a_t`.
    ///
    /// # Panics
    /// Unless t < T.
    pub fn alpha_bar(&self, t: usize) -> f64 {
        self.alpha_bar[t]
    }

    /// T, at least 2.
    pub fn timesteps(&self) -> usize {
        self.alpha_bar.len()
    }
}

fn cosine(timesteps: usize) -> Vec<f64> {
    (0..timesteps).map(|t| cosine_alpha_bar(t as f64, timesteps)).collect()
}

/// The cosine schedule over T = `timesteps` at a timestep between the whole ones, 0 <= t < T.
pub fn cosine_alpha_bar(t: f64, timesteps: usize) -> f64 {
    let c = |t: f64| {
        let angle = (t / timesteps as f64 + COSINE_OFFSET) / (1.0 + COSINE_OFFSET);
        (angle * FRAC_PI_2).cos().powi(2)
    };
    c(t) / c(0.0)
}

/// `count` numbers, at least two, evenly from `first` to `last`.
pub fn linspace(first: f64, last: f64, count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| first + (last - first) * i as f64 / (count - 1) as f64)
}

fn cumulative(betas: impl Iterator<Item = f64>) -> Vec<f64> {
    betas
        .scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        })
        .collect()
}

/// The Gaussian block as coefficients of `z_0` and `eps`: `(sqrt(a_t), sqrt(1 - a_t))`.
pub fn noise_coefficients(a_t: f64) -> (f64, f64) {
    (a_t.sqrt(), (1.0 - a_t).sqrt())
}

/// The Gaussian block, `z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) eps` (Ho et al. 2020, Eq. 4), for arrays of any one shape.
///
/// # Panics
/// When the shapes differ.
pub fn add_noise(z_0: &Tensor, eps: &Tensor, a_t: f64) -> Tensor {
    combine(noise_coefficients(a_t), z_0, eps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ScheduleKind; 3] = [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Quadratic];

    #[test]
    fn alpha_bar_strictly_decreases_within_its_range() {
        for kind in KINDS {
            for timesteps in [2, 3, 1000, MAX_TIMESTEPS] {
                let schedule = Schedule::new(kind, timesteps).unwrap();
                assert_eq!(schedule.timesteps(), timesteps);
                assert!(schedule.alpha_bar(0) <= 1.0);
                for t in 1..timesteps {
                    let (a_s, a_t) = (schedule.alpha_bar(t - 1), schedule.alpha_bar(t));
                    assert!(0.0 < a_t && a_t < a_s, "{kind:?}, T {timesteps}, t {t}");
                }
                let last = schedule.alpha_bar(timesteps - 1);
                assert!((1.0 / last.sqrt()).is_finite() && (last as f32) > 0.0);
            }
        }
    }

    /// The values were computed apart from this code: the closed form for cosine, the exponential of an exact sum of
    /// logarithms for the others.
    #[test]
    fn alpha_bar_has_known_values() {
        let known: [(ScheduleKind, [f64; 4]); 3] = [
            (ScheduleKind::Cosine, [1.0, 0.999958715775178, 0.49384359044063775, 2.428766907034851e-6]),
            (ScheduleKind::Linear, [0.9999, 0.9997800920720721, 0.07779665836502389, 4.0358297653756794e-5]),
            (ScheduleKind::Quadratic, [0.9999, 0.9997973619004856, 0.3312745795172556, 0.0007334124595808158]),
        ];
        for (kind, values) in known {
            let schedule = Schedule::new(kind, 1000).unwrap();
            for (t, expected) in [0, 1, 500, 999].into_iter().zip(values) {
                let found = schedule.alpha_bar(t);
                assert!((found / expected - 1.0).abs() < 1e-10, "{kind:?} at {t}: {found:e}, expected {expected:e}");
            }
        }
    }

    #[test]
    fn a_shift_moves_the_signal_to_noise_ratio_alone() {
        for kind in KINDS {
            let plain = Schedule::new(kind, 1000).unwrap();
            let shifted = Schedule::shifted(kind, 1000, -2.0).unwrap();
            for t in [1, 10, 400, 900, 999] {
                let log_snr = |a: f64| (a / (1.0 - a)).ln();
                let moved = log_snr(shifted.alpha_bar(t)) - log_snr(plain.alpha_bar(t));
                assert!((moved + 2.0).abs() < 1e-6, "{kind:?} at {t}: {moved}");
            }
            // exp(-1) times the latent beside the same noise, scaled to unit variance.
            let (a_t, scale) = (plain.alpha_bar(600), (-1.0_f64).exp());
            let (signal, noise) = (scale * a_t.sqrt(), (1.0 - a_t).sqrt());
            let expected = signal / signal.hypot(noise);
            assert!((noise_coefficients(shifted.alpha_bar(600)).0 - expected).abs() < 1e-12);
        }
        for shift in [f64::NAN, f64::INFINITY, 10.5, -11.0] {
            let error = Schedule::shifted(ScheduleKind::Cosine, 1000, shift).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Setting);
        }
    }

    #[test]
    fn a_length_out_of_range_is_a_setting_error() {
        for timesteps in [0, 1, MAX_TIMESTEPS + 1, usize::MAX] {
            let error = Schedule::new(ScheduleKind::Linear, timesteps).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Setting);
        }
    }
}
