//! Validation with the real sampler, never with the true latent.

use std::thread;

use burn::module::Module;
use burn::tensor::Device;
use ldseg::Result;
use ldseg::bundle::Manifest;
use ldseg::diffusion::{NoiseKey, normal_latent};
use ldseg::image::Labels;
use ldseg::metrics::{dice_per_class, nanmean};
use ldseg::preprocess::normalise;
use ldseg::segmenter::{SegmentOptions, Segmenter, argmax};
use ndarray::Axis;

use crate::data::{Dataset, Sample};
use crate::engine;
use crate::model::Networks;

/// Mean Dice over all cases for every class but background, on the network's grid. A class in neither prediction nor
/// reference of any case is NaN.
///
/// # Errors
/// Those of the segmenter.
pub fn dice<const D: usize>(
    networks: &Networks<D>,
    manifest: &Manifest,
    dataset: &Dataset,
    device: &Device,
    workers: usize,
) -> Result<Vec<f64>> {
    let chunk = dataset.samples.len().div_ceil(workers.max(1)).max(1);
    let scored: Vec<Result<Vec<Vec<f64>>>> = thread::scope(|scope| {
        let running: Vec<_> = dataset
            .samples
            .chunks(chunk)
            .map(|samples| {
                let networks = networks.valid();
                scope.spawn(move || {
                    let mut segmenter = engine::segmenter(&networks, manifest.clone(), device)?;
                    samples.iter().map(|sample| score(&mut segmenter, sample)).collect()
                })
            })
            .collect();
        running
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut cases = Vec::new();
    for chunk in scored {
        cases.extend(chunk?);
    }
    let of_class = |class: usize| nanmean(&cases.iter().map(|dice| dice[class]).collect::<Vec<_>>());
    Ok((1..manifest.classes.len()).map(of_class).collect())
}

fn score(segmenter: &mut Segmenter, sample: &Sample) -> Result<Vec<f64>> {
    let predicted = segment(segmenter, sample)?;
    Ok(dice_per_class(&predicted, &sample.labels, segmenter.manifest().classes.len()))
}

fn segment(segmenter: &mut Segmenter, sample: &Sample) -> Result<Labels> {
    let manifest = segmenter.manifest();
    let options = SegmentOptions::defaults(manifest);
    let mut image = sample.image.clone();
    normalise(&mut image, manifest.normalisation);
    let noise = normal_latent(NoiseKey { seed: 0, sample: 0, frame: 0, step: 0 }, &manifest.latent_shape);
    let (input, noise) = (image.insert_axis(Axis(0)), noise.insert_axis(Axis(0)));
    let probabilities = segmenter.run_latent(&input, noise, &options, &mut |_, _| {})?;
    Ok(argmax(&probabilities.index_axis(Axis(0), 0).to_owned()))
}
