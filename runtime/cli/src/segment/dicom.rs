//! The DICOM objects that `--dicom-seg` and `--dicom-sr` ask for. Without feature `dicom` there are no such options.

use std::path::Path;

use ldseg::Result;
use ldseg::segmenter::Segmentation;
#[cfg(feature = "dicom")]
use ldseg_io::{DicomAlgorithm, DicomChamber, DicomMeasurement, DicomQuantity, DicomReport, DicomSeg, DicomSegKind};
#[cfg(feature = "dicom")]
use ldseg_recording::heart::Chamber;

use super::Plan;
use super::results::Done;

/// Between an input's name and `.dcm`.
pub(super) const DICOM_SEG: &str = ".seg";
/// The same for a report.
pub(super) const DICOM_SR: &str = ".sr";

#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct DicomArgs {
    /// Also write a DICOM Segmentation object, for inputs that are DICOM: the labels (binary, the default), or the class
    /// probabilities (fractional)
    #[cfg(feature = "dicom")]
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "binary", value_parser = kinds())]
    dicom_seg: Option<DicomSegKind>,
    /// Also write what was measured as a DICOM Structured Report, for inputs that are DICOM; with --measure
    #[cfg(feature = "dicom")]
    #[arg(long, requires = "measure")]
    dicom_sr: bool,
}

#[cfg(feature = "dicom")]
fn kinds() -> impl clap::builder::TypedValueParser<Value = DicomSegKind> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(["binary", "fractional"]).map(|name| match name.as_str() {
        "fractional" => DicomSegKind::Fractional,
        _ => DicomSegKind::Binary,
    })
}

/// The objects of one input, where they were asked for.
#[derive(Default)]
pub(super) struct DicomOutput {
    #[cfg(feature = "dicom")]
    seg: Option<DicomSeg>,
    #[cfg(feature = "dicom")]
    report: Option<DicomReport>,
}

#[cfg(feature = "dicom")]
impl DicomArgs {
    pub(super) fn seg(self) -> bool {
        self.dicom_seg.is_some()
    }

    pub(super) fn report(self) -> bool {
        self.dicom_sr
    }

    pub(super) fn start(self, plan: &Plan, input: &Path) -> Result<DicomOutput> {
        let classes = &plan.bundle.manifest().classes;
        Ok(DicomOutput {
            seg: self.dicom_seg.map(|kind| DicomSeg::new(input, kind, classes, algorithm(plan))).transpose()?,
            report: self.dicom_sr.then(|| DicomReport::new(input, algorithm(plan))).transpose()?,
        })
    }
}

#[cfg(feature = "dicom")]
fn algorithm(plan: &Plan) -> DicomAlgorithm {
    let (manifest, options) = (plan.bundle.manifest(), &plan.frames.segment);
    let mut parameters = format!(
        "engine {}, sampler {}, steps {}, samples {}, seed {}",
        plan.engine.engine.name(),
        options.sampler.name(),
        options.steps,
        options.samples,
        options.seed
    );
    if plan.crop_sector {
        parameters += ", sector";
    }
    if let Some(part) = plan.frames.warm_start {
        parameters += &format!(", warm start {part}");
    }
    if let Some(deadline) = plan.frames.deadline {
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

#[cfg(feature = "dicom")]
impl DicomOutput {
    pub(super) fn add(&mut self, result: &Segmentation) -> Result<()> {
        self.seg.as_mut().map_or(Ok(()), |seg| seg.add(&result.labels, &result.probabilities))
    }

    /// To where `done` says. Where nothing could be measured there is no report, and a note says so.
    pub(super) fn write(self, done: &mut Done) -> Result<()> {
        if let (Some(seg), Some(path)) = (self.seg, &done.dicom_seg) {
            seg.write(path)?;
        }
        if let Some((report, path)) = self.report.zip(done.dicom_sr.take()) {
            let measurements = measurements(done);
            if measurements.is_empty() {
                done.notes.push("has no measurement, so there is no DICOM report of any".into());
            } else {
                report.write(&measurements, &path)?;
                done.dicom_sr = Some(path);
            }
        }
        Ok(())
    }
}

/// What was measured, in the words of a report: of a cine what its heartbeat tells, of a still image all.
#[cfg(feature = "dicom")]
fn measurements(done: &Done) -> Vec<DicomMeasurement> {
    use {DicomChamber::*, DicomQuantity::*};
    let mut all = Vec::new();
    let mut add = |chamber, quantity, value: Option<f64>, frames: &[usize]| {
        all.extend(value.map(|value| DicomMeasurement { chamber, quantity, value, frames: frames.to_vec() }));
    };
    for (chamber, found) in [(LeftVentricle, &done.left_ventricle), (LeftAtrium, &done.left_atrium)] {
        let one = |value: fn(&Chamber) -> f64| found.as_ref().map(value);
        add(chamber, Area, one(|found| found.area_cm2), &[]);
        add(chamber, LongAxis, one(|found| found.long_axis_mm), &[]);
        add(chamber, Volume, one(|found| found.volume_ml), &[]);
    }
    if let Some(beat) = &done.heartbeat {
        let (diastole, systole) = (beat.end_diastole_frame, beat.end_systole_frame);
        add(LeftVentricle, EndDiastolicVolume, beat.end_diastolic_volume_ml, &[diastole]);
        add(LeftVentricle, EndSystolicVolume, beat.end_systolic_volume_ml, &[systole]);
        add(LeftVentricle, EjectionFraction, Some(beat.ejection_fraction), &[diastole, systole]);
        // The atrium is largest when the ventricle is smallest.
        let atrium = done.frames.get(systole).and_then(|frame| frame.left_atrium.as_ref());
        add(LeftAtrium, Volume, atrium.map(|atrium| atrium.volume_ml), &[systole]);
    }
    all
}

#[cfg(not(feature = "dicom"))]
impl DicomArgs {
    pub(super) fn seg(self) -> bool {
        false
    }

    pub(super) fn report(self) -> bool {
        false
    }

    pub(super) fn start(self, _: &Plan, _: &Path) -> Result<DicomOutput> {
        Ok(DicomOutput::default())
    }
}

#[cfg(not(feature = "dicom"))]
impl DicomOutput {
    pub(super) fn add(&mut self, _: &Segmentation) -> Result<()> {
        Ok(())
    }

    pub(super) fn write(self, _: &mut Done) -> Result<()> {
        Ok(())
    }
}
