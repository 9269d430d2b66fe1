//! Metrics against those of the tools that the field uses.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use ldseg::image::Labels;
use ldseg::metrics::Overlap;
use ldseg_evaluate::metrics::surface::{SurfaceDistances, SurfaceKind};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{note, shared};

/// Overlap is a matter of counting.
const OVERLAP: f64 = 1e-6;
/// Relative; distances that may differ by rounding.
const DISTANCE: f64 = 1e-4;

#[test]
fn metrics_equal_those_of_the_reference_tools() {
    let Some(folder) = shared("metrics against medpy and surface-distance", "reference/metrics") else { return };
    let cases: Value = serde_json::from_reader(File::open(folder.join("cases.json")).unwrap()).unwrap();
    let bytes = unpacked(&folder.join("cases.safetensors.gz"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut worst = [0.0_f64; 2];
    let mut compared = 0;
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let map = |which: &str| labels(&tensors, &format!("{name}.{which}"));
        let (prediction, reference) = (map("prediction"), map("reference"));
        let spacing: Vec<f64> = case["spacing_mm"].as_array().unwrap().iter().map(|mm| mm.as_f64().unwrap()).collect();
        let tolerance = case["tolerance_mm"].as_f64().unwrap();
        for (class, expected) in case["classes"].as_object().unwrap() {
            let class: u8 = class.parse().unwrap();
            let overlap = Overlap::between(&prediction, &reference);
            assert_eq!(expected["voxels_prediction"], overlap.in_prediction(class));
            assert_eq!(expected["voxels_reference"], overlap.in_reference(class));
            let surface = |kind| SurfaceDistances::between(&prediction, &reference, class, &spacing, kind);
            let (voxel, surfel) = (surface(SurfaceKind::Voxel), surface(SurfaceKind::Surfel));
            let averages = &expected["average_surface_distance_mm_deepmind"];
            for (measure, found, expected, kind) in [
                ("Dice", overlap.dice(class), &expected["dice"], 0),
                ("IoU", overlap.iou(class), &expected["iou"], 0),
                ("Hausdorff", voxel.hausdorff(), &expected["hausdorff_mm"], 1),
                ("ASSD", voxel.assd(), &expected["assd_mm_medpy"], 1),
                ("HD95", voxel.hd95(), &expected["hd95_mm_medpy"], 1),
                ("surface Dice", surfel.nsd(tolerance), &expected["surface_dice_deepmind"], 1),
                ("surfels' HD95", surfel.hd95(), &expected["hd95_mm_deepmind"], 1),
                ("reference to prediction", surfel.averages()[1], &averages[0], 1),
                ("prediction to reference", surfel.averages()[0], &averages[1], 1),
            ] {
                let what = format!("{measure} of {name}, class {class}");
                let Some(expected) = expected.as_f64() else {
                    // The tools have no distance, and no surface Dice, where a side is empty.
                    assert!(found.is_nan() || measure == "surface Dice" && found == 0.0, "{what} is {found}");
                    continue;
                };
                let off = (found - expected).abs() / if kind == 0 { 1.0 } else { expected.abs().max(1e-9) };
                assert!(off <= [OVERLAP, DISTANCE][kind], "{what} is {found}, expected {expected}");
                worst[kind] = worst[kind].max(off);
                compared += 1;
            }
        }
    }
    assert!(compared >= 72, "only {compared} numbers were compared");
    note(&format!(
        "{compared} metrics: overlap off by {:.1e} at most, distances by {:.1e} relative",
        worst[0], worst[1]
    ));
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn labels(tensors: &SafeTensors, name: &str) -> Labels {
    let tensor = tensors.tensor(name).unwrap();
    Labels::from_shape_vec(tensor.shape(), tensor.data().to_vec()).unwrap()
}
