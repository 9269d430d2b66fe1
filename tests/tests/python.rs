//! The Python interface: the library that was built beside this test, as Python imports it.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use ldseg::engine::EngineOptions;
use ldseg::image::Image;
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg_recording::heart::LeftHeart;
use serde_json::json;

use crate::c_interface::expected;
use crate::support::{MODELS, example_frame, fixture, library, note, python, repository};

/// The runtime's folder for Python.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/python");
const SPACING: [f64; 2] = [0.5, 0.4];

/// Writes what the Rust library makes of the frame for the tests in Python to compare with.
fn write_expected(folder: &Path, image: &Image) {
    let mut segmenter = Segmenter::load(&Path::new(MODELS).join("echo"), &EngineOptions::default()).unwrap();
    let result = segmenter.segment(image, &SegmentOptions::defaults(segmenter.manifest())).unwrap();
    let classes = &segmenter.manifest().classes;
    let heart = LeftHeart::of(segmenter.manifest()).expect("the bundle declares its measures");
    let measured = heart.measure(&result.labels, Some(SPACING)).unwrap();
    assert!(measured.left_ventricle.is_some() && measured.left_atrium.is_some(), "{measured:?}");
    let [labels, probabilities] = ["labels", "probabilities"].map(|name| folder.join(name));
    fs::write(&labels, result.labels.iter().copied().collect::<Vec<u8>>()).unwrap();
    let bytes = result.probabilities.iter().flat_map(|value| value.to_ne_bytes());
    fs::write(&probabilities, bytes.collect::<Vec<u8>>()).unwrap();
    let document = json!({
        "height": image.data.shape()[1],
        "width": image.data.shape()[2],
        "spacing": SPACING,
        "classes": classes,
        "labels": labels,
        "probabilities": probabilities,
        "measurements": measured,
    });
    fs::write(folder.join("expected.json"), document.to_string()).unwrap();
}

/// Lays the package `ldseg` out in a folder: what `pip install` would do. `None`, said aloud, where the library isn't there.
pub fn package(test: &str, folder: &Path) -> Option<()> {
    let library = library(test, &format!("{DLL_PREFIX}ldseg_python{DLL_SUFFIX}"))?;
    let package = folder.join("ldseg");
    fs::create_dir_all(&package).unwrap();
    for name in ["__init__.py", "_native.pyi", "py.typed"] {
        fs::copy(Path::new(PYTHON).join("python/ldseg").join(name), package.join(name)).unwrap();
    }
    fs::copy(library, package.join(if cfg!(windows) { "_native.pyd" } else { "_native.abi3.so" })).unwrap();
    Some(())
}

/// Lets Python find the package that [`package`] laid out.
pub fn with_package(python: &mut Command, folder: &Path) {
    let paths = env::var_os("LDSEG_PYTHON_PATH").into_iter().map(Into::into);
    python.env("PYTHONPATH", env::join_paths(paths.chain([folder.to_path_buf()])).unwrap());
    python.env("PYTHONDONTWRITEBYTECODE", "1");
}

#[test]
fn python_gets_what_the_rust_library_gives() {
    let Some(python) = python("the Python interface", "numpy") else { return };
    let temp = tempfile::tempdir().unwrap();
    if package("the Python interface", temp.path()).is_none() {
        return;
    }
    let (image, pixels) = example_frame(Some(SPACING));
    fs::write(temp.path().join("frame"), pixels).unwrap();
    write_expected(temp.path(), &image);
    let volumes = temp.path().join("volumes");
    fixture("knee", &volumes);

    let mut python = python();
    with_package(&mut python, temp.path());
    let output = python
        .arg(Path::new(PYTHON).join("tests/test_ldseg.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LDSEG_MODELS", MODELS)
        .env("LDSEG_FRAME", temp.path().join("frame"))
        .env("LDSEG_EXPECTED", temp.path().join("expected.json"))
        .env("LDSEG_VOLUME_BUNDLE", volumes)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    note(&format!(
        "the Python interface: {}",
        report.lines().filter(|line| line.starts_with("Ran ")).collect::<String>()
    ));
}

#[test]
fn the_example_in_python_gives_what_the_rust_library_gives() {
    const TEST: &str = "the example in Python";
    let Some(python) = python(TEST, "numpy, PIL") else { return };
    let temp = tempfile::tempdir().unwrap();
    if package(TEST, temp.path()).is_none() {
        return;
    }
    let [input, output] = ["frame.png", "labels.png"].map(|name| temp.path().join(name));
    let (image, pixels) = example_frame(Some([0.5; 2]));
    let [height, width] = [1, 2].map(|axis| image.data.shape()[axis] as u32);
    image::save_buffer(&input, &pixels, width, height, image::ColorType::L8).unwrap();
    let bundle = repository("models/echo");
    let (text, labels) = expected(&bundle, &image);

    let run = |arguments: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut python = python();
        with_package(&mut python, temp.path());
        python.arg(repository("examples/segment.py")).args(arguments.iter().map(AsRef::as_ref)).output().unwrap()
    };
    let ran = run(&[&bundle, &input, &output, &"0.5"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(String::from_utf8(ran.stdout).unwrap().replace('\r', ""), text);
    assert!(text.contains("left ventricle: "), "{text}");
    let written = image::open(&output).unwrap().to_luma8();
    assert_eq!(written.dimensions(), (width, height));
    assert!(written.into_raw().iter().eq(labels.iter()), "the label maps differ");
    assert!(!run(&[&bundle]).status.success(), "arguments are missing");
}
