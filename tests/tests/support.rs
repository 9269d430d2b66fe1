//! What the tests share: the two commands, a tiny model, and messages that are seen even where all goes well.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use ldseg::engine::EngineKind;
use ldseg::image::Image;
use ldseg_io::read_recording;

/// Changes to a recipe that leave a network of milliseconds. Needs an input size of multiples of 16.
pub const TINY: [&str; 10] = [
    "network.downsampling=8",
    "network.stem=2",
    "network.widths=[8, 8, 16]",
    "network.label_widths=[8, 8, 8]",
    "network.context_widths=[8]",
    "network.denoiser_widths=[8, 16]",
    "network.denoiser_blocks=1",
    "network.denoiser_attention=[false, true]",
    "network.embedding_channels=8",
    "training.warmup_steps=2",
];

/// The same with the published layers, for multiples of 32.
pub const TINY_REFERENCE: [&str; 11] = [
    "network.preset=reference",
    "network.downsampling=16",
    "network.latent_channels=1",
    "network.widths=[8, 8, 8, 8]",
    "network.label_widths=[8, 8, 8, 8, 8]",
    "network.context_widths=[]",
    "network.denoiser_widths=[8, 8]",
    "network.denoiser_blocks=1",
    "network.denoiser_attention=[false, true]",
    "diffusion.latent_standardisation=each_step",
    "training.warmup_steps=2",
];

/// The models of this repository.
pub const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");

/// Arguments of a command, paths and words mixed.
pub type Arguments<'a> = [&'a dyn AsRef<OsStr>];

/// The command or library `name` that was built beside this test.
pub fn built(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there. `cargo test` alone does not build it: run scripts/test.sh, or `cargo build --workspace` \
         first, both with `--release` or both without",
        path.display()
    );
    path
}

/// The command `name`, built beside this test.
pub fn command(name: &str, arguments: &Arguments) -> Command {
    let mut command = Command::new(built(&format!("{name}{}", env::consts::EXE_SUFFIX)));
    command.args(arguments.iter().map(AsRef::as_ref)).stdin(Stdio::null());
    command
}

/// How a command ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn new(name: &str, arguments: &Arguments) -> Self {
        let output = command(name, arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    /// What it wrote to standard output; it must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}

/// Runs `ldseg` to its end.
pub fn ldseg(arguments: &Arguments) -> Ran {
    Ran::new("ldseg", arguments)
}

/// Runs `ldseg-train` to its end.
pub fn train(arguments: &Arguments) -> Ran {
    Ran::new("ldseg-train", arguments)
}

/// A recipe of this repository.
pub fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/recipes/{name}.yaml"))
}

/// A grey frame of the synthetic cine, and its pixels row by row.
pub fn example_frame(spacing: Option<[f64; 2]>) -> (Image, Vec<u8>) {
    let recording = read_recording(&Path::new(MODELS).join("examples/echo-phantom.gif")).unwrap();
    let grey = recording.frame(3).unwrap().with_channels(1).unwrap().to_owned();
    let pixels = grey.iter().map(|&value| value as u8).collect();
    (Image::from_array(grey, spacing.as_ref().map(<[f64; 2]>::as_slice)).unwrap(), pixels)
}

/// `ldseg-train fit`, not run yet. With `--resume` where `run` holds a run already.
pub fn fit(recipe_name: &str, data: &Path, run: &Path, settings: &[&str]) -> Command {
    let mut fit = command("ldseg-train", &[&"fit", &recipe(recipe_name), &"--data", &data, &"--output", &run]);
    if run.join("recipe.yaml").exists() {
        fit.arg("--resume");
    }
    settings.iter().for_each(|setting| {
        fit.args(["--set", setting]);
    });
    fit
}

/// Runs `fit` to its end, without a fault.
pub fn finish(mut fit: Command) {
    let output = fit.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// tract, and ONNX Runtime where it is to be had.
pub fn engines(test: &str) -> Vec<EngineKind> {
    if env::var_os("ORT_DYLIB_PATH").is_some() {
        return EngineKind::ALL.to_vec();
    }
    note(&format!("SKIPPED: {test} without ONNX Runtime, as ORT_DYLIB_PATH is not set; scripts/test.sh sets it"));
    vec![EngineKind::Tract]
}

/// Says something on standard error that the test harness does not hold back.
pub fn note(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Starts Python 3 with what LDSEG_PYTHON_PATH adds to its path.
pub type Python = fn() -> Command;

/// `None`, said aloud, where Python cannot import `modules`.
pub fn python(test: &str, modules: &str) -> Option<Python> {
    let python: Python = || {
        let mut python = Command::new("python3");
        if let Some(path) = env::var_os("LDSEG_PYTHON_PATH") {
            python.env("PYTHONPATH", path);
        }
        python.stdin(Stdio::null());
        python
    };
    if python().args(["-c", &format!("import {modules}")]).output().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    note(&format!("SKIPPED: {test}, as python3 has not all of {modules}; scripts/test.sh fetches them"));
    None
}

/// A path in the folder of shared data: `$LDSEG_SHARED`, else `../shared` beside the workspace. `None`, said aloud, where it
/// isn't there.
pub fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = env::var_os("LDSEG_SHARED").map_or_else(beside, PathBuf::from).join(path);
    if path.exists() {
        return Some(path);
    }
    note(&format!("SKIPPED: {test}, as {} is not there; LDSEG_SHARED names the folder of shared data", path.display()));
    None
}

/// All files of a folder by name.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}
