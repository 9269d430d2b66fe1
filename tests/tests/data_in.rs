//! What the trainer takes in: folds, several channels, spacing and patches, with the commands alone.

use std::fs;

use crate::support::{TINY, finish, fit, train};

/// A run of next to no time.
const BRIEF: [&str; 3] = ["training.epochs=1", "training.batch_size=2", "network.input_size=[32, 32]"];

#[test]
fn a_fold_is_part_of_the_run() {
    let temp = tempfile::tempdir().unwrap();
    let (data, run, bundle) = (temp.path().join("data"), temp.path().join("run"), temp.path().join("bundle"));
    train(&[&"phantom", &"echo", &"--count", &"4", &"--seed", &"1", &"--output", &data]).ok();
    let command = |fold: &str| {
        let mut command = fit("echo", &data, &run, &[&TINY[..], &BRIEF].concat());
        command.args(["--fold", fold]);
        command
    };
    let refused = |fold: &str| {
        let output = command(fold).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, message) = refused("3/2");
    assert!(code == Some(2) && message.contains("fold 3/2"), "{message}");
    let (code, message) = refused("1/5");
    assert!(code == Some(1) && message.contains("fold 1/5 of 4 patients"), "{message}");
    assert!(!run.join("recipe.yaml").exists(), "what cannot be split leaves no run behind");

    finish(command("2/4"));
    let split = fs::read_to_string(run.join("split.yaml")).unwrap();
    let validation = split.split("validation:\n").nth(1).unwrap();
    assert_eq!(validation.lines().count(), 1, "{split}");
    let (code, message) = refused("1/4");
    assert!(code == Some(1) && message.contains("differs from the recipe"), "{message}");
    finish(command("2/4"));
    train(&[&"export", &run, &"--output", &bundle]).ok();
    let card = fs::read_to_string(bundle.join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("seed 1, fold 2/4"), "{card}");
}
