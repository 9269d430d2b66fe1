//! Every entry point goes one way through a recording: of each kind of input all of them see the same pixels, say the same
//! notes, and measure the same numbers.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ldseg::bundle::Manifest;
use ldseg::engine::EngineOptions;
use ldseg::frames::FrameOptions;
use ldseg::image::{Image, Labels};
use ldseg::preprocess::image_to_grid;
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg_io::{OutputForm, read_image, read_labels, read_recording, write_labels};
use ldseg_recording::heart::LeftHeart;
use ldseg_recording::{Prepared, Runner, Wish};
use ldseg_trainer::data::{Case, Spec, load_case};
use serde_json::{Value, json};

use crate::support::{example_frame, ldseg, note, python, repository};

/// Height and width of the example's frames.
const SIDE: usize = 224;
const IN_COLOUR: &str = "is in colour, and its luminance is taken";
const NOT_MEASURED: &str = "is not measured: its pixel spacing is not known";

/// One kind of input.
struct Kind {
    name: &'static str,
    file: PathBuf,
    /// What is noted of every such recording, however it comes in.
    notes: &'static [&'static str],
    /// Beginnings of what is noted of the file itself, which a caller with pixels in memory cannot know.
    of_file: &'static [&'static str],
    spacing: Option<[f64; 2]>,
}

fn png(path: &Path, bytes: &[u8], [width, height]: [usize; 2], colour: image::ColorType) {
    image::save_buffer(path, bytes, width as u32, height as u32, colour).unwrap();
}

/// A grey frame as a colour one: dim blue tissue, as a palette makes it, and a green mark.
fn coloured(grey: &[u8]) -> Vec<u8> {
    let mut pixels: Vec<u8> = grey.iter().flat_map(|&v| [v - v / 8, v - v / 16, v]).collect();
    for at in (0..20).flat_map(|y| (0..20).map(move |x| y * SIDE + x)) {
        pixels[3 * at..3 * at + 3].copy_from_slice(&[0, 200, 40]);
    }
    pixels
}

/// A still ultrasound image as DICOM (explicit, little endian), with one region that reaches to (x1, y1) and pixels of
/// 0.05 cm.
fn dicom(grey: &[u8], [x1, y1]: [u32; 2]) -> Vec<u8> {
    fn element(tag: [u16; 2], vr: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = [tag[0].to_le_bytes(), tag[1].to_le_bytes()].concat();
        bytes.extend(vr.as_bytes());
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        if matches!(vr, "SQ" | "OB" | "OW") {
            bytes.extend([0; 2]);
            bytes.extend((value.len() as u32).to_le_bytes());
        } else {
            bytes.extend((value.len() as u16).to_le_bytes());
        }
        [bytes, value].concat()
    }
    let short = |tag, value: u16| element(tag, "US", &value.to_le_bytes());
    let long = |tag, value: u32| element(tag, "UL", &value.to_le_bytes());
    let real = |tag, value: f64| element(tag, "FD", &value.to_le_bytes());
    let region = [
        short([0x18, 0x6012], 1),
        long([0x18, 0x6018], 0),
        long([0x18, 0x601A], 0),
        long([0x18, 0x601C], x1),
        long([0x18, 0x601E], y1),
        short([0x18, 0x6024], 3),
        short([0x18, 0x6026], 3),
        real([0x18, 0x602C], 0.05),
        real([0x18, 0x602E], 0.05),
    ]
    .concat();
    let mut item = [0xFFFE_u16.to_le_bytes(), 0xE000_u16.to_le_bytes()].concat();
    item.extend((region.len() as u32).to_le_bytes());
    item.extend(region);
    let class = b"1.2.840.10008.5.1.4.1.1.6.1";
    let instance = b"1.2.3.4";
    let meta = [
        element([2, 1], "OB", &[0, 1]),
        element([2, 2], "UI", class),
        element([2, 3], "UI", instance),
        element([2, 0x10], "UI", b"1.2.840.10008.1.2.1"),
        element([2, 0x12], "UI", b"1.2.3"),
    ]
    .concat();
    let data = [
        element([8, 0x16], "UI", class),
        element([8, 0x18], "UI", instance),
        element([8, 0x60], "CS", b"US"),
        element([0x18, 0x6011], "SQ", &item),
        short([0x28, 2], 1),
        element([0x28, 4], "CS", b"MONOCHROME2"),
        short([0x28, 0x10], SIDE as u16),
        short([0x28, 0x11], SIDE as u16),
        short([0x28, 0x100], 8),
        short([0x28, 0x101], 8),
        short([0x28, 0x102], 7),
        short([0x28, 0x103], 0),
        element([0x7FE0, 0x10], "OB", grey),
    ]
    .concat();
    let length = element([2, 0], "UL", &(meta.len() as u32).to_le_bytes());
    [vec![0; 128], b"DICM".to_vec(), length, meta, data].concat()
}

/// The frame on a device's screen: a bar below, marks at the left.
fn screen(grey: &[u8]) -> (Vec<u8>, [usize; 2]) {
    let (width, height) = (420, 320);
    let mut pixels = vec![0; width * height];
    pixels[width * 305..].fill(90);
    for (y, x) in (20..100).step_by(9).flat_map(|y| (10..60).step_by(3).map(move |x| (y, x))) {
        pixels[y * width + x] = 220;
    }
    for y in 0..SIDE {
        pixels[(60 + y) * width + 150..][..SIDE].copy_from_slice(&grey[y * SIDE..][..SIDE]);
    }
    (pixels, [width, height])
}

fn kinds(folder: &Path) -> Vec<Kind> {
    let (_, grey) = example_frame(None);
    let path = |name: &str| folder.join(name);
    let kind = |name, file: &str, notes, of_file, spacing| Kind { name, file: path(file), notes, of_file, spacing };
    png(&path("grey.png"), &grey, [SIDE; 2], image::ColorType::L8);
    png(&path("colour.png"), &coloured(&grey), [SIDE; 2], image::ColorType::Rgb8);
    let disguised: Vec<u8> = grey.iter().flat_map(|&v| [v; 3]).collect();
    png(&path("disguised.png"), &disguised, [SIDE; 2], image::ColorType::Rgb8);
    let deep: Vec<u8> = grey.iter().flat_map(|&v| (u16::from(v) * 200 + 7).to_ne_bytes()).collect();
    png(&path("deep.png"), &deep, [SIDE; 2], image::ColorType::L16);
    let (pixels, size) = screen(&grey);
    png(&path("screen.png"), &pixels, size, image::ColorType::L8);
    let header = format!(
        "NDims = 2\nDimSize = {SIDE} {SIDE}\nElementSpacing = 0.75 0.5\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    );
    fs::write(path("spaced.mha"), [header.as_bytes(), &grey].concat()).unwrap();
    fs::write(path("region.dcm"), dicom(&grey, [SIDE as u32 - 1; 2])).unwrap();
    fs::write(path("wrong.dcm"), dicom(&grey, [900, 700])).unwrap();
    vec![
        kind("grey, unknown spacing", "grey.png", &[], &[], None),
        kind("colour", "colour.png", &[IN_COLOUR], &[], None),
        kind("grey in the guise of colour", "disguised.png", &[], &[], None),
        kind("16 bit", "deep.png", &[], &[], None),
        kind("text around the sector", "screen.png", &[], &[], None),
        kind("known spacing", "spaced.mha", &[], &[], Some([0.5, 0.75])),
        kind("right region", "region.dcm", &[], &[], Some([0.5, 0.5])),
        kind(
            "wrong region",
            "wrong.dcm",
            &[],
            &["its ultrasound region reaches", "its pixel spacing is unknown"],
            None,
        ),
    ]
}

/// What one entry point answers.
#[derive(Debug)]
struct Answer {
    labels: Vec<u8>,
    /// Area, long axis and volume of each chamber.
    measured: Vec<(String, [f64; 3])>,
    notes: Vec<String>,
}

/// Equal but for the last digit of a number, which reading JSON may change.
impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        let near = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).all(|(a, b)| (a / b - 1.0).abs() < 1e-14);
        let pairs = || self.measured.iter().zip(&other.measured);
        self.labels == other.labels
            && self.notes == other.notes
            && self.measured.len() == other.measured.len()
            && pairs().all(|((a, of_a), (b, of_b))| a == b && near(of_a, of_b))
    }
}

fn measured(document: &Value) -> Vec<(String, [f64; 3])> {
    let number = |chamber: &Value, key: &str| chamber[key].as_f64().unwrap();
    ["left_ventricle", "left_atrium"]
        .into_iter()
        .filter_map(|name| Some((name, document.get(name)?)))
        .map(|(name, found)| (name.to_owned(), ["area_cm2", "long_axis_mm", "volume_ml"].map(|key| number(found, key))))
        .collect()
}

fn notes(document: &Value) -> Vec<String> {
    let all = document.get("notes").and_then(Value::as_array).cloned().unwrap_or_default();
    all.iter().map(|note| note.as_str().unwrap().to_owned()).collect()
}

fn bytes(labels: &Labels) -> Vec<u8> {
    labels.iter().copied().collect()
}

/// What the library answers, and the recording's own notes, which those say who do not measure.
struct Library {
    image: Image,
    labels: Labels,
    answer: Answer,
    notes: Vec<String>,
}

/// The one way, as the library has it.
fn library(kind: &Kind, bundle: &Path) -> Library {
    let segmenter = Segmenter::load(bundle, &EngineOptions::default()).unwrap();
    let channels = segmenter.manifest().channels;
    let prepared = Prepared::open(std::slice::from_ref(&kind.file), channels, &Wish::default()).unwrap();
    let heart = LeftHeart::of(segmenter.manifest()).unwrap();
    let segment = SegmentOptions::defaults(segmenter.manifest());
    let mut runner = Runner::new(segmenter, FrameOptions { segment, warm_start: None, deadline: None }).unwrap();
    let mut labels = Labels::zeros(vec![0, 0]);
    let found = runner.run(&prepared, Some(&heart), &mut |_, found| {
        labels = found.labels.clone();
        Ok(())
    });
    let found = serde_json::to_value(found.unwrap()).unwrap();
    let answer = Answer { labels: bytes(&labels), measured: measured(&found), notes: notes(&found) };
    Library { image: prepared.still().unwrap(), labels, answer, notes: prepared.decisions().notes() }
}

fn segment(kind: &Kind, bundle: &Path, folder: &Path) -> Answer {
    let output = folder.join("segment");
    let told =
        ldseg(&[&"segment", &kind.file, &"--bundle", &bundle, &"--output", &output, &"--json", &"--measure"]).ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    let file = &told["files"][0];
    let labels = read_labels(Path::new(file["output"].as_str().unwrap())).unwrap();
    Answer { labels: bytes(&labels), measured: measured(file), notes: notes(file) }
}

fn stream(kind: &Kind, bundle: &Path, folder: &Path) -> Answer {
    let (watched, output) = (folder.join("watched"), folder.join("stream"));
    fs::create_dir(&watched).unwrap();
    fs::copy(&kind.file, watched.join(kind.file.file_name().unwrap())).unwrap();
    let told = ldseg(&[
        &"stream",
        &"--bundle",
        &bundle,
        &"--watch",
        &watched,
        &"--idle-seconds",
        &"0.3",
        &"--output",
        &output,
        &"--measure",
    ])
    .ok();
    let line: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    let labels = read_labels(Path::new(line["output"].as_str().unwrap())).unwrap();
    Answer { labels: bytes(&labels), measured: measured(&line), notes: notes(&line) }
}

/// With the library's label map as reference, clean images have a Dice of 1 where the pixels are the same.
fn robustness(kind: &Kind, bundle: &Path, reference: &Path, folder: &Path) -> Vec<String> {
    let (images, output) = (folder.join("images"), folder.join("robustness"));
    fs::create_dir(&images).unwrap();
    fs::copy(&kind.file, images.join(kind.file.file_name().unwrap())).unwrap();
    let told = ldseg(&[
        &"robustness",
        &"--bundle",
        &bundle,
        &"--images",
        &images,
        &"--labels",
        &reference,
        &"--output",
        &output,
        &"--corruptions",
        &"blur",
        &"--levels",
        &"1",
        &"--json",
    ])
    .ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    let clean = |point: &&Value| point["strength"].as_f64() == Some(0.0);
    let points: Vec<&Value> = told["curves"].as_array().unwrap().iter().filter(clean).collect();
    assert_eq!(points.len(), 4, "{told}");
    // A class that neither map holds has none.
    let dice: Vec<Option<f64>> = points.iter().map(|point| point["dice"]["mean"].as_f64()).collect();
    assert!(dice.iter().all(|dice| dice.is_none_or(|dice| dice == 1.0)), "{}: {points:?}", kind.name);
    assert!(dice.iter().any(Option::is_some), "{}: {points:?}", kind.name);
    without_path(notes(&told))
}

fn without_path(notes: Vec<String>) -> Vec<String> {
    notes.into_iter().map(|note| note.split_once(": ").unwrap().1.to_owned()).collect()
}

/// What it says on standard error.
fn render(kind: &Kind, bundle: &Path, folder: &Path) -> Vec<String> {
    let output = folder.join("figure.png");
    let ran = ldseg(&[&"render", &"diffusion", &kind.file, &"--bundle", &bundle, &"--output", &output]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    without_path(ran.stderr.lines().filter_map(|line| line.strip_prefix("note: ")).map(str::to_owned).collect())
}

/// An evaluation that the library's label map would get, and the page that shows it: the same Dice, and the notes.
fn report(kind: &Kind, bundle: &Path, reference: &Path, folder: &Path) -> String {
    let (metrics, page) = (folder.join("metrics.json"), folder.join("report.html"));
    ldseg(&[&"evaluate", &"--predictions", &reference, &"--labels", &reference, &"--output", &metrics]).ok();
    let images = folder.join("images");
    ldseg(&[
        &"report",
        &"--bundle",
        &bundle,
        &"--images",
        &images,
        &"--labels",
        &reference,
        &"--evaluation",
        &metrics,
        &"--output",
        &page,
    ])
    .ok();
    let page = fs::read_to_string(page).unwrap();
    assert!(!page.contains("it scored another segmentation"), "{}: the report segments other pixels", kind.name);
    page
}

/// The image as training sees it.
fn trainer(kind: &Kind, manifest: &Manifest, labels: &Path) -> (ldseg::Tensor, Vec<String>) {
    let case =
        Case { name: "a".into(), patient: "a".into(), images: vec![kind.file.clone()], labels: labels.to_path_buf() };
    let spec = Spec {
        channels: manifest.channels,
        size: manifest.input_size.clone(),
        spacing: manifest.spacing.clone(),
        orientation: manifest.orientation(),
        resampling: manifest.resampling,
        normalisation: manifest.normalisation,
        class_values: (0..manifest.classes.len()).map(|class| vec![class as u8]).collect(),
    };
    let (sample, notes) = load_case(&case, &spec).unwrap();
    (sample.image, notes)
}

/// Pixels as a caller in C or Python has them: bytes, 3 of them a pixel of colour; 16 bits as floats.
fn in_memory(kind: &Kind, folder: &Path) -> (PathBuf, u32, &'static str, String) {
    let image = read_image(&kind.file).unwrap();
    let &[channels, height, width] = image.data.shape() else { panic!("a picture") };
    let deep = image.data.iter().any(|value| *value > 255.0);
    let interleaved = image.data.permuted_axes([1, 2, 0].as_slice());
    let path = folder.join("pixels");
    let written = match deep {
        true => interleaved.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>(),
        false => interleaved.iter().map(|value| *value as u8).collect(),
    };
    fs::write(&path, written).unwrap();
    let (format, dtype) = match (channels, deep) {
        (3, _) => (1, "uint8"),
        (_, true) => (2, "float32"),
        _ => (0, "uint8"),
    };
    let shape = if channels == 3 { format!("{height},{width},3") } else { format!("{height},{width}") };
    (path, format, dtype, shape)
}

fn from_c(program: &Path, kind: &Kind, bundle: &Path, folder: &Path) -> Answer {
    let (pixels, format, _, shape) = in_memory(kind, folder);
    let size: Vec<&str> = shape.split(',').take(2).collect();
    let spacing = kind.spacing.unwrap_or([0.0; 2]).map(|mm| mm.to_string());
    let labels = folder.join("labels.c");
    let output = Command::new(program)
        .arg(bundle)
        .arg(pixels)
        .arg(format.to_string())
        .args(size)
        .args(spacing)
        .arg(&labels)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut answer = Answer { labels: fs::read(labels).unwrap(), measured: Vec::new(), notes: Vec::new() };
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        if name == "note" {
            answer.notes.push(rest.to_owned());
        } else {
            let numbers: Vec<f64> = rest.split(' ').map(|number| number.parse().unwrap()).collect();
            answer.measured.push((name.to_owned(), numbers.try_into().unwrap()));
        }
    }
    answer
}

fn from_python(mut python: Command, kind: &Kind, bundle: &Path, folder: &Path) -> Answer {
    let (pixels, _, dtype, shape) = in_memory(kind, folder);
    let spacing = kind.spacing.map_or_else(|| "-".to_owned(), |[y, x]| format!("{y},{x}"));
    let labels = folder.join("labels.python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/entry_points.py");
    let arguments: [&dyn AsRef<OsStr>; 7] = [&script, &bundle, &pixels, &dtype, &shape, &spacing, &labels];
    let output = python.args(arguments.iter().map(AsRef::as_ref)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    Answer { labels: fs::read(labels).unwrap(), measured: measured(&told["measured"]), notes: notes(&told) }
}

#[test]
fn every_entry_point_sees_the_same_pixels_and_says_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let bundle = repository("models/echo");
    let segmenter = Segmenter::load(&bundle, &EngineOptions::default()).unwrap();
    let manifest = segmenter.manifest();
    let programs = crate::c_interface::programs("entry points from C", "runtime/c/tests/entry.c", temp.path());
    let test = "entry points from Python";
    let package = |python| crate::python::package(test, &temp.path().join("package")).map(|()| python);
    let python = python(test, "numpy").and_then(package);
    let mut measured = 0;
    for kind in kinds(temp.path()) {
        let folder = temp.path().join(kind.name.replace(' ', "_"));
        fs::create_dir(&folder).unwrap();
        let Library { image, labels, answer: expected, notes: of_recording } = library(&kind, &bundle);
        let of_file = of_recording.iter().take(kind.of_file.len());
        assert!(of_file.zip(kind.of_file).all(|(note, start)| note.starts_with(start)), "{}: {expected:?}", kind.name);
        assert_eq!(of_recording[kind.of_file.len()..], *kind.notes, "{}", kind.name);
        let of_measuring: &[&str] = if kind.spacing.is_none() { &[NOT_MEASURED] } else { &[] };
        let all = of_recording.iter().map(String::as_str).chain(of_measuring.iter().copied());
        assert_eq!(expected.notes, all.collect::<Vec<_>>(), "{}", kind.name);
        assert_eq!(expected.measured.is_empty(), kind.spacing.is_none(), "{}: {:?}", kind.name, expected.measured);
        measured += expected.measured.len();
        assert_eq!(image.spacing().map(<[f64]>::to_vec), kind.spacing.map(|spacing| spacing.to_vec()), "{}", kind.name);

        assert_eq!(segment(&kind, &bundle, &folder), expected, "segment, {}", kind.name);
        assert_eq!(stream(&kind, &bundle, &folder), expected, "stream, {}", kind.name);

        let reference = folder.join("reference");
        fs::create_dir(&reference).unwrap();
        let map = reference.join(format!("{}.png", kind.file.file_stem().unwrap().to_string_lossy()));
        write_labels(&map, &labels, &OutputForm::picture()).unwrap();
        assert_eq!(robustness(&kind, &bundle, &reference, &folder), of_recording, "robustness, {}", kind.name);
        assert_eq!(render(&kind, &bundle, &folder), of_recording, "render, {}", kind.name);
        let page = report(&kind, &bundle, &reference, &folder);
        for note in kind.notes {
            assert!(page.contains(note), "report, {}: {note}", kind.name);
        }

        let (seen, notes) = trainer(&kind, manifest, &map);
        let grid = image_to_grid(&image, manifest.channels, &manifest.input_size, manifest.resampling).unwrap();
        assert!(seen == grid, "the trainer sees other pixels, {}", kind.name);
        assert_eq!(notes, of_recording, "trainer, {}", kind.name);

        let notes = kind.notes.iter().chain(of_measuring).map(ToString::to_string).collect();
        let in_memory = Answer { notes, ..expected };
        for program in programs.iter().flatten() {
            assert_eq!(from_c(program, &kind, &bundle, &folder), in_memory, "C, {}", kind.name);
        }
        if let Some(python) = python {
            let mut python = python();
            crate::python::with_package(&mut python, &temp.path().join("package"));
            assert_eq!(from_python(python, &kind, &bundle, &folder), in_memory, "Python, {}", kind.name);
        }
    }
    assert!(measured >= 4, "ventricle and atrium of two inputs: {measured}");
    let more = [programs.map(|_| ", C"), python.map(|_| ", Python")].map(Option::unwrap_or_default).concat();
    note(&format!(
        "entry points: segment, stream, robustness, render, report, trainer{more} agree on 8 kinds of input"
    ));
}

#[test]
fn the_user_s_word_wins_and_is_noted_and_the_sector_is_a_decision() {
    let temp = tempfile::tempdir().unwrap();
    let bundle = repository("models/echo");
    let kinds = kinds(temp.path());
    let file = |name: &str| kinds.iter().find(|kind| kind.name == name).map(|kind| kind.file.clone()).unwrap();
    let told = |file: &Path, more: &[&dyn AsRef<OsStr>]| {
        let output = temp.path().join("out");
        let common: [&dyn AsRef<OsStr>; 8] =
            [&"segment", &file, &"--bundle", &bundle, &"--output", &output, &"--json", &"--measure"];
        let told = ldseg(&[&common, more].concat()).ok();
        serde_json::from_str::<Value>(&told).unwrap()["files"][0].clone()
    };
    let spaced = file("known spacing");
    let (own, given) = (told(&spaced, &[]), told(&spaced, &[&"--pixel-spacing", &"1.0"]));
    assert_eq!(own["decisions"]["spacing"], json!({"file": [0.5, 0.75]}));
    assert_eq!(given["decisions"]["spacing"], json!({"user_not_file": {"user": [1.0, 1.0], "file": [0.5, 0.75]}}));
    assert_eq!(
        given["notes"],
        json!(["says that its spacing is [0.5, 0.75] mm; [1.0, 1.0] mm was given, and is taken"])
    );
    let area = |file: &Value| file["left_ventricle"]["area_cm2"].as_f64().unwrap();
    assert!((area(&given) / area(&own) - 1.0 / 0.375).abs() < 1e-9, "{own} {given}");

    let screen = told(&file("text around the sector"), &[&"--crop-sector"]);
    let part = &screen["decisions"]["sector"]["part"];
    let recording = read_recording(&file("text around the sector")).unwrap();
    assert_eq!(json!(recording.sector().unwrap()), *part);
    assert!(screen["notes"][0].as_str().unwrap().starts_with("its sector is segmented"), "{screen}");
    assert!(part["width"].as_u64().unwrap() < 300, "{screen}");
    // No unit where nobody tells the spacing.
    let text = screen.to_string();
    assert!(!["_mm\"", "_cm2\"", "_ml\""].iter().any(|unit| text.contains(unit)), "{text}");
}
