//! Volumes by the method of discs against those that were published with CAMUS, from its own reference contours.

use std::fs;
use std::path::Path;

use ldseg::image::{read_image, read_labels};
use ldseg::measure::{AtriumClasses, HeartClasses, Ventricle, atrium, biplane_ml, ejection_fraction, ventricle};

use crate::support::{ldseg, note, shared};

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
    let spacing = read_image(&path).unwrap().spacing;
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

#[test]
fn the_command_measures_the_atrium_of_every_frame() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let (cine, bundle) = (models.join("examples/echo-phantom.gif"), models.join("echo"));
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
