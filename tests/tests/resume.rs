//! A run that is stopped or killed, whenever that may be, ends where the unbroken run does; and one that starts where
//! another ended.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::AdamWConfig;
use burn::tensor::{Device, Tensor};
use ldseg_trainer::model::Networks;
use ldseg_trainer::recipe::Recipe;
use ldseg_trainer::train::RECIPE_FILE;
use ldseg_trainer::train::checkpoint::{Checkpoints, State, Which, load_networks};

use crate::support::{TINY, TINY_REFERENCE, contents, finish, fit, note, train};

/// Kills of one run, unless `LDSEG_KILLS` says otherwise.
const KILLS: u32 = 4;
/// Checkpoints in next to no time: half of the kills hit one that is being written.
const RUN: [&str; 5] = [
    "validation=1",
    "training.epochs=4",
    "training.repeats=5",
    "training.batch_size=2",
    "training.checkpoint_minutes=0.0002",
];
const PATIENCE: Duration = Duration::from_secs(120);

/// What one training run is started with, again and again.
struct Training {
    folder: tempfile::TempDir,
    settings: Vec<&'static str>,
}

impl Training {
    fn new(settings: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        train(&[&"phantom", &"echo", &"--count", &"4", &"--seed", &"3", &"--output", &folder.path().join("data")]).ok();
        Self { folder, settings: [&RUN[..], settings].concat() }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same command starts the run and goes on with it.
    fn command(&self, name: &str) -> Command {
        fit("echo", &self.folder.path().join("data"), &self.run(name), &self.settings)
    }

    fn start(&self, name: &str) -> Child {
        self.command(name).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

#[test]
#[cfg(unix)]
fn a_run_that_is_stopped_by_ctrl_c_saves_and_goes_on_as_if_unbroken() {
    // Dropout, batch normalisation and noise in the augmentation all have to go on where they were.
    let training = Training::new(&[&TINY_REFERENCE[..], &["network.input_size=[64, 64]"]].concat());
    finish(training.command("unbroken"));

    let child = training.start("stopped");
    let first_checkpoint = training.run("stopped").join("checkpoints/last");
    let start = Instant::now();
    while !first_checkpoint.exists() {
        assert!(start.elapsed() < PATIENCE, "no checkpoint for {PATIENCE:?}");
        sleep(Duration::from_millis(1));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("stopped, and saved"), "{stderr}");
    let stopped = check_checkpoints(&training.run("stopped")).unwrap();

    finish(training.command("stopped"));
    let finished = check_checkpoints(&training.run("stopped")).unwrap();
    assert!(0 < stopped && stopped < finished, "stopped after {stopped} of {finished} steps");
    assert_equal_runs(&training.run("unbroken"), &training.run("stopped"));
}

#[test]
fn a_run_that_is_killed_at_random_moments_never_loses_a_checkpoint_and_ends_as_if_unbroken() {
    let training = Training::new(&[&TINY[..], &["network.input_size=[32, 32]"]].concat());
    let start = Instant::now();
    finish(training.command("unbroken"));
    let duration = start.elapsed();

    let kills = env::var("LDSEG_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = Random(seed);
    let mut told = format!("killing a training run {kills} times, random seed {seed}:");
    let mut killed = 0;
    while killed < kills {
        let mut child = training.start("killed");
        let moment = duration.mul_f64(random.next() * (0.2 + 1.2 / f64::from(kills)));
        sleep(moment);
        if child.try_wait().unwrap().is_some() {
            // Too late: the run had ended.
            fs::remove_dir_all(training.run("killed")).unwrap();
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        let step = check_checkpoints(&training.run("killed"));
        let step = step.map_or("no checkpoint yet".into(), |step| format!("step {step} saved"));
        told += &format!(" {:.2} s ({step}),", moment.as_secs_f64());
    }
    finish(training.command("killed"));
    note(&format!("{told} of {:.2} s unbroken", duration.as_secs_f64()));
    assert_equal_runs(&training.run("unbroken"), &training.run("killed"));
}

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let training = Training::new(&[&TINY[..], &["network.input_size=[32, 32]", "training.epochs=1"]].concat());
    finish(training.command("first"));
    let start = format!("training.start_from={}", training.run("first").display());
    let further = |name: &str, settings: &[&str]| {
        let mut command = training.command(name);
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        command
    };

    // So slow that nothing is learned anew.
    finish(further("second", &[&start, "training.learning_rate=1e-12", "training.weight_decay=0"]));
    let [first, second] = ["first", "second"].map(|name| load(&training.run(name), Which::Best).unwrap().1);
    let [_, Weights(average)] = first;
    for Weights(weights) in second {
        assert!(weights.iter().zip(&average).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    assert!(average.iter().any(|weight| weight.abs() > 1e-3));

    // The same from its bundle.
    let bundle = training.folder.path().join("bundle");
    train(&[&"export", &training.run("first"), &"--output", &bundle]).ok();
    let start_bundle = format!("training.start_from={}", bundle.display());
    finish(further("third", &[&start_bundle, "training.learning_rate=1e-12", "training.weight_decay=0"]));
    for Weights(weights) in load(&training.run("third"), Which::Best).unwrap().1 {
        assert!(weights.iter().zip(&average).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    let missing = format!("training.start_from={}", training.run("none").display());
    let refused = [
        (&missing, "network.channels=1", "neither a bundle nor a run"),
        (&start, "network.latent_channels=3", "average.bpk"),
        (&start_bundle, "network.latent_channels=3", "denoiser.onnx"),
        (&start_bundle, "network.separable=true", ".onnx"),
    ];
    for (start, network, expected) in refused {
        let output = further("refused", &[start, network]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(expected), "{stderr}");
    }
    // None of these left a run behind that would be in the way of the corrected command.
    finish(further("refused", &[&start]));
    assert!(!training.run("none").exists());
}

/// Numbers in [0, 1) (splitmix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as f64 / 2f64.powi(64)
    }
}

/// The weights of a checkpoint, in their order.
#[derive(Default, PartialEq)]
struct Weights(Vec<f32>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.extend(param.val().into_data().try_to_vec::<f32>().unwrap());
    }
}

/// State, networks and their average.
fn load(run: &Path, which: Which) -> Option<(State, [Weights; 2])> {
    if !run.join("checkpoints").exists() {
        return None;
    }
    let (dir, state) = Checkpoints::open(run).unwrap().find(which).unwrap()?;
    let config = Recipe::load(&run.join(RECIPE_FILE), &[]).unwrap().network();
    let weights = ["networks.bpk", "average.bpk"].map(|file| {
        let networks = Networks::<4>::new(&config, &Device::default());
        let mut weights = Weights::default();
        load_networks(networks, &dir.join(file)).unwrap().visit(&mut weights);
        weights
    });
    AdamWConfig::new().init().load(dir.join("optimiser.bpk")).unwrap();
    Some((state, weights))
}

/// Reads all that the checkpoints hold. The step of the last one, where there is one.
fn check_checkpoints(run: &Path) -> Option<usize> {
    load(run, Which::Best);
    load(run, Which::Last).map(|(state, _)| state.step)
}

/// Bit by bit, but for what speaks of time.
fn assert_equal_runs(a: &Path, b: &Path) {
    for which in [Which::Last, Which::Best] {
        let ((state_a, weights_a), (state_b, weights_b)) = (load(a, which).unwrap(), load(b, which).unwrap());
        assert_eq!(format!("{state_a:?}"), format!("{state_b:?}"));
        assert!(weights_a == weights_b, "the weights of {which:?} differ");
        let name = format!("{which:?}").to_lowercase();
        let [onnx_a, onnx_b] = [a, b].map(|run| {
            let bundle = run.join(&name);
            train(&[&"export", &run, &"--output", &bundle, &"--checkpoint", &name]).ok();
            contents(&bundle).into_iter().filter(|(name, _)| name.ends_with(".onnx")).collect::<Vec<_>>()
        });
        assert!(onnx_a.len() == 4 && onnx_a == onnx_b, "the exported networks of {which:?} differ");
    }
    let [metrics_a, metrics_b] = [a, b].map(|run| {
        let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
        text.lines().map(|row| row.rsplitn(3, ',').last().unwrap().to_string()).collect::<Vec<_>>()
    });
    assert_eq!(metrics_a, metrics_b);
}
