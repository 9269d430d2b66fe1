//! What `ldseg segment --json` tells.

use std::path::{Path, PathBuf};

use ldseg::bundle::Manifest;
use ldseg::diffusion::Sampler;
use ldseg::files::write_bytes;
use ldseg::image::Labels;
use ldseg::measure::{Ventricle, ejection_fraction};
use ldseg::{Error, ErrorKind, Result, Tensor};
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
    Failed { error: String },
}

#[derive(Serialize)]
pub(super) struct Done {
    pub(super) output: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overlay: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uncertainty: Option<PathBuf>,
    /// Reading, segmenting and writing.
    pub(super) seconds: f64,
    pub(super) classes: Vec<ClassCount>,
    /// Over all voxels, 0 to 1.
    pub(super) mean_uncertainty: f64,
    /// Of a cine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) frames: Vec<FrameDone>,
    /// Of a still image, where it was asked for and can be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_ventricle: Option<Ventricle>,
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
    pub(super) classes: Vec<ClassCount>,
    pub(super) mean_uncertainty: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_ventricle: Option<Ventricle>,
}

/// What a cine tells of the left ventricle, by the method of discs in its one plane.
#[derive(Serialize)]
pub(super) struct Heartbeat {
    /// The frame with the largest volume.
    pub(super) end_diastole_frame: usize,
    /// The frame with the smallest volume.
    pub(super) end_systole_frame: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_diastolic_volume_ml: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_systolic_volume_ml: Option<f64>,
    /// (EDV - ESV) / EDV, 0 to 1.
    pub(super) ejection_fraction: f64,
}

#[derive(Serialize)]
pub(super) struct ClassCount {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) voxels: usize,
}
/// The largest and the smallest of the volumes, each with its frame.
pub(super) fn heartbeat(volumes: &[(usize, f64)], in_ml: bool) -> Option<Heartbeat> {
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
pub(super) fn mean(uncertainty: &Tensor) -> f64 {
    uncertainty.iter().map(|&value| f64::from(value)).sum::<f64>() / uncertainty.len() as f64
}

pub(super) fn write_json(path: &Path, done: &Done) -> Result<()> {
    let text = serde_json::to_vec_pretty(done)
        .map_err(|e| Error::with_source(ErrorKind::Format, "cannot be written as JSON", e).in_file(path))?;
    write_bytes(path, &text)
}

pub(super) fn count(manifest: &Manifest, labels: &Labels) -> Vec<ClassCount> {
    let mut voxels = [0; 256];
    labels.iter().for_each(|&label| voxels[usize::from(label)] += 1);
    let classes = manifest.classes.iter().enumerate();
    classes.map(|(index, class)| ClassCount { index, name: class.name.clone(), voxels: voxels[index] }).collect()
}
