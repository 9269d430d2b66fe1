//! `ldseg robustness` with tiny bundles: what it writes, not what they are worth.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{contents, fixture, ldseg};

#[test]
fn bundles_are_compared_on_the_same_corrupted_images() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let (one, two, data) = (path("one"), path("two"), path("data"));
    fixture("echo", &one);
    fixture("echo", &two);
    fixture("echo-data", &data);
    fs::write(data.join("broken.png"), "no picture").unwrap();
    fs::copy(data.join("phantom0001_ED_gt.png"), data.join("broken_gt.png")).unwrap();
    let study = |output: &Path, corruptions: &str| {
        ldseg(&[
            &"robustness",
            &"--bundle",
            &one,
            &"--bundle",
            &two,
            &"--images",
            &data,
            &"--labels",
            &data,
            &"--output",
            &output,
            &"--corruptions",
            &corruptions,
            &"--levels",
            &"2",
            &"--json",
        ])
    };
    let ran = study(&path("out"), "gaussian,speckle,gain,blur,drop_out");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("broken.png: is not a readable PNG"), "{}", ran.stderr);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&found["images"], &found["bundles"]), (&4.into(), &serde_json::json!(["one", "two"])));
    let curves = found["curves"].as_array().unwrap();
    // Corruptions x strengths, clean ones included x bundles x classes and their mean.
    assert_eq!(curves.len(), 5 * 3 * 2 * 4);
    let of = |bundle: &str, corruption: &str, strength: f64| -> &Value {
        let point = curves.iter().find(|point| {
            point["bundle"] == bundle
                && point["corruption"] == corruption
                && point["strength"].as_f64() == Some(strength)
                && point["class"] == "mean"
        });
        &point.unwrap()["dice"]
    };
    assert_eq!(of("one", "gaussian", 0.0), of("one", "blur", 0.0), "clean images are the same");
    assert_eq!(of("one", "gaussian", 0.2)["n"], 4);
    assert!(found["failed"].as_array().unwrap().len() == 1);

    let files = contents(&path("out"));
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["robustness.csv", "robustness.json", "robustness.md", "robustness_cases.csv"]);
    let cases = String::from_utf8(files["robustness_cases.csv"].clone()).unwrap();
    // Two bundles, four images, clean and ten times corrupted.
    assert_eq!(cases.lines().count(), 1 + 2 * 4 * 11);
    let tables = String::from_utf8(files["robustness.md"].clone()).unwrap();
    assert!(
        tables.contains("**drop_out**") && tables.contains("| 0.2 |") && tables.contains(" two: mean |"),
        "{tables}"
    );

    assert!(study(&path("again"), "gaussian,speckle,gain,blur,drop_out").code == Some(1));
    assert!(files == contents(&path("again")), "a second run differs");
    study(&path("alone"), "speckle");
    let alone = String::from_utf8(contents(&path("alone")).remove("robustness_cases.csv").unwrap()).unwrap();
    assert!(alone.lines().all(|line| cases.contains(line)), "what else is studied changes nothing");
}

#[test]
fn the_clean_image_is_segmented_as_the_file_is() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let (bundle, data, out) = (path("bundle"), path("data"), path("out"));
    fixture("echo", &bundle);
    fixture("echo-data", &data);
    ldseg(&[&"segment", &data, &"--bundle", &bundle, &"--output", &path("segmented")]).ok();
    let metrics = path("metrics.json");
    ldseg(&[&"evaluate", &"--predictions", &path("segmented"), &"--labels", &data, &"--output", &metrics]).ok();
    let metrics: Value = serde_json::from_slice(&fs::read(&metrics).unwrap()).unwrap();
    ldseg(&[&"robustness", &"--bundle", &bundle, &"--images", &data, &"--labels", &data, &"--output", &out]).ok();
    let found: Value = serde_json::from_slice(&fs::read(out.join("robustness.json")).unwrap()).unwrap();
    for (class, name) in [("1", "left ventricle"), ("2", "myocardium"), ("3", "left atrium")] {
        let clean = found["curves"]
            .as_array()
            .unwrap()
            .iter()
            .find(|point| point["class"] == name && point["corruption"] == "gaussian" && point["strength"] == 0.0);
        let (found, expected) = (&clean.unwrap()["dice"]["mean"], &metrics["summary"][class]["dice"]["mean"]);
        let difference = found.as_f64().unwrap() - expected.as_f64().unwrap();
        assert!(difference.abs() < 1e-3, "{name}: {found}, evaluated to {expected}");
    }
}
