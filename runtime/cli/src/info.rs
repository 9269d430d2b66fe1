//! `ldseg info`.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use ldseg::bundle::{Bundle, Manifest};
use ldseg::image::{Image, Orientation};
use ldseg::preprocess::SpacingPolicy;
use ldseg::{Error, ErrorKind};
use ldseg_io::{Limits, read_recording_within};
use serde::Serialize;

use super::budget::LimitArgs;
use super::{Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// Folder of a bundle, or an image file
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Print one JSON document: a bundle's manifest, or the image's description
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

/// An image or cine, described.
#[derive(Serialize)]
struct ImageInfo {
    /// Along each spatial axis, slowest first.
    size: Vec<usize>,
    /// Along each spatial axis, slowest first; `None` where it is not known.
    spacing_mm: Option<Vec<f64>>,
    /// In which a volume is stored, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    orientation: Option<Orientation>,
    channels: usize,
    min: f32,
    max: f32,
    /// Of a cine.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<usize>,
    /// How long a cine lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// What is odd about the file.
    notes: Vec<String>,
}

pub(super) fn run(args: InfoArgs) -> anyhow::Result<Outcome> {
    if args.path.is_dir() {
        let bundle = Bundle::load(&args.path)?;
        if args.json { print_json(bundle.manifest())? } else { print(&describe_bundle(bundle.manifest())?)? }
    } else if !args.path.exists() {
        return Err(Error::new(ErrorKind::Io, "no such file or folder").in_file(&args.path).into());
    } else {
        let info = ImageInfo::read(&args.path, &args.limits.limits())?;
        if args.json { print_json(&info)? } else { print(&info.describe())? }
    }
    Ok(Outcome::Done)
}

impl ImageInfo {
    fn read(path: &Path, limits: &Limits) -> ldseg::Result<Self> {
        let recording = read_recording_within(path, limits)?;
        let mut info = Self::of(recording.frame(0).map_err(|e| e.in_file(path))?.as_ref());
        for index in 1..recording.frame_count() {
            let frame = Self::of(recording.frame(index).map_err(|e| e.in_file(path))?.as_ref());
            (info.min, info.max) = (info.min.min(frame.min), info.max.max(frame.max));
        }
        if recording.is_cine() {
            info.frames = Some(recording.frame_count());
            info.seconds = Some(recording.seconds().iter().sum());
        }
        Ok(Self { notes: recording.notes().to_vec(), ..info })
    }

    fn of(image: &Image) -> Self {
        let fold = |f: fn(f32, f32) -> f32| image.data.iter().copied().reduce(f).unwrap_or(f32::NAN);
        Self {
            size: image.data.shape()[1..].to_vec(),
            channels: image.data.shape()[0],
            min: fold(f32::min),
            max: fold(f32::max),
            spacing_mm: image.geometry.spacing.clone(),
            orientation: image.geometry.orientation().filter(|_| image.spatial_axes() == 3),
            frames: None,
            seconds: None,
            notes: Vec::new(),
        }
    }

    fn describe(&self) -> String {
        let mut text = format!(
            "size       {}\nspacing    {}\nchannels   {}\nvalues     {} to {}",
            by(&self.size),
            self.spacing_mm.as_deref().map_or_else(|| "unknown".to_owned(), |mm| format!("{} mm", by(mm))),
            self.channels,
            self.min,
            self.max
        );
        if let Some(orientation) = self.orientation {
            text += &format!("\norientation {orientation}");
        }
        if let (Some(frames), Some(seconds)) = (self.frames, self.seconds) {
            text += &format!("\nframes     {frames} in {seconds:.2} s");
        }
        self.notes.iter().for_each(|note| text += &format!("\nnote       {note}"));
        text
    }
}

fn describe_bundle(manifest: &Manifest) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let classes: Vec<_> = manifest.classes.iter().map(|class| class.name.as_str()).collect();
    let size: u64 = manifest.files.values().map(|file| file.size).sum();
    writeln!(text, "name        {}", manifest.name)?;
    writeln!(text, "input       {}, {} channels", by(&manifest.input_size), manifest.channels)?;
    let spacing = match &manifest.spacing {
        SpacingPolicy::Stretch => "plays no part: images are stretched to the input".to_owned(),
        SpacingPolicy::Resample(spacing) => format!("{} mm, in windows of the input's size", by(spacing)),
        SpacingPolicy::ResampleVoxels(voxels) => {
            format!("{} of the image's own voxels, in windows of the input's size", by(voxels))
        }
        other => format!("{other:?}"),
    };
    writeln!(text, "spacing     {spacing}")?;
    if manifest.spatial_axes == 3 {
        writeln!(text, "orientation {}", String::from(manifest.orientation()))?;
    }
    writeln!(text, "latent      {}", by(&manifest.latent_shape))?;
    writeln!(text, "classes     {}", classes.join(", "))?;
    writeln!(
        text,
        "diffusion   T = {}, {:?} schedule, predicts {:?}",
        manifest.timesteps, manifest.schedule, manifest.prediction
    )?;
    writeln!(text, "sampler     {}, {} steps", manifest.default_sampler, manifest.default_steps)?;
    let made = &manifest.provenance;
    writeln!(
        text,
        "made        {} by version {}, recipe {}, seed {}",
        made.date, made.code_version, made.recipe, made.seed
    )?;
    writeln!(
        text,
        "files       {} intact, {:.1} MiB, ONNX opset {}",
        manifest.files.len(),
        size as f64 / f64::from(1 << 20),
        manifest.onnx_opset
    )?;
    Ok(text)
}

/// `3 x 4 x 5`.
fn by<T: ToString>(sizes: &[T]) -> String {
    sizes.iter().map(T::to_string).collect::<Vec<_>>().join(" x ")
}
