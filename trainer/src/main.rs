//! The `ldseg-train` command.

#![expect(clippy::print_stderr, reason = "it is a command")]

#[path = "../../runtime/cli/src/manual.rs"]
mod manual;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use ldseg::ErrorKind;
use ldseg_trainer::calibrate;
use ldseg_trainer::data::inspect::inspect;
use ldseg_trainer::data::{Fold, Validation};
use ldseg_trainer::keras;
use ldseg_trainer::phantom;
use ldseg_trainer::recipe::Recipe;
use ldseg_trainer::train::checkpoint::Which;
use ldseg_trainer::train::{Outcome, fit};

use self::manual::{CompletionsArgs, ManArgs};

/// Trains latent diffusion segmentation and exports it as a bundle.
#[derive(Parser)]
#[command(name = "ldseg-train", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train the four networks as a recipe says.
    ///
    /// Ctrl-C, SIGTERM and SIGHUP (unless it is ignored, as under nohup) end it after the step at hand: a checkpoint is written,
    /// and the exit code is 3. A second one ends it at once, with 1 and without a checkpoint of its own.
    Fit {
        /// The recipe, a YAML file.
        recipe: PathBuf,
        /// Folder with labelled images.
        #[arg(long)]
        data: PathBuf,
        /// Run folder: resolved recipe, split, metrics.csv, TensorBoard events, checkpoints.
        #[arg(long)]
        output: PathBuf,
        /// Go on from the newest whole checkpoint of the run in --output, with the split that it was started with.
        #[arg(long)]
        resume: bool,
        /// Where to train.
        #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
        device: DeviceKind,
        /// Write the loss and its terms of every step as CSV.
        #[arg(long, value_name = "FILE")]
        trace_steps: Option<PathBuf>,
        /// Change a setting of the recipe, e.g. `training.epochs=5`; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Cross-validation: cut the patients, shuffled by the recipe's seed, into K parts and validate on part I, counted
        /// from 1. In place of the recipe's `validation`.
        #[arg(long, value_name = "I/K")]
        fold: Option<Fold>,
    },
    /// Export a run as a bundle.
    Export {
        /// The run folder.
        run: PathBuf,
        /// The bundle's folder.
        #[arg(long)]
        output: PathBuf,
        /// Which checkpoint.
        #[arg(long, value_enum, default_value_t = Which::Best)]
        checkpoint: Which,
    },
    /// Learn from patients kept for it how far a bundle's answers can be believed, and write that into the bundle:
    /// temperature, expected Dice, intervals about what is measured, and which images are of the right kind.
    Calibrate(CalibrateArgs),
    /// Write manifest.sha256 anew, after an edit of a bundle's manifest that is meant.
    ///
    /// The manifest and every file are checked first. `ldseg` refuses a bundle whose manifest differs from it.
    Seal {
        /// The bundle's folder.
        bundle: PathBuf,
    },
    /// Write a bundle from the weights of the published Keras release.
    ImportKeras {
        /// Folder with labelEncoder.hdf5, imageEncoder.hdf5, denoiser.hdf5 and labelDecoder.hdf5 (for volumes
        /// labelEncoder3D.hdf5 and so on).
        #[arg(long, value_name = "DIR")]
        source: PathBuf,
        /// The bundle's folder.
        #[arg(long, value_name = "BUNDLE")]
        output: PathBuf,
        /// The model's name in the manifest [default: reference-2d or reference-3d].
        #[arg(long)]
        name: Option<String>,
        /// Names of the classes in index order, background first [default: background, class 1, ...].
        #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
        classes: Vec<String>,
    },
    /// Tell what a folder of labelled images holds and what is suspicious about it, and propose a recipe.
    ///
    /// Exits with 1 where something is suspicious.
    Inspect {
        /// Folder with labelled images.
        dir: PathBuf,
        /// Write a recipe to start from; an existing file is not replaced.
        #[arg(long, value_name = "FILE")]
        write_recipe: Option<PathBuf>,
    },
    /// Write synthetic labelled images.
    Phantom {
        /// What is imitated.
        #[arg(value_enum)]
        kind: phantom::Kind,
        /// How many patients.
        #[arg(long)]
        count: usize,
        /// Seed; the same seed gives the same files.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Folder to write to.
        #[arg(long)]
        output: PathBuf,
    },
    /// Print the script that completes this command in a shell.
    Completions(CompletionsArgs),
    /// Print this command's manual page, or write those of all subcommands.
    Man(ManArgs),
}

#[derive(clap::Args)]
struct CalibrateArgs {
    /// The bundle; with --cross-validate one a fold.
    #[arg(long, required = true, num_args = 1..)]
    bundle: Vec<PathBuf>,
    /// The run folder that the bundle was exported from, whose split says whom it was trained on; with --cross-validate one
    /// a fold, in the same order.
    #[arg(long, required = true, num_args = 1..)]
    run: Vec<PathBuf>,
    /// Folder with labelled images, those that the run was trained on among them.
    #[arg(long)]
    data: PathBuf,
    /// File that lists the patients to learn from, one a line, none of whom the bundle was trained on [default: the run's
    /// validation side].
    #[arg(long, value_name = "FILE", conflicts_with = "cross_validate")]
    patients: Option<PathBuf>,
    /// Probability with which an interval is to hold the true value.
    #[arg(long, default_value_t = 0.9)]
    level: f64,
    /// Part of the structures that is to be flagged as unsure.
    #[arg(long, value_name = "PART", default_value_t = 0.1)]
    unsure_rate: f64,
    /// Part of the images of the right kind that may be refused.
    #[arg(long, value_name = "PART", default_value_t = 0.01)]
    false_alarms: f64,
    /// Samples that are averaged; what is learned holds for as many.
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: usize,
    /// Height and width in mm of pixels of files that don't tell it; only their ratio matters, unless the bundle resamples
    /// to mm [default: square pixels of unknown size]
    #[arg(long, value_name = "MM,MM", value_delimiter = ',', num_args = 1)]
    pixel_spacing: Vec<f64>,
    /// Change no bundle, but judge each fold's validation patients by what the other folds' give.
    #[arg(long)]
    cross_validate: bool,
    /// Beside it judge the middle part of so many samples.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "cross_validate")]
    naive: usize,
}

impl CalibrateArgs {
    fn run(self) -> Result<String> {
        let wrong = |message: &str| ldseg::Error::new(ErrorKind::Setting, message);
        let pixel_spacing = match *self.pixel_spacing {
            [] => None,
            [both] => Some([both; 2]),
            [height, width] => Some([height, width]),
            _ => return Err(wrong("--pixel-spacing takes the height and width of a pixel").into()),
        };
        let Self { level, unsure_rate, false_alarms, samples, .. } = self;
        let settings = calibrate::Settings { level, unsure_rate, false_alarms, samples, pixel_spacing };
        if self.bundle.len() != self.run.len() {
            return Err(wrong("--bundle and --run differ in number, expected a run for each bundle").into());
        }
        let folds: Vec<(PathBuf, PathBuf)> = self.bundle.into_iter().zip(self.run).collect();
        Ok(match (folds.as_slice(), self.cross_validate) {
            (folds, true) => calibrate::cross_validate(folds, &self.data, self.naive, &settings)?,
            ([(bundle, run)], false) => {
                calibrate::calibrate(bundle, run, &self.data, self.patients.as_deref(), &settings)?
            }
            _ => return Err(wrong("several bundles are for --cross-validate, expected one").into()),
        })
    }
}

/// Where to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeviceKind {
    /// The CPU: burn's own backend.
    Cpu,
    /// NVIDIA CUDA (feature `cuda`).
    Cuda,
    /// Any GPU with Vulkan, Metal or DirectX 12 (feature `wgpu`).
    Wgpu,
}

impl DeviceKind {
    fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0usize)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
            other => {
                let name = format!("{other:?}").to_lowercase();
                let message =
                    format!("--device {name}: this command was built without it; build it with `--features {name}`");
                Err(ldseg::Error::new(ErrorKind::Setting, message).into())
            }
        }
    }
}

/// Exit code of a training that was asked to stop, and saved.
const STOPPED: u8 = 3;

/// The first signal sets `stop`, a second one ends the process.
fn catch_signals(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag::{register, register_conditional_shutdown};
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    if !hangup_is_ignored() {
        signals.push(signal_hook::consts::SIGHUP);
    }
    for signal in signals {
        // In this order: the one that ends the process looks at what earlier signals have set.
        register_conditional_shutdown(signal, 1, stop.clone())?;
        register(signal, stop.clone())?;
    }
    Ok(())
}

/// Whether the process was started with SIGHUP ignored, as by nohup, which has to stay so. Known on Linux only.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit n stands for signal n + 1, and SIGHUP is signal 1.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Fit { recipe, data, output, resume, device, trace_steps, settings, fold } => {
            let mut recipe = Recipe::load(&recipe, &settings)?;
            if let Some(fold) = fold {
                recipe.validation = Validation::Fold(fold);
            }
            let stop = Arc::new(AtomicBool::new(false));
            catch_signals(&stop).context("Ctrl-C and its like cannot be caught")?;
            let device = device.open()?.autodiff();
            let trace = trace_steps.as_deref();
            if fit(&recipe, &data, &output, resume, trace, &device, &stop)? == Outcome::Stopped {
                eprintln!("stopped, and saved: the same command with --resume goes on");
                return Ok(ExitCode::from(STOPPED));
            }
        }
        Command::Export { run, output, checkpoint } => ldseg_trainer::export::export_run(&run, checkpoint, &output)?,
        Command::Seal { bundle } => ldseg::bundle::seal(&bundle)?,
        Command::Calibrate(args) => {
            let table = args.run()?;
            // A reader that has left, as `head` does, is no error.
            let _ = write!(std::io::stdout(), "{table}");
        }
        Command::ImportKeras { source, output, name, classes } => {
            keras::import(&source, &output, name.as_deref(), &classes)?;
        }
        Command::Inspect { dir, write_recipe } => {
            let found = inspect(&dir)?;
            // A reader that has left, as `head` does, is no error.
            let _ = write!(std::io::stdout(), "{found}");
            if let Some(path) = write_recipe {
                found.write_recipe(&path)?;
            }
            if !found.findings.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Phantom { kind, count, seed, output } => phantom::write(kind, count, seed, &output)?,
        Command::Completions(args) => {
            // A reader that has left, as `head` does, is no error.
            let _ = write!(std::io::stdout(), "{}", args.script(Args::command()));
        }
        Command::Man(args) => {
            let page = args.page(Args::command())?.unwrap_or_default();
            // As above.
            let _ = write!(std::io::stdout(), "{page}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// 2 where the user asked for something impossible, 1 for anything else that fails.
fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ldseg::Error>().map(ldseg::Error::kind) {
        Some(ErrorKind::Setting) => 2,
        _ => 1,
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}
