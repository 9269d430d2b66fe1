//! Diffusion in the latent space: the schedule, the Gaussian block, what the denoiser predicts, and the samplers.
//!
//! | symbol | meaning |
//! |---|---|
//! | `z_0` | clean latent |
//! | `z_t` | noisy latent at timestep t, 0 <= t < T |
//! | `z_s` | the latent at the next, less noisy timestep s < t |
//! | `eps` | standard normal noise |
//! | `a_t` | alpha bar at t, the cumulative product of alpha |
//! | `v` | velocity, sqrt(a_t) eps - sqrt(1 - a_t) z_0 |
//!
//! Every formula that is linear in two latents exists once, as a pair of f64 coefficients. The functions on
//! [`Tensor`] here apply the pair to arrays; a training framework applies the same pair to its own tensors.

mod noise;
mod prediction;
mod sampler;
mod schedule;
mod steps;

pub use noise::{NoiseKey, normal_latent};
pub use prediction::{LatentStandardisation, Prediction, standardise_per_sample};
pub use sampler::{SampleRequest, Sampler, sample, timesteps};
pub use schedule::{MAX_TIMESTEPS, Schedule, ScheduleKind, add_noise, cosine_alpha_bar, linspace, noise_coefficients};
pub use steps::ddim_step;

use crate::Tensor;

/// `c.0 * x + c.1 * y` element by element, computed in f64 and stored in f32. Both arrays must have one shape.
fn combine(c: (f64, f64), x: &Tensor, y: &Tensor) -> Tensor {
    ndarray::Zip::from(x).and(y).map_collect(|&x, &y| (c.0 * f64::from(x) + c.1 * f64::from(y)) as f32)
}
