//! `ldseg stream`: frames answered as they come.

mod source;

use std::io::{Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use ldseg::bundle::Bundle;
use ldseg::document::Versioned;
use ldseg::engine::EngineOptions;
use ldseg::frames::FrameOptions;
use ldseg::image::Image;
use ldseg::queue::{Queue, WhenFull};
use ldseg::segmenter::{Segmentation, Segmenter};
use ldseg::{Error, ErrorKind, Result, Tensor, catch_panic};
use ldseg_io::{Limits, OutputForm, output_name, write_labels};
use ldseg_recording::decide::prepare;
use ldseg_recording::heart::{LeftHeart, Measured};
use ldseg_recording::outputs::Output;
use ldseg_recording::results::{ClassResult, mean};
use ldseg_recording::{Answer as Said, Decisions, ImageKind, Prepared, Runner, Wish, answer, left_heart};
use serde::Serialize;

use self::source::{Content, Waiting, read_pixels, watch};
use super::budget::BudgetArgs;
use super::segment::{FrameArgs, SamplingArgs, prepare_output};
use super::wish::millimetres;
use super::{EngineArgs, Outcome, heard, note, print, print_to_reader, report};

#[derive(Debug, clap::Args)]
pub(super) struct StreamArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    frames: FrameArgs,
    /// Frames that may wait
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000), default_value = "2")]
    queue: usize,
    /// What happens to a frame that comes while the queue is full: the oldest one is dropped, or the source waits
    #[arg(long, value_parser = policies(), default_value = WhenFull::DropOldest.name())]
    when_full: WhenFull,
    /// Also write each label map into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write labels to standard output, not JSON: for each answered frame its index, 8 bytes, the least significant first,
    /// then a byte a pixel
    #[arg(long)]
    raw_labels: bool,
    /// Also measure the left ventricle and atrium
    #[arg(long)]
    measure: bool,
    /// Measure also what is not of the kind of image that the bundle was trained on; every answer says so
    #[arg(long, requires = "measure")]
    measure_anyway: bool,
    /// Pixel spacing in mm, for measuring
    #[arg(long, value_name = "MM", value_parser = millimetres)]
    pixel_spacing: Option<f64>,
    #[command(flatten)]
    budget: BudgetArgs,
}

/// Exactly one of the two.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct SourceArgs {
    /// Read raw frames of this height and width from standard input, 8 bits a channel, without any header
    #[arg(long, value_name = "HxW", value_parser = size, conflicts_with = "watch")]
    size: Option<[usize; 2]>,
    /// Channels of a raw frame's pixels: 1, or 3 for RGB
    #[arg(long, value_name = "N", requires = "size", value_parser = ["1", "3"], default_value = "1")]
    pixel_channels: String,
    /// Read image files as they appear in this folder
    #[arg(long, value_name = "DIR")]
    watch: Option<PathBuf>,
    /// Leave when no new file has come for so long [default: never]
    #[arg(long, value_name = "SECONDS", requires = "watch", value_parser = seconds)]
    idle_seconds: Option<Duration>,
}

fn policies() -> impl TypedValueParser<Value = WhenFull> {
    PossibleValuesParser::new(WhenFull::ALL.map(WhenFull::name)).try_map(|name| name.parse::<WhenFull>())
}

fn size(text: &str) -> std::result::Result<[usize; 2], String> {
    let numbers = text.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
    match numbers {
        Some(size) if size.iter().all(|n| (1..=16_384).contains(n)) => Ok(size),
        _ => Err("expected height and width, each 1 to 16384, as in 480x640".into()),
    }
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    Duration::try_from_secs_f64(value).map_err(|_| "expected a number of seconds, 0 or more".into())
}

/// One answered frame, or one that could not be.
#[derive(Serialize)]
struct Line {
    frame: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Frames given up since the last answer.
    dropped: u64,
    #[serde(flatten)]
    outcome: LineOutcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum LineOutcome {
    Answer(Box<Answer>),
    Failed { error: String },
}

#[derive(Serialize)]
struct Answer {
    /// From the frame's arrival to its answer.
    latency_ms: f64,
    /// From its pixels to its labels.
    compute_ms: f64,
    /// Denoiser calls.
    steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_time: Option<bool>,
    unsure: bool,
    mean_uncertainty: f64,
    classes: Vec<ClassResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_kind: Option<ImageKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_level: Option<f64>,
    #[serde(flatten)]
    measured: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// What was decided about the frame and the user has to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// The last line.
#[derive(Debug, Default, Serialize)]
struct End {
    answered: u64,
    failed: u64,
    dropped: u64,
    /// Answers after the deadline.
    late: u64,
    longest_latency_ms: f64,
}

/// Everything that a frame's answer needs.
struct Stream {
    bundle: Bundle,
    runner: Runner,
    /// Height, width and channels of raw frames.
    shape: Option<[usize; 3]>,
    output: Option<PathBuf>,
    raw_labels: bool,
    heart: Option<LeftHeart>,
    pixel_spacing: Option<[f64; 2]>,
    limits: Limits,
}

pub(super) fn run(args: StreamArgs) -> anyhow::Result<Outcome> {
    let StreamArgs { source, queue, when_full, .. } = &args;
    let queue = Arc::new(Queue::new(*queue, *when_full));
    let (folder, idle) = (source.watch.clone(), source.idle_seconds);
    let mut stream = Stream::new(&args)?;
    let bytes = stream.shape.map_or(0, |shape| shape.iter().product());
    let reader = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            let read = match &folder {
                Some(folder) => watch(folder, idle, &queue),
                None => read_pixels(stdin().lock(), bytes, &queue),
            };
            queue.close();
            read
        })
    };
    let end = stream.answer_all(&queue);
    // Whoever waits for room in the queue learns that nobody takes anything any more.
    queue.close();
    let Some(end) = end? else {
        // Nobody reads the answers, and the thread may wait for its source for ever: it is left behind.
        return Ok(Outcome::Done);
    };
    let read = reader.join().map_err(|_| anyhow::anyhow!("the reader has stopped"))?;
    if let Err(error) = &read {
        report(error);
    }
    if args.raw_labels {
        note(&format!("{} frames answered, {} dropped, {} failed", end.answered, end.dropped, end.failed));
    } else {
        print(&serde_json::to_string(&Versioned::new(serde_json::json!({ "end": end })))?)?;
    }
    Ok(Outcome::from_success(read.is_ok() && end.failed == 0))
}

impl Stream {
    fn new(args: &StreamArgs) -> Result<Self> {
        let bundle = Bundle::load(&args.bundle)?;
        let manifest = bundle.manifest();
        if manifest.spatial_axes != 2 {
            let message = format!("{} segments volumes, expected a bundle for pictures", manifest.name);
            return Err(Error::new(ErrorKind::Setting, message));
        }
        let heart = args.measure.then(|| left_heart(manifest)).transpose()?;
        if heart.is_some() && args.source.size.is_some() && args.pixel_spacing.is_none() {
            return Err(Error::new(ErrorKind::Setting, "--measure of raw frames needs --pixel-spacing"));
        }
        let options = args.sampling.options(manifest)?;
        let limits = args.budget.limits(manifest, &options);
        let frames: FrameOptions = args.frames.options(options);
        let engine: EngineOptions = args.engine.clone().options();
        if let Some(output) = &args.output {
            prepare_output(output)?;
            let same =
                |watched: &PathBuf| matches!((watched.canonicalize(), output.canonicalize()), (Ok(a), Ok(b)) if a == b);
            if args.source.watch.as_ref().is_some_and(same) {
                let message =
                    "--output is the folder that is watched: each label map would be the next frame, expected another";
                return Err(Error::new(ErrorKind::Setting, message).in_file(output));
            }
        }
        let channels = if args.source.pixel_channels == "3" { 3 } else { 1 };
        Ok(Self {
            runner: Runner::new(Segmenter::from_bundle(&bundle, &engine)?.within(args.budget.budget()), frames)?
                .measuring_anyway(args.measure_anyway),
            limits,
            shape: args.source.size.map(|[height, width]| [height, width, channels]),
            output: args.output.clone(),
            raw_labels: args.raw_labels,
            heart,
            pixel_spacing: args.pixel_spacing.map(|mm| [mm; 2]),
            bundle,
        })
    }

    /// Answers until the queue is closed; `None` where nobody is there to read the answers, nor any label map is written.
    fn answer_all(&mut self, queue: &Queue<Waiting>) -> anyhow::Result<Option<End>> {
        let mut end = End::default();
        let mut dropped = 0;
        while let Some((waiting, just_dropped)) = queue.pop() {
            dropped += just_dropped;
            end.dropped += just_dropped;
            let frame = waiting.index;
            let file = match &waiting.content {
                Content::File(path) => Some(path.clone()),
                Content::Pixels(_) => None,
            };
            let answer =
                catch_panic(ErrorKind::Engine, "segmenting it failed", || self.answer(&waiting, file.as_deref()));
            if let (Err(_), Some(unsettled), Some(file)) = (&answer, &waiting.unsettled, &file) {
                unsettled.again(file, frame);
                continue;
            }
            let mut heard = true;
            let outcome = match answer {
                Ok((answer, segmentation)) => {
                    end.answered += 1;
                    end.late += u64::from(answer.in_time == Some(false));
                    end.longest_latency_ms = end.longest_latency_ms.max(answer.latency_ms);
                    if self.raw_labels {
                        heard = write_raw(frame, &segmentation)?;
                    }
                    LineOutcome::Answer(Box::new(answer))
                }
                Err(error) => {
                    end.failed += 1;
                    report(&error);
                    LineOutcome::Failed { error: error.to_string() }
                }
            };
            if !self.raw_labels {
                let file = file.map(|file| file.to_string_lossy().into_owned());
                let line = Line { frame, file, dropped: std::mem::take(&mut dropped), outcome };
                heard = print_to_reader(&serde_json::to_string(&Versioned::new(line))?)? || self.output.is_some();
            }
            if !heard {
                return Ok(None);
            }
        }
        Ok(Some(end))
    }

    fn answer(&mut self, waiting: &Waiting, file: Option<&Path>) -> Result<(Answer, Segmentation)> {
        let (image, decisions) = self.image(&waiting.content)?;
        let in_file = |e: Error| match file {
            Some(file) => e.in_file(file),
            None => e,
        };
        let frame = self.runner.segment(&image, decisions.part(), waiting.index).map_err(in_file)?;
        let segmentation = frame.segmentation;
        let output = self.output.as_ref().map(|folder| {
            let name = file.and_then(output_name).unwrap_or_else(|| format!("frame{:06}", waiting.index));
            folder.join(Output::Labels.file_name(&name, "png"))
        });
        if let Some(path) = &output {
            write_labels(path, &segmentation.labels, &OutputForm::picture())?;
        }
        let Said { measured, image_kind, interval_level, notes, .. } =
            answer(self.runner.trust(), self.heart.as_ref(), &decisions, &segmentation)?;
        let classes = ClassResult::all(self.bundle.manifest(), &segmentation)?;
        let answer = Answer {
            latency_ms: milliseconds(waiting.arrived.elapsed()),
            compute_ms: milliseconds(frame.time),
            steps: segmentation.steps,
            in_time: frame.in_time,
            unsure: ClassResult::any_unsure(&classes),
            mean_uncertainty: mean(&segmentation.uncertainty),
            classes,
            image_kind,
            interval_level,
            measured,
            output: output.map(|path| path.to_string_lossy().into_owned()),
            notes,
        };
        Ok((answer, segmentation))
    }

    /// The image as decided, and the decisions.
    fn image(&self, content: &Content) -> Result<(Image, Decisions)> {
        let taken = self.bundle.manifest().channels;
        match content {
            Content::Pixels(pixels) => {
                let [height, width, channels] = self.shape.unwrap_or_default();
                let value = |i: ndarray::IxDyn| f32::from(pixels[(i[1] * width + i[2]) * channels + i[0]]);
                let data = Tensor::from_shape_fn(vec![channels, height, width], value);
                let spacing = self.pixel_spacing.as_ref().map(<[f64; 2]>::as_slice);
                prepare(Image::from_array(data, spacing)?, taken)
            }
            Content::File(path) => {
                let wish = Wish::pixels_of(self.pixel_spacing);
                let prepared = Prepared::open_within(std::slice::from_ref(path), taken, &wish, &self.limits)?;
                Ok((prepared.still()?, prepared.decisions().clone()))
            }
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Writes a frame's labels, and tells whether somebody reads them.
fn write_raw(frame: u64, segmentation: &Segmentation) -> std::io::Result<bool> {
    let mut out = stdout().lock();
    let labels = segmentation.labels.iter().copied().collect::<Vec<u8>>();
    heard(out.write_all(&frame.to_le_bytes()).and_then(|()| out.write_all(&labels)).and_then(|()| out.flush()))
}
