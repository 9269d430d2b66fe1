//! The tree of content items (PS3.3, C.17.3), by the templates of PS3.16 that are named.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::super::derived::Derived;
use super::super::elements::{Code, code, element, one, sequence};
use super::{DicomChamber, DicomMeasurement, DicomQuantity};

pub(super) const REPORT: Code = ("126000", "DCM", "Imaging Measurement Report");
const LANGUAGE: Code = ("121049", "DCM", "Language of Content Item and Descendants");
const ENGLISH: Code = ("en", "RFC5646", "English");
const OBSERVER_TYPE: Code = ("121005", "DCM", "Observer Type");
const DEVICE: Code = ("121007", "DCM", "Device");
const DEVICE_UID: Code = ("121012", "DCM", "Device Observer UID");
const DEVICE_NAME: Code = ("121013", "DCM", "Device Observer Name");
const DEVICE_MANUFACTURER: Code = ("121014", "DCM", "Device Observer Manufacturer");
const PROCEDURE: Code = ("121058", "DCM", "Procedure reported");
const ECHOCARDIOGRAPHY: Code = ("40701008", "SCT", "Echocardiography");
const LIBRARY: Code = ("111028", "DCM", "Image Library");
const LIBRARY_GROUP: Code = ("126200", "DCM", "Image Library Group");
const MEASUREMENTS: Code = ("126010", "DCM", "Imaging Measurements");
const GROUP: Code = ("125007", "DCM", "Measurement Group");
const TRACKING: Code = ("112039", "DCM", "Tracking Identifier");
const TRACKING_UID: Code = ("112040", "DCM", "Tracking Unique Identifier");
const ALGORITHM_NAME: Code = ("111001", "DCM", "Algorithm Name");
const ALGORITHM_VERSION: Code = ("111003", "DCM", "Algorithm Version");
const ALGORITHM_PARAMETERS: Code = ("111002", "DCM", "Algorithm Parameters");
const SITE: Code = ("363698007", "SCT", "Finding Site");
const METHOD: Code = ("370129005", "SCT", "Measurement Method");
const DISCS: Code = ("125208", "DCM", "Method of Disks, Single Plane");
const COMMENT: Code = ("121106", "DCM", "Comment");
const SOURCE: Code = ("121112", "DCM", "Source of Measurement");

impl DicomChamber {
    fn code(self) -> Code {
        match self {
            Self::LeftVentricle => ("87878005", "SCT", "Left ventricle"),
            Self::LeftAtrium => ("82471001", "SCT", "Left atrium"),
        }
    }
}

impl DicomQuantity {
    fn code(self) -> Code {
        match self {
            Self::Area => ("42798000", "SCT", "Area"),
            Self::LongAxis => ("103339001", "SCT", "Long axis"),
            Self::Volume => ("118565006", "SCT", "Volume"),
            Self::EndDiastolicVolume => ("18026-5", "LN", "Left Ventricular End Diastolic Volume"),
            Self::EndSystolicVolume => ("18148-7", "LN", "Left Ventricular End Systolic Volume"),
            Self::EjectionFraction => ("18043-0", "LN", "Left Ventricular Ejection Fraction by US"),
        }
    }

    /// In UCUM, and how many of it the quantity's own unit is.
    fn unit(self) -> (Code, f64) {
        match self {
            Self::Area => (("cm2", "UCUM", "square centimeter"), 1.0),
            Self::LongAxis => (("mm", "UCUM", "millimeter"), 1.0),
            Self::EjectionFraction => (("%", "UCUM", "percent"), 100.0),
            _ => (("ml", "UCUM", "milliliter"), 1.0),
        }
    }

    /// Whether it comes of the method of discs.
    fn is_volume(self) -> bool {
        !matches!(self, Self::Area | Self::LongAxis)
    }
}

/// A container's elements.
pub(super) fn container(name: Code, items: Vec<InMemDicomObject>) -> Vec<InMemElement> {
    vec![
        element(tags::VALUE_TYPE, VR::CS, "CONTAINER"),
        code(tags::CONCEPT_NAME_CODE_SEQUENCE, name),
        element(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE"),
        sequence(tags::CONTENT_SEQUENCE, items),
    ]
}

/// TID 1500, Measurement Report: what the root holds.
pub(super) fn root(derived: &Derived, measurements: &[DicomMeasurement]) -> Vec<InMemDicomObject> {
    let context = "HAS OBS CONTEXT";
    let library = vec![item("CONTAINS", container(LIBRARY_GROUP, vec![image("CONTAINS", None, derived, &[])]))];
    let groups = [DicomChamber::LeftVentricle, DicomChamber::LeftAtrium];
    let groups = groups.into_iter().filter_map(|chamber| group(derived, chamber, measurements)).collect();
    vec![
        coded("HAS CONCEPT MOD", LANGUAGE, ENGLISH),
        // TID 1002 and 1004: what observed is a device.
        coded(context, OBSERVER_TYPE, DEVICE),
        uid(context, DEVICE_UID, derived.uid("device", &[])),
        text(context, DEVICE_NAME, &derived.algorithm.name),
        text(context, DEVICE_MANUFACTURER, "ldseg"),
        coded("HAS CONCEPT MOD", PROCEDURE, ECHOCARDIOGRAPHY),
        // TID 1600.
        item("CONTAINS", container(LIBRARY, library)),
        item("CONTAINS", container(MEASUREMENTS, groups)),
    ]
}

/// TID 1501, Measurement and Qualitative Evaluation Group: a chamber's measurements, where there are any.
fn group(derived: &Derived, chamber: DicomChamber, measurements: &[DicomMeasurement]) -> Option<InMemDicomObject> {
    let own: Vec<_> = measurements.iter().filter(|measurement| measurement.chamber == chamber).collect();
    let site = chamber.code();
    let algorithm = &derived.algorithm;
    let modifier = "HAS CONCEPT MOD";
    let mut items = vec![
        text("HAS OBS CONTEXT", TRACKING, site.2),
        uid("HAS OBS CONTEXT", TRACKING_UID, derived.uid("tracking", site.0.as_bytes())),
        // TID 4019.
        text(modifier, ALGORITHM_NAME, &algorithm.name),
        text(modifier, ALGORITHM_VERSION, &algorithm.version),
        text(modifier, ALGORITHM_PARAMETERS, &algorithm.parameters),
        coded(modifier, SITE, site),
    ];
    items.extend(own.iter().map(|measurement| number(derived, measurement)));
    (!own.is_empty()).then(|| item("CONTAINS", container(GROUP, items)))
}

/// TID 300, Measurement.
fn number(derived: &Derived, measurement: &DicomMeasurement) -> InMemDicomObject {
    let (unit, factor) = measurement.quantity.unit();
    let value = factor * measurement.value;
    let mut items = Vec::new();
    if measurement.quantity.is_volume() {
        items.push(coded("HAS CONCEPT MOD", METHOD, DISCS));
    }
    items.push(image("INFERRED FROM", Some(SOURCE), derived, &measurement.frames));
    items.extend(measurement.comment.as_deref().map(|comment| text("HAS PROPERTIES", COMMENT, comment)));
    let measured = [
        element(tags::NUMERIC_VALUE, VR::DS, decimal(value)),
        element(tags::FLOATING_POINT_VALUE, VR::FD, value),
        code(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, unit),
    ];
    let elements = vec![
        element(tags::VALUE_TYPE, VR::CS, "NUM"),
        code(tags::CONCEPT_NAME_CODE_SEQUENCE, measurement.quantity.code()),
        one(tags::MEASURED_VALUE_SEQUENCE, measured),
        sequence(tags::CONTENT_SEQUENCE, items),
    ];
    item("CONTAINS", elements)
}

/// A decimal string has at most 16 characters.
fn decimal(value: f64) -> String {
    let plain = format!("{value:.3}");
    if plain.len() <= 16 { plain } else { format!("{value:.8e}") }
}

/// The source, or some of its frames.
fn image(relationship: &str, name: Option<Code>, derived: &Derived, frames: &[usize]) -> InMemDicomObject {
    let numbers: Vec<String> = frames.iter().map(|frame| (frame + 1).to_string()).collect();
    let frames = (!numbers.is_empty()).then(|| element(tags::REFERENCED_FRAME_NUMBER, VR::IS, numbers.join("\\")));
    let reference = derived.source_instance().into_iter().chain(frames);
    let mut elements = vec![element(tags::VALUE_TYPE, VR::CS, "IMAGE"), one(tags::REFERENCED_SOP_SEQUENCE, reference)];
    elements.extend(name.map(|name| code(tags::CONCEPT_NAME_CODE_SEQUENCE, name)));
    item(relationship, elements)
}

fn coded(relationship: &str, name: Code, value: Code) -> InMemDicomObject {
    named(relationship, "CODE", name, code(tags::CONCEPT_CODE_SEQUENCE, value))
}

fn text(relationship: &str, name: Code, value: &str) -> InMemDicomObject {
    named(relationship, "TEXT", name, element(tags::TEXT_VALUE, VR::UT, value))
}

fn uid(relationship: &str, name: Code, value: String) -> InMemDicomObject {
    named(relationship, "UIDREF", name, element(tags::UID, VR::UI, value))
}

fn named(relationship: &str, kind: &str, name: Code, value: InMemElement) -> InMemDicomObject {
    let elements = vec![element(tags::VALUE_TYPE, VR::CS, kind), code(tags::CONCEPT_NAME_CODE_SEQUENCE, name), value];
    item(relationship, elements)
}

fn item(relationship: &str, mut elements: Vec<InMemElement>) -> InMemDicomObject {
    elements.push(element(tags::RELATIONSHIP_TYPE, VR::CS, relationship));
    InMemDicomObject::from_element_iter(elements)
}
