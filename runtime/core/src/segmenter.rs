//! From an image to its segmentation: encode the image, refine noise for a few steps, decode.

use std::{
    borrow::Cow,
    path::Path,
    time::{Duration, Instant},
};

use ndarray::{Axis, Zip, concatenate};

use crate::budget::Budget;
use crate::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER, Manifest};
use crate::calibration::{Pooled, statistics, temper};
use crate::diffusion::{NoiseKey, SampleRequest, Sampler, Schedule, sample};
use crate::engine::{EngineOptions, Network};
use crate::image::{Image, Labels, Region, Turn};
use crate::preprocess::{image_to_input, probabilities_to_grid};
use crate::uncertainty::{entropy, expected_dice};
use crate::{Error, ErrorKind, Result, Tensor};

mod windowed;

use windowed::Blended;

/// What rounding may do to a probability, or to the sum of 256 of them as halves.
const PROBABILITY_ERROR: f32 = 1e-3;
/// Voxels that pass the decoder as one batch, as its feature maps at full size dominate the memory.
const MAX_DECODER_VOXELS: usize = 1 << 18;
/// Steps of a sampler that is not the bundle's default, where that is `direct` and says nothing about steps.
const FALLBACK_STEPS: usize = 10;

/// What to do with one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentOptions {
    /// The sampler.
    pub sampler: Sampler,
    /// Denoiser calls, 1 to T-1; exactly 1 for [`Sampler::Direct`].
    pub steps: usize,
    /// Samples whose probabilities are averaged, 1 to [`Self::MAX_SAMPLES`].
    pub samples: usize,
    /// Seed of all noise.
    pub seed: u64,
    /// Index of the frame of a cine, 0 for a still: every frame has noise of its own.
    pub frame: u64,
    /// Whether [`Segmentation::samples`] is filled.
    pub keep_samples: bool,
}

/// A latent to start from in place of pure noise, such as that of the frame before.
#[derive(Debug, Clone, Copy)]
pub struct WarmStart<'a> {
    /// Clean latents `[samples, C, ...]`, or one window's samples after the other's, as in [`Segmentation::latents`].
    pub latents: &'a Tensor,
    /// The timestep up to which they are noised anew, and from which they are refined: `steps` to T-1.
    pub timestep: usize,
}

/// A segmented image, in the image's own grid.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Segmentation {
    /// `[H, W]` or `[D, H, W]`: the index of the most probable class; of equals, the lowest.
    pub labels: Labels,
    /// `[K, H, W]` or `[K, D, H, W]`, in [0, 1]: the class probabilities, averaged over the samples, at the temperature of
    /// the bundle's calibration.
    pub probabilities: Tensor,
    /// `[H, W]` or `[D, H, W]`, in [0, 1]: the entropy of the averaged probabilities over its maximum, ln K.
    pub uncertainty: Tensor,
    /// Each sample's own label map, where it was asked for.
    pub samples: Vec<Labels>,
    /// `[samples, C, ...]`: the refined latents that were decoded; of an image in several windows one window's samples
    /// after the other's.
    pub latents: Tensor,
    /// What tells the image's kind: [`crate::calibration::statistics`].
    pub statistics: Vec<f64>,
    /// Denoiser calls.
    pub steps: usize,
    /// Where the time went.
    pub timings: Timings,
}

impl Segmentation {
    /// This segmentation of a part as one of the whole picture of `size` (H, W): all else is background, for certain.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the segmentation has another size than `part`, or the picture is smaller.
    pub fn within(self, part: Region, size: [usize; 2]) -> Result<Self> {
        let mut probabilities = part.paste(&self.probabilities, size, 0.0)?;
        // Of one class the background is sure where the part isn't.
        let sure = part.paste(&Tensor::zeros(self.uncertainty.raw_dim()), size, 1.0)?;
        Zip::from(probabilities.index_axis_mut(Axis(0), 0)).and(&sure).for_each(|p, &outside| *p += outside);
        let samples = self.samples.iter().map(|labels| part.paste(labels, size, 0)).collect::<Result<_>>()?;
        Ok(Self {
            labels: part.paste(&self.labels, size, 0)?,
            uncertainty: part.paste(&self.uncertainty, size, 0.0)?,
            probabilities,
            samples,
            ..self
        })
    }
}

/// Wall-clock time of each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Normalising and resampling the image.
    pub preprocess: Duration,
    /// The image encoder, all windows.
    pub image_encoder: Duration,
    /// The sampler loop, all denoiser calls.
    pub denoiser: Duration,
    /// The label decoder, all samples.
    pub label_decoder: Duration,
    /// Resampling the probabilities, labels and uncertainty.
    pub postprocess: Duration,
}

/// Sees the latents `[n, C, ...]` of a group of samples after each step, counted from 1.
pub type Observer<'a> = dyn FnMut(usize, &Tensor) + 'a;

/// A bundle's networks, ready to segment.
pub struct Segmenter {
    manifest: Manifest,
    schedule: Schedule,
    image_encoder: Box<dyn Network>,
    denoiser: Box<dyn Network>,
    label_decoder: Box<dyn Network>,
    budget: Option<Budget>,
}

impl SegmentOptions {
    /// More samples than this are a mistake.
    pub const MAX_SAMPLES: usize = 1000;

    /// Of how many samples the probabilities and labels are kept.
    pub fn kept_samples(&self) -> usize {
        if self.keep_samples { self.samples } else { 0 }
    }

    /// The bundle's default sampler and steps, one sample, seed 0, frame 0.
    pub fn defaults(manifest: &Manifest) -> Self {
        let (sampler, steps) = (manifest.default_sampler, manifest.default_steps);
        Self { sampler, steps, samples: 1, seed: 0, frame: 0, keep_samples: false }
    }

    /// What was asked for, completed with the bundle's defaults: one sample, seed 0, frame 0.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub fn completed(manifest: &Manifest, sampler: Option<Sampler>, steps: Option<usize>) -> Result<Self> {
        let sampler = sampler.unwrap_or(manifest.default_sampler);
        let default_steps = match (sampler, manifest.default_sampler) {
            (Sampler::Direct, _) => 1,
            (_, Sampler::Direct) => FALLBACK_STEPS.min(manifest.timesteps - 1),
            _ => manifest.default_steps,
        };
        let options = Self { sampler, steps: steps.unwrap_or(default_steps), ..Self::defaults(manifest) };
        options.check(manifest.timesteps)?;
        Ok(options)
    }

    /// Checks the ranges for a model with `timesteps` timesteps.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`].
    pub fn check(&self, timesteps: usize) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
        if self.sampler == Sampler::Direct && self.steps != 1 {
            return fail(format!("sampler direct takes exactly 1 step, found {}", self.steps));
        }
        // The sampler visits each timestep once and never t = 0.
        if !(1..timesteps).contains(&self.steps) {
            return fail(format!("steps is {}, expected 1 to {}", self.steps, timesteps.saturating_sub(1)));
        }
        if !(1..=Self::MAX_SAMPLES).contains(&self.samples) {
            return fail(format!("samples is {}, expected 1 to {}", self.samples, Self::MAX_SAMPLES));
        }
        Ok(())
    }
}

impl Segmenter {
    /// Loads the bundle in `bundle_dir` and its image encoder, denoiser and label decoder.
    ///
    /// # Errors
    /// Those of [`Bundle::load`] and [`Bundle::load_network`].
    pub fn load(bundle_dir: &Path, options: &EngineOptions) -> Result<Self> {
        Self::from_bundle(&Bundle::load(bundle_dir)?, options)
    }

    /// Loads the networks of a bundle that was read before.
    ///
    /// # Errors
    /// Those of [`Bundle::load_network`].
    pub fn from_bundle(bundle: &Bundle, options: &EngineOptions) -> Result<Self> {
        let load = |name: &str| bundle.load_network(name, options);
        Self::from_networks(bundle.manifest().clone(), load(IMAGE_ENCODER)?, load(DENOISER)?, load(LABEL_DECODER)?)
    }

    /// Takes any networks that keep to the bundle's contract: another engine's, or a test's.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where the manifest's schedule cannot be built.
    pub fn from_networks(
        manifest: Manifest,
        image_encoder: Box<dyn Network>,
        denoiser: Box<dyn Network>,
        label_decoder: Box<dyn Network>,
    ) -> Result<Self> {
        let schedule = manifest.noise_schedule()?;
        Ok(Self { manifest, schedule, image_encoder, denoiser, label_decoder, budget: None })
    }

    /// The same, for images that nobody vouches for: one that asks for more than the budget is refused. Without it, whoever has
    /// an image in memory gets it segmented.
    pub fn within(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Segments one image with seeded noise: the same image, options and engine give the same answer, bit by bit. A volume
    /// with a place in space is turned to the manifest's orientation before the networks see it, and its segmentation
    /// back.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] for an image with other axes or channels than the model's;
    /// [`ErrorKind::Setting`] for options out of range; [`ErrorKind::Engine`] where a network fails.
    pub fn segment(&mut self, image: &Image, options: &SegmentOptions) -> Result<Segmentation> {
        self.segment_from(image, options, None)
    }

    /// As [`Self::segment`], from other latents than pure noise.
    ///
    /// # Errors
    /// As [`Self::segment`]; [`ErrorKind::ShapeMismatch`] for latents of another shape and [`ErrorKind::Setting`] for a
    /// timestep out of range.
    pub fn segment_from(
        &mut self,
        image: &Image,
        options: &SegmentOptions,
        warm_start: Option<WarmStart<'_>>,
    ) -> Result<Segmentation> {
        options.check(self.manifest.timesteps)?;
        if let Some(budget) = self.budget {
            budget.check(&self.manifest, image, options.kept_samples())?;
        }
        let mut timings = Timings::default();
        let (image, back) = timed(&mut timings.preprocess, || self.turned(image));
        let input = timed(&mut timings.preprocess, || self.input(&image))?;
        let Blended { mean, samples, latents, embedding } =
            self.segment_windows(&input, options, warm_start, &mut timings)?;

        let start = Instant::now();
        let to_grid =
            |own: &Tensor| back.array(probabilities_to_grid(own, &image.data.shape()[1..], self.manifest.resampling));
        let samples = samples.iter().map(|own| argmax(&to_grid(own))).collect();
        let mut probabilities = to_grid(&mean);
        let labels = argmax(&probabilities);
        if let Some(calibration) = &self.manifest.calibration {
            temper(&mut probabilities, calibration.temperature);
        }
        let uncertainty = entropy(&probabilities);
        let mut refined = Pooled::default();
        refined.add(&latents);
        let statistics = statistics(&embedding, &refined, &labels, &uncertainty, self.manifest.classes.len());
        timings.postprocess = start.elapsed();
        let steps = options.steps;
        Ok(Segmentation { labels, probabilities, uncertainty, samples, latents, statistics, steps, timings })
    }

    /// Runs the whole loop on a network input `[1, C, ...]` and injected starting noise `[N, latent...]`, and returns
    /// each sample's probabilities `[N, K, ...]` in the network's grid. This is how engines are compared.
    ///
    /// `options.samples` is not used: N is. Noise that [`Sampler::Ddpm`] adds comes from the seed.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn run_latent(
        &mut self,
        input: &Tensor,
        noise: Tensor,
        options: &SegmentOptions,
        observe: &mut Observer,
    ) -> Result<Tensor> {
        let options = SegmentOptions { samples: noise.shape().first().copied().unwrap_or(0), ..options.clone() };
        options.check(self.manifest.timesteps)?;
        let mut timings = Timings::default();
        let last = self.manifest.timesteps - 1;
        let keys: Vec<_> = noise_keys(&options).collect();
        let (z, _) = self.refine(input, noise, last, &keys, &options, observe, &mut timings)?;
        let mut groups = Vec::new();
        self.decode_in_groups(&z, &mut timings, &mut |probabilities| groups.push(probabilities))?;
        join(groups)
    }

    /// The most samples that denoiser and label decoder take as one batch.
    pub(crate) fn max_batch(&self) -> usize {
        self.denoiser.max_batch().min(self.label_decoder.max_batch())
    }

    /// The image encoder: `[N, C, ...]` -> `z_i`.
    ///
    /// # Errors
    /// Those of [`Network::run`].
    pub fn encode_image(&mut self, input: &Tensor) -> Result<Tensor> {
        only(self.image_encoder.run(&[input])?)
    }

    /// The denoiser at timestep `t`, the same for all samples: `z_t` `[N, ...]` and `z_i` `[N, ...]` -> prediction.
    ///
    /// # Errors
    /// Those of [`Network::run`].
    pub fn denoise(&mut self, z_t: &Tensor, z_i: &Tensor, t: usize) -> Result<Tensor> {
        predict(&mut *self.denoiser, z_t, z_i, t)
    }

    /// The label decoder: `[N, latent...]` -> class probabilities `[N, K, ...]`.
    ///
    /// # Errors
    /// Those of [`Network::run`]; [`ErrorKind::Engine`] where what it gives are no probabilities.
    pub fn decode(&mut self, z: &Tensor) -> Result<Tensor> {
        let probabilities = only(self.label_decoder.run(&[z])?)?;
        check_probabilities(&probabilities)?;
        Ok(probabilities)
    }

    /// The image the way round that the networks take, and the turn back to its own.
    fn turned<'a>(&self, image: &'a Image) -> (Cow<'a, Image>, Turn) {
        let turn = self.manifest.orientation().turn(&image.geometry);
        let image = if turn.is_none() { Cow::Borrowed(image) } else { Cow::Owned(turn.image(image.clone())) };
        (image, turn.inverse())
    }

    /// An image that is turned as the networks take it on their grid, whole or in windows: `[C, ...]`.
    fn input(&self, image: &Image) -> Result<Tensor> {
        let manifest = &self.manifest;
        let grid = manifest.spacing.grid(image, &manifest.input_size)?;
        image_to_input(image, manifest.channels, &grid, manifest.normalisation, manifest.resampling)
    }

    /// Encodes the image once and refines the latents from timestep `first` on, a group of samples at a time. `keys` has
    /// one key a sample, for noise that the sampler adds. Returns the latents, and z_i.
    #[expect(clippy::too_many_arguments, reason = "each is something else, and none goes without the others")]
    fn refine(
        &mut self,
        input: &Tensor,
        z_t: Tensor,
        first: usize,
        keys: &[NoiseKey],
        options: &SegmentOptions,
        observe: &mut Observer,
        timings: &mut Timings,
    ) -> Result<(Tensor, Tensor)> {
        let z_i = timed(&mut timings.image_encoder, || self.encode_image(input))?;
        let start = Instant::now();
        let batch = self.denoiser.max_batch();
        let mut groups = Vec::new();
        for (keys, z_t) in keys.chunks(batch).zip(z_t.axis_chunks_iter(Axis(0), batch)) {
            let z_i = concatenate(Axis(0), &vec![z_i.view(); keys.len()]).map_err(shapes)?;
            let request = SampleRequest {
                schedule: &self.schedule,
                prediction: self.manifest.prediction,
                standardisation: self.manifest.latent_standardisation,
                sampler: options.sampler,
                first,
                steps: options.steps,
                noise_keys: keys,
            };
            let denoiser = &mut *self.denoiser;
            let mut denoise = |z_t: &Tensor, t: usize| predict(denoiser, z_t, &z_i, t);
            groups.push(sample(&request, z_t.to_owned(), &mut denoise, observe)?);
        }
        timings.denoiser += start.elapsed();
        Ok((join(groups)?, z_i))
    }

    /// Hands the probabilities `[n, K, ...]` of a few samples at a time to `take`, in order.
    fn decode_in_groups(&mut self, z: &Tensor, timings: &mut Timings, take: &mut dyn FnMut(Tensor)) -> Result<()> {
        let voxels: usize = self.manifest.input_size.iter().product();
        let group = (MAX_DECODER_VOXELS / voxels).clamp(1, self.label_decoder.max_batch());
        for z in z.axis_chunks_iter(Axis(0), group) {
            take(timed(&mut timings.label_decoder, || self.decode(&z.to_owned()))?);
        }
        Ok(())
    }
}

/// One key a sample. The starting noise has step 0; the sampler counts on from there.
fn noise_keys(options: &SegmentOptions) -> impl Iterator<Item = NoiseKey> {
    let (seed, frame) = (options.seed, options.frame);
    (0..options.samples as u64).map(move |sample| NoiseKey { seed, sample, frame, window: 0, step: 0 })
}

/// One denoiser call; its input `t` `[N]` holds the raw timestep for each sample.
fn predict(denoiser: &mut dyn Network, z_t: &Tensor, z_i: &Tensor, t: usize) -> Result<Tensor> {
    let samples = z_t.shape().first().copied().unwrap_or(0);
    only(denoiser.run(&[z_t, z_i, &Tensor::from_elem(vec![samples], t as f32)])?)
}

/// Joins arrays along the batch axis; one alone is handed on as it is.
fn join(mut groups: Vec<Tensor>) -> Result<Tensor> {
    if groups.len() == 1 {
        return Ok(groups.swap_remove(0));
    }
    let views: Vec<_> = groups.iter().map(|group| group.view()).collect();
    if views.is_empty() {
        return Err(no_samples());
    }
    concatenate(Axis(0), &views).map_err(shapes)
}

fn no_samples() -> Error {
    Error::new(ErrorKind::Setting, "expected at least one sample, found none")
}

fn shapes(e: ndarray::ShapeError) -> Error {
    Error::with_source(ErrorKind::ShapeMismatch, "the samples have different shapes", e)
}

/// Whether `[N, K, ...]` are probabilities: each from 0 to 1, and 1 in sum over the classes.
fn check_probabilities(probabilities: &Tensor) -> Result<()> {
    let within = |value: f32| (-PROBABILITY_ERROR..=1.0 + PROBABILITY_ERROR).contains(&value);
    let fail = |what: String| {
        Error::new(
            ErrorKind::Engine,
            format!("the label decoder gives {what}, expected probabilities from 0 to 1 of sum 1"),
        )
    };
    if let Some(value) = probabilities.iter().find(|&&value| !within(value)) {
        return Err(fail(format!("{value}")));
    }
    let sums = probabilities.sum_axis(Axis(1));
    match sums.iter().find(|&&sum| !((sum - 1.0).abs() <= PROBABILITY_ERROR)) {
        Some(sum) => Err(fail(format!("classes of sum {sum}"))),
        None => Ok(()),
    }
}

fn only(mut outputs: Vec<Tensor>) -> Result<Tensor> {
    match (outputs.pop(), outputs.is_empty()) {
        (Some(output), true) => Ok(output),
        _ => Err(Error::new(ErrorKind::Engine, "expected one output of the network")),
    }
}

fn timed<T>(total: &mut Duration, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = f();
    *total += start.elapsed();
    result
}

/// The most probable class of `[K, ...]`: the index of the largest value along the first axis; of equals, the lowest.
///
/// # Panics
/// When there is no class. K is at most 256, as [`Manifest::validate`] makes sure.
pub fn argmax(probabilities: &Tensor) -> Labels {
    let mut best = probabilities.index_axis(Axis(0), 0).to_owned();
    let mut labels = Labels::zeros(best.raw_dim());
    for (class, probability) in probabilities.axis_iter(Axis(0)).enumerate().skip(1) {
        Zip::from(&mut labels).and(&mut best).and(&probability).for_each(|label, best, &p| {
            if p > *best {
                *best = p;
                *label = class as u8;
            }
        });
    }
    labels
}

/// For each class the Dice to expect of a segmentation, by [`expected_dice`] and what the manifest's calibration knows of it.
///
/// # Errors
/// Those of [`expected_dice`].
pub fn calibrated_dice(manifest: &Manifest, segmentation: &Segmentation) -> Result<Vec<Option<f64>>> {
    let mut expected = expected_dice(&segmentation.probabilities, &segmentation.labels)?;
    for map in manifest.calibration.iter().flat_map(|calibration| &calibration.expected_dice) {
        let class = manifest.classes.iter().position(|class| class.name == map.class);
        if let Some(own) = class.and_then(|class| expected.get_mut(class)?.as_mut()) {
            *own = map.apply(*own);
        }
    }
    Ok(expected)
}

#[cfg(test)]
#[path = "segmenter_tests.rs"]
mod tests;
