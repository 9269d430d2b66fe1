//! `scripts/gpu.sh`, rehearsed on the CPU, and what it takes for a failure.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{Need, built, repository, skip};

/// The script and its interpreter; `None`, said aloud, where they cannot run.
fn script(test: &str) -> Option<Command> {
    for (program, arguments) in [("bash", ["-c", "((BASH_VERSINFO[0] >= 5))"]), ("python3", ["-c", "import json"])] {
        let runs = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
        if !runs {
            skip(Need::Program, test, &format!("there is no {program} that can run scripts/gpu.sh"));
            return None;
        }
    }
    let mut script = Command::new("bash");
    script.arg(repository("scripts/gpu.sh")).stdin(Stdio::null());
    Some(script)
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The lines of a table that hold all of `words`.
fn lines<'a>(table: &'a str, words: &[&str]) -> Vec<&'a str> {
    table.lines().filter(|line| line.starts_with("| ") && words.iter().all(|word| line.contains(word))).collect()
}

fn bin() -> PathBuf {
    built(&format!("ldseg-train{}", env::consts::EXE_SUFFIX)).parent().unwrap().to_path_buf()
}

#[test]
fn all_that_a_gpu_is_asked_for_runs_on_the_cpu() {
    let test = "the rehearsal of scripts/gpu.sh";
    let Some(mut script) = script(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    script.args(["train", "engines", "bench", "quality", "--device", "cpu", "--small", "--wait", "60", "--bin"]);
    script.arg(bin()).arg("--work").arg(folder.path());
    // torch takes longer to import than all else takes to run: its part is left out.
    script.env("PYTHON", "python3").env("PYTHONPATH", folder.path());
    fs::write(folder.path().join("torch.py"), "raise ImportError").unwrap();
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));

    let results = folder.path().join("results");
    let table = fs::read_to_string(results.join("table.md")).unwrap();
    assert_eq!(lines(&table, &["| train |", "first 6 losses", "| ok |"]).len(), 1, "{table}");
    assert_eq!(lines(&table, &["| train |", "echo, batch 4: samples/s |"]).len(), 1, "{table}");
    assert_eq!(lines(&table, &["| train |", "PyTorch", "left out"]).len(), 1, "{table}");
    assert_eq!(lines(&table, &["| quality |", "epochs finished", "| 2 |"]).len(), 1, "{table}");
    let mut engines = vec!["tract cpu"];
    if env::var_os("ORT_DYLIB_PATH").is_some() {
        engines.push("ort cpu");
        assert_eq!(lines(&table, &["labels of the example", "tract cpu", "| ok |"]).len(), 1, "{table}");
    } else {
        skip(Need::Ort, &format!("{test}, with ONNX Runtime"), "ORT_DYLIB_PATH is not set; scripts/test.sh sets it");
    }
    for engine in engines {
        // Four networks, probabilities, two networks in a batch, and labels, of two bundles.
        assert_eq!(lines(&table, &["| engines |", "difference", engine, "| ok |"]).len(), 14, "{table}");
        assert_eq!(lines(&table, &["| engines |", "part equal", engine, "| ok |"]).len(), 2, "{table}");
        assert_eq!(lines(&table, &["| bench |", "whole_loop", engine]).len(), 2, "{table}");
    }
    for file in ["logs.tar.gz", "quality.tar.gz.00"] {
        assert!(fs::metadata(results.join(file)).unwrap().len() > 1000, "{file}");
    }
}

/// What `gpu_rows.py` says of a file or two.
fn rows(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let mut python = Command::new("python3");
    python.arg(repository("scripts/gpu_rows.py")).args(arguments.iter().map(AsRef::as_ref));
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn losses_that_part_are_a_failure() {
    if script("what scripts/gpu_rows.py takes for a failure").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = |name: &str, factor: f64| {
        let path = folder.path().join(name);
        let step = |step: u32| {
            let loss = 4.0 - 0.1 * f64::from(step);
            // On a GPU, the losses of several steps are read at once.
            let seconds = 5.0 + 2.0 * f64::from(step / 16);
            format!("{step},{},0,0,0,{seconds:.4}\n", if step == 19 { loss * factor } else { loss })
        };
        let body: String = (0..64).map(step).collect();
        fs::write(&path, format!("step,loss,cross_entropy,dice_loss,diffusion,seconds\n{body}")).unwrap();
        path
    };
    let (reference, near, far) = (trace("reference", 1.0), trace("near", 1.0005), trace("far", 0.998));
    let verdict = |other: &Path, steps: &str| {
        rows(&[&"losses", &"echo", &"cuda", &reference, &other, &steps])
            .trim_end()
            .rsplit('\t')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(verdict(&near, "20"), "ok");
    assert_eq!(verdict(&far, "20"), "FAILED");
    assert_eq!(verdict(&far, "19"), "ok");
    assert_eq!(verdict(&near, "65"), "FAILED");

    // 16 steps of 8 samples in 2 seconds.
    let log = folder.path().join("log");
    fs::write(&log, "epoch 1: loss 2.8, 6.9 images/s, waited 0.6 %\n").unwrap();
    let found = rows(&[&"rate", &"echo", &"cuda", &reference, &"8", &log]);
    let values: Vec<&str> = found.lines().map(|line| line.split('\t').nth(3).unwrap()).collect();
    assert_eq!(values, ["64.0", "5.0", "0.6 %"]);
}
