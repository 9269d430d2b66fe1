//! The options that ask for DICOM objects. Without feature `dicom` there are none.

#[cfg(feature = "dicom")]
use ldseg_io::DicomSegKind;
use ldseg_recording::outputs::Output;

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

impl DicomArgs {
    /// The outputs that are asked for.
    #[cfg(feature = "dicom")]
    pub(super) fn outputs(self) -> Vec<Output> {
        self.dicom_seg.map(Output::Seg).into_iter().chain(self.dicom_sr.then_some(Output::Report)).collect()
    }

    /// None.
    #[cfg(not(feature = "dicom"))]
    pub(super) fn outputs(self) -> Vec<Output> {
        Vec::new()
    }
}
