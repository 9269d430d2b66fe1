//! What a run tells: a progress bar, `metrics.csv`, TensorBoard events and a line per epoch.

#![expect(clippy::print_stderr, reason = "training says how it goes")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ldseg::files::write_bytes;
use ldseg::metrics::nanmean;
use ldseg::{Error, ErrorKind, Result};

use super::checkpoint::State;
use crate::recipe::Recipe;
use crate::tfevents::EventWriter;

/// Reports on one run.
pub(crate) struct Progress {
    bar: ProgressBar,
    csv: PathBuf,
    events: EventWriter,
    classes: Vec<String>,
    epoch_start: Instant,
    waited: Duration,
    samples: usize,
}

fn io(path: &Path, e: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Io, "cannot be written", e).in_file(path)
}

impl Progress {
    /// Opens the reports of the run in `run`, which goes on after `step`; later rows of `metrics.csv` are dropped.
    pub(crate) fn new(run: &Path, recipe: &Recipe, step: usize, per_epoch: usize, epochs: usize) -> Result<Self> {
        let classes: Vec<String> =
            recipe.classes[1..].iter().map(|class| class.name.replace([',', '"'], " ")).collect();
        let csv = run.join("metrics.csv");
        keep_rows(&csv, &header(&classes), step / per_epoch)?;
        let bar = ProgressBar::new((per_epoch * epochs) as u64).with_position(step as u64);
        let style = "{bar:30} step {pos}/{len} {msg} [{elapsed_precise} < {eta_precise}]";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        // The estimate counts from here, not from step 0 of an earlier process.
        bar.reset_eta();
        let events = EventWriter::create(&run.join("tensorboard"), step as u64)?;
        Ok(Self { bar, csv, events, classes, epoch_start: Instant::now(), waited: Duration::ZERO, samples: 0 })
    }

    /// Counts time that a step spent waiting for its data.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// One step is done.
    pub(crate) fn step(&mut self, loss: f64, samples: usize) {
        self.samples += samples;
        self.bar.set_message(format!("loss {loss:.4}, {:.1} images/s", self.rate()));
        self.bar.inc(1);
    }

    fn rate(&self) -> f64 {
        self.samples as f64 / self.epoch_start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Says what the run is doing besides stepping.
    pub(crate) fn message(&self, text: &'static str) {
        self.bar.set_message(text);
    }

    /// An epoch is done: `losses` are total, cross-entropy, Dice and diffusion; the state's Dice coefficients are empty
    /// if it was not validated.
    pub(crate) fn epoch(&mut self, epoch: usize, rate: f64, losses: [f64; 4], state: &State) -> Result<()> {
        let (step, dice) = (state.step, &state.dice);
        let waiting = self.waited.as_secs_f64() / self.epoch_start.elapsed().as_secs_f64().max(1e-9);
        let speed = self.rate();
        let mean = if dice.is_empty() { f64::NAN } else { nanmean(dice) };
        let mut row = format!("{epoch},{step},{rate:.6e}");
        let named = |name: &str| format!("loss/{name}");
        let mut scalars: Vec<(String, f64)> =
            ["total", "cross_entropy", "dice", "diffusion"].map(named).into_iter().zip(losses).collect();
        scalars.push(("learning_rate".into(), rate));
        scalars.push(("images_per_second".into(), speed));
        losses.iter().for_each(|loss| row += &format!(",{loss:.6}"));
        let numbers = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.6}") };
        row += &format!(",{}", numbers(mean));
        for (tag, dice) in [("validation_dice", dice), ("autoencoder_dice", &state.autoencoder_dice)] {
            for (index, class) in self.classes.iter().enumerate() {
                let value = dice.get(index).copied().unwrap_or(f64::NAN);
                row += &format!(",{}", numbers(value));
                scalars.push((format!("{tag}/{class}"), value));
            }
        }
        scalars.push(("validation_dice/mean".into(), mean));
        row += &format!(",{speed:.2},{waiting:.4}\n");
        let mut file = OpenOptions::new().append(true).open(&self.csv).map_err(|e| io(&self.csv, e))?;
        file.write_all(row.as_bytes()).map_err(|e| io(&self.csv, e))?;
        for (tag, value) in scalars.iter().filter(|(_, value)| value.is_finite()) {
            self.events.scalar(tag, step as u64, *value as f32)?;
        }
        self.bar.suspend(|| {
            let dice = match dice.is_empty() {
                true => String::new(),
                false => {
                    format!(", validation Dice {mean:.4} {dice:.3?} (autoencoder alone {:.3?})", state.autoencoder_dice)
                }
            };
            eprintln!(
                "epoch {epoch}: loss {:.4}{dice}, {speed:.1} images/s, waited {:.1} %",
                losses[0],
                waiting * 100.0
            );
        });
        (self.epoch_start, self.waited, self.samples) = (Instant::now(), Duration::ZERO, 0);
        Ok(())
    }

    /// The run is done.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn header(classes: &[String]) -> String {
    let mut header = String::from("epoch,step,learning_rate,loss,cross_entropy,dice_loss,diffusion,validation_dice");
    for what in ["dice", "autoencoder dice"] {
        classes.iter().for_each(|class| header += &format!(",{what} {class}"));
    }
    header + ",images_per_second,waiting_for_data\n"
}

/// Writes the header, and of an older file the rows of the first `epochs` epochs.
fn keep_rows(path: &Path, header: &str, epochs: usize) -> Result<()> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let kept: String = old.lines().skip(1).take(epochs).map(|row| format!("{row}\n")).collect();
    write_bytes(path, format!("{header}{kept}").as_bytes())
}
