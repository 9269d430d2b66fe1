//! Batches, prepared ahead of the training loop on threads of their own.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, sync_channel};
use std::thread;

use ldseg::Tensor;
use ldseg::preprocess::Normalisation;
use ndarray::{Axis, IxDyn};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::data::{Augmentation, Dataset, PatchSpec, Sample, augment, augment_patch, redraw};
use crate::recipe::Diffusion;

/// Threads that prepare batches, at most. Each has one batch at work and lets one wait.
const MOST_THREADS: usize = 16;

/// Everything that one step needs. All of it follows from (seed, step) alone, so a resumed run sees the same batches.
pub(crate) struct Batch {
    /// `[N, C, ...]`, normalised.
    pub image: Tensor,
    /// `[N, 1, ...]`, class indices.
    pub labels: Tensor,
    /// One timestep per sample.
    pub timesteps: Vec<usize>,
    /// For each sample, whether z_t starts from the denoiser's own estimate in place of the label's latent.
    pub own_estimate: Vec<bool>,
    /// For each sample, whether its clean latent is decoded too, see [`crate::recipe::LossWeights::autoencoder`].
    pub clean: Vec<bool>,
    /// Noise of the latent's shape, `[N, ...]`.
    pub eps: Tensor,
}

impl Batch {
    /// Cuts the batch into `parts` batches of nearly equal size, fewer if there are fewer samples.
    pub(crate) fn split(&self, parts: usize) -> Vec<Self> {
        let samples = self.timesteps.len();
        let parts = parts.clamp(1, samples.max(1));
        let part = |index: usize| {
            let range = index * samples / parts..(index + 1) * samples / parts;
            let cut = |tensor: &Tensor| tensor.slice_axis(Axis(0), range.clone().into()).to_owned();
            Self {
                image: cut(&self.image),
                labels: cut(&self.labels),
                timesteps: self.timesteps[range.clone()].to_vec(),
                own_estimate: self.own_estimate[range.clone()].to_vec(),
                clean: self.clean[range.clone()].to_vec(),
                eps: cut(&self.eps),
            }
        };
        (0..parts).map(part).collect()
    }
}

/// What batches are made from.
#[derive(Clone)]
pub(crate) struct LoaderSpec {
    /// The training cases.
    pub dataset: Arc<Dataset>,
    /// How they are changed.
    pub augmentation: Augmentation,
    /// How they are normalised then.
    pub normalisation: Normalisation,
    /// How patches are drawn of cases that are seen in windows.
    pub patches: PatchSpec,
    /// Part of a batch whose clean latents are decoded too.
    pub autoencoder: f64,
    /// Latent shape without the batch axis.
    pub latent_shape: Vec<usize>,
    /// How timesteps are drawn.
    pub diffusion: Diffusion,
    /// Samples per batch.
    pub batch_size: usize,
    /// Times that each case is seen in one epoch.
    pub repeats: usize,
    /// Seed of everything.
    pub seed: u64,
}

/// Batches in the order of their steps.
pub(crate) struct Batches {
    /// One a thread. Of n threads, the first makes batches 0, n, 2 n, ..., the second 1, n + 1, 2 n + 1, ...
    receivers: Vec<Receiver<Batch>>,
    next: usize,
}

impl Batches {
    /// Waits for the next batch.
    ///
    /// # Errors
    /// Where there are no more.
    pub(crate) fn recv(&mut self) -> Result<Batch, RecvError> {
        let batch = self.receivers.get(self.next).ok_or(RecvError)?.recv();
        self.next = (self.next + 1) % self.receivers.len();
        batch
    }
}

/// Streams of the generator for one seed: the order of an epoch, a sample's augmentation, its timestep and noise.
const ORDER: u64 = 0;
const AUGMENTATION: u64 = 1;
const DIFFUSION: u64 = 2;

fn generator(seed: u64, purpose: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index * 3 + purpose);
    rng
}

/// t, and whether z_t starts from the denoiser's own estimate.
fn draw_timestep(diffusion: &Diffusion, rng: &mut ChaCha8Rng) -> (usize, bool) {
    if rng.random::<f64>() < diffusion.pure_noise {
        return (diffusion.timesteps - 1, false);
    }
    (rng.random_range(0..diffusion.timesteps), rng.random::<f64>() < diffusion.own_estimate)
}

impl LoaderSpec {
    /// Steps of one epoch. A last batch that would not be full is left out, unless it is the only one.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        (self.dataset.samples.len() * self.repeats / self.batch_size).max(1)
    }

    /// The batches from `first_step` up to `last_step`, in order, prepared by one thread a core, a few at most.
    pub(crate) fn start(self, first_step: usize, last_step: usize) -> Batches {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        self.start_on(cores.min(MOST_THREADS), first_step, last_step)
    }

    /// The same on a number of threads, which take turns: a batch depends on its step alone.
    fn start_on(self, threads: usize, first_step: usize, last_step: usize) -> Batches {
        let spec = Arc::new(self);
        let work = |first: usize| {
            let (sender, receiver) = sync_channel(1);
            let spec = spec.clone();
            thread::spawn(move || {
                for step in (first..last_step).step_by(threads) {
                    // The training loop has gone: nobody waits for more.
                    if sender.send(spec.batch(step)).is_err() {
                        return;
                    }
                }
            });
            receiver
        };
        Batches { receivers: (first_step..first_step + threads).map(work).collect(), next: 0 }
    }

    /// The batch of one step.
    pub(crate) fn batch(&self, step: usize) -> Batch {
        let (epoch, place) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let cases = self.dataset.samples.len();
        let mut order: Vec<usize> = (0..cases * self.repeats).map(|index| index % cases).collect();
        order.shuffle(&mut generator(self.seed, ORDER, epoch as u64));
        let first = place * self.batch_size;
        let chosen = &order[first..(first + self.batch_size).min(order.len())];
        let mut draws = Vec::new();
        let mut noise = Vec::new();
        let samples: Vec<Sample> = chosen
            .iter()
            .enumerate()
            .map(|(index, case)| {
                let index = (step * self.batch_size + index) as u64;
                let mut rng = generator(self.seed, DIFFUSION, index);
                let (timestep, own_estimate) = draw_timestep(&self.diffusion, &mut rng);
                draws.push((timestep, own_estimate));
                noise.extend(
                    (0..self.latent_shape.iter().product()).map(|_| -> f32 { StandardNormal.sample(&mut rng) }),
                );
                let mut rng = generator(self.seed, AUGMENTATION, index);
                let sample = &self.dataset.samples[*case];
                let sample = match &sample.patches {
                    None => augment(sample, &self.augmentation, self.normalisation, &mut rng),
                    Some(patches) => augment_patch(sample, patches, &self.patches, &self.augmentation, &mut rng),
                };
                // What pure noise leads to is one answer, and stays the label's.
                if timestep + 1 == self.diffusion.timesteps {
                    return sample;
                }
                Sample { labels: redraw(sample.labels, &self.augmentation, &mut rng), ..sample }
            })
            .collect();
        self.assemble(&samples, draws, noise)
    }

    fn assemble(&self, samples: &[Sample], draws: Vec<(usize, bool)>, noise: Vec<f32>) -> Batch {
        let shape = samples[0].labels.shape();
        let batched = |channels: usize| IxDyn(&[&[samples.len(), channels], shape].concat());
        let channels = samples[0].image.shape()[0];
        let mut image = Tensor::zeros(batched(channels));
        let mut labels = Tensor::zeros(batched(1));
        for (index, sample) in samples.iter().enumerate() {
            image.index_axis_mut(Axis(0), index).assign(&sample.image);
            labels.index_axis_mut(Axis(0), index).index_axis_mut(Axis(0), 0).assign(&sample.labels.mapv(f32::from));
        }
        let latent = IxDyn(&[&[samples.len()], &self.latent_shape[..]].concat());
        let mut eps = Tensor::zeros(latent);
        eps.iter_mut().zip(noise).for_each(|(value, noise)| *value = noise);
        let (timesteps, own_estimate) = draws.into_iter().unzip();
        // Of the whole batch, before it is cut into parts of perhaps one sample each; spread evenly over the parts.
        let decoded = (samples.len() as f64 * self.autoencoder).round() as usize;
        let so_far = |index: usize| index * decoded / samples.len();
        let clean = (0..samples.len()).map(|index| so_far(index + 1) > so_far(index)).collect();
        Batch { image, labels, timesteps, own_estimate, clean, eps }
    }
}

#[cfg(test)]
mod tests {
    use ldseg::image::Labels;

    use super::*;
    use crate::data::Patches;

    fn spec(patches: bool) -> LoaderSpec {
        let sample = |seed: u64| {
            let mut rng = generator(seed, ORDER, 0);
            let mut image = Tensor::from_shape_simple_fn(vec![1, 24, 24], || rng.random());
            let labels = Labels::from_shape_fn(vec![24, 24], |index| u8::from(index[0] > 12));
            let patches = patches.then(|| Patches::new(&mut image, &labels, Normalisation::MinMax));
            Sample { image, labels, patches }
        };
        let dataset = Arc::new(Dataset {
            digests: vec![],
            spacing_known: Vec::new(),
            notes: Vec::new(),
            cases: Vec::new(),
            samples: (0..5).map(sample).collect(),
        });
        LoaderSpec {
            dataset,
            augmentation: Augmentation::default(),
            normalisation: Normalisation::MinMax,
            patches: PatchSpec { size: vec![16, 16], foreground: 0.3 },
            autoencoder: 0.25,
            latent_shape: vec![2, 2, 2],
            diffusion: Diffusion::default(),
            batch_size: 2,
            repeats: 2,
            seed: 7,
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        for patches in [false, true] {
            let spec = spec(patches);
            assert_eq!(spec.steps_per_epoch(), 5);
            for threads in [1, 3, 4] {
                let mut batches = spec.clone().start_on(threads, 2, 12);
                for step in 2..12 {
                    let (found, expected) = (batches.recv().unwrap(), spec.batch(step));
                    assert_eq!((found.image, found.labels), (expected.image, expected.labels), "{threads} {step}");
                    assert_eq!((found.eps, found.timesteps), (expected.eps, expected.timesteps));
                }
                assert!(batches.recv().is_err(), "no batch after the last step");
            }
        }
    }

    /// A part of one sample has no quarter of a sample: the whole batch is what the part is taken of.
    #[test]
    fn clean_latents_are_a_part_of_the_batch_however_it_is_cut() {
        let spec = LoaderSpec { batch_size: 8, repeats: 4, ..spec(false) };
        let batch = spec.batch(0);
        assert_eq!(batch.clean.iter().filter(|clean| **clean).count(), 2);
        for parts in [1, 2, 3, 8] {
            let cut: Vec<bool> = batch.split(parts).iter().flat_map(|part| part.clean.clone()).collect();
            assert_eq!(cut, batch.clean, "{parts} parts");
        }
        let halves = batch.split(2);
        assert!(halves.iter().all(|half| half.clean.contains(&true)), "a part with all of them takes longer");
    }

    /// What pure noise leads to is one answer; below it the map is redrawn, and the image is the same.
    #[test]
    fn label_maps_are_redrawn_below_the_last_timestep_alone() {
        let plain = LoaderSpec { batch_size: 8, repeats: 4, ..spec(false) };
        let augmentation = Augmentation { label_elastic: 0.1, ..plain.augmentation.clone() };
        let (batch, redrawn) = (plain.batch(0), LoaderSpec { augmentation, ..plain.clone() }.batch(0));
        assert_eq!((&batch.image, &batch.timesteps), (&redrawn.image, &redrawn.timesteps));
        let mut seen = [0; 2];
        for (index, timestep) in batch.timesteps.iter().enumerate() {
            let [before, after] = [&batch, &redrawn].map(|batch| batch.labels.index_axis(Axis(0), index));
            let pure_noise = timestep + 1 == plain.diffusion.timesteps;
            seen[usize::from(pure_noise)] += 1;
            assert_eq!(before == after, pure_noise, "timestep {timestep}");
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn fewer_steps_than_threads_are_enough() {
        let mut batches = spec(false).start_on(4, 3, 5);
        assert!(batches.recv().is_ok() && batches.recv().is_ok() && batches.recv().is_err());
    }
}
