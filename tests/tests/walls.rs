//! The walls between the crates: who may depend on whom, and what no part of the runtime may bring along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

use crate::support::repository;

/// Each crate of the workspace with the others that it may depend on. A dependency the other way round is impossible.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("ldseg", &[]),
    ("ldseg-io", &["ldseg"]),
    ("ldseg-recording", &["ldseg", "ldseg-io"]),
    ("ldseg-evaluate", &["ldseg", "ldseg-io", "ldseg-recording"]),
    ("ldseg-cli", &["ldseg", "ldseg-io", "ldseg-recording", "ldseg-evaluate"]),
    ("ldseg-c", &["ldseg", "ldseg-recording"]),
    ("ldseg-python", &["ldseg", "ldseg-recording"]),
    ("ldseg-trainer", &["ldseg", "ldseg-io", "ldseg-recording", "ldseg-evaluate"]),
];

/// Crates that a part of the runtime does not bring along, whatever its features.
const FOREIGN: [(&str, &[&str]); 6] = [
    ("ldseg", &["image", "png", "gif", "nifti", "dicom-object", "jpeg-decoder", "flate2", "clap", "burn"]),
    ("ldseg-io", &["clap", "tract-onnx", "ort", "burn"]),
    ("ldseg-recording", &["clap", "tract-onnx", "ort", "burn"]),
    ("ldseg-evaluate", &["clap", "tract-onnx", "ort", "burn"]),
    ("ldseg-c", IN_MEMORY),
    ("ldseg-python", IN_MEMORY),
];

/// What a caller with pixels in memory does not need.
const IN_MEMORY: &[&str] =
    &["ldseg-io", "image", "png", "gif", "nifti", "dicom-object", "jpeg-decoder", "flate2", "clap", "burn"];

/// The modules of core: each uses those before it alone.
const CORE: &[&str] = &[
    "error",
    "names",
    "sum",
    "threads",
    "components",
    "files",
    "document",
    "queue",
    "image",
    "metrics",
    "uncertainty",
    "diffusion",
    "windows",
    "preprocess",
    "calibration",
    "spec",
    "onnx",
    "engine",
    "bundle",
    "budget",
    "segmenter",
    "frames",
    "verify",
    "bench",
];

fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(repository("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn crates_depend_downwards_only() {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline", "--locked"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let members: BTreeMap<&str, &Value> =
        packages.iter().map(|package| (package["name"].as_str().unwrap(), package)).collect();
    for (name, allowed) in ALLOWED {
        let dependencies = members[name]["dependencies"].as_array().unwrap();
        let of_workspace =
            dependencies.iter().map(|of| of["name"].as_str().unwrap()).filter(|of| members.contains_key(of));
        for dependency in of_workspace {
            assert!(allowed.contains(&dependency), "{name} depends on {dependency}, expected at most {allowed:?}");
        }
    }
    let without_rule: Vec<_> =
        members.keys().filter(|name| **name != "ldseg-tests" && !ALLOWED.iter().any(|(of, _)| of == *name)).collect();
    assert!(without_rule.is_empty(), "{without_rule:?} have no rule here");
}

#[test]
fn no_crate_brings_along_what_its_room_does_not_hold() {
    for (name, foreign) in FOREIGN {
        let tree = cargo(&[
            "tree",
            "--offline",
            "--locked",
            "-p",
            name,
            "-e",
            "normal",
            "--all-features",
            "--target",
            "all",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ]);
        // The interfaces in C and Python are built without files, and recording without that feature has no codec.
        let brought: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        for one in foreign {
            assert!(!brought.contains(one), "{name} brings {one} along");
        }
    }
}

/// The Rust files below a folder, but for those of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            all.push(path);
        }
    }
    all
}

/// The modules that a `lib.rs` declares.
fn modules(source: &str) -> Vec<String> {
    let declared = source.lines().filter_map(|line| {
        let name = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')?;
        Some(name.to_owned())
    });
    declared.collect()
}

#[test]
fn modules_of_core_use_those_below_them_only() {
    let root = repository("runtime/core/src");
    let place = |name: &str| {
        CORE.iter().position(|module| *module == name).unwrap_or_else(|| panic!("{name} has no place in the order"))
    };
    for module in modules(&fs::read_to_string(root.join("lib.rs")).unwrap()) {
        place(&module);
    }
    let mut seen = 0;
    for path in sources(&root) {
        let inner = path.strip_prefix(&root).unwrap();
        let own = inner.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if own == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        // Tests may use anything, and so may links in documentation.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                assert!(!(used.starts_with('{') && used.contains("::")), "{}: a line for each module", inner.display());
                // What begins with a capital letter, a list or a macro of this crate comes from its root.
                if name.is_empty() || used[name.len()..].starts_with(['!', '(']) {
                    continue;
                }
                seen += 1;
                assert!(place(&name) <= place(own), "{}: {own} uses {name}, which is above it", inner.display());
            }
        }
    }
    assert!(seen > 30, "{seen} uses of modules");
}

#[test]
fn the_code_map_names_every_module() {
    let map = fs::read_to_string(repository("ARCHITECTURE.md")).unwrap();
    let sections = [
        ("**`runtime/core/`**", "runtime/core"),
        ("**`runtime/io/`**", "runtime/io"),
        ("**`runtime/recording/`**", "runtime/recording"),
        ("**`runtime/evaluate/`**", "runtime/evaluate"),
        ("**`runtime/c/`**", "runtime/c"),
        ("**`trainer/`**", "trainer"),
    ];
    for (title, folder) in sections {
        let section = map.split(title).nth(1).unwrap_or_else(|| panic!("the map has no section {title}"));
        let section = section.split("\n**`").next().unwrap();
        let declared = modules(&fs::read_to_string(repository(folder).join("src/lib.rs")).unwrap());
        assert!(declared.len() > 2, "{folder}: {declared:?}");
        for module in declared.iter().filter(|module| *module != "error") {
            let named = [format!("`{module}.rs`"), format!("`{module}/`")].iter().any(|name| section.contains(name));
            assert!(named, "ARCHITECTURE.md does not say what {folder}/src/{module} holds");
        }
    }
}
