//! The one loss that all four networks are trained under.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ldseg::Result;
use ldseg::diffusion::{LatentStandardisation, Prediction, Schedule, noise_coefficients};

use super::loader::Batch;
use crate::cpu::{self, SMOOTHING};
use crate::engine::to_device;
use crate::model::Networks;
use crate::model::layers::{one_hot, standardise};
use crate::recipe::{Diffusion, LossWeights};

/// Number of terms that [`losses`] reports: the loss, cross-entropy, 1 - soft Dice, and the mean squared error.
pub(crate) const TERMS: usize = 4;

/// The loss of a batch, or what one part of it adds.
pub(crate) struct Losses {
    /// The weighted sum.
    pub total: Tensor<1>,
    /// `[TERMS]`, outside the graph: the loss, then cross-entropy, 1 - soft Dice and the mean squared error of the
    /// prediction, unweighted.
    pub terms: Tensor<1>,
}

/// How much of a batch a part is: terms are means over the batch, and a part adds its share of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// Samples of the batch.
    samples: usize,
    /// Latents of the batch that are decoded.
    decoded: usize,
}

impl Shares {
    /// Those of a whole batch.
    pub(crate) fn of(batch: &Batch, diffusion: &Diffusion, schedule: &Schedule) -> Self {
        Self { samples: batch.timesteps.len(), decoded: decoded(batch, diffusion, schedule).iter().map(Vec::len).sum() }
    }
}

/// The samples whose estimate, and those whose clean latent, is decoded.
fn decoded(batch: &Batch, diffusion: &Diffusion, schedule: &Schedule) -> [Vec<usize>; 2] {
    let estimates = batch.timesteps.iter().map(|t| diffusion.decodes(*t, schedule));
    let which = |flags: Vec<bool>| flags.iter().enumerate().filter(|(_, yes)| **yes).map(|(index, _)| index).collect();
    [which(estimates.collect()), which(batch.clean.clone())]
}

/// One number per sample, shaped to multiply a batch of latents.
fn per_sample<const D: usize>(values: impl Iterator<Item = f64>, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    let mut shape = [1; D];
    shape[0] = values.len();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The samples of a batch with these indices; all of them without a copy.
fn samples_of<const D: usize>(x: Tensor<D>, indices: &[usize], device: &Device) -> Tensor<D> {
    if indices.len() == x.dims()[0] {
        return x;
    }
    let of_batch: Vec<i32> = indices.iter().map(|index| *index as i32).collect();
    let count = of_batch.len();
    x.select(0, Tensor::<1, Int>::from_data(TensorData::new(of_batch, [count]), device))
}

/// Loss = w_ce CE(y, yhat) + w_dice (1 - Dice(y, yhat)) + w_eps MSE(target, prediction), as in the paper, with weights.
///
/// The label encoder's z_l0 (or the denoiser's own estimate of it) is noised to a timestep of its own per sample, the
/// denoiser's output is turned into what the decoder sees (the estimate of z_l0, or z_t - eps_hat for `reference`) and,
/// where [`Diffusion::decoded`] says so, decoded. A part of the clean latents is decoded as well, see
/// [`LossWeights::autoencoder`].
///
/// # Errors
/// [`ldseg::ErrorKind::ShapeMismatch`] where the batch has another rank than the networks.
pub(crate) fn losses<const D: usize>(
    networks: &Networks<D>,
    batch: &Batch,
    shares: Shares,
    schedule: &Schedule,
    diffusion: &Diffusion,
    weights: &LossWeights,
    device: &Device,
) -> Result<Losses> {
    let labels = to_device::<D>(&batch.labels, device)?;
    let z_0 = networks.label_encoder.forward(labels.clone());
    let z_i = networks.image_encoder.forward(to_device(&batch.image, device)?);
    let eps = to_device::<D>(&batch.eps, device)?;
    let a_t = || batch.timesteps.iter().map(|t| schedule.alpha_bar(*t));
    let mix = |coefficients: &dyn Fn(f64) -> (f64, f64), a: &Tensor<D>, b: &Tensor<D>| {
        let first = per_sample(a_t().map(|a_t| coefficients(a_t).0), device);
        let second = per_sample(a_t().map(|a_t| coefficients(a_t).1), device);
        a.clone() * first + b.clone() * second
    };

    let t = |timesteps: &mut dyn Iterator<Item = usize>| {
        let t: Vec<f32> = timesteps.map(|t| t as f32).collect();
        let samples = t.len();
        Tensor::<1>::from_data(TensorData::new(t, [samples]), device)
    };
    let mut start = z_0.clone();
    if diffusion.prediction != Prediction::Reference && batch.own_estimate.contains(&true) {
        // The very step that a sampler takes first, with the noise that z_t holds too, as in DDIM. Outside the graph.
        let last = diffusion.timesteps - 1;
        let (noise, of_image) = (eps.clone().inner(), z_i.clone().inner());
        let ts = t(&mut batch.timesteps.iter().map(|_| last)).inner();
        let output = networks.denoiser.valid().forward(noise.clone(), of_image, ts);
        let (of_noise, of_output) = diffusion.prediction.decoder_coefficients(schedule.alpha_bar(last));
        let estimate = (noise * of_noise + output * of_output).autodiff();
        let own = |yes: f64, no: f64| {
            per_sample(batch.own_estimate.iter().map(move |own| if *own { yes } else { no }), device)
        };
        start = start * own(0.0, 1.0) + estimate * own(1.0, 0.0);
    }
    let z_t = mix(&noise_coefficients, &start, &eps);
    let t = t(&mut batch.timesteps.iter().copied());
    let output = networks.denoiser.forward(z_t.clone(), z_i, t);
    // The label encoder must not learn latents that are easy to predict instead of easy to decode.
    let target = mix(&|a_t| diffusion.prediction.target_coefficients(a_t), &z_0.clone().detach(), &eps);
    let error = output.clone() - target;
    let share = batch.timesteps.len() as f64 / shares.samples as f64;
    let diffusion_term = (error.clone() * error).mean() * share;

    let [estimates, clean] = decoded(batch, diffusion, schedule);
    let share = (estimates.len() + clean.len()) as f64 / shares.decoded.max(1) as f64;
    let [cross_entropy, dice] = if share == 0.0 {
        [(); 2].map(|()| Tensor::zeros([1], device))
    } else {
        let of = |x: &Tensor<D>, indices: &[usize]| samples_of(x.clone(), indices, device);
        let mut latents = Vec::new();
        let mut targets = Vec::new();
        if !estimates.is_empty() {
            let mut estimate = mix(&|a_t| diffusion.prediction.decoder_coefficients(a_t), &z_t, &output);
            if diffusion.latent_standardisation == LatentStandardisation::Clean {
                estimate = standardise(estimate, 1e-10);
            }
            latents.push(of(&estimate, &estimates));
            targets.push(of(&labels, &estimates));
        }
        if !clean.is_empty() {
            latents.push(of(&z_0, &clean));
            targets.push(of(&labels, &clean));
        }
        let logits = networks.label_decoder.logits(Tensor::cat(latents, 0));
        let targets = one_hot(Tensor::cat(targets, 0), logits.dims()[1]);
        let [cross_entropy, dice] = match cpu::segmentation_losses(&logits, &targets) {
            Some(losses) => [losses.clone().narrow(0, 0, 1), losses.narrow(0, 1, 1)],
            None => segmentation_losses(logits, targets),
        };
        [cross_entropy * share, dice * share]
    };
    let total = cross_entropy.clone() * weights.cross_entropy
        + dice.clone() * weights.dice
        + diffusion_term.clone() * weights.diffusion;
    let terms = [total.clone(), cross_entropy, dice, diffusion_term].map(Tensor::inner).to_vec();
    Ok(Losses { total, terms: Tensor::cat(terms, 0) })
}

/// Cross-entropy and 1 - soft Dice (Milletari et al. 2016, with plain sums in the denominator), averaged over samples
/// and classes. Both tensors are `[N, K, ...]`.
pub(crate) fn segmentation_losses<const D: usize>(logits: Tensor<D>, one_hot: Tensor<D>) -> [Tensor<1>; 2] {
    let dims = logits.dims();
    let flat = [dims[0], dims[1], dims[2..].iter().product()];
    let (logits, one_hot) = (logits.reshape(flat), one_hot.reshape(flat));
    let log_p = log_softmax(logits, 1);
    let p = log_p.clone().exp();
    let cross_entropy = (log_p * one_hot.clone()).sum().mul_scalar(-1.0 / (flat[0] * flat[2]) as f64);
    let overlap = (p.clone() * one_hot.clone()).sum_dim(2);
    let volume = p.sum_dim(2) + one_hot.sum_dim(2);
    let dice = (overlap * 2.0 + SMOOTHING) / (volume + SMOOTHING);
    [cross_entropy, dice.mean().mul_scalar(-1.0).add_scalar(1.0)]
}
