//! Checkpoints: complete or not there at all, whatever interrupts the process.
//!
//! A checkpoint is a folder `step-N`, written under another name, flushed to disk and renamed. The files `last` and
//! `best` hold the name of the folder that they stand for and are replaced by renaming as well. No folder that either
//! stands for is ever touched again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use ldseg::files::write_bytes;
use ldseg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::model::Networks;

/// File of a checkpoint that holds its [`State`].
const STATE_FILE: &str = "state.yaml";

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
    /// Validation Dice per class, background left out, at this checkpoint if it was validated. NaN for a class that no
    /// case has and none was predicted to have.
    pub dice: Vec<f64>,
    /// The same of the label encoder and decoder alone, which bounds it.
    #[serde(default)]
    pub autoencoder_dice: Vec<f64>,
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

impl Checkpoints {
    /// The checkpoints of the run in `run`, whose folder is made where it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the folder cannot be made.
    pub fn open(run: &Path) -> Result<Self> {
        let checkpoints = Self::of(run);
        let dir = &checkpoints.dir;
        fs::create_dir_all(dir).map_err(|e| io(dir, "cannot be created", e))?;
        Ok(checkpoints)
    }

    /// The checkpoints of the run in `run`, to read; there may be none.
    pub fn of(run: &Path) -> Self {
        Self { dir: run.join("checkpoints") }
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
        let name = self.free_name(state.step);
        let (staging, dir) = (self.dir.join(format!("{name}.new")), self.dir.join(&name));
        remove(&staging)?;
        fs::create_dir_all(&staging).map_err(|e| io(&staging, "cannot be created", e))?;
        let record = |e| io(&staging, "cannot be written", e);
        networks.valid().into_record().save(staging.join("networks.bpk")).map_err(record)?;
        average.clone().into_record().save(staging.join("average.bpk")).map_err(record)?;
        optimiser.save(staging.join("optimiser.bpk")).map_err(record)?;
        // YAML keeps every bit of a number, and NaN, which JSON has no word for.
        let yaml = yaml_serde::to_string(state).map_err(|e| io(&staging, "the state cannot be written", e))?;
        fs::write(staging.join(STATE_FILE), yaml).map_err(|e| io(&staging, "cannot be written", e))?;
        for file in ["networks.bpk", "average.bpk", "optimiser.bpk", STATE_FILE] {
            flush(&staging.join(file))?;
        }
        fs::rename(&staging, &dir).map_err(|e| io(&dir, "cannot be renamed into place", e))?;
        flush(&self.dir)?;
        if best {
            write_bytes(&self.dir.join(Which::Best.pointer()), name.as_bytes())?;
        }
        write_bytes(&self.dir.join(Which::Last.pointer()), name.as_bytes())?;
        // The pointers have to be on disk before what they stood for goes.
        flush(&self.dir)?;
        self.remove_others()
    }

    /// `step-N`, or `step-N.2` and so on where that is taken: a run that was killed between `best` and `last` comes to
    /// the step that `best` stands for once more.
    fn free_name(&self, step: usize) -> String {
        let plain = format!("step-{step:08}");
        let numbered = (2..).map(|count| format!("{plain}.{count}"));
        std::iter::once(plain.clone()).chain(numbered).find(|name| !self.dir.join(name).exists()).unwrap_or(plain)
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
        let path = dir.join(STATE_FILE);
        let text = fs::read(&path).map_err(|e| io(&path, "cannot be read", e))?;
        let state = yaml_serde::from_slice(&text)
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

#[cfg(test)]
mod tests {
    use burn::optim::AdamWConfig;
    use burn::tensor::Device;

    use super::*;
    use crate::model::NetworkConfig;

    #[test]
    fn a_step_that_is_saved_again_leaves_the_first_checkpoint_alone() {
        let run = tempfile::tempdir().unwrap();
        let config = NetworkConfig {
            widths: vec![8; 3],
            label_widths: vec![8; 3],
            denoiser_widths: vec![8; 2],
            embedding_channels: 8,
            ..NetworkConfig::compact(vec![16, 16], 1, 2)
        };
        let device = Device::default();
        let networks = Networks::<4>::new(&config, &device.clone().autodiff());
        let checkpoints = Checkpoints::open(run.path()).unwrap();
        // Numbers that a reader of JSON may change in the last bit, or cannot read.
        let state = State {
            step: 3,
            sums: [0.1 + 0.2, 1e-17, 1.0 / 3.0, 0.0],
            best: Some(0.7),
            dice: vec![f64::NAN],
            ..State::default()
        };
        let optimiser = AdamWConfig::new().init();
        let save = |best| checkpoints.save(&networks, &networks.valid(), &optimiser, &state, best).unwrap();

        save(true);
        save(false);
        let (best, found) = checkpoints.find(Which::Best).unwrap().unwrap();
        let (last, _) = checkpoints.find(Which::Last).unwrap().unwrap();
        assert!(best.ends_with("step-00000003") && last.ends_with("step-00000003.2"), "{best:?} {last:?}");
        assert!(found.dice[0].is_nan());
        assert_eq!(State { dice: vec![], ..found }, State { dice: vec![], ..state.clone() });
        load_networks(networks.valid(), &best.join("average.bpk")).unwrap();

        save(true);
        let kept: Vec<_> = fs::read_dir(run.path().join("checkpoints")).unwrap().collect();
        assert_eq!(kept.len(), 3, "best, last and the one folder that both stand for");
    }
}
