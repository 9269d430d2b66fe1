//! The walls between the crates: who may depend on whom, and what no part of the runtime may bring along.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

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
    ("ldseg-c", &["image", "nifti", "dicom-object", "clap", "burn"]),
    ("ldseg-python", &["image", "nifti", "dicom-object", "clap", "burn"]),
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
