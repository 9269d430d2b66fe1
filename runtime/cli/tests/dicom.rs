//! DICOM against other implementations: pydicom's pixels, and highdicom as a reader of segmentation objects.

use std::fs;
use std::path::{Path, PathBuf};

use ldseg::bundle::Class;
use ldseg::image::Labels;
use ldseg_io::{
    DicomAlgorithm, DicomChamber, DicomMeasurement, DicomQuantity, DicomReport, DicomSeg, DicomSegKind, read_recording,
};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

use crate::support::{Arguments, Python, ldseg, python, repository};

/// Largest and mean difference between two JPEG decoders, whose inverse transforms round differently.
const JPEG_DIFFERENCE: (f32, f32) = (4.0, 0.2);

/// Its data set is in another transfer syntax than it says, which pydicom guesses.
const IMPLICIT_IN_DISGUISE: &str = "SC_rgb_jpeg";

/// What the script prints.
fn peers(python: Python, arguments: &Arguments) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom_peers.py");
    let output = python().arg(script).args(arguments.iter().map(AsRef::as_ref)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn pixels_are_those_of_pydicom() {
    let Some(python) = python("pixels_are_those_of_pydicom", "pydicom, PIL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = peers(python, &[&"pixels", &folder.path()]);
    let files = files.as_array().unwrap();
    let (mut equal, mut refused, mut failures) = (0, 0, Vec::new());
    for file in files {
        let [path, name, syntax] = ["path", "name", "syntax"].map(|key| file[key].as_str().unwrap());
        let unsupported = ["1.2.840.10008.1.2.4.8", "1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.51"]
            .iter()
            .any(|start| syntax.starts_with(start));
        let recording = match read_recording(Path::new(path)) {
            Ok(recording) => recording,
            Err(error) if unsupported && error.to_string().contains(syntax) => {
                refused += 1;
                continue;
            }
            Err(error) if name == IMPLICIT_IN_DISGUISE && error.to_string().contains("is not a readable DICOM") => {
                refused += 1;
                continue;
            }
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let frame = |index| recording.frame(index).unwrap().into_owned().data;
        let found: Vec<f32> = (0..recording.frame_count()).flat_map(frame).collect();
        let bytes = fs::read(folder.path().join(format!("{name}.f32"))).unwrap();
        let expected: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        let channels = file["shape"][1].as_u64().unwrap();
        let differences = || found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let (largest, mean) = (differences().fold(0.0, f32::max), differences().sum::<f32>() / found.len() as f32);
        println!("{name:40} {syntax:24} {channels} channels: largest {largest}, mean {mean:.3}");
        let lossy = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"].contains(&syntax);
        // Luminance and chrominance that are not compressed are rounded once.
        let allowed = if lossy { JPEG_DIFFERENCE } else { (1.0, 0.5) };
        if found.len() != expected.len() || largest > allowed.0 || mean > allowed.1 {
            failures.push(format!("{name}: largest difference {largest}, mean {mean}"));
        }
        equal += 1;
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(equal >= 20, "{equal} files were compared, {refused} refused, of {}", files.len());
}

/// Slopes of a file, of frames, and tables of values and of colours, made by pydicom.
#[test]
fn unusual_values_are_those_of_pydicom() {
    let Some(python) = python("unusual_values_are_those_of_pydicom", "pydicom, numpy") else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = peers(python, &[&"made", &folder.path()]);
    let files = files.as_array().unwrap();
    assert_eq!(files.len(), 9);
    for file in files {
        let [path, name] = ["path", "name"].map(|key| file[key].as_str().unwrap());
        let recording = read_recording(Path::new(path)).unwrap();
        let frame = |index| recording.frame(index).unwrap().into_owned().data;
        let found: Vec<f32> = (0..recording.frame_count()).flat_map(frame).collect();
        let bytes = fs::read(folder.path().join(format!("{name}.f32"))).unwrap();
        let expected: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        assert!(found.iter().any(|value| *value != found[0]), "{name} is constant");
        assert_eq!(found, expected, "{name}");
    }
}

/// pydicom reads the same patient in what is written about a file as in the file itself, whatever its character set.
#[test]
fn texts_keep_their_characters() {
    let Some(python) = python("texts_keep_their_characters", "pydicom, numpy") else { return };
    let folder = tempfile::tempdir().unwrap();
    let sources = peers(python, &[&"names", &folder.path()]);
    let sources = sources.as_array().unwrap();
    assert_eq!(sources.len(), 19);
    let word = |word: &str| word.to_owned();
    let algorithm = || DicomAlgorithm {
        name: word("ldseg test"),
        version: word("1"),
        parameters: String::new(),
        identity: word("abc"),
    };
    let class = |name: &str| Class { name: name.into(), colour: [220, 50, 47], unsure_below: None };
    let classes = [class("background"), class("größer als 太郎")];
    let (labels, probabilities) = (Labels::zeros(IxDyn(&[8, 8])), ArrayD::from_elem(IxDyn(&[2, 8, 8]), 0.5));
    let area = DicomMeasurement {
        chamber: DicomChamber::LeftVentricle,
        quantity: DicomQuantity::Area,
        value: 3.5,
        frames: Vec::new(),
        comment: None,
    };
    let mut written = Vec::new();
    for source in sources {
        let (path, charset) = (Path::new(source["path"].as_str().unwrap()), source["charset"].as_str().unwrap());
        let [seg_path, report_path] = ["seg.dcm", "sr.dcm"].map(|extension| path.with_extension(extension));
        let mut seg = DicomSeg::new(path, DicomSegKind::Binary, &classes, algorithm()).unwrap();
        assert!(seg.notes().is_empty(), "{charset}: {:?}", seg.notes());
        seg.add(&labels, &probabilities).unwrap();
        seg.write(&seg_path).unwrap();
        DicomReport::new(path, algorithm()).unwrap().write(std::slice::from_ref(&area), &report_path).unwrap();
        written.extend([path.to_path_buf(), seg_path, report_path]);
    }
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"texts"];
    arguments.extend(written.iter().map(|path| path as &dyn AsRef<std::ffi::OsStr>));
    let read = peers(python, &arguments);
    for (texts, source) in read.as_array().unwrap().chunks_exact(3).zip(sources) {
        assert_eq!((&texts[1], &texts[2]), (&texts[0], &texts[0]), "{}", source["charset"]);
    }
}

/// A cine's volumes are those of the region that holds it, whichever comes first, and two views have none.
#[test]
fn regions_decide_what_is_measured() {
    let Some(python) = python("regions_decide_what_is_measured", "pydicom, numpy, PIL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let cine = repository("models/examples/echo-phantom.gif");
    peers(python, &[&"regions", &cine, &folder.path()]);
    let (bundle, output) = (repository("models/echo"), folder.path().join("out"));
    let segment = |input: &Path, more: &[&'static str]| -> Value {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"segment", &input, &"--bundle", &bundle, &"--output", &output, &"--measure", &"--json"];
        arguments.extend(more.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        let told: Value = serde_json::from_str(&ldseg(&arguments).ok()).unwrap();
        told["files"][0].clone()
    };
    let volume = |file: &Value| file["heartbeat"]["end_diastolic_volume_ml"].as_f64();
    let noted = |file: &Value, text: &str| file["notes"].to_string().contains(text);
    let expected = volume(&segment(&cine, &["--pixel-spacing", "0.3"])).unwrap();
    let inset = segment(&folder.path().join("inset.dcm"), &[]);
    let found = volume(&inset).unwrap();
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} ml, expected {expected}");
    assert!(noted(&inset, "different scales"), "{inset}");
    // What the user says wins.
    let given = segment(&folder.path().join("inset.dcm"), &["--pixel-spacing", "0.6"]);
    assert!((volume(&given).unwrap() / expected - 8.0).abs() < 1e-5 && noted(&given, "was given"), "{given}");
    let views = segment(&folder.path().join("views.dcm"), &[]);
    assert!(volume(&views).is_none() && noted(&views, "shows 2 views side by side"), "{views}");
}

/// Where pydicom keeps the files of its own tests.
fn pydicom_files(python: Python) -> PathBuf {
    let files = python().args(["-c", "import pydicom.data as d; print(d.__path__[0])"]).output().unwrap();
    Path::new(String::from_utf8(files.stdout).unwrap().trim()).join("test_files")
}

/// The numbers in the JSON, the report and highdicom's reading of it are the same.
#[test]
fn highdicom_reads_reports() {
    let test = "highdicom_reads_reports";
    let Some(python) = python(test, "pydicom, highdicom") else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = pydicom_files(python).join("examples_ybr_color.dcm");
    let options: [&dyn AsRef<std::ffi::OsStr>; 12] = [
        &"segment",
        &source,
        &"--bundle",
        &repository("models/echo"),
        &"--output",
        &folder.path(),
        &"--dicom-sr",
        &"--measure",
        // Some of these show no heart.
        &"--measure-anyway",
        &"--json",
        &"--pixel-spacing",
        &"0.5",
    ];
    let json: Value = serde_json::from_str(&ldseg(&options).ok()).unwrap();
    let beat = &json["files"][0]["heartbeat"];
    let read = peers(python, &[&"report", &folder.path().join("examples_ybr_color.sr.dcm")]);
    println!("{read}");
    let frame = |key: &str| beat[key].as_u64().unwrap() + 1;
    let (diastole, systole) = (frame("end_diastole_frame"), frame("end_systole_frame"));
    for (name, key, factor, unit, frames) in [
        ("End Diastolic Volume", "end_diastolic_volume_ml", 1.0, "ml", vec![diastole]),
        ("End Systolic Volume", "end_systolic_volume_ml", 1.0, "ml", vec![systole]),
        ("Ejection Fraction by US", "ejection_fraction", 100.0, "%", vec![diastole, systole]),
    ] {
        let found = &read[format!("Left ventricle, Left Ventricular {name}")];
        let expected = factor * beat[key].as_f64().unwrap();
        assert!((found[0].as_f64().unwrap() - expected).abs() < 1e-9, "{name}: {found}, expected {expected}");
        assert_eq!((&found[1], &found[2]), (&Value::from(unit), &Value::from(frames)), "{name}");
    }
    assert_eq!(read["Left atrium, Volume"][1], "ml");
}

#[test]
fn highdicom_reads_segmentation_objects() {
    let test = "highdicom_reads_segmentation_objects";
    let Some(python) = python(test, "pydicom, highdicom, nibabel") else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = repository("models/echo");
    let files = pydicom_files(python);
    // A cine and a still of an ultrasound device, and a still that knows its place in the patient.
    for (name, extension) in [("examples_ybr_color", "nii.gz"), ("examples_rgb_color", "png"), ("CT_small", "png")] {
        let source = files.join(format!("{name}.dcm"));
        for kind in ["binary", "fractional"] {
            let output = folder.path().join(kind);
            ldseg(&[
                &"segment",
                &source,
                &"--bundle",
                &bundle,
                &"--output",
                &output,
                &"--dicom-seg",
                &kind,
                &"--steps",
                &"1",
            ])
            .ok();
            let seg = output.join(format!("{name}.seg.dcm"));
            let labels = output.join(format!("{name}.{extension}"));
            let read = peers(python, &[&"segmentation", &seg, &source, &labels]);
            println!("{name} {kind}: {read}");
            assert_eq!(read["differing"], 0, "{name}, {kind}");
            assert_eq!(read["segments"]["left ventricle"], "87878005");
            assert_eq!(read["segments"].as_object().unwrap().len(), 3);
        }
    }
}
