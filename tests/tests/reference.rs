//! The published networks, imported from the release's own files, against what TensorFlow computes for them.
//!
//! Prints one table in 2-D and one in 3-D, as Markdown. The data is no part of the repository.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use flate2::read::GzDecoder;
use ldseg::Tensor;
use ldseg::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER, LABEL_ENCODER};
use ldseg::diffusion::standardise_per_sample;
use ldseg::engine::{EngineOptions, Network};
use ldseg::image::Labels;
use ldseg::metrics::dice_per_class;
use ldseg::segmenter::argmax;
use ldseg_trainer::engine::BurnNetwork;
use ldseg_trainer::keras::Release;
use ldseg_trainer::model::Networks;
use ndarray::{Axis, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::published::PublishedSteps;
use crate::support::{Need, command, engines, note, shared, skip, train};

/// Greatest difference of a network's output from TensorFlow's over the output's standard deviation, and their mean.
const TOLERANCE: [f64; 2] = [1e-3, 1e-4];
/// The same for the 3-D image encoder. TensorFlow's group normalisation adds up the 4.2 million numbers of a group one after
/// the other in f32 there, which makes its variance wrong by 1.3 %; with such sums an independent implementation comes
/// within 5e-6 of it (`scripts/experiments/tensorflow-sums.py`). Our networks sum in stages and stay near the exact
/// result.
const TENSORFLOWS_ROUNDING: [f64; 2] = [2e-2, 2e-3];
/// Smallest part of pixels with TensorFlow's label.
const LABEL_AGREEMENT: f64 = 0.9999;
/// Timesteps that the denoiser was called at.
const TIMESTEPS: [usize; 5] = [0, 1, 250, 500, 999];
/// T.
const LAST: usize = 1000;
/// Most memory that segmenting an image of 512 x 512 may take.
const MAX_MEMORY: u64 = 1_000_000_000;

/// What TensorFlow computed, arrays in its axis order: channels last, no batch.
struct Stored(Vec<u8>);

impl Stored {
    fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        Self(bytes)
    }

    /// Numbers and shape.
    fn numbers(&self, name: &str) -> (Vec<f64>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let bytes = view.data();
        let numbers = match view.dtype() {
            Dtype::U8 => bytes.iter().map(|byte| f64::from(*byte)).collect(),
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            Dtype::F64 => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            other => panic!("{name} is {other:?}"),
        };
        (numbers, view.shape().to_vec())
    }

    fn array(&self, name: &str) -> Tensor {
        let (numbers, shape) = self.numbers(name);
        Tensor::from_shape_vec(shape, numbers.into_iter().map(|x| x as f32).collect()).unwrap()
    }

    /// As our networks have it: `[1, C, ...]`.
    fn sample(&self, name: &str) -> Tensor {
        channels_first(self.array(name)).insert_axis(Axis(0))
    }

    /// A label map or image without a channel axis, `[1, 1, ...]`.
    fn grid(&self, name: &str) -> Tensor {
        self.array(name).insert_axis(Axis(0)).insert_axis(Axis(0))
    }

    fn labels(&self, name: &str) -> Labels {
        self.array(name).mapv(|label| label as u8)
    }
}

fn channels_first(array: Tensor) -> Tensor {
    let axes = array.ndim();
    let order: Vec<usize> = [axes - 1].into_iter().chain(0..axes - 1).collect();
    array.permuted_axes(order).as_standard_layout().into_owned()
}

/// A way to run the networks of one release.
struct Engine {
    name: String,
    load: Box<dyn Fn(&'static str) -> Box<dyn Network>>,
}

/// burn, tract and, where it is to be had, ONNX Runtime.
fn all_engines<const D: usize>(networks: &Networks<D>, bundle: &Path) -> Vec<Engine> {
    let networks = networks.clone();
    let burn = move |name| Box::new(BurnNetwork::new(&networks, name, &Device::default())) as Box<dyn Network>;
    let mut all = vec![Engine { name: "burn".into(), load: Box::new(burn) }];
    for engine in engines("the published networks") {
        let bundle = Bundle::load(bundle).unwrap();
        let options = EngineOptions { engine, ..Default::default() };
        let load = move |name| bundle.load_network(name, &options).unwrap();
        all.push(Engine { name: engine.to_string(), load: Box::new(load) });
    }
    all
}

/// The outputs of the network `name` for each of `calls`, engine by engine, and the seconds of the last call.
fn run(engines: &[Engine], name: &'static str, calls: &[Vec<&Tensor>]) -> (Vec<Vec<Tensor>>, Vec<f64>) {
    let call_all = |engine: &Engine| {
        let mut network = (engine.load)(name);
        let mut seconds = 0.0;
        let outputs = calls.iter().map(|inputs| {
            let start = Instant::now();
            let output = network.run(inputs).unwrap().remove(0);
            seconds = start.elapsed().as_secs_f64();
            output
        });
        (outputs.collect(), seconds)
    };
    engines.iter().map(call_all).unzip()
}

/// What a row of the table is held to.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// To three decimals.
    Rounds(f64),
    None,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Rounds(bound) => (value - bound).abs() < 5e-4 + 1e-9,
            Self::None => true,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::AtMost(_) => format!("{value:.1e}"),
            Self::AtLeast(_) => format!("{:.4} %", 100.0 * value),
            Self::Rounds(_) => format!("{value:.4}"),
            Self::None => format!("{value:.2}"),
        }
    }
}

/// Markdown, with what is out of bounds.
#[derive(Default)]
struct Table {
    text: String,
    failed: Vec<String>,
}

impl Table {
    fn header(&mut self, first: &[&str], engines: &[Engine], last: &[&str]) {
        let names = engines.iter().map(|engine| engine.name.as_str());
        let cells: Vec<&str> = first.iter().copied().chain(names).chain(last.iter().copied()).collect();
        writeln!(self.text, "\n| {} |\n|{}", cells.join(" | "), "---|".repeat(cells.len())).unwrap();
    }

    fn row(&mut self, what: &str, values: &[f64], bound: Bound) {
        let cells: Vec<String> = values.iter().map(|value| bound.show(*value)).collect();
        let limit = match bound {
            Bound::AtMost(limit) => format!("≤ {limit:.0e}"),
            Bound::AtLeast(limit) => format!("≥ {} %", 100.0 * limit),
            Bound::Rounds(limit) => format!("{limit}"),
            Bound::None => String::new(),
        };
        writeln!(self.text, "| {what} | {} | {limit} |", cells.join(" | ")).unwrap();
        if !values.iter().all(|value| bound.holds(*value)) {
            self.failed.push(format!("{what}: {}, expected {limit}", cells.join(", ")));
        }
    }

    /// Greatest and mean difference over all calls.
    fn differences(&mut self, what: &str, outputs: &[Vec<Tensor>], expected: &[Tensor]) {
        self.differences_within(TOLERANCE, what, outputs, expected);
    }

    /// The same with other bounds.
    fn differences_within(&mut self, tolerance: [f64; 2], what: &str, outputs: &[Vec<Tensor>], expected: &[Tensor]) {
        let worst = |outputs: &Vec<Tensor>, which: usize| {
            outputs.iter().zip(expected).map(|(found, expected)| difference(found, expected)[which]).fold(0.0, f64::max)
        };
        for (which, kind) in ["max", "mean"].into_iter().enumerate() {
            let values: Vec<f64> = outputs.iter().map(|outputs| worst(outputs, which)).collect();
            self.row(&format!("{what}, {kind} difference / std"), &values, Bound::AtMost(tolerance[which]));
        }
    }

    /// Shows the table, whether or not all went well, past the harness, which shows the output of failed tests only.
    fn finish(self) {
        std::io::stdout().write_all(self.text.as_bytes()).unwrap();
        assert!(self.failed.is_empty(), "{:#?}", self.failed);
    }
}

/// Greatest and mean absolute difference over the standard deviation of `expected`.
fn difference(found: &Tensor, expected: &Tensor) -> [f64; 2] {
    assert_eq!(found.shape(), expected.shape());
    let std = f64::from(expected.std(0.0));
    assert!(std > 1e-3, "a constant would compare nothing");
    let differences = || found.iter().zip(expected).map(|(a, b)| f64::from(a - b).abs());
    [differences().fold(0.0, f64::max) / std, differences().sum::<f64>() / expected.len() as f64 / std]
}

fn equal_part(found: &Labels, expected: &Labels) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    found.iter().zip(expected).filter(|(a, b)| a == b).count() as f64 / expected.len() as f64
}

/// The class of every pixel of `[1, K, ...]`.
fn decoded(probabilities: &Tensor) -> Labels {
    argmax(&probabilities.index_axis(Axis(0), 0).to_owned())
}

/// The stored files under the names that the release gives them, and the bundle that the command makes of them.
fn import(stored: &Path, ending: &str, denoiser: &str, into: &Path) -> (PathBuf, PathBuf) {
    let (source, bundle) = (into.join("release"), into.join("bundle"));
    fs::create_dir(&source).unwrap();
    for name in ["labelEncoder", "imageEncoder", "labelDecoder"] {
        fs::copy(stored.join(format!("{name}{ending}")), source.join(format!("{name}{ending}"))).unwrap();
    }
    fs::copy(stored.join(denoiser), source.join(format!("denoiser{ending}"))).unwrap();
    train(&[&"import-keras", &"--source", &source, &"--output", &bundle]).ok();
    (source, bundle)
}

#[test]
fn the_published_2d_networks_give_tensorflows_numbers() {
    let Some(folder) = shared("the published 2-D networks", "reference/official-2d") else { return };
    let stored = Stored::read(&folder.join("io.safetensors.gz"));
    let temp = tempfile::tempdir().unwrap();
    let (source, bundle) = import(&folder, ".hdf5", "denoiser_random_2d.hdf5", temp.path());
    let networks = Release::read(&source).unwrap().networks::<4>(&Device::default()).unwrap();
    let engines = all_engines(&networks, &bundle);

    let mut table = Table::default();
    table.header(&["2-D"], &engines, &["bound"]);
    common_rows(&mut table, &engines, &stored, &stored.sample("image"));
    let probabilities = stored.sample("decoded_from_z_label");
    let (outputs, _) = run(&engines, LABEL_DECODER, &[vec![&stored.sample("z_label")]]);
    table.differences("label decoder", &outputs, std::slice::from_ref(&probabilities));
    let equal = outputs.iter().map(|outputs| equal_part(&decoded(&outputs[0]), &decoded(&probabilities)));
    table.row("labels equal", &equal.collect::<Vec<_>>(), Bound::AtLeast(LABEL_AGREEMENT));
    autoencoder_rows(&mut table, &engines, &stored, &[0.985]);
    for steps in [2, 15] {
        trajectory_rows(&mut table, &engines, &stored, steps);
    }
    table.finish();
}

#[test]
#[ignore = "takes minutes"]
fn the_published_3d_networks_give_tensorflows_numbers() {
    let Some(folder) = shared("the published 3-D networks", "reference/official-3d") else { return };
    let stored = Stored::read(&folder.join("io.safetensors.gz"));
    let temp = tempfile::tempdir().unwrap();
    let (source, bundle) = import(&folder, "3D.hdf5", "denoiser_random_3d.hdf5", temp.path());
    let networks = Release::read(&source).unwrap().networks::<5>(&Device::default()).unwrap();
    let engines = all_engines(&networks, &bundle);

    let mut table = Table::default();
    table.header(&["3-D"], &engines, &["bound"]);
    common_rows(&mut table, &engines, &stored, &(stored.grid("image_u8") / 255.0));
    let slice = channels_first(stored.array("decoded_mid_slice"));
    let (outputs, seconds) = run(&engines, LABEL_DECODER, &[vec![&stored.sample("z_label")]]);
    let middle = |volume: &Tensor| volume.index_axis(Axis(0), 0).index_axis(Axis(1), 64).to_owned();
    let slices: Vec<Vec<Tensor>> = outputs.iter().map(|outputs| vec![middle(&outputs[0])]).collect();
    table.differences("label decoder, middle slice", &slices, &[slice]);
    let expected = stored.labels("decoded_argmax");
    let equal = outputs.iter().map(|outputs| equal_part(&decoded(&outputs[0]), &expected));
    table.row("labels equal", &equal.collect::<Vec<_>>(), Bound::AtLeast(LABEL_AGREEMENT));
    table.row("label decoder, seconds", &seconds, Bound::None);
    drop(outputs);
    autoencoder_rows(&mut table, &engines, &stored, &[0.962, 0.953]);
    table.finish();
}

/// Encoders and denoiser.
fn common_rows(table: &mut Table, engines: &[Engine], stored: &Stored, image: &Tensor) {
    let (outputs, _) = run(engines, LABEL_ENCODER, &[vec![&stored.grid("label")]]);
    table.differences("label encoder", &outputs, &[stored.sample("z_label")]);
    let (outputs, seconds) = run(engines, IMAGE_ENCODER, &[vec![image]]);
    let tolerance = if image.ndim() == 5 { TENSORFLOWS_ROUNDING } else { TOLERANCE };
    table.differences_within(tolerance, "image encoder", &outputs, &[stored.sample("z_image")]);
    table.row("image encoder, seconds", &seconds, Bound::None);
    let (z_t, z_i) = (stored.sample("z_t"), stored.sample("z_image"));
    let times = TIMESTEPS.map(|t| Tensor::from_elem(IxDyn(&[1]), t as f32));
    let calls: Vec<Vec<&Tensor>> = times.iter().map(|t| vec![&z_t, &z_i, t]).collect();
    let (outputs, _) = run(engines, DENOISER, &calls);
    let expected = TIMESTEPS.map(|t| stored.sample(&format!("eps_t{t}")));
    table.differences("denoiser, 5 timesteps", &outputs, &expected);
}

/// The label map encoded and decoded again; `expected` is the Dice of each class but background.
fn autoencoder_rows(table: &mut Table, engines: &[Engine], stored: &Stored, expected: &[f64]) {
    let labels = stored.labels("label");
    let (latents, _) = run(engines, LABEL_ENCODER, &[vec![&stored.grid("label")]]);
    let dice = |(engine, latents): (&Engine, &Vec<Tensor>)| {
        let output = (engine.load)(LABEL_DECODER).run(&[&latents[0]]).unwrap().remove(0);
        dice_per_class(&decoded(&output), &labels, expected.len() + 1)
    };
    let dice: Vec<Vec<f64>> = engines.iter().zip(&latents).map(dice).collect();
    for (index, expected) in expected.iter().enumerate() {
        let values: Vec<f64> = dice.iter().map(|dice| dice[index + 1]).collect();
        table.row(&format!("autoencoder, Dice of class {}", index + 1), &values, Bound::Rounds(*expected));
    }
}

/// The release's sampler from the stored noise: schedule and every latent.
fn trajectory_rows(table: &mut Table, engines: &[Engine], stored: &Stored, count: usize) {
    let steps = PublishedSteps::new(LAST, count).unwrap();
    for (name, ours) in [("times", steps.times()), ("alpha_bar", steps.alpha_bar())] {
        let (numbers, _) = stored.numbers(&format!("ddim{count}_{name}"));
        let worst = numbers.iter().rev().zip(ours).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert_eq!(numbers.len(), count);
        assert!(worst <= 1e-12, "{name} of {count} steps: {worst:e}");
    }
    let latents = stored.array(&format!("ddim{count}_trajectory"));
    let latent = |index| channels_first(latents.index_axis(Axis(0), index).to_owned()).insert_axis(Axis(0));
    let z_i = stored.sample("z_image");
    let mut z_t = stored.sample("z_t");
    standardise_per_sample(&mut z_t);
    let mut states: Vec<_> = engines.iter().map(|engine| ((engine.load)(DENOISER), z_t.clone())).collect();
    let worst = |z: &Tensor, index| difference(z, &latent(index))[0];
    writeln!(table.text, "\nDDIM as published, {count} steps: greatest difference of the latent after each.").unwrap();
    table.header(&["t", "amplification"], engines, &["bound"]);
    for index in 0..count {
        let t = Tensor::from_elem(IxDyn(&[1]), steps.times()[index] as f32);
        for (network, z) in &mut states {
            let output = network.run(&[z, &z_i, &t]).unwrap().remove(0);
            *z = steps.step(index, z, &output);
        }
        let values: Vec<f64> = states.iter().map(|(_, z)| worst(z, index + 1)).collect();
        let what = format!("{:.1} | {:.1}", steps.times()[index], steps.amplification(index));
        table.row(&what, &values, Bound::AtMost(TOLERANCE[0]));
    }
}

/// `ldseg segment` on one 512 x 512 image with the bundle's own sampler and steps.
#[test]
fn segmenting_with_the_published_networks_takes_less_than_a_gigabyte() {
    let Some(folder) = shared("the memory of the published networks", "reference/official-2d") else { return };
    if !Path::new("/proc/self/status").is_file() {
        skip(Need::Program, "the memory of the published networks", "there is no /proc");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (_, bundle) = import(&folder, ".hdf5", "denoiser_random_2d.hdf5", temp.path());
    let stored = Stored::read(&folder.join("io.safetensors.gz"));
    let picture = temp.path().join("picture.png");
    let pixels: Vec<u8> = stored.array("image").iter().map(|x| (255.0 * x).round() as u8).collect();
    image::save_buffer(&picture, &pixels, 512, 512, image::ColorType::Rgb8).unwrap();
    for engine in engines("the memory of the published networks") {
        let output = temp.path().join(engine.name());
        let mut running = command(
            "ldseg",
            &[&"segment", &picture, &"--bundle", &bundle, &"--output", &output, &"--engine", &engine.name(), &"--json"],
        );
        let mut running = running.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let status = PathBuf::from(format!("/proc/{}/status", running.id()));
        let mut peak = 0;
        while running.try_wait().unwrap().is_none() {
            peak = peak.max(peak_memory(&status).unwrap_or(0));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut json = String::new();
        running.stdout.take().unwrap().read_to_string(&mut json).unwrap();
        serde_json::from_str::<Value>(&json).unwrap();
        assert!(output.join("picture.png").is_file());
        note(&format!("segmenting 512 x 512 with {engine} took {} MB at most", peak / 1_000_000));
        assert!(peak > 10_000_000 && peak < MAX_MEMORY, "{engine}: {peak} bytes");
    }
}

/// The most memory that the process has held, in bytes.
fn peak_memory(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| 1024 * kib)
}
