//! DICOM Enhanced Structured Reports of what was measured in a DICOM image or cine: the Measurement Report of template 1500
//! (PS3.16) with one group of measurements a chamber.

mod content;
#[cfg(test)]
mod tests;

use std::path::Path;

use dicom_core::{DataElement, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use self::content::{container, root};
use super::derived::{self, Derived, DicomAlgorithm};
use super::elements::{element, one, sequence};
use ldseg::{Error, ErrorKind, Result};

/// Added to the source's series number.
const SERIES_OFFSET: i64 = 2000;

/// Where something was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DicomChamber {
    /// The left ventricle.
    LeftVentricle,
    /// The left atrium.
    LeftAtrium,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DicomQuantity {
    /// Area of the cavity, cm^2.
    Area,
    /// Length of the long axis, mm.
    LongAxis,
    /// Volume by the method of discs in one plane, ml.
    Volume,
    /// The ventricle's at end-diastole, ml.
    EndDiastolicVolume,
    /// The ventricle's at end-systole, ml.
    EndSystolicVolume,
    /// The ventricle's, 0 to 1.
    EjectionFraction,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct DicomMeasurement {
    /// Where.
    pub chamber: DicomChamber,
    /// What.
    pub quantity: DicomQuantity,
    /// How much, in the quantity's unit.
    pub value: f64,
    /// Indices of the frames of a cine that it was measured in; empty for a still image.
    pub frames: Vec<usize>,
    /// What the reader has to know of it, such as where the true value lies.
    pub comment: Option<String>,
}

/// A report in the making.
#[derive(Debug)]
pub struct DicomReport {
    derived: Derived,
}

impl DicomReport {
    /// About the DICOM image or cine in `source`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::Format`], naming the file, where it cannot be read, is no DICOM, or lacks an
    /// identifier that a report has to refer to.
    pub fn new(source: &Path, algorithm: DicomAlgorithm) -> Result<Self> {
        Ok(Self { derived: Derived::open(source, "Report".into(), algorithm)? })
    }

    /// What had to be assumed of the source's texts, for the user to know.
    pub fn notes(&self) -> &[String] {
        &self.derived.notes
    }

    /// Writes the report. The same source, measurements, algorithm and settings give the same bytes. The file appears whole
    /// or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where nothing was measured, or a value isn't finite; [`ErrorKind::Io`] where the file cannot
    /// be written.
    pub fn write(self, measurements: &[DicomMeasurement], path: &Path) -> Result<()> {
        let fail = |message: &str| Err(Error::new(ErrorKind::Setting, message).in_file(path));
        if measurements.is_empty() {
            return fail("a report needs a measurement");
        }
        if measurements.iter().any(|measurement| !measurement.value.is_finite()) {
            return fail("a measurement is not finite");
        }
        derived::write(self.object(measurements), path)
    }

    fn object(&self, measurements: &[DicomMeasurement]) -> InMemDicomObject {
        let derived = &self.derived;
        let mut object = InMemDicomObject::new_empty();
        derived.patient_and_study(&mut object);
        derived.series_and_equipment(&mut object, "SR", "Measurements", SERIES_OFFSET);
        let (date, time) = derived.content_date();
        let values = format!("{measurements:?}");
        for element in [
            element(tags::SOP_CLASS_UID, VR::UI, uids::ENHANCED_SR_STORAGE),
            element(tags::SOP_INSTANCE_UID, VR::UI, derived.uid("instance", values.as_bytes())),
            DataElement::empty(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, VR::SQ),
            DataElement::empty(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, VR::SQ),
            element(tags::CONTENT_DATE, VR::DA, date),
            element(tags::CONTENT_TIME, VR::TM, time),
            element(tags::COMPLETION_FLAG, VR::CS, "COMPLETE"),
            // Nobody has looked at it.
            element(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED"),
            self.evidence(),
        ] {
            object.put(element);
        }
        let template =
            [element(tags::MAPPING_RESOURCE, VR::CS, "DCMR"), element(tags::TEMPLATE_IDENTIFIER, VR::CS, "1500")];
        for element in container(content::REPORT, root(derived, measurements)) {
            object.put(element);
        }
        object.put(one(tags::CONTENT_TEMPLATE_SEQUENCE, template));
        object
    }

    /// The source by study, series and instance.
    fn evidence(&self) -> dicom_object::mem::InMemElement {
        let source = |tag| self.derived.source.get(tag).cloned();
        let instance = vec![InMemDicomObject::from_element_iter(self.derived.source_instance())];
        let instances = [sequence(tags::REFERENCED_SOP_SEQUENCE, instance)];
        let series = instances.into_iter().chain(source(tags::SERIES_INSTANCE_UID));
        let series = [one(tags::REFERENCED_SERIES_SEQUENCE, series)];
        let study = series.into_iter().chain(source(tags::STUDY_INSTANCE_UID));
        one(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, study)
    }
}
