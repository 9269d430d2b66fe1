//! Checkpoints: complete or not there at all, whatever interrupts the process.
//!
//! A checkpoint is a folder `step-N`, written under another name, flushed to disk and renamed. The files `last` and
//! `best` hold the name of the folder that they stand for and are replaced by renaming as well.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use ldseg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::model::Networks;

/// Which of a run's checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// The newest.
    Last,
    /// The one with the greatest mean Dice on the validation patients.
    Best,
}

impl Which {
    fn pointer(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

/// What a run knows besides its weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps taken.
    pub step: usize,
    /// Sums of the loss and its three terms over the steps of the unfinished epoch.
    pub sums: [f64; 4],
    /// Greatest mean Dice so far on the validation patients.
    pub best: Option<f64>,
    /// Validation Dice per class, background left out, at this checkpoint if it was validated.
    pub dice: Vec<f64>,
}

/// A run's checkpoint folder.
pub struct Checkpoints {
    dir: PathBuf,
}

fn io(path: &Path, what: &str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::with_source(ErrorKind::Io, what, e).in_file(path)
}

/// Flushes a file or folder to disk.
fn flush(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| io(path, "cannot be flushed to disk", e))
}

/// Writes a small file by renaming.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let staging = path.with_extension("new");
    fs::write(&staging, bytes).map_err(|e| io(&staging, "cannot be written", e))?;
    flush(&staging)?;
    fs::rename(&staging, path).map_err(|e| io(path, "cannot be replaced", e))
}

impl Checkpoints {
    /// The checkpoints of the run in `run`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the folder cannot be made.
    pub fn open(run: &Path) -> Result<Self> {
        let dir = run.join("checkpoints");
        fs::create_dir_all(&dir).map_err(|e| io(&dir, "cannot be created", e))?;
        Ok(Self { dir })
    }

    fn target(&self, which: Which) -> Result<Option<String>> {
        let path = self.dir.join(which.pointer());
        match fs::read_to_string(&path) {
            Ok(name) => Ok(Some(name.trim().to_string())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(&path, "cannot be read", e)),
        }
    }

    /// Writes a checkpoint and lets `last`, and `best` where asked, stand for it; what neither stands for is removed.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be written; the older checkpoints are then as before.
    pub fn save<const D: usize>(
        &self,
        networks: &Networks<D>,
        average: &Networks<D>,
        optimiser: &ModuleOptimizer,
        state: &State,
        best: bool,
    ) -> Result<()> {
        let name = format!("step-{:08}", state.step);
        let (staging, dir) = (self.dir.join(format!("{name}.new")), self.dir.join(&name));
        remove(&staging)?;
        fs::create_dir_all(&staging).map_err(|e| io(&staging, "cannot be created", e))?;
        let record = |e| io(&staging, "cannot be written", e);
        networks.valid().into_record().save(staging.join("networks.bpk")).map_err(record)?;
        average.clone().into_record().save(staging.join("average.bpk")).map_err(record)?;
        optimiser.save(staging.join("optimiser.bpk")).map_err(record)?;
        let json = serde_json::to_vec_pretty(state).map_err(|e| io(&staging, "the state cannot be written", e))?;
        fs::write(staging.join("state.json"), json).map_err(|e| io(&staging, "cannot be written", e))?;
        for file in ["networks.bpk", "average.bpk", "optimiser.bpk", "state.json"] {
            flush(&staging.join(file))?;
        }
        // The same step is saved twice when a validated epoch ends a run: the newer one holds the Dice.
        remove(&dir)?;
        fs::rename(&staging, &dir).map_err(|e| io(&dir, "cannot be renamed into place", e))?;
        flush(&self.dir)?;
        if best {
            write_atomically(&self.dir.join(Which::Best.pointer()), name.as_bytes())?;
        }
        write_atomically(&self.dir.join(Which::Last.pointer()), name.as_bytes())?;
        self.remove_others()
    }

    fn remove_others(&self) -> Result<()> {
        let kept = [self.target(Which::Last)?, self.target(Which::Best)?];
        let entries = fs::read_dir(&self.dir).map_err(|e| io(&self.dir, "cannot be read", e))?;
        for entry in entries {
            let entry = entry.map_err(|e| io(&self.dir, "cannot be read", e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("step-") && !kept.iter().flatten().any(|kept| *kept == name) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The folder and state of a checkpoint, or `None` if the run has none yet.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read, [`ErrorKind::Format`] if its state is not understood.
    pub fn find(&self, which: Which) -> Result<Option<(PathBuf, State)>> {
        let Some(name) = self.target(which)? else { return Ok(None) };
        let dir = self.dir.join(name);
        let path = dir.join("state.json");
        let text = fs::read(&path).map_err(|e| io(&path, "cannot be read", e))?;
        let state = serde_json::from_slice(&text)
            .map_err(|e| Error::with_source(ErrorKind::Format, "not a checkpoint's state", e).in_file(&path))?;
        Ok(Some((dir, state)))
    }
}

/// Loads one record of a checkpoint folder into `networks`.
///
/// # Errors
/// [`ErrorKind::Format`] if the file is missing, damaged or of other networks.
pub fn load_networks<const D: usize>(networks: Networks<D>, path: &Path) -> Result<Networks<D>> {
    networks.try_load_file(path).map_err(|e| {
        Error::with_source(ErrorKind::Format, "not the weights of this recipe's networks", e).in_file(path)
    })
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(path, "cannot be removed", e)),
        _ => Ok(()),
    }
}
