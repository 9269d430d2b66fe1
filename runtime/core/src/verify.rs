//! Replays a bundle's reference tensors: does this machine's engine compute what the trainer computed?

use ndarray::{Axis, Slice, concatenate};
use serde::Serialize;

use crate::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER, LABEL_ENCODER, Tolerances};
use crate::engine::EngineOptions;
use crate::segmenter::{SegmentOptions, Segmenter, argmax};
use crate::{Error, ErrorKind, Result, Tensor};

/// One comparison with the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// A network's name, `probabilities` or `labels`.
    pub name: &'static str,
    /// What is compared, e.g. `max |difference| / std`.
    pub measure: &'static str,
    /// Its value.
    pub value: f64,
    /// What the value may be: at most this, for `labels` at least.
    pub tolerance: f64,
    /// Whether it is within the tolerance.
    pub passed: bool,
}

/// The outcome for one bundle, engine and device.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// The bundle's name.
    pub bundle: String,
    /// The engine, e.g. `tract`.
    pub engine: String,
    /// The device, e.g. `cpu`.
    pub device: String,
    /// The four networks, then the whole loop's probabilities and labels, then denoiser and label decoder in a batch of two.
    pub checks: Vec<Check>,
    /// Whether all checks passed.
    pub passed: bool,
}

/// Runs every network, and the whole loop, on the golden inputs.
///
/// # Errors
/// Where the bundle's golden tensors are malformed, or a network cannot be loaded or run. A difference out of
/// tolerance is not an error but a failed [`Check`].
pub fn verify(bundle: &Bundle, options: &EngineOptions) -> Result<Verification> {
    let golden = bundle.golden()?;
    let manifest = bundle.manifest();
    let mut segmenter = Segmenter::from_bundle(bundle, options)?;
    let mut label_encoder = bundle.load_network(LABEL_ENCODER, options)?;

    let z_i = segmenter.encode_image(&golden.image)?;
    let prediction = segmenter.denoise(&golden.noise, &golden.z_i, manifest.timesteps - 1)?;
    let decoded = segmenter.decode(&golden.z_l0)?;
    let z_l0 = label_encoder.run(&[&golden.labels_in])?.swap_remove(0);
    let defaults = SegmentOptions::defaults(manifest);
    let probabilities = segmenter.run_latent(&golden.image, golden.noise.clone(), &defaults, &mut |_, _| {})?;

    let allowed = manifest.tolerances.unwrap_or_default();
    let mut checks = vec![
        compare_network(IMAGE_ENCODER, &z_i, &golden.z_i, allowed),
        compare_network(DENOISER, &prediction, &golden.prediction, allowed),
        compare_network(LABEL_DECODER, &decoded, &golden.decoded, allowed),
        compare_network(LABEL_ENCODER, &z_l0, &golden.z_l0, allowed),
        compare_probabilities(&probabilities, &golden.probabilities, allowed),
        compare_labels(&probabilities, &golden.labels, allowed),
    ];
    if segmenter.max_batch() > 1 {
        // One that mixes its samples gives the golden tensors as long as it is given one sample.
        let pair =
            |first: &Tensor, second: &Tensor| concatenate(Axis(0), &[first.view(), second.view()]).map_err(shapes);
        let (noise, z_i) =
            (pair(&golden.noise, &golden.z_l0)?, pair(&golden.z_i, &golden.z_i.mapv(|value| 0.5 * value))?);
        let predictions = segmenter.denoise(&noise, &z_i, manifest.timesteps - 1)?;
        checks.push(compare_batch(DENOISER, &predictions, &prediction, allowed));
        let both = segmenter.decode(&pair(&golden.z_l0, &golden.noise)?)?;
        checks.push(compare_batch(LABEL_DECODER, &both, &decoded, allowed));
    }
    Ok(Verification {
        bundle: manifest.name.clone(),
        engine: options.engine.to_string(),
        device: options.device.to_string(),
        passed: checks.iter().all(|check| check.passed),
        checks,
    })
}

fn compare_network(name: &'static str, output: &Tensor, reference: &Tensor, allowed: Tolerances) -> Check {
    let std = reference.mapv(f64::from).std(0.0);
    let difference = max_difference(output, reference);
    // A constant reference has no scale of its own.
    let value = if std == 0.0 { difference } else { difference / std };
    at_most(name, "max |difference| / std", value, allowed.network)
}

/// The first sample of a batch against the same sample alone.
fn compare_batch(name: &'static str, batch: &Tensor, alone: &Tensor, allowed: Tolerances) -> Check {
    let first = batch.slice_axis(Axis(0), Slice::from(0..1)).to_owned();
    Check { measure: "|difference| in a batch", ..compare_network(name, &first, alone, allowed) }
}

fn shapes(e: ndarray::ShapeError) -> Error {
    Error::with_source(ErrorKind::ShapeMismatch, "the golden tensors have different shapes", e)
}

fn compare_probabilities(output: &Tensor, reference: &Tensor, allowed: Tolerances) -> Check {
    at_most("probabilities", "max |difference|", max_difference(output, reference), allowed.probability)
}

fn compare_labels(probabilities: &Tensor, reference: &Tensor, allowed: Tolerances) -> Check {
    let labels = argmax(&probabilities.index_axis(Axis(0), 0).to_owned());
    let comparable = labels.len() == reference.len() && probabilities.iter().all(|value| value.is_finite());
    let equal = labels.iter().zip(reference).filter(|&(&label, &reference)| f32::from(label) == reference).count();
    // Where a probability is no number, the greatest of them says nothing.
    let value = if comparable { equal as f64 / labels.len() as f64 } else { f64::NAN };
    let passed = value >= allowed.label_agreement;
    Check { name: "labels", measure: "part equal", value, tolerance: allowed.label_agreement, passed }
}

fn at_most(name: &'static str, measure: &'static str, value: f64, tolerance: f64) -> Check {
    Check { name, measure, value, tolerance, passed: value <= tolerance }
}

/// NaN where any difference is NaN, which the greatest of numbers alone would hide, or where the shapes differ.
fn max_difference(output: &Tensor, reference: &Tensor) -> f64 {
    if output.shape() != reference.shape() {
        return f64::NAN;
    }
    let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    let greater = |most: f64, next: f64| if most.is_nan() || next <= most { most } else { next };
    output.iter().zip(reference).map(difference).fold(0.0, greater)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances_are_relative_to_the_reference() {
        let reference = Tensor::from_shape_fn(vec![1, 1, 2, 3], |i| (i[2] * 3 + i[3]) as f32 - 1.5);
        let std = f64::from(reference.std(0.0));
        let near = reference.mapv(|x| x + 0.9e-4 * std as f32);
        let far = reference.mapv(|x| x - 1.2e-4 * std as f32);
        let exact = Tolerances::default();
        assert!(compare_network(DENOISER, &near, &reference, exact).passed);
        assert!(!compare_network(DENOISER, &far, &reference, exact).passed);
        assert!(compare_network(DENOISER, &far, &reference, Tolerances { network: 2e-4, ..exact }).passed);
        assert!(!compare_network(DENOISER, &reference.mapv(|_| f32::INFINITY), &reference, exact).passed);
    }

    #[test]
    fn a_network_that_mixes_its_batch_fails() {
        let exact = Tolerances::default();
        let alone = Tensor::from_shape_fn(vec![1, 1, 2, 3], |i| (i[2] * 3 + i[3]) as f32);
        let other = alone.mapv(|x| 1.0 - x);
        let kept = concatenate(Axis(0), &[alone.view(), other.view()]).unwrap();
        let swapped = concatenate(Axis(0), &[other.view(), alone.view()]).unwrap();
        let mean = concatenate(Axis(0), &[((&alone + &other) / 2.0).view(), alone.view()]).unwrap();
        assert!(compare_batch(LABEL_DECODER, &kept, &alone, exact).passed);
        assert!(!compare_batch(LABEL_DECODER, &swapped, &alone, exact).passed);
        assert!(!compare_batch(LABEL_DECODER, &mean, &alone, exact).passed);
    }

    #[test]
    fn one_nan_anywhere_fails() {
        let generous = Tolerances { network: 4.0, probability: 1.0, label_agreement: 0.9 };
        let whole = Tensor::from_shape_fn(vec![1, 2, 2, 3], |i| (i[2] * 3 + i[3]) as f32 / 10.0);
        let labels = Tensor::from_elem(vec![1, 2, 3], 0.0);
        assert!(compare_labels(&whole, &labels, generous).passed);
        for at in 0..whole.len() {
            let mut spoilt = whole.clone();
            spoilt.as_slice_mut().unwrap()[at] = f32::NAN;
            for (output, reference) in [(&spoilt, &whole), (&whole, &spoilt), (&spoilt, &spoilt)] {
                let network = compare_network(DENOISER, output, reference, generous);
                let probabilities = compare_probabilities(output, reference, generous);
                assert!(!network.passed && network.value.is_nan(), "{at}");
                assert!(!probabilities.passed && probabilities.value.is_nan(), "{at}");
            }
            assert!(!compare_labels(&spoilt, &labels, generous).passed, "{at}");
        }
        let other = Tensor::zeros(vec![1, 2, 2, 2]);
        assert!(!compare_probabilities(&other, &whole, generous).passed);
    }
}
