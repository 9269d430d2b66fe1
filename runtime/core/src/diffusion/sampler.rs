//! Samplers: from a noise latent to what the decoder takes, by a few calls of the denoiser.

use ndarray::Axis;
use serde::{Deserialize, Serialize};

use super::{
    LatentStandardisation, NoiseKey, Prediction, Schedule, normal_latent, standardise_per_sample,
    steps::{ddim_step, ddpm_step, dpm_extrapolate, dpm_step},
};
use crate::{Error, ErrorKind, Result, Tensor};

/// How the latent is refined. `Display` and `FromStr` use the names `direct`, `ddim`, `ddpm` and `dpm++`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Sampler {
    /// One denoiser call at t = T-1, decoded as in training.
    #[serde(rename = "direct")]
    Direct,
    /// DDIM with sigma = 0 (Song et al. 2020, Eq. 12).
    #[serde(rename = "ddim")]
    Ddim,
    /// DDPM: DDIM's update with the sigma of ancestral sampling.
    #[serde(rename = "ddpm")]
    Ddpm,
    /// DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2).
    #[serde(rename = "dpm++")]
    DpmPlusPlus,
}

crate::named!("sampler", Sampler { Direct = "direct", Ddim = "ddim", Ddpm = "ddpm", DpmPlusPlus = "dpm++" });

/// Everything the sampler loop needs but the denoiser.
#[derive(Debug, Clone, Copy)]
pub struct SampleRequest<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// What the denoiser predicts.
    pub prediction: Prediction,
    /// Where latents are standardised.
    pub standardisation: LatentStandardisation,
    /// The sampler.
    pub sampler: Sampler,
    /// The first timestep: T-1 where the latent starts as pure noise, a lower one where it starts as less.
    pub first: usize,
    /// Number of denoiser calls, 1 to `first`; 1 for `direct`.
    pub steps: usize,
    /// For DDPM's added noise: the key of each sample in the batch (its `step` is overwritten). Other samplers add no
    /// noise and do not look at it.
    pub noise_keys: &'a [NoiseKey],
}

/// The timesteps that `steps` denoiser calls visit, from `first` downwards: `round(first (S-k) / S)` for k = 0..S-1, S
/// being `steps`. From pure noise, `first` is T-1.
///
/// All are distinct and above 0. The step after the last visited timestep ends at the clean latent (alpha bar 1)
/// rather than at t = 0, where alpha bar is 1 for the cosine schedule and a denoiser call would count for nothing.
///
/// # Errors
/// [`ErrorKind::Setting`] unless 1 <= `steps` <= `first`.
pub fn timesteps(first: usize, steps: usize) -> Result<Vec<usize>> {
    if !(1..=first).contains(&steps) {
        return Err(Error::new(
            ErrorKind::Setting,
            format!("the sampler is to take {steps} steps, expected 1 to {first}"),
        ));
    }
    // Neighbours lie first/S >= 1 apart, so that rounding (half up) keeps them distinct.
    let visited = (0..steps).map(|k| (2 * first * (steps - k) + steps) / (2 * steps));
    Ok(visited.collect())
}

/// Refines the noisy latent `z_t` `[N, C, ...]` into what the decoder takes, of the same shape.
///
/// `denoise(z_t, t)` is the network, called once for each of the [`timesteps`]; its output has the shape of `z_t`.
/// `observe(k, z)` sees the latent after the k-th step, k = 1..=steps; the last is the result.
///
/// Each sample of the batch is refined on its own: it comes out bit for bit the same whatever its neighbours, as long
/// as the denoiser treats it so.
///
/// With [`LatentStandardisation::Clean`] the noise estimate is made to match the standardised clean estimate.
/// [`LatentStandardisation::EachStep`] leaves `direct` alone, which is decoded as in training.
///
/// # Errors
/// [`ErrorKind::Setting`] for a number of steps out of range, or not 1 for `direct`, and for DDPM unless there is one
/// noise key a sample; [`ErrorKind::ShapeMismatch`] for a `z_t` without batch and channel axes or a denoiser's output
/// of another shape; and whatever `denoise` fails with.
pub fn sample(
    request: &SampleRequest,
    mut z_t: Tensor,
    denoise: &mut dyn FnMut(&Tensor, usize) -> Result<Tensor>,
    observe: &mut dyn FnMut(usize, &Tensor),
) -> Result<Tensor> {
    check_request(request, z_t.shape())?;
    let visited = timesteps(request.first, request.steps)?;
    let standardise_steps =
        request.standardisation == LatentStandardisation::EachStep && request.sampler != Sampler::Direct;
    if standardise_steps {
        standardise_per_sample(&mut z_t);
    }
    let mut previous = None;
    for (index, &t) in visited.iter().enumerate() {
        let a_t = request.schedule.alpha_bar(t);
        let output = denoise(&z_t, t)?;
        check_output(&output, &z_t, t)?;
        let z_0 = estimate_clean(request, &z_t, &output, a_t);
        let mut z_s = match visited.get(index + 1) {
            // Every sampler's step ends at the clean estimate when a_s = 1.
            None => z_0,
            Some(&s) => {
                let a_s = request.schedule.alpha_bar(s);
                let point = Point { z_t: &z_t, z_0: &z_0, output: &output, a_t, a_s };
                let z_s = transition(request, &point, previous.as_ref(), index as u64 + 1);
                previous = Some((z_0, a_t));
                z_s
            }
        };
        if standardise_steps {
            standardise_per_sample(&mut z_s);
        }
        observe(index + 1, &z_s);
        z_t = z_s;
    }
    Ok(z_t)
}

fn check_request(request: &SampleRequest, shape: &[usize]) -> Result<()> {
    if shape.len() < 2 || shape.contains(&0) {
        return Err(Error::new(
            ErrorKind::ShapeMismatch,
            format!("the starting latent has shape {shape:?}, expected [N, C, ...] with no axis of size 0"),
        ));
    }
    let last = request.schedule.timesteps() - 1;
    if request.first > last {
        let message = format!("the sampler is to start at timestep {}, expected 1 to {last}", request.first);
        return Err(Error::new(ErrorKind::Setting, message));
    }
    if request.sampler == Sampler::Direct && request.steps != 1 {
        return Err(Error::new(
            ErrorKind::Setting,
            format!("the sampler `direct` takes 1 step, not {}", request.steps),
        ));
    }
    if request.sampler == Sampler::Ddpm && request.noise_keys.len() != shape[0] {
        let (found, expected) = (request.noise_keys.len(), shape[0]);
        return Err(Error::new(
            ErrorKind::Setting,
            format!("the sampler `ddpm` got {found} noise keys, expected one for each of {expected} samples"),
        ));
    }
    Ok(())
}

fn check_output(output: &Tensor, z_t: &Tensor, t: usize) -> Result<()> {
    if output.shape() == z_t.shape() {
        return Ok(());
    }
    let (found, expected) = (output.shape(), z_t.shape());
    Err(Error::new(
        ErrorKind::ShapeMismatch,
        format!("the denoiser's output at timestep {t} has shape {found:?}, expected {expected:?}"),
    ))
}

/// What the sampler, and in the end the decoder, takes for the clean latent.
fn estimate_clean(request: &SampleRequest, z_t: &Tensor, output: &Tensor, a_t: f64) -> Tensor {
    let mut z_0 = match request.sampler {
        Sampler::Direct => request.prediction.decoder_input(z_t, output, a_t),
        _ => request.prediction.z_0(z_t, output, a_t),
    };
    if request.standardisation == LatentStandardisation::Clean {
        standardise_per_sample(&mut z_0);
    }
    z_0
}

/// What is known when the latent moves from `a_t` to `a_s`.
struct Point<'a> {
    z_t: &'a Tensor,
    z_0: &'a Tensor,
    output: &'a Tensor,
    a_t: f64,
    a_s: f64,
}

/// `z_s` after the `step`-th denoiser call; `previous` holds the clean estimate and alpha bar of the call before.
fn transition(request: &SampleRequest, point: &Point, previous: Option<&(Tensor, f64)>, step: u64) -> Tensor {
    let &Point { z_t, z_0, output, a_t, a_s } = point;
    let eps = || match request.standardisation {
        LatentStandardisation::Clean => Prediction::X0.eps(z_t, z_0, a_t),
        _ => request.prediction.eps(z_t, output, a_t),
    };
    match request.sampler {
        // `direct` visits one timestep and so has no transition.
        Sampler::Direct | Sampler::Ddim => ddim_step(z_0, &eps(), a_s),
        Sampler::Ddpm => {
            let noise = batch_noise(request.noise_keys, step, z_t.shape());
            ddpm_step(z_0, &eps(), &noise, a_t, a_s)
        }
        Sampler::DpmPlusPlus => match previous {
            None => dpm_step(z_t, z_0, a_t, a_s),
            Some((z_0_previous, a_previous)) => {
                let d = dpm_extrapolate(z_0, z_0_previous, *a_previous, a_t, a_s);
                dpm_step(z_t, &d, a_t, a_s)
            }
        },
    }
}

/// Each sample's own noise for one step, so that it does not depend on the batch.
fn batch_noise(keys: &[NoiseKey], step: u64, shape: &[usize]) -> Tensor {
    let mut noise = Tensor::zeros(shape);
    for (mut sample, &key) in noise.axis_iter_mut(Axis(0)).zip(keys) {
        sample.assign(&normal_latent(NoiseKey { step, ..key }, &shape[1..]));
    }
    noise
}

#[cfg(test)]
mod tests;
