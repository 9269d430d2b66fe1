//! Validation with the real sampler, never with the true latent; beside it the autoencoder alone.

use std::thread;

use burn::module::Module;
use burn::tensor::Device;
use ldseg::Result;
use ldseg::bundle::Manifest;
use ldseg::image::Labels;
use ldseg::metrics::{dice_per_class, nanmean};
use ldseg::preprocess::normalise;
use ldseg::segmenter::{SegmentOptions, Segmenter, argmax};
use ldseg::windows::Windows;
use ndarray::Axis;

use crate::data::{Dataset, Sample};
use crate::engine;
use crate::model::Networks;

/// Mean Dice over all cases for every class but background, on the grid that the network sees, whole or in windows. A class in neither prediction nor
/// reference of any case is NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scores {
    /// Of the segmentation, with the real sampler.
    pub segmentation: Vec<f64>,
    /// Of the labels that the label encoder and decoder alone make of the reference: what bounds the segmentation.
    pub autoencoder: Vec<f64>,
}

/// Scores `networks` on `dataset`, with as many threads as `workers`.
///
/// # Errors
/// Those of the segmenter.
pub(crate) fn validate<const D: usize>(
    networks: &Networks<D>,
    manifest: &Manifest,
    dataset: &Dataset,
    device: &Device,
    workers: usize,
) -> Result<Scores> {
    let chunk = dataset.samples.len().div_ceil(workers.max(1)).max(1);
    let scored: Vec<Result<Vec<[Vec<f64>; 2]>>> = thread::scope(|scope| {
        let running: Vec<_> = dataset
            .samples
            .chunks(chunk)
            .map(|samples| {
                let networks = networks.valid();
                scope.spawn(move || {
                    let mut segmenter = engine::segmenter(&networks, manifest.clone(), device)?;
                    let classes = manifest.classes.len();
                    let score = |sample: &Sample| {
                        let segmented = segment(&mut segmenter, sample)?;
                        let decoded = round_trip(&networks, &manifest.input_size, sample, device)?;
                        Ok([segmented, decoded].map(|found| dice_per_class(&found, &sample.labels, classes)))
                    };
                    samples.iter().map(score).collect()
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
    let mean = |kind: usize| {
        let of_class = |class: usize| nanmean(&cases.iter().map(|case| case[kind][class]).collect::<Vec<_>>());
        (1..manifest.classes.len()).map(of_class).collect()
    };
    Ok(Scores { segmentation: mean(0), autoencoder: mean(1) })
}

/// In windows of `size`, as images are segmented.
fn round_trip<const D: usize>(
    networks: &Networks<D>,
    size: &[usize],
    sample: &Sample,
    device: &Device,
) -> Result<Labels> {
    let windows = Windows::new(sample.labels.shape(), size);
    let labels = sample.labels.view().insert_axis(Axis(0));
    let logits = windows.blend(&mut |index| {
        let window = windows.cut(labels.view(), index, &[0]).mapv(f32::from).insert_axis(Axis(0));
        let z_0 = networks.label_encoder.forward(engine::to_device::<D>(&window, device)?);
        Ok(engine::to_array(networks.label_decoder.logits(z_0))?.index_axis_move(Axis(0), 0))
    })?;
    Ok(argmax(&logits))
}

fn segment(segmenter: &mut Segmenter, sample: &Sample) -> Result<Labels> {
    let manifest = segmenter.manifest();
    let options = SegmentOptions::defaults(manifest);
    let mut image = sample.image.clone();
    normalise(&mut image, manifest.normalisation);
    Ok(argmax(&segmenter.segment_grid(&image, &options)?))
}
