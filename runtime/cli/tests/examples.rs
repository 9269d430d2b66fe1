//! The examples in Rust, which cargo builds beside the tests, against the command.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use ldseg::{EngineOptions, Image, SegmentOptions, Segmenter};
use serde_json::Value;

use crate::support::{Arguments, Need, ldseg, repository, skip};

/// The example `name`. `None`, said aloud, where cargo was told one test alone and has not made it.
fn example(name: &str, arguments: &Arguments) -> Option<Command> {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(format!("{name}{EXE_SUFFIX}"));
    if !path.is_file() {
        let why = format!("{} is not there; `cargo test` makes it, and `cargo build --examples`", path.display());
        skip(Need::Examples, &format!("the example {name}"), &why);
        return None;
    }
    let mut command = Command::new(path);
    command.args(arguments.iter().map(AsRef::as_ref)).stdin(Stdio::null());
    Some(command)
}

/// What it wrote to standard output and standard error; it must have succeeded.
fn ok(output: Output) -> [String; 2] {
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stderr}");
    [stdout, stderr]
}

/// Runs it with too few arguments.
fn fails(name: &str, arguments: &Arguments, expected: &str) {
    let output = example(name, arguments).unwrap().output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains(expected) && !stderr.contains("panicked"), "{stderr}");
}

/// What `ldseg segment --json` tells of one input; outputs go to `output`.
fn told(input: &Path, output: &Path) -> Value {
    let bundle = repository("models/echo");
    let arguments: [&dyn AsRef<OsStr>; 10] = [
        &"segment",
        &input,
        &"--bundle",
        &bundle,
        &"--output",
        &output,
        &"--json",
        &"--measure",
        &"--pixel-spacing",
        &"0.8",
    ];
    let document: Value = serde_json::from_str(&ldseg(&arguments).ok()).unwrap();
    document["files"][0].clone()
}

/// The first frames of the cine that comes along, as grey images.
fn frames(count: usize) -> Vec<Image> {
    let cine = ldseg_io::read_recording(&repository("models/examples/echo-phantom.gif")).unwrap();
    (0..count).map(|index| cine.frame(index).unwrap().into_owned().into_grey()).collect()
}

fn pixels(image: &Image) -> Vec<u8> {
    image.data.iter().map(|&value| value as u8).collect()
}

#[test]
fn a_picture_is_segmented_as_the_command_does() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let [frame] = &frames(1)[..] else { unreachable!() };
    let [height, width] = [1, 2].map(|axis| frame.data.shape()[axis] as u32);
    let (input, output, bundle) = (path("frame.png"), path("labels.png"), repository("models/echo"));
    image::save_buffer(&input, &pixels(frame), width, height, image::ColorType::L8).unwrap();
    let Some(mut command) = example("segment_picture", &[&bundle, &input, &output, &"0.8"]) else { return };
    let [text, _] = ok(command.output().unwrap());

    let told = told(&input, &path("out"));
    assert!(fs::read(&output).unwrap() == fs::read(path("out/frame.png")).unwrap(), "the label maps differ");
    let lines: Vec<&str> = text.lines().collect();
    let classes = told["classes"].as_array().unwrap();
    // Classes, the uncertainty, ventricle and atrium.
    assert_eq!(lines.len(), classes.len() + 3, "{text}");
    for (line, class) in lines.iter().zip(classes) {
        let (name, count) = (class["name"].as_str().unwrap(), format!(": {} pixels", class["voxels"]));
        assert!(line.starts_with(name) && line.ends_with(&count), "{line}, expected {class}");
    }
    let uncertainty = told["mean_uncertainty"].as_f64().unwrap();
    assert_eq!(lines[classes.len()], format!("mean uncertainty: {uncertainty:.6}"));
    let volume = told["left_ventricle"]["volume_ml"].as_f64().unwrap();
    assert!(text.contains("left ventricle: ") && text.contains(&format!("volume {volume:.3} ml")), "{text}");

    fails("segment_picture", &[&bundle], "expected BUNDLE IMAGE LABELS.png");
    fails("segment_picture", &[&bundle, &path("none.png"), &output], "none.png: ");
}

#[test]
fn a_cine_is_measured_as_the_command_does() {
    let temp = tempfile::tempdir().unwrap();
    let (bundle, cine) = (repository("models/echo"), repository("models/examples/echo-phantom.gif"));
    let Some(mut command) = example("measure_cine", &[&bundle, &cine, &"0.8"]) else { return };
    let [table, said] = ok(command.output().unwrap());
    let told = told(&cine, temp.path());
    let frames = told["frames"].as_array().unwrap();
    let mut expected = "frame,seconds,area_cm2,volume_ml\n".to_owned();
    for frame in frames {
        let number = |value: &Value| value.as_f64().unwrap();
        let (index, seconds, ventricle) = (&frame["index"], number(&frame["time_seconds"]), &frame["left_ventricle"]);
        let (area, volume) = (number(&ventricle["area_cm2"]), number(&ventricle["volume_ml"]));
        expected += &format!("{index},{seconds:.3},{area:.3},{volume:.3}\n");
    }
    assert_eq!(table, expected);
    assert!(frames.len() > 10);
    let fraction = told["heartbeat"]["ejection_fraction"].as_f64().unwrap();
    assert!(said.contains(&format!("ejection fraction {fraction:.3}, from frame ")), "{said}");

    // Without a spacing there is a ratio, and no number in cm² or ml.
    let [table, said] = ok(example("measure_cine", &[&bundle, &cine]).unwrap().output().unwrap());
    assert!(table.lines().skip(1).all(|line| line.ends_with(",,")), "{table}");
    assert!(said.contains(&format!("ejection fraction {fraction:.3}, ")), "{said}");
    assert!(said.contains("its pixel spacing is not known") && !said.contains("--"), "{said}");
    fails("measure_cine", &[&repository("models/glas"), &cine], "glas declares no measures of kind `left_heart`");
}

#[test]
fn frames_of_a_camera_are_segmented_as_the_library_does() {
    const COUNT: usize = 5;
    let (images, bundle) = (frames(COUNT), repository("models/echo"));
    let [height, width] = [1, 2].map(|axis| images[0].data.shape()[axis].to_string());
    let feed = |input: Vec<Vec<u8>>| {
        let mut command = example("camera", &[&bundle, &height, &width])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut camera = child.stdin.take().unwrap();
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                for frame in input {
                    let _ = camera.write_all(&frame);
                    thread::sleep(Duration::from_millis(100));
                }
            });
            child.wait_with_output().unwrap()
        });
        Some(output)
    };
    let Some(output) = feed(images.iter().map(pixels).collect()) else { return };
    let [text, said] = ok(output);

    let mut segmenter = Segmenter::load(&bundle, &EngineOptions::default()).unwrap();
    let defaults = SegmentOptions::defaults(segmenter.manifest());
    let expected: Vec<String> = (0..)
        .zip(&images)
        .map(|(index, image)| {
            let labels = segmenter.segment(image, &SegmentOptions { frame: index, ..defaults.clone() }).unwrap().labels;
            let classes = segmenter.manifest().classes.iter().enumerate();
            let counts = classes.map(|(class, of)| {
                format!("{} {}", of.name, labels.iter().filter(|&&label| usize::from(label) == class).count())
            });
            format!("frame {index}: {}", counts.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let answers: Vec<&str> = text.lines().collect();
    // A frame that comes while one waits is dropped, as on a machine that others keep busy.
    assert!(!answers.is_empty() && answers[0] == expected[0], "{text}, expected {expected:?}");
    assert!(answers.iter().all(|answer| expected.iter().any(|expected| expected == answer)), "{text}, {expected:?}");
    assert!(said.contains(&format!("{} frames dropped", COUNT - answers.len())), "{said}");

    let mut cut = pixels(&images[0]);
    cut.truncate(100);
    let output = feed(vec![pixels(&images[0]), cut]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("frame 1 ends after 100 bytes"), "{said}");
    fails("camera", &[&bundle, &"0", &"10"], "zero");
}

/// Every program in `examples` has its line in the page there.
#[test]
fn the_page_of_examples_names_all_of_them() {
    let folder: PathBuf = repository("examples");
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    let programs = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let programs: Vec<String> = programs.filter(|name| name != "README.md").collect();
    assert!(programs.len() >= 5, "{programs:?}");
    for name in programs {
        assert!(page.contains(&format!("]({name})")), "examples/README.md does not link to {name}");
    }
}
