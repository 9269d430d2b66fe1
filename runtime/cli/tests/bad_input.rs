//! Whatever is wrong with an input, `ldseg` says what and where, fails, and still does all the rest.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Crc;
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
