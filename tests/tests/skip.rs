//! What a test does that lacks something: it says so, in one form that can be counted, or fails where that was asked for.
//! Every skip goes through here, whichever crate's test it is of.

use std::env;
use std::io::Write;

/// What a test may lack. Its name is what `LDSEG_REQUIRE` lists, separated by commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// ONNX Runtime, which `ORT_DYLIB_PATH` names.
    Ort,
    /// Python packages; `LDSEG_PYTHON_PATH` adds a folder of them.
    Python,
    /// The folder of data sets that are not part of the repository: `LDSEG_SHARED`.
    Shared,
    /// The libraries for C and Python, which `cargo build --workspace` makes and `cargo test` does not.
    Libraries,
    /// The examples in Rust, which `cargo test` makes unless it is told one test alone.
    Examples,
    /// A program of the system: a browser, valgrind, bash 5.
    Program,
}

const NEEDS: [(Need, &str); 6] = [
    (Need::Ort, "ort"),
    (Need::Python, "python"),
    (Need::Shared, "shared"),
    (Need::Libraries, "libraries"),
    (Need::Examples, "examples"),
    (Need::Program, "program"),
];

/// Whether `LDSEG_REQUIRE` lists `need`.
///
/// # Panics
/// For a word in it that is not the name of a need: misspelt, it would require nothing.
fn required(list: &str, need: Need) -> bool {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let mut needs = words.map(|word| {
        let known = NEEDS.iter().find(|(_, name)| *name == word);
        known.unwrap_or_else(|| panic!("LDSEG_REQUIRE lists '{word}', expected of {:?}", NEEDS.map(|(_, name)| name))).0
    });
    needs.any(|required| required == need)
}

/// Says that `test` is skipped, and why, past the test harness, which holds back what passing tests print.
/// `scripts/test.sh` counts these lines by what was lacking.
///
/// # Panics
/// Where `LDSEG_REQUIRE` lists `need`.
pub fn skip(need: Need, test: &str, why: &str) {
    let name = NEEDS.iter().find(|(of, _)| *of == need).map_or("", |(_, name)| name);
    let list = env::var("LDSEG_REQUIRE").unwrap_or_default();
    assert!(!required(&list, need), "{test} would be skipped, but LDSEG_REQUIRE lists {name}: {why}");
    // In one call: tests run side by side.
    let _ = std::io::stderr().write_all(format!("SKIPPED [{name}] {test}: {why}\n").as_bytes());
}
