//! One step of each sampler, from `a_t` to `a_s`: pure functions of the estimates, noise included.
//! Each ends at the clean estimate for `a_s = 1`.

use super::{add_noise, combine, noise_coefficients};
use crate::Tensor;

/// DDIM update (Song et al. 2020, Eq. 12 with sigma = 0): the Gaussian block again, with the estimated noise.
///
/// `z_s = sqrt(a_s) z_0 + sqrt(1 - a_s) eps`
pub fn ddim_step(z_0: &Tensor, eps: &Tensor, a_s: f64) -> Tensor {
    add_noise(z_0, eps, a_s)
}

/// DDPM update (Song et al. 2020, Eq. 12 with Eq. 16 at eta = 1).
///
/// `z_s = sqrt(a_s) z_0 + sqrt(1 - a_s - sigma^2) eps + sigma noise`,
/// `sigma^2 = (1 - a_s)/(1 - a_t) (1 - a_t/a_s)`
pub(super) fn ddpm_step(z_0: &Tensor, eps: &Tensor, noise: &Tensor, a_t: f64, a_s: f64) -> Tensor {
    let variance = (1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s);
    // Never below 0 but by rounding.
    let direction = (1.0 - a_s - variance).max(0.0).sqrt();
    let mean = combine((a_s.sqrt(), direction), z_0, eps);
    combine((1.0, variance.sqrt()), &mean, noise)
}

/// DPM-Solver++ update (Lu et al. 2022, Algorithm 2) with the data prediction `d`.
///
/// `z_s = (sigma_s/sigma_t) z_t - alpha_s (exp(-h) - 1) d`, where alpha = sqrt(a), sigma = sqrt(1 - a) and
/// `exp(-h) = (sigma_s alpha_t)/(alpha_s sigma_t)`
pub(super) fn dpm_step(z_t: &Tensor, d: &Tensor, a_t: f64, a_s: f64) -> Tensor {
    let (alpha_t, sigma_t) = noise_coefficients(a_t);
    let (alpha_s, sigma_s) = noise_coefficients(a_s);
    let ratio = sigma_s / sigma_t;
    combine((ratio, alpha_s - ratio * alpha_t), z_t, d)
}

/// The second-order data prediction of DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2).
///
/// `d = (1 + 1/(2r)) z_0 - 1/(2r) z_0_previous`, `r = h_previous/h`, h being the rise of lambda over a step
pub(super) fn dpm_extrapolate(z_0: &Tensor, z_0_previous: &Tensor, a_previous: f64, a_t: f64, a_s: f64) -> Tensor {
    // lambda = ln(alpha/sigma)
    let lambda = |a: f64| 0.5 * (a / (1.0 - a)).ln();
    let r = (lambda(a_t) - lambda(a_previous)) / (lambda(a_s) - lambda(a_t));
    let weight = 1.0 / (2.0 * r);
    combine((1.0 + weight, -weight), z_0, z_0_previous)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::diffusion::Prediction;

    /// With a_s = 1 every step gives the clean estimate; with a_s below it the first-order DPM-Solver++ step is DDIM's
    /// (Lu et al. 2022, Section 4) and DDPM without its noise has that much less variance.
    #[test]
    fn steps_agree_where_they_must() {
        let z_0 = array![[0.5, -1.0, 2.0]].into_dyn();
        let eps = array![[1.0, 0.25, -0.5]].into_dyn();
        let a_t = 0.3;
        let z_t = add_noise(&z_0, &eps, a_t);
        assert_eq!(ddim_step(&z_0, &eps, 1.0), z_0);
        assert_eq!(ddpm_step(&z_0, &eps, &eps, a_t, 1.0), z_0);
        assert_eq!(dpm_step(&z_t, &z_0, a_t, 1.0), z_0);

        let a_s = 0.7;
        let ddim = ddim_step(&z_0, &eps, a_s);
        let dpm = dpm_step(&z_t, &z_0, a_t, a_s);
        assert!((&dpm - &ddim).iter().all(|d| d.abs() < 1e-6));

        // sigma^2 = 0.3/0.7 (1 - 0.3/0.7), written out.
        let sigma_2: f64 = 12.0 / 49.0;
        let zero = &eps * 0.0;
        let quiet = Prediction::X0.eps(&ddpm_step(&z_0, &eps, &zero, a_t, a_s), &z_0, a_s);
        let share = ((0.3 - sigma_2) / 0.3).sqrt() as f32;
        assert!((quiet - &eps * share).iter().all(|d| d.abs() < 1e-6));
        let noise = ddpm_step(&zero, &zero, &eps, a_t, a_s);
        assert!((noise - &eps * sigma_2.sqrt() as f32).iter().all(|d| d.abs() < 1e-6));
    }

    /// The extrapolation is exact for a clean estimate that is linear in lambda, taken at the middle of the step.
    #[test]
    fn extrapolation_is_linear_in_lambda() {
        let a = |lambda: f64| 1.0 / (1.0 + (-2.0 * lambda).exp());
        let (previous, here) = (array![1.0_f32].into_dyn(), array![2.0_f32].into_dyn());
        let d = dpm_extrapolate(&here, &previous, a(-2.0), a(-1.0), a(2.0));
        assert!((d[0] - 3.5).abs() < 1e-6, "{d}");
    }
}
