//! The training loop.

#![expect(clippy::print_stderr, reason = "training says how it goes")]

pub mod checkpoint;
mod loader;
pub(crate) mod loss;
mod progress;
pub mod run_folder;
mod validate;
mod weights;

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::{AdamConfig, AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use ldseg::bundle::{MANIFEST_FILE, Manifest};
use ldseg::diffusion::Schedule;
use ldseg::files::write_bytes;
use ldseg::preprocess::SpacingPolicy;
use ldseg::{Error, ErrorKind, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::data::{Case, Dataset, PatchSpec, Split, find_all, first_few, series, split};
use crate::engine::to_array;
use crate::export;
use crate::model::{NetworkConfig, Networks, Preset};
use crate::recipe::{Optimiser, Recipe};
use checkpoint::{Checkpoints, State, Which, load_networks};
use loader::{Batch, LoaderSpec};
use loss::Shares;
use progress::Progress;
use run_folder::StoredSplit;
pub use run_folder::{CASES_FILE, RECIPE_FILE, SPLIT_FILE};
use validate::validate;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was asked to stop, and a checkpoint was written.
    Stopped,
}

/// Trains as `recipe` says on the cases in `data`, into the run folder `run`, which no other process may use meanwhile.
///
/// `trace` is a CSV file that gets the loss and its terms of every step. With `resume` the run goes on from its newest whole
/// checkpoint, on the split that it was started with, and does what the unbroken run would have done. `stop` is looked at
/// after every step.
///
/// # Errors
/// [`ErrorKind::Setting`] if the folder holds a run already and `resume` is not set, no run and it is set, or one of another
/// recipe, and for classes that `dataset.json` contradicts; those of loading the data; [`ErrorKind::Io`] if the run folder
/// cannot be written or another process uses it; [`ErrorKind::Engine`] if the loss is no longer finite.
pub fn fit(
    recipe: &Recipe,
    data: &Path,
    run: &Path,
    resume: bool,
    trace: Option<&Path>,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let _lock = run_folder::enter(run, &recipe.to_yaml()?, resume)?;
    let found = find_all(data)?;
    let mut notes = [found.notes, found.left_out].concat();
    if let Some(declared) = &found.declared {
        notes.extend(declared.check_classes(&recipe.classes)?);
    }
    notes.iter().for_each(|note| eprintln!("note: {}: {note}", data.display()));
    let sides = Sides::of(recipe, found.cases, run, resume)?;
    match recipe.network.input_size.len() {
        2 => Trainer::<4>::new(recipe, sides, run, trace, device)?.run(stop),
        _ => Trainer::<5>::new(recipe, sides, run, trace, device)?.run(stop),
    }
}

/// The split of a run, and as it was stored where the run goes on.
struct Sides {
    split: Split,
    stored: Option<StoredSplit>,
}

impl Sides {
    fn of(recipe: &Recipe, cases: Vec<Case>, run: &Path, resume: bool) -> Result<Self> {
        // What a folder without a recipe has of a split was left by a run that never started.
        let stored = if resume { StoredSplit::read(run, &cases)? } else { None };
        let Some(stored) = stored else {
            let split = split(cases, &recipe.validation, recipe.seed)?;
            series::parted(&split).iter().for_each(|note| eprintln!("note: {note}"));
            return Ok(Self { split, stored: None });
        };
        let (split, notes) = stored.apply(cases).map_err(|e| e.in_file(run))?;
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        Ok(Self { split, stored: Some(stored) })
    }
}

/// Names classes that no case to learn from has.
fn note_missing_classes(recipe: &Recipe, train: &Dataset, validation: &Dataset) {
    let count = recipe.classes.len();
    let (learned, validated) = (train.classes_present(count), validation.classes_present(count));
    for (index, class) in recipe.classes.iter().enumerate().filter(|(index, _)| !learned[*index]) {
        let which = if validated[index] { "no case to learn from" } else { "no case" };
        eprintln!(
            "note: {which} shows class {index}, `{}` (label values {:?}), on the network's grid: it will not be learned",
            class.name, class.values
        );
    }
}

/// Whether a recipe that resamples to mm counts in voxels, as no case tells its spacing. That is told.
///
/// # Errors
/// [`ErrorKind::Setting`] where some cases tell it and others don't: these would be seen at another scale.
fn spacing_in_voxels(recipe: &Recipe, sides: [&Dataset; 2]) -> Result<bool> {
    let SpacingPolicy::Resample(target) = &recipe.preprocessing.spacing else { return Ok(false) };
    let all = || sides.into_iter().flat_map(|side| side.cases.iter().zip(&side.spacing_known));
    let unknown: Vec<&Case> = all().filter(|(_, known)| !**known).map(|(case, _)| case).collect();
    match unknown.first() {
        None => Ok(false),
        Some(_) if unknown.len() == all().count() => {
            eprintln!(
                "note: no case tells its spacing: {target:?} counts in their own voxels, and so it will in the bundle \
                 (`unit: voxel`)"
            );
            Ok(true)
        }
        Some(first) => {
            let message = format!(
                "{} of {} cases do not tell their spacing, the first is {}; the recipe resamples to {target:?} mm, which takes \
                 the spacing of all of them, or `unit: voxel`",
                unknown.len(),
                all().count(),
                first.image().display()
            );
            Err(Error::new(ErrorKind::Setting, message))
        }
    }
}

/// Tells of data that are not what they were when the run was started. A best Dice of other validation cases is forgotten.
fn note_changes(stored: &StoredSplit, train: &Dataset, validation: &Dataset, validated_on: &str, state: &mut State) {
    for (data, what) in [(train, "learns from"), (validation, "validates on")] {
        let changed = stored.changed(data);
        if !changed.is_empty() {
            let shown = first_few(&changed);
            eprintln!("note: {} cases that this run {what} were changed since it was started: {shown}", changed.len());
        }
    }
    if let Some(best) = state.best
        && !state.validated_on.is_empty()
        && state.validated_on != validated_on
    {
        eprintln!(
            "note: the validation cases are not those on which the best checkpoint so far had a Dice of {best:.4}: it is not \
             compared with what follows, and the next one that is validated takes its place"
        );
        state.best = None;
    }
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

/// Steps between readings of the loss from a GPU.
const GPU_READS_EVERY: usize = 16;

fn is_cpu(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

/// What a step computed and nobody has looked at.
struct Unread {
    step: usize,
    samples: usize,
    /// `[TERMS + 1]`: the loss and its terms, and the norm of the gradient.
    values: Tensor<1>,
}

struct Trainer<'a, const D: usize> {
    recipe: &'a Recipe,
    manifest: Manifest,
    schedule: Schedule,
    loader: LoaderSpec,
    validation: Dataset,
    /// The digest of `validation`.
    validated_on: String,
    networks: Networks<D>,
    average: Networks<D>,
    optimiser: ModuleOptimizer,
    checkpoints: Checkpoints,
    state: State,
    progress: Progress,
    unread: Vec<Unread>,
    /// One single-threaded pool for each part of a batch: with as many parts as cores, nothing is gained by sharing the
    /// work within one.
    threads: Vec<ThreadPool>,
    device: &'a Device,
}

/// As many pools as parts that a batch is cut into. A GPU takes the batch as a whole, and batch normalisation has to
/// see it as a whole.
fn thread_pools(recipe: &Recipe, device: &Device) -> Result<Vec<ThreadPool>> {
    let whole = recipe.network.preset == Preset::Reference || !is_cpu(device);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let parts = if whole { 1 } else { cores.min(recipe.training.batch_size) };
    (0..parts)
        .map(|_| ThreadPoolBuilder::new().num_threads(1).build())
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::with_source(ErrorKind::Engine, "no threads to train on", e))
}

impl<'a, const D: usize> Trainer<'a, D> {
    /// Weights first: where they come from another run or a bundle, what is wrong there is told before the data are read.
    fn new(recipe: &'a Recipe, sides: Sides, run: &Path, trace: Option<&Path>, device: &'a Device) -> Result<Self> {
        let config = recipe.network();
        // Drawn on the CPU: the same seed gives the same weights on every device.
        let cpu = Device::flex().autodiff();
        cpu.seed(recipe.seed);
        let mut networks = Networks::<D>::new(&config, &cpu).fork(device);
        let mut average = networks.valid();
        let mut optimiser = match recipe.training.optimiser {
            Optimiser::Adam => AdamConfig::new().init(),
            Optimiser::AdamW => AdamWConfig::new().with_weight_decay(recipe.training.weight_decay as f32).init(),
        };
        let checkpoints = Checkpoints::open(run)?;
        let mut state = State::default();
        if let Some(newest) = checkpoints.newest()? {
            let dir = &newest.dir;
            networks = load_networks(networks.valid(), &dir.join("networks.bpk"))?.train();
            average = load_networks(average, &dir.join("average.bpk"))?;
            let path = dir.join("optimiser.bpk");
            optimiser = optimiser
                .load(&path)
                .map_err(|e| Error::with_source(ErrorKind::Format, "not an optimiser's state", e).in_file(&path))?;
            state = checkpoints.go_on_from(newest)?;
            eprintln!("going on after step {}", state.step);
        } else if let Some(from) = &recipe.training.start_from {
            networks = start_from(networks.valid(), &config, from)?.train();
            average = networks.valid();
            eprintln!("starting from the weights of {}", from.display());
        }
        let Sides { split, stored } = sides;
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
        note_missing_classes(recipe, &train, &validation);
        state.spacing_in_voxels = spacing_in_voxels(recipe, [&train, &validation])?;
        let validated_on = run_folder::digest(&validation);
        match &stored {
            Some(stored) => note_changes(stored, &train, &validation, &validated_on, &mut state),
            None => StoredSplit::new(&train, &validation).write(run)?,
        }
        write_bytes(&run.join(RECIPE_FILE), recipe.to_yaml()?.as_bytes())?;
        let loader = LoaderSpec {
            dataset: train,
            augmentation: recipe.augmentation.clone(),
            normalisation: recipe.preprocessing.normalisation,
            patches: PatchSpec { size: config.input_size.clone(), foreground: recipe.training.foreground_patches },
            autoencoder: recipe.training.loss.autoencoder,
            latent_shape: config.latent_shape(),
            diffusion: recipe.diffusion,
            batch_size: recipe.training.batch_size,
            repeats: recipe.training.repeats,
            seed: recipe.seed,
        };
        let (per_epoch, epochs) = (loader.steps_per_epoch(), recipe.training.epochs);
        let warmup = recipe.training.warmup_steps;
        if 2 * warmup > per_epoch * epochs {
            eprintln!(
                "note: the run has {} steps, and the learning rate rises over the first {warmup}: expected a small part of \
                 them, so raise training.epochs or training.repeats, or lower training.warmup_steps",
                per_epoch * epochs
            );
        }
        if state.summed == 0 && state.sums != [0.0; 4] {
            // A checkpoint of an older version.
            state.summed = state.step % per_epoch;
        }
        let progress = Progress::new(run, recipe, state.step, per_epoch, epochs, trace)?;
        Ok(Self {
            manifest: export::manifest(recipe),
            schedule: recipe.diffusion.noise_schedule()?,
            recipe,
            loader,
            validation,
            validated_on,
            networks,
            average,
            optimiser,
            checkpoints,
            state,
            progress,
            unread: Vec::new(),
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
        // Asked to stop while the data were loaded: there is nothing new to save.
        if stop.load(Ordering::Relaxed) && self.state.step < last {
            return Ok(Outcome::Stopped);
        }
        while self.state.step < last {
            let waiting = Instant::now();
            let batch =
                batches.recv().map_err(|e| Error::with_source(ErrorKind::Engine, "the data loader has stopped", e))?;
            self.progress.waited(waiting.elapsed());
            self.step(&batch)?;
            let epoch_ends = self.state.step.is_multiple_of(per_epoch);
            let stopping = stop.load(Ordering::Relaxed) && self.state.step < last;
            let due = saved.elapsed() >= every;
            if epoch_ends || stopping || due {
                // What is no longer finite must not become a checkpoint.
                self.read()?;
            }
            if epoch_ends {
                self.end_epoch(self.state.step / per_epoch)?;
                saved = Instant::now();
            }
            if stopping {
                if !epoch_ends {
                    self.save(false)?;
                }
                return Ok(Outcome::Stopped);
            }
            if !epoch_ends && due {
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

    /// Steps between readings of the loss: a GPU that is asked for a number after every step waits for the host in turn.
    fn reads_every(&self) -> usize {
        if is_cpu(self.device) { 1 } else { GPU_READS_EVERY }
    }

    /// Reads the losses of the steps since the last reading, and looks whether they are finite.
    fn read(&mut self) -> Result<()> {
        let Some(first) = self.unread.first().map(|unread| unread.step) else { return Ok(()) };
        let rows: Vec<_> = self.unread.iter().map(|unread| unread.values.clone()).collect();
        let values = to_array(Tensor::cat(rows, 0))?;
        for (index, row) in values.iter().collect::<Vec<_>>().chunks(loss::TERMS + 1).enumerate() {
            let row: Vec<f64> = row.iter().map(|value| f64::from(**value)).collect();
            if !row[0].is_finite() || !row[loss::TERMS].is_finite() {
                let message = format!(
                    "the loss or its gradient is no longer finite at step {}; the last checkpoint is good: a smaller \
                     training.learning_rate or training.gradient_clip may help",
                    first + index
                );
                return Err(Error::new(ErrorKind::Engine, message));
            }
            self.state.sums.iter_mut().zip(&row).for_each(|(sum, value)| *sum += value);
            self.state.summed += 1;
            self.progress.step(first + index, &row[..loss::TERMS], self.unread[index].samples)?;
        }
        self.unread.clear();
        Ok(())
    }

    fn step(&mut self, batch: &Batch) -> Result<()> {
        let step = self.state.step;
        // Dropout draws from the device's generator: seeded by step, a resumed run draws the same.
        self.device.seed(self.recipe.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step as u64));
        let (terms, gradients) = self.gradients(batch)?;
        let inner = self.device.clone().without_autodiff();
        let training = &self.recipe.training;
        let (gradients, norm) = weights::clip(&self.networks, gradients, training.gradient_clip, &inner);
        self.unread.push(Unread { step, samples: batch.timesteps.len(), values: Tensor::cat(vec![terms, norm], 0) });
        if self.unread.len() >= self.reads_every() {
            self.read()?;
        }
        let training = &self.recipe.training;
        let rate = self.learning_rate();
        let networks = self.networks.clone();
        self.networks = self.optimiser.step(rate, networks, gradients);
        let average = self.average.clone();
        self.average = weights::moving_average(average, &self.networks.valid(), training.ema_decay, step);
        self.state.step += 1;
        self.state.dice.clear();
        self.state.autoencoder_dice.clear();
        Ok(())
    }

    /// The loss and its terms, averaged over the batch, and the gradients of all weights. The batch's parts are worked
    /// on side by side, each on a thread of its own.
    fn gradients(&self, batch: &Batch) -> Result<(Tensor<1>, GradientsParams)> {
        let shares = Shares::of(batch, &self.recipe.diffusion, &self.schedule);
        let parts = batch.split(self.threads.len());
        if parts.len() == 1 {
            return self.part_gradients(&self.networks, batch, shares);
        }
        let results: Vec<Result<_>> = thread::scope(|scope| {
            let running: Vec<_> = parts
                .iter()
                .zip(&self.threads)
                .map(|(part, pool)| {
                    // Weights of its own: graphs that share a leaf would wait for one another.
                    let networks = self.networks.clone().fork(self.device);
                    scope.spawn(move || pool.install(|| self.part_gradients(&networks, part, shares)))
                })
                .collect();
            running.into_iter().map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let mut total = Tensor::zeros([loss::TERMS], &self.device.clone().without_autodiff());
        let mut sum = GradientsAccumulator::new();
        for result in results {
            let (terms, gradients) = result?;
            total = total + terms;
            sum.accumulate(&self.networks, gradients);
        }
        Ok((total, sum.grads()))
    }

    fn part_gradients(
        &self,
        networks: &Networks<D>,
        part: &Batch,
        shares: Shares,
    ) -> Result<(Tensor<1>, GradientsParams)> {
        let (diffusion, weights) = (&self.recipe.diffusion, &self.recipe.training.loss);
        let losses = loss::losses(networks, part, shares, &self.schedule, diffusion, weights, self.device)?;
        Ok((losses.terms, GradientsParams::from_grads(losses.total.backward(), networks)))
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
        let summed = std::mem::take(&mut self.state.summed).max(1) as f64;
        let losses = std::mem::take(&mut self.state.sums).map(|sum| sum / summed);
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
            self.state.validated_on.clone_from(&self.validated_on);
            self.state.dice = scores.segmentation;
            self.state.autoencoder_dice = scores.autoencoder;
        }
        self.progress.epoch(epoch, rate, losses, &self.state)?;
        self.save(best)
    }
}
