//! What DICOM objects say of a segmentation: who made it, and what was measured.

use ldseg::bundle::Manifest;
use ldseg::calibration::Quantity;
use ldseg::engine::EngineOptions;
use ldseg::frames::FrameOptions;
use ldseg_io::{DicomAlgorithm, DicomChamber, DicomMeasurement, DicomQuantity};

use crate::heart::{Chamber, Measured};
use crate::results::{Found, FoundIn};
use crate::trust::Intervals;

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
    let mut add = |chamber, quantity, value: Option<f64>, frames: &[usize], intervals: &Intervals| {
        let comment = comment(found, chamber, quantity, intervals);
        all.extend(value.map(|value| DicomMeasurement { chamber, quantity, value, frames: frames.to_vec(), comment }));
    };
    match &found.kind {
        FoundIn::Still { measured, .. } => {
            for (chamber, found) in [(LeftVentricle, &measured.left_ventricle), (LeftAtrium, &measured.left_atrium)] {
                let one = |value: fn(&Chamber) -> f64| found.as_ref().map(value);
                add(chamber, Area, one(|found| found.area_cm2), &[], &measured.intervals);
                add(chamber, LongAxis, one(|found| found.long_axis_mm), &[], &measured.intervals);
                add(chamber, Volume, one(|found| found.volume_ml), &[], &measured.intervals);
            }
        }
        FoundIn::Cine { frames, heartbeat: Some(beat) } => {
            let (diastole, systole, own) = (beat.end_diastole_frame, beat.end_systole_frame, &beat.intervals);
            add(LeftVentricle, EndDiastolicVolume, beat.end_diastolic_volume_ml, &[diastole], own);
            add(LeftVentricle, EndSystolicVolume, beat.end_systolic_volume_ml, &[systole], own);
            add(LeftVentricle, EjectionFraction, Some(beat.ejection_fraction), &[diastole, systole], own);
            // The atrium is largest when the ventricle is smallest.
            if let Some(Measured { left_atrium: Some(atrium), intervals, .. }) =
                frames.get(systole).map(|frame| &frame.measured)
            {
                add(LeftAtrium, Volume, Some(atrium.volume_ml), &[systole], intervals);
            }
        }
        FoundIn::Cine { heartbeat: None, .. } => {}
    }
    all
}

/// What a reader of the report has to know of one measurement: where the true value lies, or that the image is of another
/// kind than the bundle was trained on.
fn comment(found: &Found, chamber: DicomChamber, quantity: DicomQuantity, intervals: &Intervals) -> Option<String> {
    if found.is_of_another_kind() {
        return Some(
            "The image is not of the kind that the algorithm was trained on, and was measured all the same, as was asked \
             for."
                .into(),
        );
    }
    use {DicomChamber::*, DicomQuantity::*};
    let (calibrated, unit, factor) = match (chamber, quantity) {
        (LeftVentricle, Area) => (Quantity::LeftVentricleArea, "cm2", 1.0),
        (LeftVentricle, LongAxis) => (Quantity::LeftVentricleLongAxis, "mm", 1.0),
        (LeftVentricle, Volume) => (Quantity::LeftVentricleVolume, "ml", 1.0),
        (LeftAtrium, Area) => (Quantity::LeftAtriumArea, "cm2", 1.0),
        (LeftAtrium, LongAxis) => (Quantity::LeftAtriumLongAxis, "mm", 1.0),
        (LeftAtrium, Volume) => (Quantity::LeftAtriumVolume, "ml", 1.0),
        (_, EndDiastolicVolume) => (Quantity::EndDiastolicVolume, "ml", 1.0),
        (_, EndSystolicVolume) => (Quantity::EndSystolicVolume, "ml", 1.0),
        (_, EjectionFraction) => (Quantity::EjectionFraction, "%", 100.0),
    };
    let ([low, high], level) = intervals.get(&calibrated).zip(found.interval_level)?;
    let (low, high) = (factor * low, factor * high);
    Some(format!("{:.0} % interval {low:.1} to {high:.1} {unit}", 100.0 * level))
}
