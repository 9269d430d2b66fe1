//! What the trainer takes in: folds, several channels, spacing and patches, with the commands alone.

use std::fs;
use std::path::Path;

use ldseg_io::{read_image, read_labels, read_recording, write_labels, write_scalar};
use ndarray::Axis;
use serde_json::Value;

use crate::support::{TINY, contents, finish, fit, ldseg, train};

/// A run of next to no time.
const BRIEF: [&str; 3] = ["training.epochs=1", "training.batch_size=2", "network.input_size=[32, 32]"];

#[test]
fn a_fold_is_part_of_the_run() {
    let temp = tempfile::tempdir().unwrap();
    let (data, run, bundle) = (temp.path().join("data"), temp.path().join("run"), temp.path().join("bundle"));
    train(&[&"phantom", &"echo", &"--count", &"4", &"--seed", &"1", &"--output", &data]).ok();
    let command = |fold: &str| {
        let mut command = fit("echo", &data, &run, &[&TINY[..], &BRIEF].concat());
        command.args(["--fold", fold]);
        command
    };
    let refused = |fold: &str| {
        let output = command(fold).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, message) = refused("3/2");
    assert!(code == Some(2) && message.contains("fold 3/2"), "{message}");
    let (code, message) = refused("1/5");
    assert!(code == Some(2) && message.contains("fold 1/5 of 4 patients"), "{message}");
    assert!(!run.join("recipe.yaml").exists(), "what cannot be split leaves no run behind");

    finish(command("2/4"));
    let split = fs::read_to_string(run.join("split.yaml")).unwrap();
    let validation = split.split("validation:\n").nth(1).unwrap();
    assert_eq!(validation.lines().count(), 1, "{split}");
    let (code, message) = refused("1/4");
    assert!(code == Some(2) && message.contains("differs from the recipe"), "{message}");
    finish(command("2/4"));
    train(&[&"export", &run, &"--output", &bundle]).ok();
    let card = fs::read_to_string(bundle.join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("seed 1, fold 2/4"), "{card}");
}

/// Synthetic knees as nnU-Net lays them out, with a second channel on a scale of its own.
fn two_channels(count: usize, seed: &str, dir: &Path) {
    let source = dir.join("source");
    train(&[&"phantom", &"knee", &"--count", &count.to_string(), &"--seed", &seed, &"--output", &source]).ok();
    for folder in ["imagesTr", "labelsTr"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    for name in contents(&source.join("images")).keys() {
        let source_image = source.join("images").join(name);
        let form = read_recording(&source_image).unwrap().form().clone();
        let image = read_image(&source_image).unwrap();
        let labels = read_labels(&source.join("labels").join(name)).unwrap();
        let case = name.strip_suffix(".nii.gz").unwrap();
        let first = image.data.index_axis(Axis(0), 0).to_owned();
        let second = first.mapv(|value| (1.0 - value / 1000.0).powi(2) - 7.0);
        for (channel, data) in [first, second].iter().enumerate() {
            let path = dir.join(format!("imagesTr/{case}_{channel:04}.nii.gz"));
            write_scalar(&path, data, &form).unwrap();
        }
        write_labels(&dir.join("labelsTr").join(name), &labels, &form).unwrap();
    }
    fs::write(dir.join("dataset.json"), r#"{"channel_names": {"0": "T1", "1": "inverse"}, "labels": {}}"#).unwrap();
}

#[test]
fn two_channels_go_from_nnunet_to_one_segmentation() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    for name in ["data", "new"] {
        fs::create_dir(path(name)).unwrap();
    }
    two_channels(3, "1", &path("data"));
    two_channels(2, "2", &path("new"));
    let proposed = path("proposed.yaml");
    let ran = train(&[&"inspect", &path("data"), &"--write-recipe", &proposed]);
    assert!(ran.stdout.contains("channels     2"), "{}", ran.stdout);
    assert!(fs::read_to_string(&proposed).unwrap().contains("normalisation: min_max_per_channel"));

    let settings = [
        "network.input_size=[16, 16, 32]",
        "network.channels=2",
        "preprocessing.normalisation=min_max_per_channel",
        "training.epochs=2",
        "training.repeats=2",
        "training.batch_size=2",
    ];
    finish(fit("knee", &path("data"), &path("run"), &[&TINY[..], &settings].concat()));
    train(&[&"export", &path("run"), &"--output", &path("bundle")]).ok();
    let report = ldseg(&[&"verify", &"--bundle", &path("bundle"), &"--json"]).ok();
    assert!(report.contains("\"passed\": true"), "{report}");

    let images = path("new/imagesTr");
    let segment = |input: &Path, output: &str| {
        ldseg(&[&"segment", &input, &"--bundle", &path("bundle"), &"--output", &path(output), &"--overlay", &"--json"])
    };
    let document: Value = serde_json::from_str(&segment(&images, "out").ok()).unwrap();
    assert_eq!(document["files"].as_array().unwrap().len(), 2, "{document}");
    for case in ["phantom0001", "phantom0002"] {
        let (labels, image) = (path("out").join(format!("{case}.nii.gz")), images.join(format!("{case}_0001.nii.gz")));
        let (labels, image) = (read_image(&labels).unwrap(), read_image(&image).unwrap());
        assert_eq!((labels.data.shape(), labels.spacing()), (image.data.shape(), image.spacing()));
        assert!(path("out").join(format!("{case}_overlay.png")).is_file());
    }
    // One of the channels names the image; one alone is none.
    segment(&images.join("phantom0002_0001.nii.gz"), "one").ok();
    let same = ["out", "one"].map(|name| fs::read(path(name).join("phantom0002.nii.gz")).unwrap());
    assert_eq!(same[0], same[1]);
    fs::remove_file(images.join("phantom0002_0001.nii.gz")).unwrap();
    let ran = segment(&images, "missing");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("phantom0002_0000.nii.gz: has 1 grey channel, the bundle expects 2"), "{}", ran.stderr);
    assert!(path("missing/phantom0001.nii.gz").is_file() && !path("missing/phantom0002.nii.gz").exists());
}
