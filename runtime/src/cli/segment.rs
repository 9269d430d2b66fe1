//! `ldseg segment`.

use std::{
    collections::HashSet,
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use ldseg::bundle::{Bundle, Manifest};
use ldseg::diffusion::{MAX_TIMESTEPS, Sampler};
use ldseg::engine::EngineOptions;
use ldseg::files::write_bytes;
use ldseg::image::{output_extension, read_image, write_labels, write_overlay, write_scalar};
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg::{Error, ErrorKind, Result};
use serde::Serialize;

use super::inputs::{Job, jobs};
use super::{EngineArgs, Outcome, print, print_json, report};

const OVERLAY: &str = "_overlay";
const UNCERTAINTY: &str = "_uncertainty";
/// Steps of a sampler that is not the bundle's default, where that is `direct` and says nothing about steps.
const FALLBACK_STEPS: usize = 10;

#[derive(Debug, clap::Args)]
pub(super) struct SegmentArgs {
    /// Images, folders of images, or `.txt` files that list images, one a line, relative to the list
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Folder for the outputs, made where it is missing
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Also write the image with its segmentation drawn over it
    #[arg(long)]
    overlay: bool,
    /// Also write a map of the uncertainty, 0 to 1
    #[arg(long)]
    uncertainty: bool,
    /// Print the results as one JSON document, and write each image's to a file named after it
    #[arg(long)]
    json: bool,
}

/// How the latent is refined.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SamplingArgs {
    /// How the latent is refined [default: the bundle's]
    #[arg(long, value_parser = samplers())]
    sampler: Option<Sampler>,
    /// Denoiser calls [default: the bundle's; 1 with sampler direct]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_TIMESTEPS as u64))]
    steps: Option<usize>,
    /// Samples whose probabilities are averaged
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000), default_value = "1")]
    samples: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// What was asked for, completed with the bundle's defaults.
    pub(super) fn options(&self, manifest: &Manifest) -> Result<SegmentOptions> {
        options(manifest, self.sampler, self.steps, self.samples, self.seed)
    }
}

fn samplers() -> impl TypedValueParser<Value = Sampler> {
    PossibleValuesParser::new(Sampler::ALL.map(Sampler::name)).try_map(|name| name.parse::<Sampler>())
}

/// Everything that is to be done, after the bundle and the settings were found to be in order.
struct Plan {
    bundle: Bundle,
    engine: EngineOptions,
    options: SegmentOptions,
    jobs: Vec<Job>,
    output: PathBuf,
    overlay: bool,
    uncertainty: bool,
    json: bool,
}

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    bundle: &'a str,
    engine: &'a str,
    device: &'a str,
    sampler: Sampler,
    steps: usize,
    samples: usize,
    seed: u64,
    files: Vec<FileResult>,
}

/// One input's outcome: its outputs, or the error.
#[derive(Serialize)]
struct FileResult {
    input: PathBuf,
    #[serde(flatten)]
    outcome: FileOutcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum FileOutcome {
    Done(Done),
    Failed { error: String },
}

#[derive(Serialize)]
struct Done {
    output: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncertainty: Option<PathBuf>,
    /// Reading, segmenting and writing.
    seconds: f64,
    classes: Vec<ClassCount>,
    /// Over all voxels, 0 to 1.
    mean_uncertainty: f64,
}

#[derive(Serialize)]
struct ClassCount {
    index: usize,
    name: String,
    voxels: usize,
}

pub(super) fn run(args: SegmentArgs) -> anyhow::Result<Outcome> {
    let plan = Plan::new(args)?;
    let mut segmenter = Segmenter::from_bundle(&plan.bundle, &plan.engine)?;
    prepare_output(&plan.output)?;
    let files = plan.segment_all(&mut segmenter)?;
    let success = files.iter().all(|file| matches!(file.outcome, FileOutcome::Done(_)));
    if plan.json {
        print_json(&plan.document(files))?;
    }
    Ok(Outcome::from_success(success))
}

impl Plan {
    fn new(args: SegmentArgs) -> Result<Self> {
        let bundle = Bundle::load(&args.bundle)?;
        let options = args.sampling.options(bundle.manifest())?;
        let suffixes = [(args.overlay, OVERLAY), (args.uncertainty, UNCERTAINTY)];
        let suffixes: Vec<_> = suffixes.iter().filter(|(asked, _)| *asked).map(|(_, suffix)| *suffix).collect();
        Ok(Self {
            bundle,
            engine: args.engine.options(),
            options,
            jobs: jobs(&args.input, &suffixes),
            output: args.output,
            overlay: args.overlay,
            uncertainty: args.uncertainty,
            json: args.json,
        })
    }

    fn document(&self, files: Vec<FileResult>) -> Document<'_> {
        Document {
            bundle: &self.bundle.manifest().name,
            engine: self.engine.engine.name(),
            device: self.engine.device.name(),
            sampler: self.options.sampler,
            steps: self.options.steps,
            samples: self.options.samples,
            seed: self.options.seed,
            files,
        }
    }

    /// Segments one file after the other; one that fails is reported and leaves the others alone.
    fn segment_all(&self, segmenter: &mut Segmenter) -> anyhow::Result<Vec<FileResult>> {
        let inputs: HashSet<_> = self.jobs.iter().filter_map(|job| job.input.canonicalize().ok()).collect();
        let bar = progress_bar(self.jobs.len());
        let mut files = Vec::with_capacity(self.jobs.len());
        for job in &self.jobs {
            let result = match &job.name {
                Ok(name) => self.segment(segmenter, &job.input, name, &inputs).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let outcome = bar.suspend(|| self.tell(&job.input, result))?;
            files.push(FileResult { input: job.input.clone(), outcome });
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(files)
    }

    fn tell(&self, input: &Path, result: std::result::Result<Done, String>) -> anyhow::Result<FileOutcome> {
        match result {
            Ok(done) => {
                if !self.json {
                    print(&format!("{} -> {} ({:.2} s)", input.display(), done.output.display(), done.seconds))?;
                }
                Ok(FileOutcome::Done(done))
            }
            Err(error) => {
                report(&error);
                Ok(FileOutcome::Failed { error })
            }
        }
    }

    fn segment(&self, segmenter: &mut Segmenter, input: &Path, name: &str, inputs: &HashSet<PathBuf>) -> Result<Done> {
        let start = Instant::now();
        let image = read_image(input)?;
        let extension = output_extension(&image.geometry, image.spatial_axes());
        let path = |suffix: &str, extension: &str| {
            let path = self.output.join(format!("{name}{suffix}.{extension}"));
            match path.canonicalize() {
                Ok(existing) if inputs.contains(&existing) => {
                    let message = format!("its output {} would replace an input", path.display());
                    Err(Error::new(ErrorKind::Io, message).in_file(input))
                }
                _ => Ok(path),
            }
        };
        let output = path("", extension)?;
        let overlay = self.overlay.then(|| path(OVERLAY, "png")).transpose()?;
        let uncertainty = self.uncertainty.then(|| path(UNCERTAINTY, extension)).transpose()?;

        let result = segmenter.segment(&image, &self.options).map_err(|e| e.in_file(input))?;
        write_labels(&output, &result.labels, &image.geometry)?;
        if let Some(path) = &overlay {
            let colours: Vec<_> = self.bundle.manifest().classes.iter().map(|class| class.colour).collect();
            write_overlay(path, &image, &result.labels, &colours)?;
        }
        if let Some(path) = &uncertainty {
            write_scalar(path, &result.uncertainty, &image.geometry)?;
        }
        let json = self.json.then(|| path("", "json")).transpose()?;
        let sum: f64 = result.uncertainty.iter().map(|&value| f64::from(value)).sum();
        let done = Done {
            output,
            overlay,
            uncertainty,
            seconds: start.elapsed().as_secs_f64(),
            classes: count(self.bundle.manifest(), &result.labels),
            mean_uncertainty: sum / result.uncertainty.len() as f64,
        };
        if let Some(path) = &json {
            write_json(path, &done)?;
        }
        Ok(done)
    }
}

fn write_json(path: &Path, done: &Done) -> Result<()> {
    let text = serde_json::to_vec_pretty(done)
        .map_err(|e| Error::with_source(ErrorKind::Format, "cannot be written as JSON", e).in_file(path))?;
    write_bytes(path, &text)
}

fn count(manifest: &Manifest, labels: &ldseg::image::Labels) -> Vec<ClassCount> {
    let mut voxels = [0; 256];
    labels.iter().for_each(|&label| voxels[usize::from(label)] += 1);
    let classes = manifest.classes.iter().enumerate();
    classes.map(|(index, class)| ClassCount { index, name: class.name.clone(), voxels: voxels[index] }).collect()
}

/// What was asked for, completed with the bundle's defaults.
fn options(
    manifest: &Manifest,
    sampler: Option<Sampler>,
    steps: Option<usize>,
    samples: usize,
    seed: u64,
) -> Result<SegmentOptions> {
    let sampler = sampler.unwrap_or(manifest.default_sampler);
    let default_steps = match (sampler, manifest.default_sampler) {
        (Sampler::Direct, _) => 1,
        (_, Sampler::Direct) => FALLBACK_STEPS.min(manifest.timesteps - 1),
        _ => manifest.default_steps,
    };
    let steps = steps.unwrap_or(default_steps);
    let options = SegmentOptions { sampler, steps, samples, seed, frame: 0 };
    options.check(manifest.timesteps)?;
    Ok(options)
}

/// Makes the folder and tries to write into it, before the first image is worked on in vain.
pub(super) fn prepare_output(output: &Path) -> Result<()> {
    let probe = output.join(format!(".ldseg-{}", std::process::id()));
    fs::create_dir_all(output)
        .and_then(|()| fs::write(&probe, []))
        .and_then(|()| fs::remove_file(&probe))
        .map_err(|e| Error::with_source(ErrorKind::Io, "cannot write to the output folder", e).in_file(output))
}

/// Shown on a terminal, for more than one file.
fn progress_bar(files: usize) -> ProgressBar {
    if files < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} images, {eta} left");
    ProgressBar::new(files as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
