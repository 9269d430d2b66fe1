//! What the tests share that train or need several crates: tiny recipes, `ldseg-train`, the engines.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use ldseg::engine::EngineKind;
use ldseg::image::Image;
use ldseg_io::read_recording;

pub use crate::common::*;

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

/// The library `name` for C or Python, made beside this test by `cargo build --workspace`; `cargo test` makes none. `None`, said
/// aloud, where it isn't there.
pub fn library(test: &str, name: &str) -> Option<PathBuf> {
    let folder = env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_path_buf();
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    let why = format!("{} is not there; scripts/test.sh makes it, as `cargo build --workspace` does", path.display());
    skip(Need::Libraries, test, &why);
    None
}

/// tract, and ONNX Runtime where it is to be had.
pub fn engines(test: &str) -> Vec<EngineKind> {
    if env::var_os("ORT_DYLIB_PATH").is_some() {
        return EngineKind::ALL.to_vec();
    }
    skip(Need::Ort, &format!("{test}, with ONNX Runtime"), "ORT_DYLIB_PATH is not set; scripts/test.sh sets it");
    vec![EngineKind::Tract]
}
