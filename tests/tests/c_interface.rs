//! The C interface, as a C program sees it: the header, and programs built with the system's compiler.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use ldseg::engine::{EngineKind, EngineOptions};
use ldseg::image::{Image, Labels};
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg_recording::heart::LeftHeart;

use crate::support::{MODELS, Need, engines, example_frame, fixture, library, skip};

/// The folder of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a program with the static library in it needs of the system, by `rustc --print native-static-libs`. One of tract's
/// assembled kernels does not say that it can do without an executable stack, so the linker has to be told.
const SYSTEM_LIBRARIES: &[&str] = if cfg!(target_os = "macos") {
    &["-framework", "Security", "-framework", "CoreFoundation", "-liconv", "-lm"]
} else {
    &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-Wl,-z,noexecstack"]
};

#[test]
fn the_header_is_the_one_that_the_source_gives() {
    let folder = &Path::new(ROOT).join("runtime/c");
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let sources = ["status", "frame", "session", "lib"].map(|name| folder.join(format!("src/{name}.rs")));
    let builder =
        sources.iter().fold(cbindgen::Builder::new().with_config(config), |builder, source| builder.with_src(source));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let path = folder.join("include/ldseg.h");
    if env::var_os("LDSEG_WRITE_HEADER").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let made = String::from_utf8(made).unwrap();
    assert!(
        fs::read_to_string(&path).is_ok_and(|header| header == made),
        "{} is not what the source gives; with LDSEG_WRITE_HEADER=1 this test writes it:\n{made}",
        path.display()
    );
}

/// `cc`, or what CC names.
fn compile(source: &str, program: &Path, libraries: &[OsString]) {
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g", "-pthread"];
    let output = Command::new(compiler)
        .args(flags)
        .arg(format!("-I{ROOT}/runtime/c/include"))
        .arg(format!("{ROOT}/{source}"))
        .arg("-o")
        .arg(program)
        .args(libraries)
        .arg("-lm")
        .output()
        .expect("a C compiler is there, as Rust links with it");
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The program of a source of this repository with the static and with the shared library. `None`, said aloud, where the libraries aren't there.
pub fn programs(test: &str, source: &str, folder: &Path) -> Option<[PathBuf; 2]> {
    let library = library(test, "libldseg_c.a")?;
    let beside = library.parent().unwrap();
    let mut all: Vec<OsString> = vec![library.clone().into()];
    all.extend(SYSTEM_LIBRARIES.iter().map(OsString::from));
    let shared = [format!("-L{}", beside.display()), "-lldseg_c".into(), format!("-Wl,-rpath,{}", beside.display())];
    let programs = ["static", "shared"].map(|name| folder.join(name));
    compile(source, &programs[0], &all);
    compile(source, &programs[1], &shared.map(OsString::from));
    Some(programs)
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {:?}\n{stdout}{stderr}", output.status);
    output
}

/// The program under valgrind, where that is installed: an access out of bounds, a value never set or a leak ends it
/// with an exit code of its own.
fn valgrind(program: &Path, test: &str) -> Option<Command> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip(Need::Program, &format!("{test} under valgrind"), "it is not installed");
        return None;
    }
    let mut command = Command::new("valgrind");
    // A thread pool's threads live as long as the process, so what is theirs is only possibly lost.
    command.args(["--quiet", "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]);
    // Waiting threads spin, and would keep the one that works from its turn.
    command.args(["--error-exitcode=99", "--fair-sched=try"]).arg(program);
    Some(command)
}

/// What the examples in C and Python print, and their label map, as the Rust library has them.
pub fn expected(bundle: &Path, image: &Image) -> (String, Labels) {
    let mut segmenter = Segmenter::load(bundle, &EngineOptions::default()).unwrap();
    let result = segmenter.segment(image, &SegmentOptions::defaults(segmenter.manifest())).unwrap();
    let classes = &segmenter.manifest().classes;
    let mut text = String::new();
    for (index, class) in classes.iter().enumerate() {
        let count = result.labels.iter().filter(|label| usize::from(**label) == index).count();
        let [r, g, b] = class.colour;
        writeln!(text, "{} (#{r:02x}{g:02x}{b:02x}): {count} pixels", class.name).unwrap();
    }
    let sum: f64 = result.uncertainty.iter().map(|&value| f64::from(value)).sum();
    writeln!(text, "mean uncertainty: {:.6}", sum / result.uncertainty.len() as f64).unwrap();
    let heart = LeftHeart::of(segmenter.manifest());
    let measured = heart.map(|heart| heart.measure(&result.labels, Some([0.5; 2])).unwrap()).unwrap_or_default();
    for (name, found) in [("left ventricle", measured.left_ventricle), ("left atrium", measured.left_atrium)] {
        let Some(found) = found else { continue };
        let (area, length, volume) = (found.area_cm2, found.long_axis_mm, found.volume_ml);
        writeln!(text, "{name}: {area:.3} cm2, long axis {length:.3} mm, volume {volume:.3} ml").unwrap();
    }
    (text, result.labels)
}

/// A bundle that takes milliseconds.
fn tiny_bundle(folder: &Path) -> PathBuf {
    let bundle = folder.join("bundle");
    fixture("echo", &bundle);
    bundle
}

#[test]
fn the_example_gives_what_the_rust_library_gives() {
    let temp = tempfile::tempdir().unwrap();
    let Some(programs) = programs("the C example", "examples/segment.c", temp.path()) else { return };
    let (input, output) = (temp.path().join("frame.pgm"), temp.path().join("labels.pgm"));
    let (image, pixels) = example_frame(Some([0.5; 2]));
    let header = format!("P5\n{} {}\n255\n", image.data.shape()[2], image.data.shape()[1]);
    fs::write(&input, [header.as_bytes(), &pixels].concat()).unwrap();

    let check = |command: &mut Command, bundle: &Path| {
        let (text, labels) = expected(bundle, &image);
        let labels: Vec<u8> = labels.iter().copied().collect();
        let ran = run(command.arg(bundle).arg(&input).arg(&output).arg("0.5"));
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), text);
        assert!(fs::read(&output).unwrap() == [header.as_bytes(), &labels].concat(), "the label maps differ");
        fs::remove_file(&output).unwrap();
        text
    };
    for program in &programs {
        let text = check(&mut Command::new(program), &Path::new(MODELS).join("echo"));
        assert!(text.contains("left ventricle: "), "{text}");
    }
    // valgrind's processor has other vector instructions: the last digits are its own.
    if let Some(mut command) = valgrind(&programs[0], "the C example") {
        run(command.arg(tiny_bundle(temp.path())).arg(&input).arg(&output).arg("0.5"));
    }
}

#[test]
fn every_call_from_c_does_what_the_header_says() {
    let temp = tempfile::tempdir().unwrap();
    let Some(programs) = programs("the C interface", "runtime/c/tests/check.c", temp.path()) else { return };
    let bundle = tiny_bundle(temp.path());
    for engine in engines("the C interface") {
        for program in &programs {
            run(Command::new(program).arg(&bundle).arg(engine.name()));
        }
    }
    if let Some(mut command) = valgrind(&programs[0], "the C interface") {
        run(command.arg(&bundle).arg(EngineKind::Tract.name()));
    }
}
