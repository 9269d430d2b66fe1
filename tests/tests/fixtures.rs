//! The bundles and data of `tests/fixtures`, which tests segment with that do not train: made once by the trainer, and still
//! what it would make.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ldseg::bundle::{Bundle, Manifest};
use ldseg::engine::EngineOptions;
use ldseg::verify::verify;
use ldseg_trainer::export;
use ldseg_trainer::model::Networks;
use ldseg_trainer::recipe::Recipe;
use ldseg_trainer::train::checkpoint::State;

use crate::support::{finish, fit, recipe, repository, train};

/// What makes the recipes of this repository small enough for a fixture.
const SETTINGS: [&str; 16] = [
    "network.downsampling=8",
    "network.stem=2",
    "network.widths=[4, 4, 4]",
    "network.label_widths=[4, 4, 4]",
    "network.context_widths=[4]",
    "network.denoiser_widths=[4, 4]",
    "network.denoiser_blocks=1",
    "network.denoiser_attention=[false, true]",
    "network.embedding_channels=4",
    "training.warmup_steps=2",
    "training.epochs=40",
    "training.repeats=4",
    "training.batch_size=1",
    "training.learning_rate=3e-3",
    "training.validate_every=20",
    "validation=1",
];

/// Each bundle with the input size of its networks.
const BUNDLES: [(&str, &str); 2] =
    [("echo", "network.input_size=[32, 32]"), ("knee", "network.input_size=[16, 16, 16]")];

const AGAIN: &str = "`cargo test --release --workspace fixtures -- --ignored` makes the fixtures again";

fn load_recipe(name: &str, size: &str) -> Recipe {
    let settings: Vec<String> = SETTINGS.iter().chain([&size]).map(ToString::to_string).collect();
    Recipe::load(&recipe(name), &settings).unwrap()
}

/// What of a manifest the weights, the version and the day do not change.
fn contract(mut manifest: Manifest, of: &Manifest) -> Manifest {
    // Trained weights are not those of fresh networks, and constants that are alike are stored once.
    manifest.files.values_mut().for_each(|file| (file.sha256, file.size) = (String::new(), 0));
    // The card tells the score of validation, in as many digits as it takes.
    manifest.files.retain(|name, _| name.ends_with(".onnx"));
    manifest.provenance = of.provenance.clone();
    manifest
}

fn write_untrained<const D: usize>(recipe: &Recipe, folder: &Path) {
    let networks = Networks::<D>::new(&recipe.network(), &Device::default());
    export::write(recipe, &networks, &State::default(), folder).unwrap();
}

/// The exporter writes the same manifest and ONNX files of the same names today, and the fixtures' golden tensors hold.
#[test]
fn fixtures_are_what_the_trainer_exports() {
    for (name, size) in BUNDLES {
        let fixture = repository("tests/fixtures").join(name);
        let (recipe, temp) = (load_recipe(name, size), tempfile::tempdir().unwrap());
        let today = temp.path().join("bundle");
        match recipe.network().input_size.len() {
            2 => write_untrained::<4>(&recipe, &today),
            _ => write_untrained::<5>(&recipe, &today),
        }
        let [old, new] = [&fixture, &today].map(|folder| Bundle::load(folder).unwrap().manifest().clone());
        let [old, new] = [contract(old.clone(), &old), contract(new, &old)];
        assert_eq!(format!("{old:#?}"), format!("{new:#?}"), "{name}: the export has changed. {AGAIN}");
        let report = verify(&Bundle::load(&fixture).unwrap(), &EngineOptions::default()).unwrap();
        assert!(report.passed, "{name}: {report:?}. {AGAIN}");
    }
}

/// Trains for seconds on the synthetic data that is kept beside the bundles.
#[test]
#[ignore = "writes tests/fixtures anew"]
fn the_fixtures_are_made_again() {
    let fixtures = repository("tests/fixtures");
    for (name, size) in BUNDLES {
        let temp = tempfile::tempdir().unwrap();
        let [data, run, bundle] = ["data", "run", "bundle"].map(|name| temp.path().join(name));
        train(&[&"phantom", &name, &"--count", &"2", &"--seed", &"1", &"--output", &data]).ok();
        finish(fit(name, &data, &run, &[&SETTINGS[..], &[size]].concat()));
        train(&[&"export", &run, &"--output", &bundle]).ok();
        // Volumes are large, and their label maps are volumes too.
        let kept = if name == "knee" { data.join("labels") } else { data };
        for (from, to) in [(bundle, fixtures.join(name)), (kept, fixtures.join(format!("{name}-data")))] {
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
}
