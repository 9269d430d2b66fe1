//! The segments of a segmentation object: one a class but the background.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::super::derived::DicomAlgorithm;
use super::super::elements::{Code, code, element, long_string, number, one, sequence};
use super::{Error, ErrorKind, Result};
use ldseg::bundle::Class;

const ARTIFICIAL_INTELLIGENCE: Code = ("123110", "DCM", "Artificial Intelligence");
const ANATOMICAL_STRUCTURE: Code = ("91723000", "SCT", "Anatomical Structure");
const TISSUE: Code = ("85756007", "SCT", "Tissue");
/// Class names that say which structure it is, in SNOMED CT.
const STRUCTURES: [(&str, Code); 8] = [
    ("left ventricle", ("87878005", "SCT", "Left ventricle")),
    ("myocardium", ("74281007", "SCT", "Myocardium")),
    ("left ventricular myocardium", ("49848007", "SCT", "Myocardium of left ventricle")),
    ("left atrium", ("82471001", "SCT", "Left atrium")),
    ("right ventricle", ("53085002", "SCT", "Right ventricle")),
    ("right atrium", ("73829009", "SCT", "Right atrium")),
    ("femur", ("71341001", "SCT", "Femur")),
    ("tibia", ("12611008", "SCT", "Tibia")),
];

/// The Segment Sequence (PS3.3, C.8.20.4). `classes` holds the background first, so a segment's number is its label.
///
/// # Errors
/// [`ErrorKind::Setting`] where there is no class but the background.
pub(super) fn segments(classes: &[Class], algorithm: &DicomAlgorithm) -> Result<InMemElement> {
    if classes.len() < 2 {
        let message = "a DICOM segmentation needs a class besides the background";
        return Err(Error::new(ErrorKind::Setting, message));
    }
    // Labels have 8 bits.
    let numbered = (1_u16..).zip(&classes[1..]);
    Ok(sequence(tags::SEGMENT_SEQUENCE, numbered.map(|(n, class)| segment(n, class, algorithm)).collect()))
}

fn segment(segment_number: u16, class: &Class, algorithm: &DicomAlgorithm) -> InMemDicomObject {
    let (category, structure) = property(&class.name);
    let identification = [
        code(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, ARTIFICIAL_INTELLIGENCE),
        long_string(tags::ALGORITHM_NAME, &algorithm.name),
        long_string(tags::ALGORITHM_VERSION, &algorithm.version),
        element(tags::ALGORITHM_PARAMETERS, VR::LT, algorithm.parameters.as_str()),
    ];
    InMemDicomObject::from_element_iter([
        number(tags::SEGMENT_NUMBER, segment_number),
        long_string(tags::SEGMENT_LABEL, &class.name),
        element(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC"),
        long_string(tags::SEGMENT_ALGORITHM_NAME, &algorithm.name),
        one(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, identification),
        code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, category),
        code(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, structure),
        element(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, VR::US, cielab(class.colour)),
    ])
}

/// Category and type of a class by its name; any tissue where the name says no more.
fn property(name: &str) -> (Code, Code) {
    let name = name.trim().to_lowercase().replace(['_', '-'], " ");
    match STRUCTURES.iter().find(|(known, _)| *known == name) {
        Some((_, structure)) => (ANATOMICAL_STRUCTURE, *structure),
        None => (TISSUE, TISSUE),
    }
}

/// A colour of 8-bit sRGB (IEC 61966-2-1) as CIELab of the profile connection space, whose white is D50, in the numbers of
/// PS3.3, C.10.7.1.1: L* from 0 to 100, a* and b* from -128 to 127, each over 16 bits.
fn cielab(colour: [u8; 3]) -> [u16; 3] {
    /// From linear sRGB to XYZ, adapted from D65 to D50 by Bradford's method, each row divided by D50's white.
    const TO_XYZ: [[f64; 3]; 3] = [
        [0.436_074_7 / 0.964_22, 0.385_064_9 / 0.964_22, 0.143_080_4 / 0.964_22],
        [0.222_504_5, 0.716_878_6, 0.060_616_9],
        [0.013_932_2 / 0.825_21, 0.097_104_5 / 0.825_21, 0.714_173_3 / 0.825_21],
    ];
    let linear = colour.map(|stored| {
        let v = f64::from(stored) / 255.0;
        if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let [x, y, z] = TO_XYZ.map(|row| {
        let t: f64 = row.iter().zip(linear).map(|(weight, value)| weight * value).sum();
        if t > (6.0_f64 / 29.0).powi(3) { t.cbrt() } else { t * 841.0 / 108.0 + 4.0 / 29.0 }
    });
    let (l, a, b) = (116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z));
    // Casting cuts off at the ends of the range.
    [l / 100.0, (a + 128.0) / 255.0, (b + 128.0) / 255.0].map(|share| (share * 65_535.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_a_colour_management_system() {
        // Of LittleCMS, from sRGB to CIELab of 8 bits: red, black, white, and a colour of the echo bundle.
        let expected = [
            ([255, 0, 0], [54.1, 81.0, 70.0]),
            ([0, 0, 0], [0.0, 0.0, 0.0]),
            ([255, 255, 255], [100.0, 0.0, 0.0]),
            ([38, 120, 210], [49.4, 1.0, -54.0]),
        ];
        for (colour, lab) in expected {
            let [l, a, b] = cielab(colour).map(|v| f64::from(v) / 65_535.0);
            let found = [100.0 * l, 255.0 * a - 128.0, 255.0 * b - 128.0];
            let close = found.iter().zip(lab).all(|(found, expected)| (found - expected).abs() < 0.7);
            assert!(close, "{colour:?}: {found:?}, expected {lab:?}");
        }
    }

    #[test]
    fn known_names_have_codes_of_their_own() {
        assert_eq!(property("Left_Ventricle").1.0, "87878005");
        assert_eq!(property("left atrium").0, ANATOMICAL_STRUCTURE);
        assert_eq!(property("gland"), (TISSUE, TISSUE));
    }
}
