//! `ldseg segment --samples N --keep-samples` and what `ldseg evaluate` makes of it.

use std::fs;

use ldseg::engine::EngineOptions;
use ldseg::segmenter::{SegmentOptions, Segmenter, argmax};
use ldseg_io::{read_image, read_label_stack, read_labels, read_stack};
use ndarray::Axis;
use serde_json::Value;

use crate::support::{contents, fixture, ldseg, repository};

const CASES: [&str; 4] = ["phantom0001_ED", "phantom0001_ES", "phantom0002_ED", "phantom0002_ES"];

#[test]
fn samples_and_probabilities_are_kept_and_scored() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let bundle = repository("models/echo");
    let (data, out, metrics) = (path("data"), path("out"), path("metrics.json"));
    fixture("echo-data", &data);
    ldseg(&[
        &"segment",
        &data,
        &"--bundle",
        &bundle,
        &"--output",
        &out,
        &"--samples",
        &"3",
        &"--keep-samples",
        &"--seed",
        &"5",
    ])
    .ok();
    assert_eq!(contents(&out).len(), 4 * 3);

    let mut segmenter = Segmenter::load(&bundle, &EngineOptions::default()).unwrap();
    let defaults = SegmentOptions::defaults(segmenter.manifest());
    let options = SegmentOptions { samples: 3, seed: 5, keep_samples: true, ..defaults };
    let image = read_image(&data.join("phantom0001_ED.png")).unwrap();
    let size = &image.data.shape()[1..];
    let found = segmenter.segment(&image, &options).unwrap();
    let samples = read_label_stack(&out.join("phantom0001_ED_samples.nii.gz"), size).unwrap();
    let views: Vec<_> = samples.axis_iter(Axis(0)).collect();
    assert!(views.len() == 3 && views.iter().zip(&found.samples).all(|(stored, own)| stored == own));
    assert!(views[0] != views[1], "all samples are the same");
    let probabilities = read_stack(&out.join("phantom0001_ED_probabilities.nii.gz"), size).unwrap();
    assert_eq!(probabilities, found.probabilities);
    assert_eq!(argmax(&probabilities), read_labels(&out.join("phantom0001_ED.png")).unwrap());

    let table = ldseg(&[&"evaluate", &"--predictions", &out, &"--labels", &data, &"--output", &metrics]).ok();
    assert!(table.contains("| all | generalised_energy_distance |"), "{table}");
    let metrics: Value = serde_json::from_slice(&fs::read(metrics).unwrap()).unwrap();
    let cases: Vec<_> = metrics["cases"].as_array().unwrap().iter().collect();
    assert_eq!(cases.iter().map(|case| case["name"].as_str().unwrap()).collect::<Vec<_>>(), CASES);
    let reference = read_labels(&data.join("phantom0001_ED_gt.png")).unwrap();
    let distance = ldseg_evaluate::metrics::sampling::energy_distance(&found.samples, &reference, 4);
    let own = &cases[0]["sampling"];
    assert_eq!(own["samples"], 3);
    assert!((own["generalised_energy_distance"].as_f64().unwrap() - distance).abs() < 1e-12);
    let summary = &metrics["sampling"]["summary"];
    let names = [
        "generalised_energy_distance",
        "expected_calibration_error",
        "expected_calibration_error_foreground",
        "uncertainty_error_correlation",
    ];
    for name in names {
        let mean = cases.iter().map(|case| case["sampling"][name].as_f64().unwrap()).sum::<f64>() / 4.0;
        assert!((summary[name]["mean"].as_f64().unwrap() - mean).abs() < 1e-9, "{name}");
        let interval = &summary[name]["ci95"];
        assert!(interval[0].as_f64() <= Some(mean + 1e-9) && interval[1].as_f64() >= Some(mean - 1e-9), "{name}");
    }
    let voxels = |bins: &Value| bins.as_array().unwrap().iter().map(|bin| bin["voxels"].as_u64().unwrap()).sum::<u64>();
    let sizes: usize = 4 * size.iter().product::<usize>();
    assert_eq!(voxels(&metrics["sampling"]["reliability"]), sizes as u64);
    assert!(voxels(&metrics["sampling"]["reliability_foreground"]) <= sizes as u64);
    let lines = fs::read_to_string(path("metrics_sampling.csv")).unwrap();
    assert_eq!(lines.lines().count(), 5);
    let summary = fs::read_to_string(path("metrics_summary.csv")).unwrap();
    assert!(names.iter().all(|name| summary.contains(&format!("all,,{name},"))), "{summary}");

    let html = path("report.html");
    ldseg(&[&"report", &"--bundle", &bundle, &"--evaluation", &path("metrics.json"), &"--output", &html]).ok();
    let html = fs::read_to_string(html).unwrap();
    assert!(html.contains("Reliability diagram") && html.contains("Generalised energy distance"));
}

#[test]
fn samples_that_do_not_fit_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let (bundle, data, out, metrics) = (path("bundle"), path("data"), path("out"), path("metrics.json"));
    fixture("echo", &bundle);
    fixture("echo-data", &data);
    ldseg(&[&"segment", &data, &"--bundle", &bundle, &"--output", &out, &"--keep-samples"]).ok();
    // The samples in place of the probabilities: one map, where at least two classes are expected.
    let wrong = out.join("phantom0001_ED_probabilities.nii.gz");
    fs::copy(out.join("phantom0001_ED_samples.nii.gz"), &wrong).unwrap();
    fs::write(out.join("phantom0001_ES_samples.nii.gz"), "torn").unwrap();
    let ran = ldseg(&[&"evaluate", &"--predictions", &out, &"--labels", &data, &"--output", &metrics]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("phantom0001_ED_probabilities.nii.gz: has 1 classes"), "{}", ran.stderr);
    assert!(ran.stderr.contains("phantom0001_ES_samples.nii.gz: is not a readable NIfTI"), "{}", ran.stderr);
}
