//! A report that is read back with the DICOM library; the project's other tests have another reader look at one.

use dicom_object::{InMemDicomObject, open_file};

use super::super::fixtures;
use super::*;

fn algorithm() -> DicomAlgorithm {
    let text = |text: &str| text.to_owned();
    DicomAlgorithm { name: text("ldseg test"), version: text("1"), parameters: text("steps 1"), identity: text("abc") }
}

fn fraction(value: f64) -> DicomMeasurement {
    let (chamber, quantity) = (DicomChamber::LeftVentricle, DicomQuantity::EjectionFraction);
    DicomMeasurement { chamber, quantity, value, frames: vec![0, 2], comment: None }
}

/// The first item anywhere below `object` whose concept has this code.
fn find(object: &InMemDicomObject, wanted: &str) -> Option<InMemDicomObject> {
    let items = object.get(tags::CONTENT_SEQUENCE)?.items()?;
    items.iter().find_map(|item| {
        let name = item.get(tags::CONCEPT_NAME_CODE_SEQUENCE).and_then(|name| name.items()?.first().cloned());
        let value = name.and_then(|name| super::super::text(&name, tags::CODE_VALUE));
        if value.as_deref() == Some(wanted) { Some(item.clone()) } else { find(item, wanted) }
    })
}

#[test]
fn a_report_says_what_was_measured_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let [source, path, again] = ["a.dcm", "a.sr.dcm", "b.sr.dcm"].map(|name| folder.path().join(name));
    let mut elements = fixtures::describe([5, 7], 3, 1, "MONOCHROME2", 8);
    elements.push(fixtures::native(vec![9; 3 * 5 * 7 + 1]));
    fixtures::write(&source, uids::EXPLICIT_VR_LITTLE_ENDIAN, elements);
    let report = || DicomReport::new(&source, algorithm()).unwrap();
    let comment = Some("90 % interval 46.0 to 61.0 %".to_owned());
    let written = [DicomMeasurement { comment: comment.clone(), ..fraction(0.583) }];
    report().write(&written, &path).unwrap();
    report().write(&written, &again).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());

    let object = open_file(&path).unwrap().into_inner();
    let item = find(&object, "18043-0").unwrap();
    let measured = item.get(tags::MEASURED_VALUE_SEQUENCE).unwrap().items().unwrap()[0].clone();
    assert_eq!(super::super::text(&measured, tags::NUMERIC_VALUE).as_deref(), Some("58.300"));
    let image = find(&item, "121112").unwrap();
    let reference = image.get(tags::REFERENCED_SOP_SEQUENCE).unwrap().items().unwrap()[0].clone();
    assert_eq!(reference.get(tags::REFERENCED_FRAME_NUMBER).unwrap().to_multi_int::<u32>().unwrap(), [1, 3]);
    let told = find(&item, "121106").unwrap();
    assert_eq!(super::super::text(&told, tags::TEXT_VALUE), comment);
    assert!(find(&object, "112039").is_some() && find(&object, "82471001").is_none());

    for bad in [Vec::new(), vec![fraction(f64::NAN)]] {
        let error = report().write(&bad, &folder.path().join("c.sr.dcm")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Setting, "{error}");
    }
}
