//! Volumes by the method of discs against those that were published with CAMUS, from its own reference contours.

use std::fs;
use std::path::Path;

use ldseg_io::{read_image, read_labels};
use ldseg_recording::heart::{
    AtriumClasses, HeartClasses, Ventricle, atrium, biplane_ml, ejection_fraction, ventricle,
};

use crate::support::{ldseg, note, repository, shared};

/// Largest difference from the published volume, and of the ejection fraction in percentage points: a volume is published
/// to 0.1 ml from contours, here it comes from their pixels.
const VOLUME_TOLERANCE: f64 = 0.04;
const EF_TOLERANCE: f64 = 1.0;

/// A number of an `Info_*.cfg` file.
fn published(folder: &Path, key: &str) -> f64 {
    let text = fs::read_to_string(folder.join("Info_4CH.cfg")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().parse().unwrap()
}

fn measured(folder: &Path, patient: &str, view: &str, phase: &str) -> Ventricle {
    let path = folder.join(format!("{patient}_{view}_{phase}_gt.mhd"));
    let spacing = read_image(&path).unwrap().geometry.spacing.unwrap();
    let classes = HeartClasses { ventricle: 1, myocardium: 2 };
    ventricle(&read_labels(&path).unwrap(), classes, [spacing[0], spacing[1]]).unwrap().expect("it has a mitral plane")
}

#[test]
fn volumes_and_ejection_fraction_are_those_published_with_camus() {
    let Some(data) = shared("volumes of CAMUS", "data/camus-original") else { return };
    let mut table = format!(
        "\n{:<13}{:>22}{:>22}{:>20}\n",
        "CAMUS", "EDV ml (published)", "ESV ml (published)", "EF % (published)"
    );
    for patient in ["patient0001", "patient0002", "patient0003"] {
        let folder = data.join(patient);
        let volume =
            |phase| biplane_ml(&measured(&folder, patient, "2CH", phase), &measured(&folder, patient, "4CH", phase));
        let (edv, esv) = (volume("ED"), volume("ES"));
        let ef = 100.0 * ejection_fraction(edv, esv);
        let [edv_there, esv_there, ef_there] = ["LVedv", "LVesv", "LVef"].map(|key| published(&folder, key));
        table += &format!(
            "{patient:<13}{edv:>12.1} ({edv_there:>6.1}){esv:>13.1} ({esv_there:>6.1}){ef:>11.1} ({ef_there:>5.1})\n"
        );
        note(&table);
        table.clear();
        for (here, there) in [(edv, edv_there), (esv, esv_there)] {
            assert!((here / there - 1.0).abs() <= VOLUME_TOLERANCE, "{patient}: {here} ml, published {there} ml");
        }
        assert!((ef - ef_there).abs() <= EF_TOLERANCE, "{patient}: EF {ef} %, published {ef_there} %");
    }
}

/// What `ldseg measure --json` tells of these arguments.
fn told(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> serde_json::Value {
    let classes = repository("models/echo/manifest.yaml");
    let common: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"measure", &"--json", &"--classes", &classes];
    serde_json::from_str(&ldseg(&[&common, arguments].concat()).ok()).unwrap()
}

#[test]
fn the_command_gives_camus_biplane_volumes() {
    let Some(data) = shared("the command on CAMUS", "data/camus-original") else { return };
    let folder = data.join("patient0001");
    let file = |view: &str, phase: &str| folder.join(format!("patient0001_{view}_{phase}_gt.mhd"));
    let [ed4, es4, ed2, es2] = [("4CH", "ED"), ("4CH", "ES"), ("2CH", "ED"), ("2CH", "ES")].map(|(v, p)| file(v, p));
    // Which of two is end-diastole, the command finds out.
    let told = told(&[&"--four-chamber", &es4, &ed4, &"--two-chamber", &ed2, &es2]);
    assert_eq!(
        (&told["four_chamber"]["end_diastole_frame"], &told["two_chamber"]["end_diastole_frame"]),
        (&1.into(), &0.into())
    );
    let biplane = &told["biplane"];
    for (key, published_as, tolerance) in
        [("end_diastolic_volume_ml", "LVedv", VOLUME_TOLERANCE), ("end_systolic_volume_ml", "LVesv", VOLUME_TOLERANCE)]
    {
        let (here, there) = (biplane[key].as_f64().unwrap(), published(&folder, published_as));
        assert!((here / there - 1.0).abs() <= tolerance, "{here} ml, published {there} ml");
    }
    let ef = 100.0 * biplane["ejection_fraction"].as_f64().unwrap();
    assert!((ef - published(&folder, "LVef")).abs() <= EF_TOLERANCE, "{ef} %");
}

#[test]
fn the_command_measures_what_was_segmented() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path();
    let (cine, bundle) = (repository("models/examples/echo-phantom.gif"), repository("models/echo"));
    let segmented = |more: &[&dyn AsRef<std::ffi::OsStr>]| -> serde_json::Value {
        let common: [&dyn AsRef<std::ffi::OsStr>; 8] =
            [&"segment", &cine, &"--bundle", &bundle, &"--output", &out, &"--json", &"--measure"];
        serde_json::from_str(&ldseg(&[&common, more].concat()).ok()).unwrap()
    };
    let labels = out.join("echo-phantom.nii.gz");

    // The file of a cine whose spacing is not known has pixels of 1 mm: no volumes come of that.
    let mut document = segmented(&[]);
    let beat = &mut document["files"][0]["heartbeat"];
    // Of corrected labels it is not known how far off they are.
    for of_the_bundle in ["intervals", "ejection_fraction_interval"] {
        beat.as_object_mut().unwrap().remove(of_the_bundle);
    }
    let beat = &*beat;
    let alone = told(&[&"--four-chamber", &labels]);
    assert_eq!(&alone["four_chamber"], beat);
    assert!(beat.get("end_diastolic_volume_ml").is_none() && alone.get("biplane").is_none());
    assert!(alone["notes"][0].as_str().unwrap().contains("--pixel-spacing"), "{alone}");

    // Told by the option, then by the file.
    let given = told(&[&"--four-chamber", &labels, &"--pixel-spacing", &"0.8"]);
    let segmented = segmented(&[&"--pixel-spacing", &"0.8"]);
    let beat = &segmented["files"][0]["heartbeat"];
    let both = told(&[&"--four-chamber", &labels, &"--two-chamber", &labels]);
    assert_eq!(given["four_chamber"]["end_systole_frame"], beat["end_systole_frame"]);
    assert_eq!(both["four_chamber"], both["two_chamber"]);
    // A view beside itself is a body of revolution, as one plane takes the ventricle to be.
    for key in ["end_diastolic_volume_ml", "end_systolic_volume_ml", "ejection_fraction"] {
        let there = beat[key].as_f64().unwrap();
        for found in [&given["four_chamber"], &both["four_chamber"], &both["biplane"]] {
            // NIfTI holds the spacing as f32.
            let here = found[key].as_f64().unwrap();
            assert!((here / there - 1.0).abs() < 1e-6, "{key}: {here}, segmenting told {there}");
        }
    }
    // The atrium too, at end-systole and in every frame.
    let close = |here: &serde_json::Value, there: &serde_json::Value| {
        let [here, there] = [here, there].map(|value| value.as_f64().unwrap());
        assert!((here / there - 1.0).abs() < 1e-6, "{here}, segmenting told {there}");
    };
    let key = "left_atrium_end_systolic_volume_ml";
    close(&given["four_chamber"][key], &beat[key]);
    close(&both["two_chamber"][key], &beat[key]);
    let frames = segmented["files"][0]["frames"].as_array().unwrap();
    assert_eq!(given["four_chamber"]["frames"].as_array().unwrap().len(), frames.len());
    for (here, there) in given["four_chamber"]["frames"].as_array().unwrap().iter().zip(frames) {
        for chamber in ["left_ventricle", "left_atrium"] {
            for value in ["area_cm2", "long_axis_mm", "volume_ml"] {
                close(&here[chamber][value], &there[chamber][value]);
            }
        }
    }
}

#[test]
fn what_cannot_be_measured_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let picture = |name: &str, value: u8| {
        image::save_buffer(path(name), &[value; 64 * 64], 64, 64, image::ColorType::L8).unwrap();
        path(name)
    };
    let (empty, strange) = (picture("empty.png", 0), picture("strange.png", 9));
    let (echo, glas) = (repository("models/echo/manifest.yaml"), repository("models/glas/manifest.yaml"));
    let fails = |arguments: &[&dyn AsRef<std::ffi::OsStr>], code: i32, expected: &str| {
        let ran = ldseg(&[&[&"measure" as &dyn AsRef<std::ffi::OsStr>], arguments].concat());
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    };
    fails(&[&"--classes", &echo, &"--four-chamber", &empty], 1, "empty.png: is one frame, expected a cine");
    fails(&[&"--classes", &echo, &"--four-chamber", &empty, &empty], 1, "empty.png: shows no left ventricle");
    fails(&[&"--classes", &echo, &"--two-chamber", &strange, &empty], 1, "strange.png: holds the value 9");
    fails(
        &[&"--classes", &glas, &"--four-chamber", &empty, &empty],
        2,
        "manifest.yaml: declares no measures of kind `left_heart`",
    );
    fails(&[&"--classes", &echo], 2, "--four-chamber");
    let header =
        "NDims = 2\nDimSize = 64 64\nElementSpacing = 0.5 0.5\nElementType = MET_UCHAR\nElementDataFile = known.raw\n";
    std::fs::write(path("known.mhd"), header).unwrap();
    std::fs::write(path("known.raw"), [0; 64 * 64]).unwrap();
    let known = path("known.mhd");
    fails(&[&"--classes", &echo, &"--four-chamber", &known, &empty], 1, "known.mhd differ in whether they tell");
    let spacing: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"--classes", &echo, &"--four-chamber", &empty, &"--pixel-spacing", &"0"];
    fails(&spacing, 2, "--pixel-spacing is [0.0, 0.0]");
}

#[test]
fn the_command_measures_the_atrium_of_every_frame() {
    let (cine, bundle) = (repository("models/examples/echo-phantom.gif"), repository("models/echo"));
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path();
    let told = ldseg(&[
        &"segment",
        &cine,
        &"--bundle",
        &bundle,
        &"--output",
        &out,
        &"--json",
        &"--measure",
        &"--pixel-spacing",
        &"0.8",
    ])
    .ok();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let frames = told["files"][0]["frames"].as_array().unwrap();
    let labels = read_labels(&out.join("echo-phantom.nii.gz")).unwrap();
    let classes = AtriumClasses { atrium: 3, ventricle: 1 };
    assert_eq!(frames.len(), labels.shape()[0]);
    for (frame, labels) in frames.iter().zip(labels.outer_iter()) {
        let expected = atrium(&labels.to_owned(), classes, [0.8; 2]).unwrap().expect("it borders on the ventricle");
        let found = frame["left_atrium"]["volume_ml"].as_f64().unwrap();
        assert!((found / expected.volume_ml - 1.0).abs() < 1e-9, "{found} ml, expected {}", expected.volume_ml);
    }
    let volume = |index: usize| frames[index]["left_atrium"]["volume_ml"].as_f64().unwrap();
    let systole = told["files"][0]["heartbeat"]["end_systole_frame"].as_u64().unwrap() as usize;
    assert!(volume(systole) > volume(0), "an atrium is full when the ventricle is empty");
}
