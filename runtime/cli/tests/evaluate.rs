//! `ldseg evaluate` from files to files.

use std::fs;
use std::path::PathBuf;

use image::{GrayImage, Luma};
use serde_json::Value;

use crate::support::{fixture, ldseg};

/// Two folders, `predictions` and `labels`.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        ["predictions", "labels"].iter().for_each(|name| fs::create_dir(place.path(name)).unwrap());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A picture of 12 x 10 pixels: `value` in a rectangle from (2, 2) of `width` x `height` pixels.
    fn draw(&self, name: &str, value: u8, [width, height]: [u32; 2]) {
        let inside = |x: u32, y: u32| (2..2 + width).contains(&x) && (2..2 + height).contains(&y);
        let picture = GrayImage::from_fn(12, 10, |x, y| Luma([if inside(x, y) { value } else { 0 }]));
        picture.save(self.path(name)).unwrap();
    }

    /// Evaluates with more arguments; the exit code, standard error, and what was written to `metrics.json`.
    fn evaluate(&self, more: &[&str]) -> (Option<i32>, String, Value) {
        let (predictions, labels, output) = (self.path("predictions"), self.path("labels"), self.path("metrics.json"));
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"evaluate", &"--predictions", &predictions];
        arguments.extend([&"--labels" as &dyn AsRef<std::ffi::OsStr>, &labels, &"--output", &output]);
        arguments.extend(more.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>));
        let ran = ldseg(&arguments);
        let written = fs::read(&output).ok().map(|text| serde_json::from_slice(&text).unwrap());
        (ran.code, ran.stderr, written.unwrap_or_default())
    }
}

fn near(found: &Value, expected: f64) {
    assert!((found.as_f64().unwrap() - expected).abs() < 1e-9, "{found}, expected {expected}");
}

#[test]
fn scores_pictures_names_what_fails_and_repeats_itself() {
    let place = Place::new();
    place.draw("predictions/a.png", 1, [4, 4]);
    place.draw("predictions/a_overlay.png", 99, [4, 4]);
    place.draw("labels/a_gt.png", 1, [6, 4]);
    place.draw("predictions/patient1_ED.png", 1, [2, 2]);
    place.draw("labels/patient1_ED_gt.png", 2, [2, 2]);
    place.draw("labels/spare_gt.png", 1, [2, 2]);
    place.draw("predictions/lonely.png", 1, [2, 2]);
    place.draw("predictions/small.png", 1, [2, 2]);
    GrayImage::new(3, 3).save(place.path("labels/small.png")).unwrap();
    fs::write(place.path("predictions/torn.png"), "no picture").unwrap();
    place.draw("labels/torn_gt.png", 1, [2, 2]);

    let (code, errors, metrics) = place.evaluate(&["--spacing", "0.5,2", "--surface", "both", "--tolerance", "2"]);
    assert_eq!(code, Some(1), "{errors}");
    for expected in ["lonely.png: has no label map in", "small.png: has size [10, 12], but its label map", "torn.png: "]
    {
        assert!(errors.contains(expected), "expected '{expected}' in: {errors}");
    }
    assert_eq!(metrics["failed"].as_array().unwrap().len(), 3);
    assert_eq!(metrics["without_prediction"], 1);
    assert_eq!(metrics["cases"].as_array().unwrap().len(), 2);

    let case = &metrics["cases"][0];
    assert_eq!((&case["name"], &case["spacing_from"]), (&"a".into(), &"given".into()));
    let first = &case["classes"]["1"];
    near(&first["dice"], 2.0 * 16.0 / 40.0);
    near(&first["iou"], 16.0 / 24.0);
    // The right side is two pixels of 2 mm off.
    near(&first["hausdorff_mm"], 4.0);
    near(&first["hausdorff_surfel_mm"], 4.0);
    near(&first["area_difference_mm2"], -8.0);
    assert!(first["nsd"].as_f64().unwrap() < 1.0 && first["volume_difference_ml"].is_null());
    // Class 2 is in neither map of this case: undefined, and not averaged.
    assert!(case["classes"]["2"].as_object().unwrap().values().all(Value::is_null));
    let second = &metrics["cases"][1];
    assert_eq!((&second["patient"], &second["classes"]["2"]["dice"]), (&"patient1".into(), &0.0.into()));
    assert!(second["classes"]["2"]["assd_mm"].is_null() && second["classes"]["2"]["nsd"] == 0.0);
    let summary = &metrics["summary"];
    near(&summary["1"]["dice"]["mean"], 0.4);
    assert_eq!((&summary["1"]["dice"]["n"], &summary["2"]["dice"]["n"]), (&2.into(), &1.into()));
    near(&summary["1"]["dice"]["ci95"][1], 0.8);
    assert!(summary["2"]["dice"]["std"].is_null() && summary["2"]["dice"]["ci95"][0].is_null());
    near(&metrics["foreground_mean"]["dice"], 0.2);

    let rows = fs::read_to_string(place.path("metrics.csv")).unwrap();
    assert_eq!(rows.lines().count(), 5, "{rows}");
    assert!(rows.starts_with("name,patient,class,class_name,dice,iou,hausdorff_mm,") && rows.contains("\na,a,1,,0.8,"));
    assert!(fs::read_to_string(place.path("metrics_summary.csv")).unwrap().contains("1,,dice,0.4,"));

    let first = fs::read(place.path("metrics.json")).unwrap();
    place.evaluate(&["--spacing", "0.5,2", "--surface", "both", "--tolerance", "2"]);
    assert!(first == fs::read(place.path("metrics.json")).unwrap(), "a second run differs");
}

#[test]
fn classes_and_objects_are_as_asked_for() {
    let place = Place::new();
    place.draw("predictions/train_1.png", 1, [4, 4]);
    place.draw("labels/train_1_anno.bmp", 255, [4, 4]);
    let (code, errors, _) = place.evaluate(&[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("predictions hold the values {1}, label maps {255}: none in common"), "{errors}");

    let classes = place.path("classes.yaml");
    fs::write(&classes, "- {name: tissue}\n- {name: gland, values: [255]}\n").unwrap();
    let (code, errors, metrics) = place.evaluate(&["--classes", classes.to_str().unwrap(), "--objects", "components"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("note: the spacing of 1 cases is not known"), "{errors}");
    let (case, scores) = (&metrics["cases"][0], &metrics["cases"][0]["classes"]["1"]);
    assert_eq!((&case["spacing_from"], &case["objects"][0]), (&"unknown".into(), &"components".into()));
    assert_eq!(metrics["class_names"]["1"], "gland");
    for (measure, value) in [("object_f1", 1.0), ("object_dice", 1.0), ("dice", 1.0)] {
        assert_eq!(scores[measure], value, "{measure}");
    }
    for measure in ["object_hausdorff_mm", "hausdorff_mm", "nsd", "area_difference_mm2"] {
        assert!(case["spacing_mm"].is_null() && scores[measure].is_null(), "{measure} without a spacing: {scores}");
    }
    let (_, _, metrics) =
        place.evaluate(&["--classes", classes.to_str().unwrap(), "--objects", "components", "--spacing", "1,1"]);
    assert_eq!(metrics["cases"][0]["classes"]["1"]["object_hausdorff_mm"], 0.0);

    // Two instances that touch, found as one: a binary mask has components, ids are what they are.
    let two = GrayImage::from_fn(12, 10, |x, y| match (x, y) {
        (2..=3, 2..=5) => Luma([1]),
        (4..=5, 2..=5) => Luma([2]),
        _ => Luma([0]),
    });
    two.save(place.path("labels/train_1_anno.bmp")).unwrap();
    let (code, errors, metrics) = place.evaluate(&["--objects", "instances"]);
    assert_eq!(code, Some(0), "{errors}");
    let case = &metrics["cases"][0];
    assert_eq!(case["objects"], serde_json::json!(["components", "instances"]));
    near(&case["classes"]["1"]["dice"], 1.0);
    near(&case["classes"]["1"]["object_f1"], 2.0 / 3.0);
    near(&case["classes"]["1"]["object_dice"], 2.0 * 8.0 / 24.0);
}

#[test]
fn volumes_are_measured_in_mm_and_ml() {
    let place = Place::new();
    let data = place.path("knees");
    fixture("knee-data", &data);
    for (from, to) in [("phantom0001", "phantom0001"), ("phantom0002", "phantom0002")] {
        let copy = |folder: &str, name: &str| {
            fs::copy(data.join(format!("{from}.nii.gz")), place.path(folder).join(name)).unwrap();
        };
        copy("predictions", &format!("{to}.nii.gz"));
        copy("labels", &format!("{to}_gt.nii.gz"));
    }
    let (code, errors, metrics) = place.evaluate(&[]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let case = &metrics["cases"][0];
    assert_eq!(case["spacing_from"], "labels");
    assert_ne!(case["spacing_mm"], serde_json::json!([1.0, 1.0, 1.0]));
    for class in ["1", "2"] {
        let scores = &case["classes"][class];
        assert_eq!((&scores["dice"], &scores["nsd"]), (&1.0.into(), &1.0.into()));
        assert_eq!((&scores["hd95_mm"], &scores["volume_difference_ml"]), (&0.0.into(), &0.0.into()));
        assert!(scores["area_difference_mm2"].is_null());
    }
    let (code, errors, _) = place.evaluate(&["--objects", "components"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("is a volume, expected a picture"), "{errors}");
}

#[test]
fn wrong_usage_is_told() {
    let place = Place::new();
    place.draw("predictions/a.png", 1, [4, 4]);
    place.draw("labels/a.png", 1, [4, 4]);
    for (wrong, expected) in [
        (&["--tolerance", "-1"][..], "unexpected argument"),
        (&["--tolerance=-1"], "the tolerance is -1 mm"),
        (&["--spacing", "0,1"], "--spacing is [0.0, 1.0], expected positive numbers"),
        (&["--spacing", "1,1,1"], "--spacing has 3 numbers"),
        (&["--surface", "skin"], "invalid value 'skin'"),
    ] {
        let (code, errors, written) = place.evaluate(wrong);
        assert_eq!((code, written), (Some(2), Value::Null), "{wrong:?}");
        assert!(errors.contains(expected), "{errors}");
    }
    fs::remove_file(place.path("predictions/a.png")).unwrap();
    let (code, errors, _) = place.evaluate(&[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("predictions: the folder holds no images"), "{errors}");
}
