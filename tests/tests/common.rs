//! What the tests of the command and those of the whole project share: `ldseg` to run, the fixtures, what may be lacking, and
//! messages that are seen even where all goes well.

#[path = "skip.rs"]
mod skip;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

pub use skip::{Need, skip};

/// The folder of the repository. Packages that share this file lie at different depths.
fn root() -> &'static Path {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.find(|folder| folder.join("Cargo.lock").is_file()).unwrap()
}

/// Arguments of a command, paths and words mixed.
pub type Arguments<'a> = [&'a dyn AsRef<OsStr>];

/// The command or library `name` that was built beside this test.
pub fn built(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there. cargo builds it for `cargo test --workspace`, and not for `-p ldseg-tests` \
         alone",
        path.display()
    );
    path
}

/// The command `name`, built beside this test.
pub fn command(name: &str, arguments: &Arguments) -> Command {
    let mut command = Command::new(built(&format!("{name}{}", env::consts::EXE_SUFFIX)));
    command.args(arguments.iter().map(AsRef::as_ref)).stdin(Stdio::null());
    command
}

/// How a command ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn new(name: &str, arguments: &Arguments) -> Self {
        let output = command(name, arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    /// What it wrote to standard output; it must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}

/// Runs `ldseg` to its end.
pub fn ldseg(arguments: &Arguments) -> Ran {
    Ran::new("ldseg", arguments)
}

/// Says something on standard error that the test harness does not hold back.
pub fn note(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    root().join(path)
}

/// Starts Python 3 with what LDSEG_PYTHON_PATH adds to its path.
pub type Python = fn() -> Command;

/// `None`, said aloud, where Python cannot import `modules`.
pub fn python(test: &str, modules: &str) -> Option<Python> {
    let python: Python = || {
        let mut python = Command::new("python3");
        if let Some(path) = env::var_os("LDSEG_PYTHON_PATH") {
            python.env("PYTHONPATH", path);
        }
        python.stdin(Stdio::null());
        python
    };
    if python().args(["-c", &format!("import {modules}")]).output().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(Need::Python, test, &format!("python3 has not all of {modules}; scripts/test.sh fetches them"));
    None
}

/// A path in the folder of shared data: `$LDSEG_SHARED`, else `../shared` beside the workspace. `None`, said aloud, where it
/// isn't there.
pub fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let beside = || root().join("../shared");
    let path = env::var_os("LDSEG_SHARED").map_or_else(beside, PathBuf::from).join(path);
    if path.exists() {
        return Some(path);
    }
    let why = format!("{} is not there; LDSEG_SHARED names the folder of shared data", path.display());
    skip(Need::Shared, test, &why);
    None
}

/// All files of a folder by name.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Copies a fixture, a folder of `tests/fixtures`, to `folder`: the bundles `echo` (pictures of 32 x 32) and `knee` (volumes of
/// 16 x 16 x 16), which segment badly in milliseconds, and the labelled phantoms `echo-data` (two patients) and `knee-data`
/// (two label maps). `tests/tests/fixtures.rs` made them.
pub fn fixture(name: &str, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(repository("tests/fixtures").join(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}
