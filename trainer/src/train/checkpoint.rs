//! Checkpoints: complete or not there at all, whatever interrupts the process, and never damaged unnoticed.
//!
//! A checkpoint is a folder `step-N`, written under another name, flushed to disk and renamed. Its file `SHA256SUMS`, which
//! `sha256sum --check` reads too, has the digests of all others. The files `last`, `previous` (the one before) and `best`
//! hold the name of the folder that they stand for and the digest of its `SHA256SUMS`, and are replaced by renaming as well.
//! No folder that one of them stands for is ever touched again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::ModuleOptimizer;
use burn::tensor::Tensor;
use ldseg::files::write_bytes;
use ldseg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::Networks;

/// File of a checkpoint that holds its [`State`].
const STATE_FILE: &str = "state.yaml";
/// Networks as they are trained, their moving average, and the optimiser's state.
const RECORDS: [&str; 3] = ["networks.bpk", "average.bpk", "optimiser.bpk"];
/// File of a checkpoint with the digests of all others, a line `DIGEST  FILE` each.
const SUMS_FILE: &str = "SHA256SUMS";
/// The pointer to the checkpoint before the newest.
const PREVIOUS: &str = "previous";

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
    /// How many steps these are.
    #[serde(default)]
    pub summed: usize,
    /// Whether no case told its spacing, so that a recipe that resamples to mm counts in voxels.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spacing_in_voxels: bool,
    /// Greatest mean Dice so far on the validation cases.
    pub best: Option<f64>,
    /// The digest of the validation cases that `best` was measured on.
    #[serde(default)]
    pub validated_on: String,
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

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A checkpoint that was looked for, and why better ones were not taken.
#[derive(Debug)]
pub struct Newest {
    /// Its folder.
    pub dir: PathBuf,
    /// Its state.
    pub state: State,
    /// What is wrong with newer ones.
    pub damaged: Vec<Error>,
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

    /// The name of the folder that a pointer stands for and, unless an older version wrote it, the digest of its
    /// `SHA256SUMS`.
    fn target(&self, pointer: &str) -> Result<Option<(String, Option<String>)>> {
        let path = self.dir.join(pointer);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(&path, "cannot be read", e)),
        };
        let mut words = text.split_whitespace().map(str::to_owned);
        let name = words.next().filter(|name| name.starts_with("step-") && !name.contains(['/', '\\']));
        let Some(name) = name else {
            return Err(Error::new(ErrorKind::Format, "does not name a checkpoint like step-00000001").in_file(&path));
        };
        Ok(Some((name, words.next())))
    }

    /// Writes a checkpoint and lets `last`, and `best` where asked, stand for it; what neither, nor `previous`, stands for is
    /// removed.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be written, [`ErrorKind::Engine`] if a weight is not finite; the older checkpoints are
    /// then as before.
    pub fn save<const D: usize>(
        &self,
        networks: &Networks<D>,
        average: &Networks<D>,
        optimiser: &ModuleOptimizer,
        state: &State,
        best: bool,
    ) -> Result<()> {
        check_finite(networks)?;
        check_finite(average)?;
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
        let sums = write_sums(&staging)?;
        for file in RECORDS.into_iter().chain([STATE_FILE, SUMS_FILE]) {
            flush(&staging.join(file))?;
        }
        fs::rename(&staging, &dir).map_err(|e| io(&dir, "cannot be renamed into place", e))?;
        flush(&self.dir)?;
        // What `last` stood for, if it stands for anything that can be gone on with.
        let before = self.target(Which::Last.pointer()).ok().flatten();
        let pointer = format!("{name} {sums}\n");
        if best {
            write_bytes(&self.dir.join(Which::Best.pointer()), pointer.as_bytes())?;
        }
        if let Some((name, sums)) = before {
            let pointer = format!("{name} {}\n", sums.unwrap_or_default());
            write_bytes(&self.dir.join(PREVIOUS), pointer.as_bytes())?;
        }
        write_bytes(&self.dir.join(Which::Last.pointer()), pointer.as_bytes())?;
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
        let pointers = [Which::Last.pointer(), Which::Best.pointer(), PREVIOUS].map(|pointer| self.target(pointer));
        if pointers.iter().any(Result::is_err) {
            // Nobody knows what a damaged pointer stands for: nothing is removed.
            return Ok(());
        }
        let kept: Vec<String> = pointers.into_iter().flatten().flatten().map(|(name, _)| name).collect();
        let entries = fs::read_dir(&self.dir).map_err(|e| io(&self.dir, "cannot be read", e))?;
        for entry in entries {
            let entry = entry.map_err(|e| io(&self.dir, "cannot be read", e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("step-") && !kept.contains(&name) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The folder and state of a checkpoint, or `None` if the run has none yet. Its files are as they were written.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read, [`ErrorKind::Format`] if it is damaged or its state is not understood.
    pub fn find(&self, which: Which) -> Result<Option<(PathBuf, State)>> {
        match self.target(which.pointer())? {
            None => Ok(None),
            Some((name, sums)) => self.read(&name, sums.as_deref()).map(Some),
        }
    }

    /// The newest checkpoint that is whole: what `last` stands for, else, of `previous` and `best`, what has come further.
    /// `None` where there is no checkpoint at all.
    ///
    /// # Errors
    /// That of the newest one where all are damaged.
    pub fn newest(&self) -> Result<Option<Newest>> {
        let (mut damaged, mut found) = (Vec::new(), Vec::new());
        for pointer in [Which::Last.pointer(), PREVIOUS, Which::Best.pointer()] {
            let read = self
                .target(pointer)
                .and_then(|target| target.map(|(name, sums)| self.read(&name, sums.as_deref())).transpose());
            match read {
                Ok(Some(checkpoint)) if pointer == Which::Last.pointer() => {
                    let (dir, state) = checkpoint;
                    return Ok(Some(Newest { dir, state, damaged }));
                }
                Ok(checkpoint) => found.extend(checkpoint),
                Err(error) => damaged.push(error),
            }
        }
        match found.into_iter().max_by_key(|(_, state)| state.step) {
            Some((dir, state)) => Ok(Some(Newest { dir, state, damaged })),
            None if damaged.is_empty() => Ok(None),
            None => Err(damaged.swap_remove(0)),
        }
    }

    /// Lets the run go on from `newest`: says what newer checkpoints are lost, and forgets a best Dice whose checkpoint is.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if `last` cannot be replaced.
    pub fn go_on_from(&self, newest: Newest) -> Result<State> {
        let Newest { dir, mut state, damaged } = newest;
        damaged.iter().for_each(|error| eprintln!("note: {error}; an older checkpoint is taken"));
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let sums = fs::read(dir.join(SUMS_FILE)).map(|text| sha256(&text)).unwrap_or_default();
        write_bytes(&self.dir.join(Which::Last.pointer()), format!("{name} {sums}\n").as_bytes())?;
        if state.best.is_some() && !matches!(self.find(Which::Best), Ok(Some(_))) {
            eprintln!("note: the best checkpoint so far is lost: the next one that is validated takes its place");
            state.best = None;
        }
        Ok(state)
    }

    fn read(&self, name: &str, sums: Option<&str>) -> Result<(PathBuf, State)> {
        let dir = self.dir.join(name);
        check_sums(&dir, sums)?;
        let path = dir.join(STATE_FILE);
        let text = fs::read(&path).map_err(|e| io(&path, "cannot be read", e))?;
        let state = yaml_serde::from_slice(&text)
            .map_err(|e| Error::with_source(ErrorKind::Format, "not a checkpoint's state", e).in_file(&path))?;
        Ok((dir, state))
    }
}

/// Writes the digests of a checkpoint's files; returns the digest of that list.
fn write_sums(dir: &Path) -> Result<String> {
    let mut text = String::new();
    for file in RECORDS.into_iter().chain([STATE_FILE]) {
        let path = dir.join(file);
        let bytes = fs::read(&path).map_err(|e| io(&path, "cannot be read back", e))?;
        text += &format!("{}  {file}\n", sha256(&bytes));
    }
    let path = dir.join(SUMS_FILE);
    fs::write(&path, &text).map_err(|e| io(&path, "cannot be written", e))?;
    Ok(sha256(text.as_bytes()))
}

/// Compares a checkpoint's files with their digests, and these with `sums`, the pointer's. Neither is there in checkpoints of
/// older versions, which is said, not an error.
fn check_sums(dir: &Path, sums: Option<&str>) -> Result<()> {
    let damaged = |path: &Path, message: &str| Err(Error::new(ErrorKind::Format, message).in_file(path));
    if !dir.is_dir() {
        return damaged(dir, "the checkpoint is not there");
    }
    let path = dir.join(SUMS_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && sums.is_none() => {
            eprintln!(
                "note: {}: has no {SUMS_FILE}, as of older versions; whether it is whole is not known",
                dir.display()
            );
            return Ok(());
        }
        Err(e) => return Err(io(&path, "cannot be read", e)),
    };
    if sums.is_some_and(|sums| sums != sha256(text.as_bytes())) {
        return damaged(&path, "was altered: it is not the list that its checkpoint was written with");
    }
    for file in RECORDS.into_iter().chain([STATE_FILE]) {
        let path = dir.join(file);
        let bytes = fs::read(&path).map_err(|e| io(&path, "cannot be read", e))?;
        let digest = sha256(&bytes);
        if !text.lines().any(|line| line.split_once("  ") == Some((&digest, file))) {
            return damaged(
                &path,
                &format!("was altered: its SHA-256 is {digest}, {SUMS_FILE} beside it says another"),
            );
        }
    }
    Ok(())
}

/// Looks at every weight.
///
/// # Errors
/// [`ErrorKind::Engine`] where one is not finite.
pub fn check_finite<const D: usize>(networks: &Networks<D>) -> Result<()> {
    let mut look = NotFinite { count: 0, unread: false };
    networks.visit(&mut look);
    if look.count > 0 || look.unread {
        let message =
            format!("{} weights are not finite: such networks compute nothing, and are not written", look.count);
        return Err(Error::new(ErrorKind::Engine, message));
    }
    Ok(())
}

/// Counts weights that are not finite.
struct NotFinite {
    count: usize,
    unread: bool,
}

impl ModuleVisitor for NotFinite {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        match param.val().into_data().try_to_vec::<f32>() {
            Ok(values) => self.count += values.iter().filter(|value| !value.is_finite()).count(),
            Err(_) => self.unread = true,
        }
    }
}

/// Loads one record of a checkpoint folder into `networks`.
///
/// # Errors
/// [`ErrorKind::Format`] if the file is missing, damaged or of other networks; [`ErrorKind::Engine`] if a weight is not
/// finite.
pub fn load_networks<const D: usize>(networks: Networks<D>, path: &Path) -> Result<Networks<D>> {
    let networks = networks.try_load_file(path).map_err(|e| {
        Error::with_source(ErrorKind::Format, "not the weights of this recipe's networks", e).in_file(path)
    })?;
    check_finite(&networks).map_err(|e| e.in_file(path))?;
    Ok(networks)
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
        let networks = networks();
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
        let mut kept: Vec<_> = fs::read_dir(run.path().join("checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        kept.sort();
        assert_eq!(kept, ["best", "last", "previous", "step-00000003.2", "step-00000003.3"]);
    }

    /// A run with a best, a previous and a last checkpoint, of steps 1 to 3.
    fn three() -> (tempfile::TempDir, Checkpoints) {
        let run = tempfile::tempdir().unwrap();
        let networks = networks();
        let checkpoints = Checkpoints::open(run.path()).unwrap();
        let optimiser = AdamWConfig::new().init();
        for step in 1..=3 {
            let state = State { step, ..State::default() };
            checkpoints.save(&networks, &networks.valid(), &optimiser, &state, step == 1).unwrap();
        }
        (run, checkpoints)
    }

    #[test]
    fn any_flipped_bit_is_seen_and_what_is_older_is_taken() {
        let (run, checkpoints) = three();
        let dir = run.path().join("checkpoints");
        let newest = || checkpoints.newest().unwrap().unwrap();
        assert!(newest().state.step == 3 && newest().damaged.is_empty());
        let last = dir.join("step-00000003");
        for file in ["networks.bpk", "average.bpk", "optimiser.bpk", "state.yaml", "SHA256SUMS", "../last"] {
            let path = last.join(file);
            let whole = fs::read(&path).unwrap();
            for at in [0, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(&path, flipped).unwrap();
                let error = checkpoints.find(Which::Last).unwrap_err();
                assert!(
                    error.to_string().contains(file.trim_start_matches("../")) || file == "../last",
                    "{file}: {error}"
                );
                let found = newest();
                assert_eq!((found.state.step, found.damaged.len()), (2, 1), "{file}, byte {at}");
            }
            fs::write(&path, &whole[..whole.len() - 2]).unwrap();
            assert_eq!(newest().state.step, 2, "{file} cut off");
            fs::write(&path, whole).unwrap();
        }
        assert_eq!(newest().state.step, 3);
        fs::remove_file(last.join("SHA256SUMS")).unwrap();
        assert_eq!(newest().state.step, 2);
    }

    #[test]
    fn without_the_pointers_to_newer_ones_the_best_is_gone_on_with() {
        let (run, checkpoints) = three();
        let dir = run.path().join("checkpoints");
        fs::remove_file(dir.join("last")).unwrap();
        assert_eq!(checkpoints.newest().unwrap().unwrap().state.step, 2);
        fs::remove_file(dir.join("previous")).unwrap();
        assert_eq!(checkpoints.newest().unwrap().unwrap().state.step, 1);
        fs::write(dir.join("step-00000001/state.yaml"), "step: 7\n").unwrap();
        assert_eq!(checkpoints.newest().unwrap_err().kind(), ErrorKind::Format);
        fs::write(dir.join("best"), "../../elsewhere").unwrap();
        assert!(checkpoints.newest().unwrap_err().to_string().contains("does not name a checkpoint"));
        fs::remove_file(dir.join("best")).unwrap();
        assert!(checkpoints.newest().unwrap().is_none());
    }

    #[test]
    fn weights_that_are_not_finite_are_neither_written_nor_read() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(run.path()).unwrap();
        let (good, mut bad) = (networks(), networks());
        bad.denoiser = bad.denoiser.map(&mut Spoil);
        let save = |networks: &Networks<4>, average: &Networks<4>| {
            checkpoints.save(networks, &average.valid(), &AdamWConfig::new().init(), &State::default(), true)
        };
        for (networks, average) in [(&bad, &good), (&good, &bad)] {
            let error = save(networks, average).unwrap_err();
            assert!(
                error.kind() == ErrorKind::Engine && error.to_string().contains("weights are not finite"),
                "{error}"
            );
        }
        assert!(checkpoints.newest().unwrap().is_none());
        let path = run.path().join("average.bpk");
        bad.valid().into_record().save(&path).unwrap();
        let error = load_networks(good.valid(), &path).unwrap_err();
        assert!(error.to_string().contains("average.bpk") && error.kind() == ErrorKind::Engine, "{error}");
    }

    /// Makes every weight NaN.
    struct Spoil;

    impl burn::module::ModuleMapper for Spoil {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|values| values * f32::NAN)
        }
    }

    fn networks() -> Networks<4> {
        let config = NetworkConfig {
            widths: vec![8; 3],
            label_widths: vec![8; 3],
            denoiser_widths: vec![8; 2],
            embedding_channels: 8,
            ..NetworkConfig::compact(vec![16, 16], 1, 2)
        };
        Networks::new(&config, &Device::default().autodiff())
    }
}
