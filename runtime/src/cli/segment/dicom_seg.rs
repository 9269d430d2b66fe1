//! The DICOM segmentation that `--dicom-seg` asks for. Without feature `dicom` there is no such option.

use std::path::Path;

use ldseg::Result;
#[cfg(feature = "dicom")]
use ldseg::image::{DicomSeg, DicomSegAlgorithm, DicomSegKind};
use ldseg::segmenter::Segmentation;

use super::Plan;

/// Between an input's name and `.dcm`.
pub(super) const DICOM_SEG: &str = ".seg";

#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct DicomSegArgs {
    /// Also write a DICOM Segmentation object, for inputs that are DICOM: the labels (binary, the default), or the class
    /// probabilities (fractional)
    #[cfg(feature = "dicom")]
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "binary", value_parser = kinds())]
    dicom_seg: Option<DicomSegKind>,
}

#[cfg(feature = "dicom")]
fn kinds() -> impl clap::builder::TypedValueParser<Value = DicomSegKind> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(["binary", "fractional"]).map(|name| match name.as_str() {
        "fractional" => DicomSegKind::Fractional,
        _ => DicomSegKind::Binary,
    })
}

/// The segmentation object of one input, where one was asked for.
#[derive(Default)]
pub(super) struct SegOutput {
    #[cfg(feature = "dicom")]
    seg: Option<DicomSeg>,
}

#[cfg(feature = "dicom")]
impl DicomSegArgs {
    pub(super) fn asked(self) -> bool {
        self.dicom_seg.is_some()
    }

    pub(super) fn start(self, plan: &Plan, input: &Path) -> Result<SegOutput> {
        let Some(kind) = self.dicom_seg else { return Ok(SegOutput::default()) };
        let seg = DicomSeg::new(input, kind, &plan.bundle.manifest().classes, algorithm(plan))?;
        Ok(SegOutput { seg: Some(seg) })
    }
}

#[cfg(feature = "dicom")]
fn algorithm(plan: &Plan) -> DicomSegAlgorithm {
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
    DicomSegAlgorithm {
        name: format!("ldseg {}", manifest.name),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        parameters,
        identity,
    }
}

#[cfg(feature = "dicom")]
impl SegOutput {
    pub(super) fn add(&mut self, result: &Segmentation) -> Result<()> {
        self.seg.as_mut().map_or(Ok(()), |seg| seg.add(&result.labels, &result.probabilities))
    }

    pub(super) fn write(self, path: Option<&Path>) -> Result<()> {
        match (self.seg, path) {
            (Some(seg), Some(path)) => seg.write(path),
            _ => Ok(()),
        }
    }
}

#[cfg(not(feature = "dicom"))]
impl DicomSegArgs {
    pub(super) fn asked(self) -> bool {
        false
    }

    pub(super) fn start(self, _: &Plan, _: &Path) -> Result<SegOutput> {
        Ok(SegOutput::default())
    }
}

#[cfg(not(feature = "dicom"))]
impl SegOutput {
    pub(super) fn add(&mut self, _: &Segmentation) -> Result<()> {
        Ok(())
    }

    pub(super) fn write(self, _: Option<&Path>) -> Result<()> {
        Ok(())
    }
}
