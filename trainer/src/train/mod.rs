//! The training loop.

#![expect(clippy::print_stderr, reason = "training says how it goes")]

pub mod checkpoint;
mod loader;
pub(crate) mod loss;
mod progress;
mod validate;
mod weights;

use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::{AdamConfig, AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use ldseg::bundle::{MANIFEST_FILE, Manifest};
use ldseg::diffusion::Schedule;
use ldseg::files::write_bytes;
use ldseg::{Error, ErrorKind, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::data::{Dataset, PatchSpec, Split, discover, split};
use crate::export;
use crate::model::{NetworkConfig, Networks, Preset};
use crate::recipe::{Optimiser, Recipe};
use checkpoint::{Checkpoints, State, Which, load_networks};
use loader::{Batch, LoaderSpec};
use progress::Progress;
use validate::validate;

/// File of a run folder that holds the resolved recipe.
pub const RECIPE_FILE: &str = "recipe.yaml";
/// File of a run folder that lists the patients of each side of the split.
pub const SPLIT_FILE: &str = "split.yaml";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was asked to stop, and a checkpoint was written.
    Stopped,
}

/// Trains as `recipe` says on the cases in `data`, into the run folder `run`.
///
/// With `resume` the run goes on from its last checkpoint and does what the unbroken run would have done. `stop` is
/// looked at after every step.
///
/// # Errors
/// [`ErrorKind::Setting`] if the folder holds a run already and `resume` is not set, or one of another recipe; those of
/// loading the data; [`ErrorKind::Io`] if the run folder cannot be written; [`ErrorKind::Engine`] if the loss is no
/// longer finite.
pub fn fit(
    recipe: &Recipe,
    data: &Path,
    run: &Path,
    resume: bool,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let split = split(discover(data)?, &recipe.validation, recipe.seed)?;
    check_run(recipe, run, resume)?;
    match recipe.network.input_size.len() {
        2 => Trainer::<4>::new(recipe, split, run, device)?.run(stop),
        _ => Trainer::<5>::new(recipe, split, run, device)?.run(stop),
    }
}

/// Whether `run` may be written to. A folder without a recipe holds no run: what fails before there is anything to go on
/// with leaves none behind.
fn check_run(recipe: &Recipe, run: &Path, resume: bool) -> Result<()> {
    fs::create_dir_all(run)
        .map_err(|e| Error::with_source(ErrorKind::Io, "the run folder cannot be created", e).in_file(run))?;
    let path = run.join(RECIPE_FILE);
    match (fs::read_to_string(&path).ok(), resume) {
        (Some(_), false) => {
            let message = "holds a run already; give --resume to go on with it, or another --output";
            Err(Error::new(ErrorKind::Setting, message).in_file(run))
        }
        (Some(found), true) if found != recipe.to_yaml()? => {
            let message = "differs from the recipe and settings given; a run goes on with its own recipe only";
            Err(Error::new(ErrorKind::Setting, message).in_file(&path))
        }
        _ => Ok(()),
    }
}

fn split_yaml(split: &Split) -> String {
    let mut text = String::new();
    for (side, cases) in [("train", &split.train), ("validation", &split.validation)] {
        text += &format!("{side}:\n");
        let mut patients: Vec<&str> = cases.iter().map(|case| case.patient.as_str()).collect();
        patients.dedup();
        for patient in patients {
            text += &format!("- {}\n", serde_json::to_string(patient).unwrap_or_default());
        }
    }
    text
}

/// The networks with the weights of a bundle or of a run's best checkpoint.
fn start_from<const D: usize>(networks: Networks<D>, config: &NetworkConfig, from: &Path) -> Result<Networks<D>> {
    if from.join(MANIFEST_FILE).exists() {
        return export::load_bundle(networks, config, from);
    }
    let missing = || {
        let message = "training.start_from: neither a bundle nor a run with a checkpoint";
        Error::new(ErrorKind::Setting, message).in_file(from)
    };
    let (dir, _) = Checkpoints::of(from).find(Which::Best)?.ok_or_else(missing)?;
    load_networks(networks, &dir.join("average.bpk"))
}

struct Trainer<'a, const D: usize> {
    recipe: &'a Recipe,
    manifest: Manifest,
    schedule: Schedule,
    loader: LoaderSpec,
    validation: Dataset,
    networks: Networks<D>,
    average: Networks<D>,
    optimiser: ModuleOptimizer,
    checkpoints: Checkpoints,
    state: State,
    progress: Progress,
    /// One single-threaded pool for each part of a batch: with as many parts as cores, nothing is gained by sharing the
    /// work within one.
    threads: Vec<ThreadPool>,
    device: &'a Device,
}

/// As many pools as parts that a batch is cut into. A GPU takes the batch as a whole, and batch normalisation has to
/// see it as a whole.
fn thread_pools(recipe: &Recipe, device: &Device) -> Result<Vec<ThreadPool>> {
    let whole = recipe.network.preset == Preset::Reference || device.clone().without_autodiff() != Device::flex();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let parts = if whole { 1 } else { cores.min(recipe.training.batch_size) };
    (0..parts)
        .map(|_| ThreadPoolBuilder::new().num_threads(1).build())
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::with_source(ErrorKind::Engine, "no threads to train on", e))
}

impl<'a, const D: usize> Trainer<'a, D> {
    /// Weights first: where they come from another run or a bundle, what is wrong there is told before the data are read.
    fn new(recipe: &'a Recipe, split: Split, run: &Path, device: &'a Device) -> Result<Self> {
        let config = recipe.network();
        device.seed(recipe.seed);
        let mut networks = Networks::<D>::new(&config, device);
        let mut average = networks.valid();
        let mut optimiser = match recipe.training.optimiser {
            Optimiser::Adam => AdamConfig::new().init(),
            Optimiser::AdamW => AdamWConfig::new().with_weight_decay(recipe.training.weight_decay as f32).init(),
        };
        let checkpoints = Checkpoints::open(run)?;
        let mut state = State::default();
        if let Some((dir, saved)) = checkpoints.find(Which::Last)? {
            networks = load_networks(networks.valid(), &dir.join("networks.bpk"))?.train();
            average = load_networks(average, &dir.join("average.bpk"))?;
            let path = dir.join("optimiser.bpk");
            optimiser = optimiser
                .load(&path)
                .map_err(|e| Error::with_source(ErrorKind::Format, "not an optimiser's state", e).in_file(&path))?;
            eprintln!("going on after step {}", saved.step);
            state = saved;
        } else if let Some(from) = &recipe.training.start_from {
            networks = start_from(networks.valid(), &config, from)?.train();
            average = networks.valid();
            eprintln!("starting from the weights of {}", from.display());
        }
        let patients = split_yaml(&split);
        eprintln!("loading {} training and {} validation cases", split.train.len(), split.validation.len());
        let spec = recipe.spec();
        let train = Arc::new(Dataset::load(split.train, &spec)?);
        let validation = Dataset::load(split.validation, &spec)?;
        for (note, count, first) in train.notes.iter().chain(&validation.notes) {
            eprintln!(
                "note: {}{}: {note}",
                first.display(),
                if *count > 1 { format!(" and {} more", count - 1) } else { String::new() }
            );
        }
        write_bytes(&run.join(SPLIT_FILE), patients.as_bytes())?;
        write_bytes(&run.join(RECIPE_FILE), recipe.to_yaml()?.as_bytes())?;
        let loader = LoaderSpec {
            dataset: train,
            augmentation: recipe.augmentation.clone(),
            normalisation: recipe.preprocessing.normalisation,
            patches: PatchSpec { size: config.input_size.clone(), foreground: recipe.training.foreground_patches },
            classes: recipe.classes.len(),
            latent_shape: config.latent_shape(),
            diffusion: recipe.diffusion,
            batch_size: recipe.training.batch_size,
            repeats: recipe.training.repeats,
            seed: recipe.seed,
        };
        let (per_epoch, epochs) = (loader.steps_per_epoch(), recipe.training.epochs);
        let progress = Progress::new(run, recipe, state.step, per_epoch, epochs)?;
        Ok(Self {
            manifest: export::manifest(recipe),
            schedule: Schedule::new(recipe.diffusion.schedule, recipe.diffusion.timesteps)?,
            recipe,
            loader,
            validation,
            networks,
            average,
            optimiser,
            checkpoints,
            state,
            progress,
            threads: thread_pools(recipe, device)?,
            device,
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Outcome> {
        let per_epoch = self.loader.steps_per_epoch();
        let last = per_epoch * self.recipe.training.epochs;
        let mut batches = self.loader.clone().start(self.state.step, last);
        let every = Duration::from_secs_f64(60.0 * self.recipe.training.checkpoint_minutes);
        let mut saved = Instant::now();
        while self.state.step < last {
            let waiting = Instant::now();
            let batch =
                batches.recv().map_err(|e| Error::with_source(ErrorKind::Engine, "the data loader has stopped", e))?;
            self.progress.waited(waiting.elapsed());
            self.step(&batch)?;
            let epoch_ends = self.state.step.is_multiple_of(per_epoch);
            if epoch_ends {
                self.end_epoch(self.state.step / per_epoch)?;
                saved = Instant::now();
            }
            if stop.load(Ordering::Relaxed) && self.state.step < last {
                if !epoch_ends {
                    self.save(false)?;
                }
                return Ok(Outcome::Stopped);
            }
            if !epoch_ends && saved.elapsed() >= every {
                self.save(false)?;
                saved = Instant::now();
            }
        }
        self.progress.finish();
        Ok(Outcome::Finished)
    }

    fn save(&self, best: bool) -> Result<()> {
        self.checkpoints.save(&self.networks, &self.average, &self.optimiser, &self.state, best)
    }

    fn step(&mut self, batch: &Batch) -> Result<()> {
        let step = self.state.step;
        // Dropout draws from the device's generator: seeded by step, a resumed run draws the same.
        self.device.seed(self.recipe.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step as u64));
        let (values, gradients) = self.gradients(batch)?;
        let training = &self.recipe.training;
        let (gradients, norm) = weights::clip(&self.networks, gradients, training.gradient_clip);
        if !values[0].is_finite() || !norm.is_finite() {
            let message = format!(
                "the loss or its gradient is no longer finite at step {step}; the last checkpoint is good: a smaller \
                 training.learning_rate or training.gradient_clip may help"
            );
            return Err(Error::new(ErrorKind::Engine, message));
        }
        let rate = self.learning_rate();
        let networks = self.networks.clone();
        self.networks = self.optimiser.step(rate, networks, gradients);
        let average = self.average.clone();
        self.average = weights::moving_average(average, &self.networks.valid(), training.ema_decay, step);
        self.state.step += 1;
        self.state.dice.clear();
        self.state.autoencoder_dice.clear();
        self.state.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.progress.step(values[0], batch.timesteps.len());
        Ok(())
    }

    /// The loss and its terms, averaged over the batch, and the gradients of all weights. The batch's parts are worked
    /// on side by side, each on a thread of its own.
    fn gradients(&self, batch: &Batch) -> Result<([f64; 4], GradientsParams)> {
        let parts = batch.split(self.threads.len());
        if parts.len() == 1 {
            return self.part_gradients(&self.networks, batch, 1.0);
        }
        let samples = batch.timesteps.len() as f64;
        let results: Vec<Result<_>> = thread::scope(|scope| {
            let running: Vec<_> = parts
                .iter()
                .zip(&self.threads)
                .map(|(part, pool)| {
                    // Weights of its own: graphs that share a leaf would wait for one another.
                    let networks = self.networks.clone().fork(self.device);
                    let share = part.timesteps.len() as f64 / samples;
                    scope.spawn(move || pool.install(|| self.part_gradients(&networks, part, share)))
                })
                .collect();
            running.into_iter().map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let mut total = [0.0; 4];
        let mut sum = GradientsAccumulator::new();
        for result in results {
            let (values, gradients) = result?;
            total.iter_mut().zip(values).for_each(|(total, value)| *total += value);
            sum.accumulate(&self.networks, gradients);
        }
        Ok((total, sum.grads()))
    }

    fn part_gradients(&self, networks: &Networks<D>, part: &Batch, share: f64) -> Result<([f64; 4], GradientsParams)> {
        let (diffusion, weights) = (&self.recipe.diffusion, &self.recipe.training.loss);
        let losses = loss::losses(networks, part, &self.schedule, diffusion, weights, self.device)?;
        let mut values = [0.0; 4];
        values[0] = share * f64::from(losses.total.clone().into_scalar::<f32>());
        for (value, term) in values[1..].iter_mut().zip(losses.terms) {
            *value = share * f64::from(term.into_scalar::<f32>());
        }
        let gradients = losses.total.mul_scalar(share).backward();
        Ok((values, GradientsParams::from_grads(gradients, networks)))
    }

    /// Linear warm-up, then half a cosine down to a hundredth of the greatest rate.
    fn learning_rate(&self) -> f64 {
        let training = &self.recipe.training;
        let (step, warmup) = (self.state.step as f64, training.warmup_steps as f64);
        if step < warmup {
            return training.learning_rate * (step + 1.0) / warmup;
        }
        let total = (self.loader.steps_per_epoch() * training.epochs) as f64;
        let part = (step - warmup) / (total - warmup).max(1.0);
        training.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * part).cos()))
    }

    /// Validates where due, reports, and writes the epoch's checkpoint.
    fn end_epoch(&mut self, epoch: usize) -> Result<()> {
        let training = &self.recipe.training;
        let per_epoch = self.loader.steps_per_epoch() as f64;
        let losses = std::mem::take(&mut self.state.sums).map(|sum| sum / per_epoch);
        let rate = self.learning_rate();
        let mut best = false;
        if epoch.is_multiple_of(training.validate_every) || epoch == training.epochs {
            self.progress.message("validating");
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            let device = self.device.clone().without_autodiff();
            let scores = validate(&self.average, &self.manifest, &self.validation, &device, workers)?;
            let mean = ldseg::metrics::nanmean(&scores.segmentation);
            best = self.state.best.is_none_or(|best| best.is_nan() || mean > best);
            if best {
                self.state.best = Some(mean);
            }
            self.state.dice = scores.segmentation;
            self.state.autoencoder_dice = scores.autoencoder;
        }
        self.progress.epoch(epoch, rate, losses, &self.state)?;
        self.save(best)
    }
}
