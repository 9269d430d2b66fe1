//! What DICOM objects say of a segmentation: who made it, and what was measured.

use ldseg::bundle::Manifest;
use ldseg::engine::EngineOptions;
use ldseg::frames::FrameOptions;
use ldseg_io::{DicomAlgorithm, DicomChamber, DicomMeasurement, DicomQuantity};

use crate::heart::Chamber;
use crate::results::{Found, FoundIn};

/// The bundle and the settings that it ran with, as DICOM objects name them.
pub fn algorithm(
    manifest: &Manifest,
    engine: &EngineOptions,
    frames: &FrameOptions,
    crop_sector: bool,
) -> DicomAlgorithm {
    let options = &frames.segment;
    let mut parameters = format!(
        "engine {}, sampler {}, steps {}, samples {}, seed {}",
        engine.engine.name(),
        options.sampler.name(),
        options.steps,
        options.samples,
        options.seed
    );
    if crop_sector {
        parameters += ", sector";
    }
    if let Some(part) = frames.warm_start {
        parameters += &format!(", warm start {part}");
    }
    if let Some(deadline) = frames.deadline {
        parameters += &format!(", deadline {} ms", deadline.as_secs_f64() * 1e3);
    }
    // The hashes of the networks; a map in order of their names.
    let identity = manifest.files.values().map(|file| file.sha256.as_str()).collect::<Vec<_>>().join(" ");
    DicomAlgorithm {
        name: format!("ldseg {}", manifest.name),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        parameters,
        identity,
    }
}

/// What was measured, in the words of a report: of a cine what its heartbeat tells, of a still image all.
pub(crate) fn measurements(found: &Found) -> Vec<DicomMeasurement> {
    use {DicomChamber::*, DicomQuantity::*};
    let mut all = Vec::new();
    let mut add = |chamber, quantity, value: Option<f64>, frames: &[usize]| {
        all.extend(value.map(|value| DicomMeasurement { chamber, quantity, value, frames: frames.to_vec() }));
    };
    match &found.kind {
        FoundIn::Still { measured, .. } => {
            for (chamber, found) in [(LeftVentricle, &measured.left_ventricle), (LeftAtrium, &measured.left_atrium)] {
                let one = |value: fn(&Chamber) -> f64| found.as_ref().map(value);
                add(chamber, Area, one(|found| found.area_cm2), &[]);
                add(chamber, LongAxis, one(|found| found.long_axis_mm), &[]);
                add(chamber, Volume, one(|found| found.volume_ml), &[]);
            }
        }
        FoundIn::Cine { frames, heartbeat: Some(beat) } => {
            let (diastole, systole) = (beat.end_diastole_frame, beat.end_systole_frame);
            add(LeftVentricle, EndDiastolicVolume, beat.end_diastolic_volume_ml, &[diastole]);
            add(LeftVentricle, EndSystolicVolume, beat.end_systolic_volume_ml, &[systole]);
            add(LeftVentricle, EjectionFraction, Some(beat.ejection_fraction), &[diastole, systole]);
            // The atrium is largest when the ventricle is smallest.
            let atrium = frames.get(systole).and_then(|frame| frame.measured.left_atrium.as_ref());
            add(LeftAtrium, Volume, atrium.map(|atrium| atrium.volume_ml), &[systole]);
        }
        FoundIn::Cine { heartbeat: None, .. } => {}
    }
    all
}
