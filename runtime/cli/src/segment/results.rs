//! What `ldseg segment --json` tells.

use std::fs;
use std::path::{Path, PathBuf};

use ldseg::diffusion::Sampler;
use ldseg::document::Versioned;
use ldseg::files::write_bytes;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::check_whole;
use ldseg_recording::Decisions;
use ldseg_recording::outputs::Written;
use ldseg_recording::results::Found;
use serde::Serialize;

use crate::lossy;

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
    #[serde(serialize_with = "lossy")]
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
        #[serde(serialize_with = "lossy")]
        output: PathBuf,
        skipped: bool,
    },
    Failed {
        error: String,
    },
}

#[derive(Serialize)]
pub(super) struct Done {
    #[serde(flatten)]
    pub(super) written: Written,
    /// Reading, segmenting and writing.
    pub(super) seconds: f64,
    pub(super) decisions: Decisions,
    #[serde(flatten)]
    pub(super) found: Found,
}

pub(super) fn write_json(path: &Path, done: &Done) -> Result<()> {
    let text = serde_json::to_vec_pretty(&Versioned::new(done))
        .map_err(|e| Error::with_source(ErrorKind::Format, "cannot be written as JSON", e).in_file(path))?;
    write_bytes(path, &text)
}

/// Whether an output of an earlier run is whole.
pub(super) fn check_output(path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| extension != "json") {
        return check_whole(path);
    }
    let text = fs::read(path).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be read", e).in_file(path))?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&text)
        .map(drop)
        .map_err(|e| Error::with_source(ErrorKind::Format, "is not a whole JSON document", e).in_file(path))
}
