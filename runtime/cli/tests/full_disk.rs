//! Disks that are full, standard output that is, and what earlier runs left half done: no broken file has a final name.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use image::{Rgb, RgbImage};

use crate::support::{Need, built, contents, fixture, ldseg, skip};

/// A bundle, two pictures and a cine, which together have every kind of output but DICOM.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fixture("echo", &folder.path().join("bundle"));
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    let picture = |n: u32| RgbImage::from_fn(40, 30, |x, y| Rgb([(n * 50 + x * y) as u8; 3]));
    (0..2).for_each(|n| picture(n).save(images.join(format!("a{n}.png"))).unwrap());
    ldseg_io::write_cine(&images.join("b.gif"), (0..3).map(picture).collect(), &[0.1; 3]).unwrap();
    folder
}

const ASKED: [&str; 5] = ["--json", "--overlay", "--uncertainty", "--keep-samples", "--skip-done"];

/// `ldseg segment` of all images, by way of `shell`, which ends with `exec "$@"`.
fn segment(folder: &Path, output: &Path, shell: &str) -> (Option<i32>, String) {
    let mut command = Command::new("sh");
    command.args(["-c", shell, "sh"]).arg(built("ldseg")).arg("segment").arg(folder.join("images"));
    command.arg("--bundle").arg(folder.join("bundle")).arg("--output").arg(output).args(ASKED);
    let ran = command.stdin(Stdio::null()).output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

/// Every file under a final name is whole; how many there are.
fn check(output: &Path, whose: &str) -> usize {
    let files = if output.is_dir() { contents(output) } else { Default::default() };
    for (name, bytes) in &files {
        assert!(!name.starts_with('.'), "{whose}: {name} is left behind");
        match name.ends_with(".json") {
            true => drop(serde_json::from_slice::<serde_json::Value>(bytes).unwrap()),
            false => ldseg_io::check_whole(&output.join(name)).unwrap_or_else(|e| panic!("{whose}: {e}")),
        }
    }
    files.len()
}

/// Of 3 inputs: label map, overlay, uncertainty, samples, probabilities, numbers.
const ALL: usize = 18;

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_grow_is_an_error_and_not_a_broken_output() {
    let folder = place();
    let mut failed = 0;
    // In units of 512 bytes, or of 1024 where `sh` is bash.
    for most in [0, 1, 2, 3, 4, 8, 1000] {
        let output = folder.path().join(format!("out{most}"));
        let (code, errors) = segment(folder.path(), &output, &format!("trap '' XFSZ; ulimit -f {most}; exec \"$@\""));
        let files = check(&output, &format!("{most} blocks"));
        assert_eq!(code == Some(0), files == ALL, "{most} blocks: {files} files, {errors}");
        if code != Some(0) {
            failed += 1;
            assert!(errors.contains("cannot be written: File too large"), "{errors}");
            assert!(errors.contains("out") && errors.contains("error: "), "{errors}");
        }
        // What is missing is made in another run.
        let (code, errors) = segment(folder.path(), &output, "exec \"$@\"");
        assert_eq!((code, check(&output, "again")), (Some(0), ALL), "{errors}");
    }
    assert!((3..7).contains(&failed), "{failed} of 7 sizes were too small");
}

#[cfg(target_os = "linux")]
#[test]
fn a_small_disk_is_an_error_and_not_a_broken_output() {
    let test = "a_small_disk_is_an_error_and_not_a_broken_output";
    let folder = place();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    for size in [8, 16, 24, 4096] {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}k"), "none"]).arg(&disk);
        if !mount.output().is_ok_and(|ran| ran.status.success()) {
            return skip(Need::Program, test, "mount makes a small disk as root alone");
        }
        let output = disk.join("out");
        let (code, errors) = segment(folder.path(), &output, "exec \"$@\"");
        let files = std::panic::catch_unwind(|| check(&output, &format!("{size} KiB")));
        let unmounted = Command::new("umount").arg(&disk).status().unwrap();
        assert!(unmounted.success());
        let files = files.unwrap();
        assert_eq!(
            (code == Some(0), size == 4096),
            (files == ALL, files == ALL),
            "{size} KiB: {files} files, {errors}"
        );
        assert!(code == Some(0) || errors.contains("No space left on device"), "{errors}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_is_full_is_an_error() {
    let folder = place();
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let mut command = Command::new(built("ldseg"));
    command.arg("segment").arg(folder.path().join("images")).arg("--bundle").arg(folder.path().join("bundle"));
    let ran = command.arg("--output").arg(folder.path().join("out")).arg("--json").stdout(full()).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("No space left on device"));
}

#[test]
fn outputs_that_are_not_whole_are_made_again() {
    let folder = place();
    let output = folder.path().join("out");
    let (images, bundle) = (folder.path().join("images"), folder.path().join("bundle"));
    let run = || {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"segment", &images, &"--bundle", &bundle, &"--output", &output];
        arguments.extend(ASKED.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>));
        ldseg(&arguments)
    };
    run().ok();
    let whole = contents(&output);
    let ran = run();
    assert!(!ran.stderr.contains("written anew"), "{}", ran.stderr);
    for (name, length) in
        [("a0.png", 0), ("a1.json", 40), ("b.nii.gz", 60), ("b_overlay.gif", 200), ("a1_overlay.png", 90)]
    {
        fs::write(output.join(name), &whole[name][..length]).unwrap();
    }
    let ran = run();
    assert_eq!(ran.code, Some(0));
    let told: Vec<_> = ran.stderr.lines().filter(|line| line.contains("it is written anew")).collect();
    assert_eq!(told.len(), 3, "one for each input, with the first output that is not whole: {}", ran.stderr);
    assert!(told[0].contains("a0.png: is not a readable PNG"), "{}", told[0]);
    let again = contents(&output);
    for (name, bytes) in whole.iter().filter(|(name, _)| !name.ends_with(".json")) {
        assert!(again[name] == *bytes, "{name}");
    }
}
