//! The way of a user, with the commands alone: synthetic data, training, export, segmentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use image::ColorType;
use ldseg::bundle::FILES;
use ldseg::engine::EngineKind;
use nifti::{IntoNdArray, NiftiHeader, NiftiObject, ReaderOptions};
use serde_json::Value;

use crate::support::{TINY, TINY_REFERENCE, contents, engines, finish, fit, ldseg, train};

/// Smallest part of equal labels with different engines.
const AGREEMENT: f64 = 0.999;

/// A data set that `phantom` makes, and the recipe for it.
struct Pipeline {
    phantom: &'static str,
    recipe: &'static str,
    settings: Vec<&'static str>,
    classes: usize,
    /// Extension of label maps and uncertainty maps.
    extension: &'static str,
}

#[test]
fn grey_pictures_go_from_phantom_to_segmentation() {
    let settings = [&TINY[..], &["network.input_size=[32, 32]", "training.repeats=8"]].concat();
    let pipeline = Pipeline { phantom: "echo", recipe: "echo", settings, classes: 4, extension: "png" };
    pipeline.check(check_picture);
}

#[test]
fn colour_pictures_go_from_phantom_to_segmentation() {
    let settings = [&TINY[..], &["network.input_size=[32, 64]"]].concat();
    let pipeline = Pipeline { phantom: "glands", recipe: "glas", settings, classes: 2, extension: "png" };
    pipeline.check(check_picture);
}

#[test]
fn volumes_go_from_phantom_to_segmentation() {
    let settings = [&TINY[..], &["network.input_size=[16, 16, 32]"]].concat();
    let pipeline = Pipeline { phantom: "knee", recipe: "knee", settings, classes: 3, extension: "nii.gz" };
    pipeline.check(check_volume);
}

#[test]
fn volumes_larger_than_the_networks_input_go_from_patches_to_windows() {
    // 56 x 40 x 48 voxels become 53 x 40 x 41: 3 x 4 x 2 windows.
    let patches = ["network.input_size=[32, 16, 32]", "preprocessing.spacing={resample: [2.0, 2.4, 2.0]}"];
    let settings = [&TINY[..], &patches].concat();
    let pipeline = Pipeline { phantom: "knee", recipe: "knee", settings, classes: 3, extension: "nii.gz" };
    pipeline.check(check_volume);
}

#[test]
fn pictures_larger_than_the_networks_input_go_from_patches_to_windows() {
    let patches = ["network.input_size=[64, 64]", "preprocessing.spacing={resample: [2.0, 2.0]}"];
    let settings = [&TINY[..], &patches, &["training.repeats=8"]].concat();
    let pipeline = Pipeline { phantom: "echo", recipe: "echo", settings, classes: 4, extension: "png" };
    pipeline.check(check_picture);
}

#[test]
fn the_published_layers_go_from_phantom_to_segmentation() {
    // Noise of random strength is all that this denoiser sees: fewer or smaller steps leave the fall to chance.
    let enough = ["training.repeats=16", "training.learning_rate=4.0e-3"];
    let size = ["network.input_size=[64, 64]", "diffusion.prediction=reference"];
    let settings = [&TINY_REFERENCE[..], &size, &enough].concat();
    let pipeline = Pipeline { phantom: "glands", recipe: "glas", settings, classes: 2, extension: "png" };
    pipeline.check(check_picture);
}

impl Pipeline {
    /// `check` looks at one input and its outputs, in the folder given.
    fn check(&self, check: fn(&Path, &Path, &str, usize)) {
        let temp = tempfile::tempdir().unwrap();
        let bundle = self.train(temp.path());
        let engines = engines(&format!("the {} pipeline", self.recipe));
        self.describe(&bundle, &engines);

        let images = self.new_images(temp.path());
        let segment = |engine: EngineKind, threads: &str, name: &str| {
            let output = temp.path().join(name);
            let document = segment(&images, &bundle, &output, engine, threads);
            assert_eq!(document["engine"], engine.name());
            assert_eq!(document["files"].as_array().unwrap().len(), contents(&images).len());
            output
        };
        let first = segment(EngineKind::Tract, "2", "first");
        let written = maps(&first);
        let mut expected = BTreeSet::new();
        for image in contents(&images).into_keys() {
            let name = image.split('.').next().unwrap();
            check(&images.join(&image), &first, name, self.classes);
            expected.insert(format!("{name}.{}", self.extension));
            expected.insert(format!("{name}_uncertainty.{}", self.extension));
            expected.insert(format!("{name}_overlay.png"));
            expected.insert(format!("{name}.json"));
        }
        assert_eq!(contents(&first).into_keys().collect::<BTreeSet<_>>(), expected);
        assert!(written == maps(&segment(EngineKind::Tract, "2", "again")), "a second run differs");
        assert!(written == maps(&segment(EngineKind::Tract, "1", "one")), "another number of threads differs");

        if engines.contains(&EngineKind::Ort) {
            let other = segment(EngineKind::Ort, "2", "ort");
            assert!(maps(&other).keys().eq(written.keys()));
            for name in written.keys().filter(|name| !name.contains("_uncertainty") && !name.contains("_overlay")) {
                let (a, b) = (labels(&first.join(name)), labels(&other.join(name)));
                let equal = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
                assert!(equal >= AGREEMENT, "{name}: {equal} of the labels are equal with tract and ONNX Runtime");
            }
            assert!(maps(&other) == maps(&segment(EngineKind::Ort, "2", "ort again")), "a second run differs");
        }
    }

    /// Makes data, trains and exports; the bundle's folder.
    fn train(&self, temp: &Path) -> PathBuf {
        let (data, run, bundle) = (temp.join("data"), temp.join("run"), temp.join("bundle"));
        train(&[&"phantom", &self.phantom, &"--count", &"4", &"--seed", &"1", &"--output", &data]).ok();
        let epochs = 3;
        let brief = ["validation=1", "training.epochs=3", "training.batch_size=2"];
        finish(fit(self.recipe, &data, &run, &[&brief[..], &self.settings].concat()));
        for file in ["recipe.yaml", "split.yaml", "metrics.csv", "tensorboard", "checkpoints"] {
            assert!(run.join(file).exists(), "the run has no {file}");
        }
        let metrics = fs::read_to_string(run.join("metrics.csv")).unwrap();
        let column = metrics.lines().next().unwrap().split(',').position(|name| name == "loss").unwrap();
        let losses: Vec<f64> =
            metrics.lines().skip(1).map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect();
        assert_eq!(losses.len(), epochs);
        assert!(losses[epochs - 1] < losses[0], "the loss does not fall: {losses:?}");

        train(&[&"export", &run, &"--output", &bundle]).ok();
        let files = contents(&bundle);
        // The manifest and its hash beside them.
        assert!(files.len() == FILES.len() + 2 && FILES.iter().all(|file| files.contains_key(*file)));
        bundle
    }

    /// `info` and `verify`.
    fn describe(&self, bundle: &Path, engines: &[EngineKind]) {
        let info = ldseg(&[&"info", &bundle]).ok();
        assert!(info.contains(&format!("name        {}", self.recipe)) && info.contains("6 intact"), "{info}");
        let manifest: Value = serde_json::from_str(&ldseg(&[&"info", &bundle, &"--json"]).ok()).unwrap();
        assert_eq!(manifest["classes"].as_array().unwrap().len(), self.classes);
        for engine in engines {
            let report = ldseg(&[&"verify", &"--bundle", &bundle, &"--engine", &engine.name(), &"--json"]).ok();
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!((&report["passed"], &report["engine"]), (&Value::Bool(true), &engine.name().into()));
            assert_eq!(report["checks"].as_array().unwrap().len(), 8);
        }
    }

    /// A folder with images that were not trained on, without their label maps.
    fn new_images(&self, temp: &Path) -> PathBuf {
        let (new, images) = (temp.join("new"), temp.join("images"));
        train(&[&"phantom", &self.phantom, &"--count", &"1", &"--seed", &"2", &"--output", &new]).ok();
        fs::create_dir(&images).unwrap();
        let source = if new.join("images").is_dir() { new.join("images") } else { new };
        for (name, bytes) in contents(&source).into_iter().filter(|(name, _)| !name.contains("_gt.")) {
            fs::write(images.join(name), bytes).unwrap();
        }
        images
    }
}

/// Runs `ldseg segment` on a folder; its JSON document.
fn segment(images: &Path, bundle: &Path, output: &Path, engine: EngineKind, threads: &str) -> Value {
    let document = ldseg(&[
        &"segment",
        &images,
        &"--bundle",
        &bundle,
        &"--output",
        &output,
        &"--engine",
        &engine.name(),
        &"--threads",
        &threads,
        &"--samples",
        &"2",
        &"--overlay",
        &"--uncertainty",
        &"--json",
    ]);
    serde_json::from_str(&document.ok()).unwrap()
}

/// The outputs of a run that have to be the same in the next: all but the JSON files, which tell the time that it took.
fn maps(outputs: &Path) -> BTreeMap<String, Vec<u8>> {
    contents(outputs).into_iter().filter(|(name, _)| !name.ends_with(".json")).collect()
}

fn labels(path: &Path) -> Vec<u8> {
    if path.extension().is_some_and(|extension| extension == "png") {
        return image::open(path).unwrap().into_luma8().into_raw();
    }
    volume(path).1.iter().map(|value| *value as u8).collect()
}

fn check_picture(input: &Path, outputs: &Path, name: &str, classes: usize) {
    let size = image::image_dimensions(input).unwrap();
    let output = |suffix: &str| image::open(outputs.join(format!("{name}{suffix}.png"))).unwrap();
    for (suffix, colour) in [("", ColorType::L8), ("_uncertainty", ColorType::L8), ("_overlay", ColorType::Rgb8)] {
        let picture = output(suffix);
        assert_eq!(((picture.width(), picture.height()), picture.color()), (size, colour), "{name}{suffix}");
    }
    assert!(output("").into_luma8().iter().all(|label| usize::from(*label) < classes));
}

/// Header and voxels, read without this project's own code.
fn volume(path: &Path) -> (NiftiHeader, ndarray::ArrayD<f32>) {
    let object = ReaderOptions::new().read_file(path).unwrap();
    (object.header().clone(), object.into_volume().into_ndarray().unwrap())
}

fn check_volume(input: &Path, outputs: &Path, name: &str, classes: usize) {
    let (old, _) = volume(input);
    let affine = |h: &NiftiHeader| {
        let qform = [h.quatern_b, h.quatern_c, h.quatern_d, h.quatern_x, h.quatern_y, h.quatern_z];
        ((h.sform_code, [h.srow_x, h.srow_y, h.srow_z]), (h.qform_code, qform), h.pixdim, h.xyzt_units)
    };
    assert!(old.srow_x[1] != 0.0 && old.srow_x[3] != 0.0, "an oblique affine with an origin tells more");
    for suffix in ["", "_uncertainty"] {
        let (new, voxels) = volume(&outputs.join(format!("{name}{suffix}.nii.gz")));
        assert_eq!((affine(&new), &new.dim[..4]), (affine(&old), &old.dim[..4]), "{name}{suffix}");
        let whole = |value: &f32| value.fract() == 0.0 && (0.0..classes as f32).contains(value);
        assert!(if suffix.is_empty() {
            voxels.iter().all(whole)
        } else {
            voxels.iter().all(|value| (0.0..=1.0).contains(value))
        });
    }
    image::open(outputs.join(format!("{name}_overlay.png"))).unwrap();
}
