//! Completions and manual pages, as shells and groff take them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Need, contents, ldseg, skip};

/// Whether the program can be run at all.
fn is_there(program: &str, test: &str) -> bool {
    let there = Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    if !there {
        skip(Need::Program, test, &format!("{program} is not installed"));
    }
    there
}

/// The long options that `--help` of these subcommands lists.
fn options(subcommands: &[&str]) -> BTreeSet<String> {
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = subcommands.iter().map(|word| word as _).collect();
    arguments.push(&"--help");
    let help = ldseg(&arguments).ok();
    let options = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let long = line.strip_prefix("--").or_else(|| line.split_once(", --").map(|(_, long)| long));
        long.filter(|_| line.starts_with('-')).and_then(|long| long.split([' ', '[']).next())
    });
    options.map(|option| format!("--{option}")).collect()
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    if !is_there("bash", "completions in bash") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let script = temp.path().join("ldseg.bash");
    fs::write(&script, ldseg(&[&"completions", &"bash"]).ok()).unwrap();
    // What bash does when the tab key is hit after `words`, the last of which is being written.
    let complete = |words: &[&str]| -> BTreeSet<String> {
        let set = "set -eu; source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); \
             _ldseg ldseg \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let output =
            Command::new("bash").args(["-c", set, "bash"]).arg(&script).args(words).stdin(Stdio::null()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    let is = |words: &[&str], expected: &[&str]| {
        assert_eq!(complete(words), expected.iter().map(|word| (*word).to_owned()).collect(), "{words:?}");
    };
    is(&["ldseg", "seg"], &["segment"]);
    is(&["ldseg", "segment", "--bun"], &["--bundle"]);
    is(&["ldseg", "segment", "--sampler", ""], &["ddim", "ddpm", "direct", "dpm++"]);
    is(&["ldseg", "completions", "z"], &["zsh"]);
    let all = complete(&["ldseg", "segment", "--"]);
    assert_eq!(all, options(&["segment"]), "not the options of --help");
}

#[test]
fn every_shell_gets_a_script_of_its_own_and_others_are_wrong_usage() {
    let scripts = ["bash", "elvish", "fish", "powershell", "zsh"].map(|shell| {
        let script = ldseg(&[&"completions", &shell]).ok();
        assert!(script.contains("ldseg") && script.contains("crop-sector"), "{shell}: {script}");
        script
    });
    assert_eq!(scripts.iter().collect::<BTreeSet<_>>().len(), 5);
    let wrong = ldseg(&[&"completions", &"tcsh"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("possible values: bash"), "{}", wrong.stderr);
}

#[test]
fn manual_pages_have_every_option() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("new/man1");
    assert_eq!(ldseg(&[&"man", &"--output", &folder]).ok(), "");
    let pages = contents(&folder);
    assert_eq!(ldseg(&[&"man"]).ok().trim_end().as_bytes(), pages["ldseg.1"].trim_ascii_end());
    let mut with_options = 0;
    for (name, page) in &pages {
        let words: Vec<&str> = name.strip_suffix(".1").unwrap().split('-').skip(1).collect();
        let page = String::from_utf8(page.clone()).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
        let options = options(&words);
        // A hyphen in a page is `\-`: it is not to be broken or drawn as a dash.
        for option in &options {
            assert!(page.contains(&option.replace('-', "\\-")), "{name} lacks {option}");
        }
        with_options += usize::from(options.len() > 3);
    }
    assert!(with_options >= 5, "{:?}", pages.keys());
    for subcommand in ["segment", "stream", "verify", "bench", "info", "evaluate", "measure", "robustness", "report"] {
        assert!(pages.contains_key(&format!("ldseg-{subcommand}.1")), "{subcommand}: {:?}", pages.keys());
    }

    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    let ran = ldseg(&[&"man", &"--output", &file]);
    assert!(ran.code == Some(1) && ran.stderr.contains("file: cannot be made"), "{}", ran.stderr);

    if !is_there("groff", "manual pages with groff") {
        return;
    }
    for (name, page) in &pages {
        let mut groff = Command::new("groff");
        let mut groff = groff.args(["-man", "-Tutf8", "-ww"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        groff = groff.stderr(Stdio::piped());
        let mut child = groff.spawn().unwrap();
        child.stdin.take().unwrap().write_all(page).unwrap();
        let output = child.wait_with_output().unwrap();
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{name}: {warnings}");
        assert!(!output.stdout.is_empty(), "{name}");
    }
}
