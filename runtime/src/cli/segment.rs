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
use ldseg::image::{
    Cine, Content, Geometry, Image, Labels, output_extension, overlay, read_study, write_cine, write_labels,
    write_overlay, write_scalar,
};
use ldseg::measure::{HeartClasses, Ventricle, ejection_fraction, ventricle};
use ldseg::segmenter::{SegmentOptions, Segmentation, Segmenter};
use ldseg::{Error, ErrorKind, Result, Tensor};
use ndarray::{ArrayD, Axis, stack};
use serde::Serialize;

use super::inputs::{Job, jobs};
use super::{EngineArgs, Outcome, note, print, print_json, report};

const OVERLAY: &str = "_overlay";
const UNCERTAINTY: &str = "_uncertainty";
const SPACING_NEEDED: &str = "the file does not tell its pixel spacing, --pixel-spacing does";
/// Steps of a sampler that is not the bundle's default, where that is `direct` and says nothing about steps.
const FALLBACK_STEPS: usize = 10;

#[derive(Debug, clap::Args)]
pub(super) struct SegmentArgs {
    /// Images or cines, folders of them, or `.txt` files that list them, one a line, relative to the list
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
    /// Also write the image with its segmentation drawn over it: a PNG, or a GIF for a cine
    #[arg(long)]
    overlay: bool,
    /// Also write a map of the uncertainty, 0 to 1
    #[arg(long)]
    uncertainty: bool,
    /// Also measure the left ventricle in echocardiograms: area, long axis and volume, and over a cine the ejection
    /// fraction; with --json
    #[arg(long, requires = "json")]
    measure: bool,
    /// Pixel spacing in mm of pictures and cines whose files do not tell it, for measuring and a cine's outputs; pixels
    /// are square then
    #[arg(long, value_name = "MM", value_parser = millimetres)]
    pixel_spacing: Option<f64>,
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

fn millimetres(text: &str) -> std::result::Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("expected a positive number".into()) }
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
    /// Set where measuring was asked for.
    measure: Option<HeartClasses>,
    pixel_spacing: Option<f64>,
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
    Done(Box<Done>),
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
    /// Of a cine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frames: Vec<FrameDone>,
    /// Of a still image, where it was asked for and can be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_ventricle: Option<Ventricle>,
    /// Of a cine, where it was asked for and can be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat: Option<Heartbeat>,
    /// What is odd about the input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// One frame of a cine.
#[derive(Serialize)]
struct FrameDone {
    index: usize,
    /// When it is shown, counted from the first frame.
    time_seconds: f64,
    classes: Vec<ClassCount>,
    mean_uncertainty: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_ventricle: Option<Ventricle>,
}

/// What a cine tells of the left ventricle, by the method of discs in its one plane.
#[derive(Serialize)]
struct Heartbeat {
    /// The frame with the largest volume.
    end_diastole_frame: usize,
    /// The frame with the smallest volume.
    end_systole_frame: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_diastolic_volume_ml: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_systolic_volume_ml: Option<f64>,
    /// (EDV - ESV) / EDV, 0 to 1.
    ejection_fraction: f64,
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
        let measure = args.measure.then(|| heart_classes(bundle.manifest())).transpose()?;
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
            measure,
            pixel_spacing: args.pixel_spacing,
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
                done.notes.iter().for_each(|text| note(&format!("{}: {text}", input.display())));
                if !self.json {
                    print(&format!("{} -> {} ({:.2} s)", input.display(), done.output.display(), done.seconds))?;
                }
                Ok(FileOutcome::Done(Box::new(done)))
            }
            Err(error) => {
                report(&error);
                Ok(FileOutcome::Failed { error })
            }
        }
    }

    fn segment(&self, segmenter: &mut Segmenter, input: &Path, name: &str, inputs: &HashSet<PathBuf>) -> Result<Done> {
        let start = Instant::now();
        let mut study = read_study(input)?;
        if study.ultrasound && self.bundle.manifest().channels == 1 {
            study = study.into_grey();
        }
        let (extension, picture) = match &study.content {
            Content::Still(image) => (output_extension(&image.geometry, image.spatial_axes()), "png"),
            Content::Cine(cine) => (output_extension(&cine.geometry(), 3), "gif"),
        };
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
        let mut done = Done {
            output: path("", extension)?,
            overlay: self.overlay.then(|| path(OVERLAY, picture)).transpose()?,
            uncertainty: self.uncertainty.then(|| path(UNCERTAINTY, extension)).transpose()?,
            seconds: 0.0,
            classes: Vec::new(),
            mean_uncertainty: 0.0,
            frames: Vec::new(),
            left_ventricle: None,
            heartbeat: None,
            notes: study.notes,
        };
        let spacing = match (&study.content, self.pixel_spacing) {
            (Content::Still(image), _) if study.spacing_known => <[f64; 2]>::try_from(image.spacing.as_slice()).ok(),
            (Content::Cine(cine), _) if study.spacing_known => Some(cine.spacing()),
            (_, given) => given.map(|spacing| [spacing; 2]),
        };
        let json = self.json.then(|| path("", "json")).transpose()?;
        match &study.content {
            Content::Still(image) => self.still(segmenter, image, spacing, &mut done),
            Content::Cine(cine) => self.cine(segmenter, cine, spacing, &mut done),
        }
        .map_err(|e| e.in_file(input))?;
        done.seconds = start.elapsed().as_secs_f64();
        if let Some(path) = &json {
            write_json(path, &done)?;
        }
        Ok(done)
    }

    fn colours(&self) -> Vec<[u8; 3]> {
        self.bundle.manifest().classes.iter().map(|class| class.colour).collect()
    }

    fn still(
        &self,
        segmenter: &mut Segmenter,
        image: &Image,
        spacing: Option<[f64; 2]>,
        done: &mut Done,
    ) -> Result<()> {
        let result = segmenter.segment(image, &self.options)?;
        write_labels(&done.output, &result.labels, &image.geometry)?;
        if let Some(path) = &done.overlay {
            write_overlay(path, image, &result.labels, &self.colours())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &result.uncertainty, &image.geometry)?;
        }
        done.classes = count(self.bundle.manifest(), &result.labels);
        done.mean_uncertainty = mean(&result.uncertainty);
        if let Some(classes) = self.measure {
            match spacing {
                Some(spacing) => done.left_ventricle = ventricle(&result.labels, classes, spacing)?,
                None => done.notes.push(format!("is not measured: {SPACING_NEEDED}")),
            }
        }
        Ok(())
    }

    /// One frame after the other; the outputs hold all of them.
    fn cine(&self, segmenter: &mut Segmenter, cine: &Cine, spacing: Option<[f64; 2]>, done: &mut Done) -> Result<()> {
        let (mut labels, mut uncertainty, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        let mut volumes = Vec::new();
        let mut time_seconds = 0.0;
        for (index, shown) in cine.seconds().iter().enumerate() {
            let frame = cine.frame(index)?;
            let options = SegmentOptions { frame: index as u64, ..self.options.clone() };
            let result: Segmentation = segmenter.segment(&frame, &options)?;
            // A ratio of volumes needs no unit.
            let measured = match self.measure {
                Some(classes) => ventricle(&result.labels, classes, spacing.unwrap_or([1.0; 2]))?,
                None => None,
            };
            volumes.extend(measured.as_ref().map(|measured| (index, measured.volume_ml)));
            done.frames.push(FrameDone {
                index,
                time_seconds,
                classes: count(self.bundle.manifest(), &result.labels),
                mean_uncertainty: mean(&result.uncertainty),
                left_ventricle: measured.filter(|_| spacing.is_some()),
            });
            if done.overlay.is_some() {
                pictures.push(overlay(&frame, &result.labels, &self.colours())?);
            }
            if done.uncertainty.is_some() {
                uncertainty.push(result.uncertainty);
            }
            labels.push(result.labels);
            time_seconds += shown;
        }
        let labels = over_time(&labels)?;
        let geometry = spacing.map_or_else(|| cine.geometry(), |spacing| Geometry::Cine { spacing });
        write_labels(&done.output, &labels, &geometry)?;
        if let Some(path) = &done.overlay {
            write_cine(path, pictures, cine.seconds())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &over_time(&uncertainty)?, &geometry)?;
        }
        done.classes = count(self.bundle.manifest(), &labels);
        let frames = done.frames.iter().map(|frame| frame.mean_uncertainty);
        done.mean_uncertainty = frames.sum::<f64>() / done.frames.len() as f64;
        done.heartbeat = heartbeat(&volumes, spacing.is_some());
        if self.measure.is_some() && spacing.is_none() {
            done.notes
                .push(format!("has no volumes in ml, only an ejection fraction for square pixels: {SPACING_NEEDED}"));
        }
        Ok(())
    }
}

/// The largest and the smallest of the volumes, each with its frame.
fn heartbeat(volumes: &[(usize, f64)], in_ml: bool) -> Option<Heartbeat> {
    let by_volume = |a: &&(usize, f64), b: &&(usize, f64)| a.1.total_cmp(&b.1);
    let &(end_diastole_frame, largest) = volumes.iter().max_by(by_volume)?;
    let &(end_systole_frame, smallest) = volumes.iter().min_by(by_volume)?;
    Some(Heartbeat {
        end_diastole_frame,
        end_systole_frame,
        end_diastolic_volume_ml: in_ml.then_some(largest),
        end_systolic_volume_ml: in_ml.then_some(smallest),
        ejection_fraction: ejection_fraction(largest, smallest),
    })
}

fn heart_classes(manifest: &Manifest) -> Result<HeartClasses> {
    HeartClasses::find(manifest.classes.iter().map(|class| class.name.as_str())).ok_or_else(|| {
        let message = format!(
            "--measure needs a bundle with the classes `left ventricle` and `myocardium`, {} has others",
            manifest.name
        );
        Error::new(ErrorKind::Setting, message)
    })
}

/// Frames `[H, W]` as one array `[F, H, W]`.
fn over_time<T: Clone>(frames: &[ArrayD<T>]) -> Result<ArrayD<T>> {
    let views: Vec<_> = frames.iter().map(|frame| frame.view()).collect();
    stack(Axis(0), &views)
        .map_err(|e| Error::with_source(ErrorKind::ShapeMismatch, "the frames have different sizes", e))
}

fn mean(uncertainty: &Tensor) -> f64 {
    uncertainty.iter().map(|&value| f64::from(value)).sum::<f64>() / uncertainty.len() as f64
}

fn write_json(path: &Path, done: &Done) -> Result<()> {
    let text = serde_json::to_vec_pretty(done)
        .map_err(|e| Error::with_source(ErrorKind::Format, "cannot be written as JSON", e).in_file(path))?;
    write_bytes(path, &text)
}

fn count(manifest: &Manifest, labels: &Labels) -> Vec<ClassCount> {
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
