//! `ldseg segment`.

mod cohort;
mod dicom;
mod frames;
mod results;
mod sampling;

use std::{
    collections::HashSet,
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Instant,
};

use indicatif::{ProgressBar, ProgressStyle};
use ldseg::budget::Budget;
use ldseg::bundle::Bundle;
use ldseg::engine::EngineOptions;
use ldseg::frames::FrameOptions;
use ldseg::segmenter::Segmenter;
use ldseg::{Error, ErrorKind, Result, catch_panic};
use ldseg_io::Limits;
#[cfg(feature = "dicom")]
use ldseg_recording::dicom::algorithm;
use ldseg_recording::heart::LeftHeart;
use ldseg_recording::outputs::{Output, Outputs, Writer};
use ldseg_recording::{Prepared, Runner, Wish, left_heart};

use self::cohort::CohortArgs;
use self::dicom::DicomArgs;
pub(super) use self::frames::FrameArgs;
use self::results::{Document, Done, FileOutcome, FileResult, check_output, write_json};
pub(super) use self::sampling::SamplingArgs;
use super::budget::BudgetArgs;
use super::inputs::{Job, jobs};
use super::wish::{Hints, WishArgs};
use super::{EngineArgs, Outcome, note, print, print_json, report};

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
    #[command(flatten)]
    frames: FrameArgs,
    #[command(flatten)]
    cohort: CohortArgs,
    /// Also write the image with its segmentation drawn over it: a PNG, or a GIF for a cine
    #[arg(long)]
    overlay: bool,
    /// Also write a map of the uncertainty, 0 to 1
    #[arg(long)]
    uncertainty: bool,
    #[command(flatten)]
    dicom: DicomArgs,
    /// Also write each sample's label map (`X_samples.nii.gz`, samples along the last axis) and the mean probabilities
    /// (`X_probabilities.nii.gz`, classes along the last axis); `ldseg evaluate` scores them
    #[arg(long)]
    keep_samples: bool,
    /// Also measure the left ventricle and atrium in echocardiograms: area, long axis and volume, and over a cine the
    /// ejection fraction; with --json
    #[arg(long, requires = "json")]
    measure: bool,
    /// Measure also what is not of the kind of image that the bundle was trained on; every output says so
    #[arg(long, requires = "measure")]
    measure_anyway: bool,
    #[command(flatten)]
    wish: WishArgs,
    /// Print the results as one JSON document, and write each image's to a file named after it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    budget: BudgetArgs,
}

/// Everything that is to be done, after the bundle and the settings were found to be in order.
struct Plan {
    bundle: Bundle,
    engine: EngineOptions,
    frames: FrameOptions,
    jobs: Vec<Job>,
    folder: PathBuf,
    outputs: Outputs,
    wish: Wish,
    skip_done: bool,
    /// Set where measuring was asked for.
    heart: Option<LeftHeart>,
    measure_anyway: bool,
    json: bool,
    limits: Limits,
    budget: Budget,
}

pub(super) fn run(args: SegmentArgs) -> anyhow::Result<Outcome> {
    let plan = Plan::new(args)?;
    let segmenter = Segmenter::from_bundle(&plan.bundle, &plan.engine)?.within(plan.budget);
    let mut runner = Runner::new(segmenter, plan.frames.clone())?.measuring_anyway(plan.measure_anyway);
    prepare_output(&plan.folder)?;
    let files = plan.segment_all(&mut runner)?;
    let success = !files.iter().any(|file| matches!(file.outcome, FileOutcome::Failed { .. }));
    if plan.json {
        print_json(&plan.document(files))?;
    }
    Ok(Outcome::from_success(success))
}

impl Plan {
    fn new(args: SegmentArgs) -> Result<Self> {
        let bundle = Bundle::load(&args.bundle)?;
        let heart = args.measure.then(|| left_heart(bundle.manifest())).transpose()?;
        let mut options = args.sampling.options(bundle.manifest())?;
        // An ejection fraction of each sample gives its interval.
        options.keep_samples = args.keep_samples || (heart.is_some() && options.samples > 1);
        let asked = [
            (args.overlay, Output::Overlay),
            (args.uncertainty, Output::Uncertainty),
            (args.keep_samples, Output::Samples),
            (args.keep_samples, Output::Probabilities),
            (args.json, Output::Json),
        ];
        let asked = asked.into_iter().filter(|(asked, _)| *asked).map(|(_, output)| output);
        let outputs = Outputs::new(args.output.clone(), args.dicom.outputs().into_iter().chain(asked));
        let limits = args.budget.limits(bundle.manifest(), &options);
        let jobs = jobs(&args.input, &outputs.suffixes(), bundle.manifest().channels, &limits);
        Ok(Self {
            bundle,
            engine: args.engine.options(),
            frames: args.frames.options(options),
            jobs: args.cohort.part_of(jobs)?,
            folder: args.output,
            outputs,
            wish: args.wish.wish(),
            skip_done: args.cohort.skip_done,
            heart,
            measure_anyway: args.measure_anyway,
            json: args.json,
            limits,
            budget: args.budget.budget(),
        })
    }

    fn document(&self, files: Vec<FileResult>) -> Document<'_> {
        Document {
            bundle: &self.bundle.manifest().name,
            engine: self.engine.engine.name(),
            device: self.engine.device.name(),
            sampler: self.frames.segment.sampler,
            steps: self.frames.segment.steps,
            samples: self.frames.segment.samples,
            seed: self.frames.segment.seed,
            files,
        }
    }

    /// Segments one file after the other; one that fails is reported and leaves the others alone.
    fn segment_all(&self, runner: &mut Runner) -> anyhow::Result<Vec<FileResult>> {
        let files = self.jobs.iter().flat_map(|job| &job.files);
        let inputs: HashSet<_> = files.filter_map(|file| file.canonicalize().ok()).collect();
        let bar = progress_bar(self.jobs.len());
        let mut hints = Hints::default();
        let mut files = Vec::with_capacity(self.jobs.len());
        for job in &self.jobs {
            if let Some(output) = job.name.as_ref().ok().filter(|_| self.skip_done).and_then(|name| self.done(name)) {
                files.push(FileResult {
                    input: job.input.clone(),
                    outcome: FileOutcome::Skipped { output, skipped: true },
                });
                bar.inc(1);
                continue;
            }
            let result = match &job.name {
                Ok(name) => {
                    let failed = format!("{}: segmenting it failed", job.input.display());
                    catch_panic(ErrorKind::Engine, &failed, || self.segment(runner, job, name, &inputs, &mut hints))
                        .map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            let outcome = bar.suspend(|| self.tell(&job.input, result))?;
            files.push(FileResult { input: job.input.clone(), outcome });
            bar.inc(1);
        }
        bar.finish_and_clear();
        hints.tell();
        Ok(files)
    }

    /// The label map of an input whose outputs are there already, and whole.
    fn done(&self, name: &str) -> Option<PathBuf> {
        let mut there = self.outputs.existing(name)?;
        let problem = there.iter().find_map(|path| check_output(path).err());
        if let Some(error) = &problem {
            note(&format!("{error}; it is written anew"));
        }
        problem.is_none().then(|| there.swap_remove(0))
    }

    fn segment(
        &self,
        runner: &mut Runner,
        job: &Job,
        name: &str,
        inputs: &HashSet<PathBuf>,
        hints: &mut Hints,
    ) -> Result<Done> {
        let start = Instant::now();
        let manifest = self.bundle.manifest();
        let prepared = Prepared::open_within(&job.files, manifest.channels, &self.wish, &self.limits)?;
        hints.about_spacing(prepared.decisions(), manifest, self.heart.is_some());
        self.check_outputs(&prepared)?;
        let planned = self.outputs.plan(name, &prepared, inputs)?;
        let json = planned.path(Output::Json).map(Path::to_path_buf);
        #[cfg(feature = "dicom")]
        let algorithm = algorithm(manifest, &self.engine, &self.frames, self.wish.crop_sector);
        let mut writer = Writer::start(
            planned,
            &prepared,
            &manifest.classes,
            #[cfg(feature = "dicom")]
            &algorithm,
        )?;
        let mut found = runner.run(&prepared, self.heart.as_ref(), &mut |image, found| writer.add(image, found))?;
        if found.is_of_another_kind() && self.heart.is_some() && !self.measure_anyway {
            hints.about_kind();
        }
        let written = writer.finish(&mut found)?;
        let seconds = start.elapsed().as_secs_f64();
        let done = Done { written, seconds, decisions: prepared.decisions().clone(), found };
        if let Some(path) = &json {
            write_json(path, &done)?;
        }
        Ok(done)
    }

    /// Whether there is memory for a cine's outputs, which are collected.
    fn check_outputs(&self, prepared: &Prepared) -> Result<()> {
        let bytes = match prepared.is_cine() {
            true => self.outputs.bytes(prepared, self.bundle.manifest().classes.len(), self.frames.segment.samples)?,
            false => 0,
        };
        if bytes > self.budget.bytes / 2 {
            let (needed, most) = (bytes >> 20, self.budget.bytes >> 21);
            let message = format!("its outputs would take {needed} MiB in memory, expected at most {most}");
            return Err(Error::new(ErrorKind::ShapeMismatch, message).in_file(prepared.path()));
        }
        Ok(())
    }

    fn tell(&self, input: &Path, result: std::result::Result<Done, String>) -> anyhow::Result<FileOutcome> {
        match result {
            Ok(done) => {
                let measured = done.found.heartbeat_in_words();
                done.found.notes.iter().chain(&measured).for_each(|text| note(&format!("{}: {text}", input.display())));
                if !self.json {
                    let output = done.written.labels();
                    print(&format!("{} -> {} ({:.2} s)", input.display(), output.display(), done.seconds))?;
                }
                Ok(FileOutcome::Done(Box::new(done)))
            }
            Err(error) => {
                report(&error);
                Ok(FileOutcome::Failed { error })
            }
        }
    }
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
