//! Runs that are stopped, resumed, damaged or started twice.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Place, Ran, copy};

const PATIENCE: Duration = Duration::from_secs(120);
/// So many epochs that a test can come in between.
const LONG: [&str; 2] = ["--set", "training.epochs=100000"];

/// Signals that whoever runs the tests ignores, as `nohup` does, would be ignored by the command too.
fn start(place: &Place, more: &[&str]) -> Child {
    let wanted = place.command(&[&["fit", "recipe.yaml", "--data", "data", "--output", "run"], more].concat());
    let mut command = Command::new("env");
    #[cfg(target_os = "linux")]
    command.arg("--default-signal=HUP,INT,TERM");
    command.arg(wanted.get_program()).args(wanted.get_args()).current_dir(place.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < PATIENCE, "no {} for {PATIENCE:?}", path.display());
        sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The side of each case, as the run has it.
fn validation(place: &Place) -> String {
    let text = fs::read_to_string(place.path("run/split.yaml")).unwrap();
    text.split_once("validation:\n").unwrap().1.to_owned()
}

#[test]
fn the_split_of_a_run_holds_when_the_data_change() {
    let place = Place::new(8);
    place.fit(&[]).ok();
    let before = validation(&place);
    let kept: Vec<usize> = (0..8).filter(|number| !before.contains(&format!("c{number:02}"))).collect();

    // More epochs are another recipe, so the finished run has nothing left to do: what it says of its data is looked at.
    place.add(8);
    place.add(9);
    for folder in ["data/images", "data/labels"] {
        fs::remove_file(place.path(folder).join(format!("c{:02}.png", kept[0]))).unwrap();
    }
    let ran = place.fit(&["--resume"]).ok();
    ran.says(&format!("note: 1 cases that this run learned from are gone: c{:02}", kept[0]));
    ran.says("note: 2 cases are new since this run was started, and are left out: its split holds: c08; c09");
    ran.says("loading 5 training and 2 validation cases");
    ran.does_not_say("the next one that is validated takes its place");
    assert_eq!(validation(&place), before);

    // A list of patients that by now puts one patient on both sides.
    let rows: String = (0..10).map(|number| format!("c{number:02},p\n")).collect();
    fs::write(place.path("data/patient_ids.csv"), format!("name,patient\n{rows}")).unwrap();
    place
        .fit(&["--resume"])
        .fails(2, "are of one patient, `p`, but this run validates on one and learns from the other");
}

#[test]
fn the_best_of_other_validation_cases_is_forgotten() {
    let place = Place::new(8);
    // A first validation after the first epoch, stopped after it.
    let child = start(&place, &LONG);
    wait_for(&place.path("run/checkpoints/best"));
    signal(&child, "-INT");
    Ran::of(child.wait_with_output().unwrap()).fails(3, "stopped, and saved");
    let name = validation(&place).lines().next().unwrap().trim_matches(['-', ' ', '"']).to_owned();
    let path = place.path(&format!("data/labels/{name}.png"));
    let mut labels = image::open(&path).unwrap().into_luma8();
    labels.put_pixel(0, 0, image::Luma([1]));
    labels.save(&path).unwrap();

    let best = || {
        let pointer = fs::read_to_string(place.path("run/checkpoints/best")).unwrap_or_default();
        pointer.split(' ').next().unwrap_or_default().to_owned()
    };
    let earlier = best();
    let child = start(&place, &[&LONG[..], &["--resume"]].concat());
    let begun = Instant::now();
    while best() == earlier {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(2));
    }
    signal(&child, "-INT");
    let ran = Ran::of(child.wait_with_output().unwrap());
    ran.fails(3, &format!("note: 1 cases that this run validates on were changed since it was started: {name}"));
    ran.says("note: the validation cases are not those on which the best checkpoint so far had a Dice of");
}

#[test]
fn termination_and_hangup_save_as_ctrl_c_does() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let place = Place::new(6);
        let child = start(&place, &LONG);
        wait_for(&place.path("run/checkpoints/last"));
        signal(&child, name);
        Ran::of(child.wait_with_output().unwrap())
            .fails(3, "stopped, and saved: the same command with --resume goes on");
        // It goes on, and stops again.
        let child = start(&place, &[&LONG[..], &["--resume"]].concat());
        // Long enough for it to listen.
        sleep(Duration::from_secs(2));
        signal(&child, name);
        Ran::of(child.wait_with_output().unwrap()).fails(3, "going on after step");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_hangup_that_is_to_be_ignored_is_ignored() {
    let place = Place::new(6);
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_ldseg-train")).current_dir(place.path(""));
    command.args(["fit", "recipe.yaml", "--data", "data", "--output", "run"]).args(LONG);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&place.path("run/checkpoints/last"));
    signal(&child, "-HUP");
    sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
    signal(&child, "-TERM");
    Ran::of(child.wait_with_output().unwrap()).fails(3, "stopped, and saved");
}

#[test]
fn a_second_process_in_one_run_folder_is_refused() {
    let place = Place::new(6);
    let child = start(&place, &LONG);
    wait_for(&place.path("run/checkpoints/last"));
    for _ in 0..3 {
        place.fit(&[&LONG[..], &["--resume"]].concat()).fails(1, "run: another process trains in this folder");
    }
    signal(&child, "-KILL");
    child.wait_with_output().unwrap();
    // The lock went with the process, and the rows of the epochs are those of one.
    let child = start(&place, &[&LONG[..], &["--resume"]].concat());
    sleep(Duration::from_secs(2));
    signal(&child, "-TERM");
    Ran::of(child.wait_with_output().unwrap()).fails(3, "going on after step");
    let metrics = fs::read_to_string(place.path("run/metrics.csv")).unwrap();
    let epochs: Vec<usize> =
        metrics.lines().skip(1).map(|row| row.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(epochs, (1..=epochs.len()).collect::<Vec<_>>());
}

#[test]
fn a_mistyped_folder_is_no_run_to_go_on_with() {
    let place = Place::new(6);
    place.fit(&["--resume"]).fails(2, "run: holds no run to go on with: expected a folder with recipe.yaml");
    assert!(!place.path("run").exists());
    place.fit(&[]).ok();
    place.fit(&[]).fails(2, "run: holds a run already; give --resume");
    place.fit(&["--resume", "--set", "training.epochs=3"]).fails(2, "differs from the recipe and settings given");
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_and_a_missing_last_too() {
    let place = Place::new(8);
    place.fit(&[]).ok();
    copy(&place.path("run"), &place.path("whole"));
    let pointer = |name: &str| {
        let text = fs::read_to_string(place.path("run/checkpoints").join(name)).unwrap();
        text.split_whitespace().next().unwrap().to_owned()
    };
    let (last, previous) = (pointer("last"), pointer("previous"));
    assert_ne!(last, previous);
    let steps = |name: &str| name["step-".len()..].split('.').next().unwrap().parse::<usize>().unwrap();
    for file in ["networks.bpk", "average.bpk", "optimiser.bpk", "state.yaml", "SHA256SUMS"] {
        let path = place.path("run/checkpoints").join(&last).join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
        let exported = place.run(&["export", "run", "--output", "bundle", "--checkpoint", "last"]);
        exported.fails(1, &format!("{file}: was altered"));
        assert!(!place.path("bundle").exists());
        let ran = place.fit(&["--resume"]).ok();
        ran.says(&format!("{file}: was altered"));
        ran.says("an older checkpoint is taken\n");
        ran.says(&format!("going on after step {}", steps(&previous)));
        // It has come to the end once more, as if nothing had been.
        let metrics = |run: &str| {
            let text = fs::read_to_string(place.path(run).join("metrics.csv")).unwrap();
            text.lines().map(|row| row.rsplitn(3, ',').last().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(metrics("run"), metrics("whole"));
        fs::remove_dir_all(place.path("run")).unwrap();
        copy(&place.path("whole"), &place.path("run"));
    }
    fs::remove_file(place.path("run/checkpoints/last")).unwrap();
    fs::remove_file(place.path("run/checkpoints/previous")).unwrap();
    place.fit(&["--resume"]).ok().says(&format!("going on after step {}", steps(&pointer("best"))));
}

#[test]
fn no_damaged_checkpoint_is_exported() {
    let place = Place::new(6);
    place.fit(&["--set", "training.epochs=1"]).ok();
    let name = fs::read_to_string(place.path("run/checkpoints/best")).unwrap();
    let dir = place.path("run/checkpoints").join(name.split_whitespace().next().unwrap());
    for file in ["networks.bpk", "average.bpk", "optimiser.bpk", "state.yaml", "SHA256SUMS"] {
        let path = dir.join(file);
        let whole = fs::read(&path).unwrap();
        for part in 0..8 {
            let mut bytes = whole.clone();
            let at = part * (whole.len() - 1) / 7;
            bytes[at] ^= 1 << part;
            fs::write(&path, &bytes).unwrap();
            place.run(&["export", "run", "--output", "bundle"]).fails(1, "SHA256SUMS");
            fs::write(&path, &whole[..at]).unwrap();
            place.run(&["export", "run", "--output", "bundle"]).fails(1, file);
        }
        fs::write(&path, &whole).unwrap();
    }
    place.run(&["export", "run", "--output", "bundle"]).ok();
}

#[test]
fn what_no_machine_could_do_is_wrong_usage() {
    let place = Place::new(6);
    for setting in
        ["network.input_size=[100000, 100000]", "training.batch_size=1000000000", "network.widths=[8, 99999999]"]
    {
        place.fit(&["--set", setting]).fails(2, "recipe.yaml: ");
        assert!(!place.path("run").exists());
    }
}
