//! What `ldseg segment --json` tells.

use std::path::{Path, PathBuf};

use ldseg::bundle::Manifest;
use ldseg::diffusion::Sampler;
use ldseg::files::write_bytes;
use ldseg::segmenter::Segmentation;
use ldseg::uncertainty::expected_dice;
use ldseg::{Error, ErrorKind, Result, Tensor};
use ldseg_recording::heart::Heartbeat;
use ldseg_recording::heart::{Atrium, Ventricle};
use serde::Serialize;

/// The JSON document.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) bundle: &'a str,
    pub(super) engine: &'a str,
    pub(super) device: &'a str,
    pub(super) sampler: Sampler,
    pub(super) steps: usize,
    pub(super) samples: usize,
    pub(super) seed: u64,
    pub(super) files: Vec<FileResult>,
}

/// One input's outcome: its outputs, or the error.
#[derive(Serialize)]
pub(super) struct FileResult {
    pub(super) input: PathBuf,
    #[serde(flatten)]
    pub(super) outcome: FileOutcome,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum FileOutcome {
    Done(Box<Done>),
    /// Its outputs were there, and were left alone.
    Skipped {
        output: PathBuf,
        skipped: bool,
    },
    Failed {
        error: String,
    },
}

#[derive(Serialize)]
pub(super) struct Done {
    pub(super) output: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overlay: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uncertainty: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dicom_seg: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dicom_sr: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) samples: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) probabilities: Option<PathBuf>,
    /// Reading, segmenting and writing.
    pub(super) seconds: f64,
    pub(super) classes: Vec<ClassResult>,
    /// Over all voxels, 0 to 1.
    pub(super) mean_uncertainty: f64,
    /// Whether a structure is; a cine is where a frame is.
    pub(super) unsure: bool,
    /// Denoiser calls, of a still image; they vary where there is a deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steps: Option<usize>,
    /// Whether the deadline was kept, of a still image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) in_time: Option<bool>,
    /// Of a cine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) frames: Vec<FrameDone>,
    /// Of a still image, where it was asked for and can be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_ventricle: Option<Ventricle>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_atrium: Option<Atrium>,
    /// Of a cine, where it was asked for and can be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heartbeat: Option<Heartbeat>,
    /// What is odd about the input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// One frame of a cine.
#[derive(Serialize)]
pub(super) struct FrameDone {
    pub(super) index: usize,
    /// When it is shown, counted from the first frame.
    pub(super) time_seconds: f64,
    pub(super) classes: Vec<ClassResult>,
    pub(super) mean_uncertainty: f64,
    pub(super) unsure: bool,
    pub(super) steps: usize,
    /// From the frame's pixels to its labels.
    pub(super) milliseconds: f64,
    /// Whether the deadline was kept, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) in_time: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_ventricle: Option<Ventricle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_atrium: Option<Atrium>,
}

/// One class of a picture, volume or frame.
#[derive(Serialize)]
pub(crate) struct ClassResult {
    index: usize,
    name: String,
    voxels: usize,
    /// The Dice that the probabilities let expect; absent where no voxel has the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_dice: Option<f64>,
    /// Whether that is below the bundle's threshold for the class.
    unsure: bool,
}

impl ClassResult {
    /// All classes of a segmentation.
    pub(crate) fn all(manifest: &Manifest, segmentation: &Segmentation) -> Result<Vec<Self>> {
        let expected = expected_dice(&segmentation.probabilities, &segmentation.labels)?;
        let mut voxels = [0; 256];
        segmentation.labels.iter().for_each(|&label| voxels[usize::from(label)] += 1);
        let classes = manifest.classes.iter().zip(expected).enumerate();
        let result = classes.map(|(index, (class, expected_dice))| Self {
            index,
            name: class.name.clone(),
            voxels: voxels[index],
            expected_dice,
            unsure: expected_dice.zip(class.unsure_below).is_some_and(|(expected, least)| expected < least),
        });
        Ok(result.collect())
    }

    /// A cine's: voxels of all frames together, the mean expected Dice, and unsure where a frame is.
    pub(super) fn over_frames(frames: &[FrameDone]) -> Vec<Self> {
        let Some(first) = frames.first() else { return Vec::new() };
        let class = |index: usize| {
            let of_frames = || frames.iter().map(|frame| &frame.classes[index]);
            let expected: Vec<f64> = of_frames().filter_map(|class| class.expected_dice).collect();
            Self {
                index,
                name: first.classes[index].name.clone(),
                voxels: of_frames().map(|class| class.voxels).sum(),
                expected_dice: (!expected.is_empty()).then(|| expected.iter().sum::<f64>() / expected.len() as f64),
                unsure: of_frames().any(|class| class.unsure),
            }
        };
        (0..first.classes.len()).map(class).collect()
    }

    /// Whether any class is unsure.
    pub(crate) fn any_unsure(classes: &[Self]) -> bool {
        classes.iter().any(|class| class.unsure)
    }
}

/// Mean over all voxels.
pub(crate) fn mean(uncertainty: &Tensor) -> f64 {
    uncertainty.iter().map(|&value| f64::from(value)).sum::<f64>() / uncertainty.len() as f64
}

pub(super) fn write_json(path: &Path, done: &Done) -> Result<()> {
    let text = serde_json::to_vec_pretty(done)
        .map_err(|e| Error::with_source(ErrorKind::Format, "cannot be written as JSON", e).in_file(path))?;
    write_bytes(path, &text)
}
