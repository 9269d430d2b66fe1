//! `ldseg-train calibrate` from end to end, with the bundle for echocardiograms on synthetic ones, and what `ldseg segment`
//! makes of it.

use std::fs;
use std::path::{Path, PathBuf};

use image::GrayImage;
use ldseg::bundle::Bundle;
use ldseg_io::{read_image, read_labels, write_labels};
use serde_json::Value;
use yaml_serde::Mapping;

use crate::orientation::stored_as;
use crate::support::{MODELS, Ran, ldseg, recipe, repository, train};

/// Synthetic patients: half of them count as trained on.
const PATIENTS: usize = 24;

/// A copy of the bundle, a folder of patients, and a run folder that says whom the bundle was trained on.
fn prepare(folder: &Path) -> [PathBuf; 3] {
    let [bundle, data, run] = ["bundle", "data", "run"].map(|name| folder.join(name));
    fs::create_dir_all(&bundle).unwrap();
    for entry in fs::read_dir(Path::new(MODELS).join("echo")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), bundle.join(entry.file_name())).unwrap();
    }
    // The bundle as it was before it was calibrated.
    let manifest = bundle.join("manifest.yaml");
    let mut keys: Mapping = yaml_serde::from_str(&fs::read_to_string(&manifest).unwrap()).unwrap();
    keys.remove("calibration").unwrap();
    fs::write(&manifest, yaml_serde::to_string(&keys).unwrap()).unwrap();
    train(&[&"seal", &bundle]).ok();
    train(&[&"phantom", &"echo", &"--count", &PATIENTS.to_string(), &"--output", &data]).ok();
    fs::create_dir_all(&run).unwrap();
    fs::copy(recipe("echo"), run.join("recipe.yaml")).unwrap();
    let side = |from: usize, to: usize| (from..=to).map(|n| format!("- phantom{n:04}\n")).collect::<String>();
    let split = format!("train:\n{}validation:\n{}", side(1, PATIENTS / 2), side(PATIENTS / 2 + 1, PATIENTS));
    fs::write(run.join("split.yaml"), split).unwrap();
    [bundle, data, run]
}

fn segment(folder: &Path, bundle: &Path, image: &Path, more: &[&str]) -> (Value, Ran) {
    let output = folder.join("out");
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
        vec![&"segment", &image, &"--bundle", &bundle, &"--output", &output, &"--json", &"--overlay"];
    arguments.extend(more.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
    let ran = ldseg(&arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    (document["files"][0].clone(), ran)
}

#[test]
fn a_calibrated_bundle_gives_intervals_and_refuses_what_is_of_another_kind() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let [bundle, data, run] = prepare(folder);
    let image = data.join(format!("phantom{PATIENTS:04}_ED.png"));
    let measure = ["--measure", "--pixel-spacing", "0.6"];

    let (before, ran) = segment(folder, &bundle, &image, &measure);
    let area = before["left_ventricle"]["area_cm2"].as_f64().unwrap();
    assert!(before["intervals"].is_null() && before["image_kind"].is_null() && before["interval_level"].is_null());
    assert!(!ran.stderr.contains("interval"), "a bundle without calibration prints none: {}", ran.stderr);

    let table = train(&[&"calibrate", &"--bundle", &bundle, &"--run", &run, &"--data", &data]).ok();
    assert!(table.contains("| ejection fraction | 12 |"), "{table}");
    let loaded = Bundle::load(&bundle).unwrap();
    let calibration = loaded.manifest().calibration.clone().unwrap();
    assert_eq!((calibration.patients, calibration.images, calibration.level), (12, 24, 0.9));
    assert!(loaded.model_card().contains("## Calibration") && calibration.kind.is_some());
    assert!(loaded.manifest().classes[1..].iter().all(|class| class.unsure_below.is_some()));

    let (found, _) = segment(folder, &bundle, &image, &measure);
    assert_eq!((&found["interval_level"], &found["image_kind"]["right"]), (&0.9.into(), &true.into()), "{found}");
    assert_eq!(found["left_ventricle"]["area_cm2"].as_f64().unwrap(), area, "labels are as they were");
    let interval: Vec<f64> = serde_json::from_value(found["intervals"]["left_ventricle_area"].clone()).unwrap();
    assert!(interval[0] < area && area < interval[1], "{found}");

    let (others, ran) = segment(folder, &bundle, &image, &["--measure", "--pixel-spacing", "0.6", "--samples", "2"]);
    assert!(others["intervals"].is_null() && ran.stderr.contains("hold for sampler direct, 1 steps, 1 samples"));

    // What is no echocardiogram.
    let noise = folder.join("noise.png");
    let mut state = 1_u32;
    GrayImage::from_fn(300, 200, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Luma([(state >> 24) as u8])
    })
    .save(&noise)
    .unwrap();
    let (refused, ran) = segment(folder, &bundle, &noise, &measure);
    assert_eq!(refused["image_kind"]["right"], false, "{refused}");
    assert!(refused["left_ventricle"].is_null() && refused["left_atrium"].is_null() && refused["intervals"].is_null());
    assert!(ran.stderr.contains("noise.png: is not of the kind of image that echo was trained on"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--measure-anyway"), "{}", ran.stderr);
    assert!(refused["notes"].to_string().contains("is not of the kind"));
    let drawn = image::open(folder.join("out/noise_overlay.png")).unwrap().to_rgb8();
    assert_eq!(drawn.get_pixel(0, 0).0, [255, 0, 0], "the overlay is struck out");

    let anyway = ["--measure", "--pixel-spacing", "0.6", "--measure-anyway"];
    let (measured, ran) = segment(folder, &bundle, &noise, &anyway);
    assert_eq!(measured["image_kind"]["measured_anyway"], true);
    assert!(ran.stderr.contains("measured all the same") && measured["intervals"].is_null(), "{}", ran.stderr);
    // On the right image it changes nothing.
    assert_eq!(segment(folder, &bundle, &image, &anyway).0["intervals"], found["intervals"]);
}

#[test]
fn patients_that_were_trained_on_do_not_calibrate() {
    let temp = tempfile::tempdir().unwrap();
    let [bundle, data, run] = prepare(temp.path());
    let list = temp.path().join("patients.txt");
    fs::write(&list, "phantom0013\nphantom0001\n").unwrap();
    let before = fs::read(bundle.join("manifest.yaml")).unwrap();
    let ran = train(&[&"calibrate", &"--bundle", &bundle, &"--run", &run, &"--data", &data, &"--patients", &list]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("trained on, such as phantom0001"), "{}", ran.stderr);
    assert_eq!(before, fs::read(bundle.join("manifest.yaml")).unwrap());
    let ran = train(&[&"calibrate", &"--bundle", &bundle, &"--run", &run, &"--data", &data, &"--level", &"1"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let missing = repository("models");
    let ran = train(&[&"calibrate", &"--bundle", &bundle, &"--run", &missing, &"--data", &data]);
    assert!(ran.code == Some(1) && ran.stderr.contains("split.yaml"), "{}", ran.stderr);
}

#[test]
fn labels_that_are_stored_the_other_way_round_calibrate_alike() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    train(&[&"phantom", &"knee", &"--count", &"3", &"--output", &path("data")]).ok();
    fs::create_dir(path("run")).unwrap();
    fs::copy(recipe("knee"), path("run/recipe.yaml")).unwrap();
    fs::write(path("run/split.yaml"), "train: []\nvalidation: [phantom0001, phantom0002, phantom0003]\n").unwrap();
    let manifest = |name: &str| {
        let bundle = path(name);
        fs::create_dir(&bundle).unwrap();
        for entry in fs::read_dir(repository("tests/fixtures/knee")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), bundle.join(entry.file_name())).unwrap();
        }
        train(&[&"calibrate", &"--bundle", &bundle, &"--run", &path("run"), &"--data", &path("data")]).ok();
        fs::read_to_string(bundle.join("manifest.yaml")).unwrap()
    };
    let as_drawn = manifest("as_drawn");
    assert!(as_drawn.contains("\ncalibration:"), "{as_drawn}");
    for entry in fs::read_dir(path("data/labels")).unwrap() {
        let labels = entry.unwrap().path();
        let stored = read_image(&labels).unwrap();
        // Towards the other end of each axis: the size stays, and so nothing else tells.
        let opposite = |letter| match letter {
            'R' => 'L',
            'L' => 'R',
            'A' => 'P',
            'P' => 'A',
            'S' => 'I',
            _ => 'S',
        };
        let own = stored.geometry.orientation().unwrap();
        let turn = own.turn_to(own.to_string().chars().map(opposite).collect::<String>().parse().unwrap());
        let form = stored_as(&turn.image(stored));
        write_labels(&labels, &turn.array(read_labels(&labels).unwrap()), &form).unwrap();
    }
    assert_eq!(manifest("turned"), as_drawn);
}
