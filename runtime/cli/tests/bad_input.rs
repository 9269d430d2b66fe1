//! Whatever is wrong with an input, `ldseg` says what and where, fails, and still does all the rest.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Crc;
use ldseg::bundle::{Bundle, Manifest, write_bundle};
use sha2::{Digest, Sha256};

use crate::support::{Ran, contents, fixture, ldseg, repository};

/// A folder with a bundle for grey pictures, `bundle`, a picture that fits it, `good.png`, and room for what does not.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fixture("echo", &place.path("bundle"));
        fs::write(place.path("good.png"), png(image::ColorType::L8)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A volume, NIfTI.
    fn volume() -> Vec<u8> {
        fs::read(repository("tests/fixtures/knee-data/phantom0001.nii.gz")).unwrap()
    }

    /// Segments with `bundle`; outputs go to `out`.
    fn segment(&self, bundle: &str, inputs: &[PathBuf]) -> Ran {
        let (bundle, output) = (self.path(bundle), self.path("out"));
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"segment", &"--bundle", &bundle];
        arguments.extend([&"--output" as &dyn AsRef<std::ffi::OsStr>, &output]);
        arguments.extend(inputs.iter().map(|input| input as &dyn AsRef<std::ffi::OsStr>));
        ldseg(&arguments)
    }

    /// `bytes` as the file `name`, given together with a good picture, fail alone, with `expected` in the message.
    fn check_file(&self, name: &str, bytes: &[u8], expected: &str) {
        fs::write(self.path(name), bytes).unwrap();
        self.check(&self.path(name), expected);
    }

    fn check(&self, bad: &Path, expected: &str) {
        // On both sides of the good one, so that an early end would show.
        let ran = self.segment("bundle", &[bad.to_path_buf(), self.path("good.png"), self.path("nothing.png")]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let errors: Vec<_> = ran.stderr.lines().collect();
        assert_eq!(errors.len(), 2, "{}", ran.stderr);
        assert!(errors[0].starts_with(&format!("error: {}: ", bad.display())), "{}", ran.stderr);
        assert!(errors[0].contains(expected), "expected '{expected}' in: {}", ran.stderr);
        assert!(errors[1].contains("nothing.png: cannot be read"), "{}", ran.stderr);
        assert_eq!(contents(&self.path("out")).into_keys().collect::<Vec<_>>(), ["good.png"]);
        fs::remove_dir_all(self.path("out")).unwrap();
    }
}

/// A picture with a bright half.
fn png(colour: image::ColorType) -> Vec<u8> {
    let channels = usize::from(colour.channel_count());
    let pixels: Vec<u8> = (0..40 * 30 * channels).map(|i| (i % 251 + i % channels) as u8 / 2 + 9).collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut bytes, &pixels, 40, 30, colour, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn a_bad_file_is_named_and_the_others_are_done() {
    let place = Place::new();
    let grey = png(image::ColorType::L8);
    place.check_file("truncated.png", &grey[..grey.len() / 2], "is not a readable PNG");
    place.check_file("text.png", b"Dear reader, this is no picture.", "is not a readable PNG");
    place.check_file("empty.png", b"", "is not a readable PNG");
    place.check_file("zero.png", &png_without_columns(&grey), "is not a readable PNG");
    place.check_file("notes.md", b"# Notes", "is of no known image format, expected .png");

    let volume = Place::volume();
    place.check_file("volume.nii.gz", &volume, "is a 3-D volume, the bundle expects 2-D images");
    place.check_file("truncated.nii.gz", &volume[..volume.len() / 2], "truncated");
    place.check_file("text.nii", b"Dear reader, this is no volume.", "is not a readable NIfTI");
    place.check_file("zero.nii", &nifti_without_slices(), "expected one volume");
}

/// The width is the number at byte 16; the checksum of that chunk has to fit, or it would be the first thing amiss.
fn png_without_columns(png: &[u8]) -> Vec<u8> {
    let mut bytes = png.to_vec();
    bytes[16..20].fill(0);
    let mut crc = Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    bytes
}

/// A header of 4 x 3 x 0 voxels.
fn nifti_without_slices() -> Vec<u8> {
    let mut bytes = vec![0; 352];
    bytes[..4].copy_from_slice(&348_i32.to_le_bytes());
    for (axis, size) in [3_i16, 4, 3, 0].into_iter().enumerate() {
        bytes[40 + 2 * axis..42 + 2 * axis].copy_from_slice(&size.to_le_bytes());
    }
    bytes[70] = 2; // 8-bit
    bytes[72] = 8;
    bytes[108..112].copy_from_slice(&352_f32.to_le_bytes());
    bytes[344..348].copy_from_slice(b"n+1\0");
    bytes
}

#[test]
fn an_empty_folder_is_named_and_the_others_are_done() {
    let place = Place::new();
    fs::create_dir(place.path("no images")).unwrap();
    fs::write(place.path("no images/notes.md"), "").unwrap();
    place.check(&place.path("no images"), "the folder holds no images");
}

#[test]
fn a_bad_volume_is_named_and_the_others_are_done() {
    let place = Place::new();
    fixture("knee", &place.path("knees"));
    let volume = Place::volume();
    fs::write(place.path("truncated.nii.gz"), &volume[..volume.len() / 3]).unwrap();
    fs::write(place.path("whole.nii.gz"), &volume).unwrap();
    let inputs = ["truncated.nii.gz", "good.png", "whole.nii.gz"].map(|name| place.path(name));
    let ran = place.segment("knees", &inputs);
    assert_eq!(ran.code, Some(1));
    let errors: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(errors.len(), 2, "{}", ran.stderr);
    assert!(errors[0].contains("truncated.nii.gz: is truncated"), "{}", ran.stderr);
    assert!(errors[1].contains("good.png: is a 2-D image, the bundle expects 3-D volumes"), "{}", ran.stderr);
    assert_eq!(contents(&place.path("out")).into_keys().collect::<Vec<_>>(), ["whole.nii.gz"]);
}

/// What manifest.sha256 says of a manifest.
fn seal(manifest: &str) -> String {
    let hash: String = Sha256::digest(manifest).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hash}  manifest.yaml\n")
}

#[test]
fn a_bundle_that_is_not_what_was_written_is_refused() {
    let place = Place::new();
    let refused = |file: &str, expected: &str| {
        let ran = place.segment("bundle", &[place.path("good.png")]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let start = format!("error: {}: ", place.path("bundle").join(file).display());
        assert!(ran.stderr.starts_with(&start) && ran.stderr.contains(expected), "{}", ran.stderr);
        assert!(!place.path("out").exists(), "nothing is written with a bundle that is in doubt");
    };
    for (file, bytes) in contents(&place.path("bundle")).into_iter().filter(|(name, _)| !name.starts_with("manifest")) {
        let path = place.path("bundle").join(&file);
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(&path, flipped).unwrap();
        refused(&file, "the file was altered: its SHA-256 is");
        fs::remove_file(&path).unwrap();
        refused(&file, "the bundle lacks this file");
        fs::write(&path, bytes).unwrap();
    }

    let path = place.path("bundle/manifest.yaml");
    let manifest = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{manifest}# a remark\n")).unwrap();
    refused("manifest.yaml", "the manifest was altered: its SHA-256 is");
    let edit = |text: String| {
        fs::write(place.path("bundle/manifest.sha256"), seal(&text)).unwrap();
        fs::write(&path, text).unwrap();
    };
    edit(format!("{manifest}warp_drive: true\n"));
    refused("manifest.yaml", "unknown field `warp_drive`");
    edit(manifest.replace("format_version: 1", "format_version: 2"));
    refused("manifest.yaml", "format_version is 2, this version reads 1 only");

    edit(manifest);
    assert_eq!(place.segment("bundle", &[place.path("good.png")]).code, Some(0), "whole again, it works");
}

/// A bundle with whole digests that differs from the fixture `echo` as asked for.
fn changed_bundle(place: &Place, manifest: impl Fn(&mut Manifest), file: impl Fn(&str, &mut Vec<u8>)) -> PathBuf {
    let path = place.path("changed");
    let mut new = Bundle::load(&place.path("bundle")).unwrap().manifest().clone();
    let mut files = contents(&place.path("bundle"));
    files.retain(|name, _| new.files.contains_key(name));
    manifest(&mut new);
    let whole: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let _ = fs::remove_dir_all(&path);
    write_bundle(&path, new, &whole).unwrap();
    // Past the checks of writing.
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text = fs::read_to_string(path.join("manifest.yaml")).unwrap();
    for (name, bytes) in &mut files {
        let before = hex(bytes);
        file(name, bytes);
        text = text.replace(&before, &hex(bytes));
        fs::write(path.join(name), bytes).unwrap();
    }
    fs::write(path.join("manifest.sha256"), seal(&text)).unwrap();
    fs::write(path.join("manifest.yaml"), text).unwrap();
    path
}

#[test]
fn a_bundle_of_values_that_are_no_numbers_is_refused_by_every_command() {
    let place = Place::new();
    for altered in
        ["image_encoder.onnx", "denoiser.onnx", "label_decoder.onnx", "label_encoder.onnx", "golden.safetensors"]
    {
        let bundle = changed_bundle(
            &place,
            |_| {},
            |name, bytes| {
                if name == altered {
                    // Wherever numbers begin, one of four such bytes is among eight.
                    let longest = longest_numbers(bytes);
                    bytes[longest..longest + 8].fill(0xFF);
                }
            },
        );
        let (good, out) = (place.path("good.png"), place.path("out"));
        let weights = altered.ends_with(".onnx");
        let all: [(&str, Vec<&dyn AsRef<std::ffi::OsStr>>); 3] = [
            ("verify", vec![&"verify", &"--bundle", &bundle]),
            ("segment", vec![&"segment", &good, &"--bundle", &bundle, &"--output", &out]),
            ("bench", vec![&"bench", &"--bundle", &bundle, &"--runs", &"1"]),
        ];
        // Golden tensors are for verifying alone.
        for (command, arguments) in all.iter().filter(|(command, _)| weights || *command == "verify") {
            let ran = ldseg(arguments);
            assert_eq!(ran.code, Some(1), "{command} with {altered}: {}{}", ran.stdout, ran.stderr);
            assert!(ran.stderr.contains("not finite"), "{command} with {altered}: {}", ran.stderr);
            assert!(!out.exists(), "{command} with {altered}");
        }
    }
}

/// Where the longest stretch of bytes lies that look like small f32: weights, or golden tensors. Its middle is returned.
fn longest_numbers(bytes: &[u8]) -> usize {
    let small = |at: usize| {
        let value = f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        value.is_finite() && (1e-6..1e3).contains(&value.abs())
    };
    let stretch = |phase: usize| {
        let (mut best, mut start) = ((0, 0), phase);
        for at in (phase..bytes.len() - 4).step_by(4) {
            if !small(at) {
                start = at + 4;
            } else if at - start > best.0 {
                best = (at - start, start);
            }
        }
        best
    };
    let (length, start) = (0..4).map(stretch).max().unwrap();
    assert!(length > 64, "there are numbers");
    start + length / 8 * 4
}

#[test]
fn an_unknown_spacing_is_refused_where_the_bundle_needs_it() {
    let place = Place::new();
    let good = place.path("good.png");
    let segment = |bundle: &Path, more: &[&'static str]| {
        let out = place.path("out");
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"segment", &good, &"--bundle", &bundle, &"--output", &out];
        arguments.extend(more.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        ldseg(&arguments)
    };
    let in_mm = changed_bundle(
        &place,
        |manifest| manifest.spacing = ldseg::preprocess::SpacingPolicy::Resample(vec![2.0, 2.0]),
        |_, _| {},
    );
    let ran = segment(&in_mm, &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("good.png: its spacing is not known") && ran.stderr.contains("--pixel-spacing"),
        "{}",
        ran.stderr
    );
    segment(&in_mm, &["--pixel-spacing", "1"]).ok();
    // All commands that segment take it.
    let (images, labels) = (place.path("images"), place.path("labels"));
    [&images, &labels].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    fs::copy(&good, images.join("good.png")).unwrap();
    fs::copy(place.path("out/good.png"), labels.join("good.png")).unwrap();
    let (evaluation, page, figure) = (place.path("found.json"), place.path("page.html"), place.path("figure.png"));
    ldseg(&[&"evaluate", &"--predictions", &labels, &"--labels", &labels, &"--output", &evaluation]).ok();
    let commands: [Vec<&dyn AsRef<std::ffi::OsStr>>; 3] = [
        vec![&"render", &"diffusion", &good, &"--output", &figure],
        vec![
            &"robustness",
            &"--images",
            &images,
            &"--labels",
            &labels,
            &"--output",
            &page,
            &"--levels",
            &"1",
            &"--corruptions",
            &"gain",
        ],
        vec![&"report", &"--images", &images, &"--labels", &labels, &"--evaluation", &evaluation, &"--output", &page],
    ];
    for mut command in commands {
        command.extend::<[&dyn AsRef<std::ffi::OsStr>; 2]>([&"--bundle", &in_mm]);
        let ran = ldseg(&command);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("good.png: its spacing is not known"), "{}", ran.stderr);
        let _ = fs::remove_dir_all(&page);
        command.extend::<[&dyn AsRef<std::ffi::OsStr>; 2]>([&"--pixel-spacing", &"1"]);
        ldseg(&command).ok();
        let _ = fs::remove_dir_all(&page);
    }
    segment(&in_mm, &["--pixel-spacing", "1,0.5"]).ok();
    assert_eq!(segment(&in_mm, &["--pixel-spacing", "1,1,1"]).code, Some(1));
    let in_voxels = changed_bundle(
        &place,
        |manifest| manifest.spacing = ldseg::preprocess::SpacingPolicy::ResampleVoxels(vec![2.0, 2.0]),
        |_, _| {},
    );
    segment(&in_voxels, &[]).ok();
}

#[test]
fn an_output_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    // Not by permissions, which do not hold for root.
    fs::write(place.path("out"), "a file").unwrap();
    let ran = place.segment("bundle", &[place.path("good.png")]);
    assert_eq!(ran.code, Some(1));
    let expected = format!("error: {}: cannot write to the output folder", place.path("out").display());
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    assert_eq!(fs::read(place.path("out")).unwrap(), b"a file");
}

#[test]
fn wrong_usage_has_exit_code_2_and_does_nothing() {
    let place = Place::new();
    let (good, bundle, output) = (place.path("good.png"), place.path("bundle"), place.path("out"));
    for (wrong, expected) in [
        (&["--steps", "0"][..], "0 is not in 1..="),
        (&["--sampler", "ddim", "--steps", "1000"], "steps is 1000, expected 1 to 999"),
        (&["--sampler", "euler"], "[possible values: direct, ddim, ddpm, dpm++]"),
        (&["--samples", "0"], "0 is not in 1..="),
    ] {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"segment", &good, &"--bundle", &bundle];
        arguments.extend([&"--output" as &dyn AsRef<std::ffi::OsStr>, &output]);
        arguments.extend(wrong.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>));
        let ran = ldseg(&arguments);
        assert_eq!(ran.code, Some(2), "{wrong:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{wrong:?}: {}", ran.stderr);
        assert!(!output.exists());
    }
}

#[test]
fn a_device_that_the_engine_does_not_have_is_an_error_and_not_a_fall_back() {
    let place = Place::new();
    let (good, bundle, output) = (place.path("good.png"), place.path("bundle"), place.path("out"));
    let ran = ldseg(&[&"segment", &good, &"--bundle", &bundle, &"--output", &output, &"--device", &"cuda"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("engine tract runs on device cpu only, not on cuda"), "{}", ran.stderr);
    assert!(!output.exists());
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_an_error() {
    let place = Place::new();
    let pipe = place.path("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    place.check(&pipe, "it is no regular file");
    place.check(Path::new("/dev/zero"), "it is no regular file");
    // The voxels of a header beside it.
    assert!(std::process::Command::new("mkfifo").arg(place.path("a.raw")).status().unwrap().success());
    let header = b"NDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = a.raw\n";
    place.check_file("a.mhd", header, "a.raw cannot be read: it is no regular file");
    let list = place.path("list.txt");
    assert!(std::process::Command::new("mkfifo").arg(&list).status().unwrap().success());
    place.check(&list, "the list is no regular file");
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_text_is_segmented_and_told() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = place.path("good.png").with_file_name(std::ffi::OsStr::from_bytes(b"odd\xff.png"));
    fs::copy(place.path("good.png"), &odd).unwrap();
    let (bundle, output, good) = (place.path("bundle"), place.path("out"), place.path("good.png"));
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 8] =
        [&"segment", &odd, &good, &"--bundle", &bundle, &"--output", &output, &"--json"];
    let document: serde_json::Value = serde_json::from_str(&ldseg(&arguments).ok()).unwrap();
    assert!(document["files"][0]["input"].as_str().unwrap().ends_with("odd\u{FFFD}.png"), "{document}");
    assert!(document["files"][1]["output"].as_str().unwrap().ends_with("good.png"), "{document}");
    assert_eq!(
        contents(&output).into_keys().collect::<Vec<_>>(),
        ["good.json", "good.png", "odd\u{FFFD}.json", "odd\u{FFFD}.png"]
    );
}

#[test]
fn what_a_header_asks_for_is_held_against_the_budget() {
    let place = Place::new();
    let segment = |file: &str, more: &[&str]| {
        let (bundle, output, file) = (place.path("bundle"), place.path("out"), place.path(file));
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"segment", &file, &"--bundle", &bundle];
        arguments.extend([&"--output" as &dyn AsRef<std::ffi::OsStr>, &output]);
        arguments.extend(more.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>));
        ldseg(&arguments)
    };
    // 1200 pixels of 40 x 30, and the same as frames.
    let frames = (0..5).map(|n| image::RgbImage::from_pixel(40, 30, image::Rgb([n * 9; 3]))).collect();
    ldseg_io::write_cine(&place.path("cine.gif"), frames, &[0.1; 5]).unwrap();
    for (file, more, expected) in [
        ("good.png", &["--max-pixels", "1199"][..], "expected at most 1199"),
        ("cine.gif", &["--max-pixels", "1199"], "expected at most 1199"),
        ("cine.gif", &["--max-frames", "4"], "has 5 frames, expected at most 4"),
    ] {
        let ran = segment(file, more);
        assert!(ran.code == Some(1) && ran.stderr.contains(expected), "{file}: {}", ran.stderr);
    }
    // A picture of 1200 x 1000 takes more than 1 MiB.
    image::GrayImage::new(1200, 1000).save(place.path("large.png")).unwrap();
    let ran = segment("large.png", &["--max-mib", "1"]);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("large.png: has size [1000, 1200], expected at most"),
        "{}",
        ran.stderr
    );
    segment("large.png", &["--max-mib", "100"]).ok();
    segment("cine.gif", &["--max-pixels", "3600", "--max-frames", "5", "--max-mib", "1"]).ok();
    let ran = ldseg(&[&"info", &place.path("good.png"), &"--max-pixels", &"1199"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("expected at most 1199"), "{}", ran.stderr);
}
