//! The one loss that all four networks are trained under.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use ldseg::Result;
use ldseg::diffusion::{LatentStandardisation, Prediction, Schedule, noise_coefficients};

use super::loader::Batch;
use crate::cpu::{self, SMOOTHING};
use crate::engine::to_device;
use crate::model::Networks;
use crate::model::layers::standardise;
use crate::recipe::{Diffusion, LossWeights};

/// The loss and its terms, each a single number.
pub(crate) struct Losses {
    /// The weighted sum.
    pub total: Tensor<1>,
    /// Cross-entropy, 1 - soft Dice, and the mean squared error of the prediction, unweighted.
    pub terms: [Tensor<1>; 3],
}

/// One number per sample, shaped to multiply a batch of latents.
fn per_sample<const D: usize>(values: impl Iterator<Item = f64>, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    let mut shape = [1; D];
    shape[0] = values.len();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Loss = w_ce CE(y, yhat) + w_dice (1 - Dice(y, yhat)) + w_eps MSE(target, prediction), as in the paper, with weights.
///
/// The label encoder's z_l0 (or the denoiser's own estimate of it) is noised to a timestep of its own per sample, the
/// denoiser's output is turned into what the decoder sees (the estimate of z_l0, or z_t - eps_hat for `reference`) and
/// decoded. A part of the clean latents is decoded as well, see [`LossWeights::autoencoder`].
///
/// # Errors
/// [`ldseg::ErrorKind::ShapeMismatch`] where the batch has another rank than the networks.
pub(crate) fn losses<const D: usize>(
    networks: &Networks<D>,
    batch: &Batch,
    schedule: &Schedule,
    diffusion: &Diffusion,
    weights: &LossWeights,
    device: &Device,
) -> Result<Losses> {
    let z_0 = networks.label_encoder.forward(to_device(&batch.labels, device)?);
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
    let diffusion_term = (error.clone() * error).mean();

    let mut estimate = mix(&|a_t| diffusion.prediction.decoder_coefficients(a_t), &z_t, &output);
    if diffusion.latent_standardisation == LatentStandardisation::Clean {
        estimate = standardise(estimate, 1e-10);
    }
    let one_hot = to_device::<D>(&batch.one_hot, device)?;
    let samples = batch.timesteps.len();
    let clean = ((samples as f64 * weights.autoencoder).round() as usize).min(samples);
    let (latents, targets) = if clean == 0 {
        (estimate, one_hot)
    } else {
        (
            Tensor::cat(vec![estimate, z_0.narrow(0, 0, clean)], 0),
            Tensor::cat(vec![one_hot.clone(), one_hot.narrow(0, 0, clean)], 0),
        )
    };
    let logits = networks.label_decoder.logits(latents);
    let [cross_entropy, dice] = match cpu::segmentation_losses(&logits, &targets) {
        Some(losses) => [losses.clone().narrow(0, 0, 1), losses.narrow(0, 1, 1)],
        None => segmentation_losses(logits, targets),
    };
    let total = cross_entropy.clone() * weights.cross_entropy
        + dice.clone() * weights.dice
        + diffusion_term.clone() * weights.diffusion;
    Ok(Losses { total, terms: [cross_entropy.detach(), dice.detach(), diffusion_term.detach()] })
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
