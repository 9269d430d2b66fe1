//! What other commands found, as they write it in JSON. Other keys are left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use ldseg::document::check_schema_version;
use ldseg::{Error, ErrorKind, Result};

/// Of `ldseg evaluate`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Evaluation {
    #[serde(default)]
    pub(super) class_names: BTreeMap<u8, String>,
    pub(super) cases: Vec<Case>,
    pub(super) summary: BTreeMap<u8, BTreeMap<String, Summary>>,
    pub(super) failed: Vec<Failed>,
    pub(super) sampling: Option<Sampling>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) patient: String,
    pub(super) spacing_from: String,
    pub(super) classes: BTreeMap<u8, BTreeMap<String, Option<f64>>>,
}

/// What is not defined is `null`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Summary {
    pub(super) mean: Option<f64>,
    pub(super) ci95: [Option<f64>; 2],
    pub(super) n: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Failed {
    pub(super) name: String,
    pub(super) error: String,
}

/// Measures of several samples and their probabilities.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sampling {
    pub(super) summary: BTreeMap<String, Summary>,
    pub(super) reliability: Vec<Bin>,
    pub(super) reliability_foreground: Vec<Bin>,
}

/// A bin of the reliability diagram; without a voxel it has neither confidence nor accuracy.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Bin {
    pub(super) confidence: Option<f64>,
    pub(super) accuracy: Option<f64>,
    pub(super) voxels: u64,
}

/// Of `ldseg robustness`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Robustness {
    pub(super) bundles: Vec<String>,
    pub(super) images: usize,
    pub(super) curves: Vec<Point>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Point {
    pub(super) bundle: String,
    pub(super) corruption: String,
    pub(super) strength: f64,
    pub(super) class: String,
    pub(super) dice: Summary,
}

/// Of `ldseg bench --json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Benchmark {
    pub(super) bundle: String,
    pub(super) engine: String,
    pub(super) device: String,
    pub(super) threads: usize,
    pub(super) steps: usize,
    pub(super) runs: usize,
    pub(super) load_seconds: f64,
    pub(super) stages: Vec<Stage>,
    pub(super) peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) median_seconds: f64,
    pub(super) min_seconds: f64,
    pub(super) max_seconds: f64,
}

/// Reads what the command `from` wrote.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be read, [`ErrorKind::Format`] where it is something else or of another schema.
pub(super) fn read<T: DeserializeOwned>(path: &Path, from: &str) -> Result<T> {
    let text = text(path)?;
    let wrong = |e: serde_json::Error| {
        Error::with_source(ErrorKind::Format, format!("is not the JSON that {from} writes"), e).in_file(path)
    };
    let mut document: serde_json::Value = serde_json::from_str(&text).map_err(wrong)?;
    let version = document.as_object_mut().and_then(|keys| keys.remove("schema_version"));
    check_schema_version(version.and_then(|version| version.as_u64())).map_err(|e| e.in_file(path))?;
    serde_json::from_value(document).map_err(wrong)
}

pub(super) fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be read", e).in_file(path))
}
