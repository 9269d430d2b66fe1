//! What a run tells: a progress bar, `metrics.csv`, TensorBoard events and a line per epoch.

#![expect(clippy::print_stderr, reason = "training says how it goes")]

use std::fs::{self, File, OpenOptions};
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
    trace: Option<Trace>,
    epoch_start: Instant,
    waited: Duration,
    samples: usize,
}

/// The losses of every step, as CSV.
struct Trace {
    path: PathBuf,
    file: File,
    start: Instant,
}

impl Trace {
    fn create(path: &Path) -> Result<Self> {
        let mut file = File::create(path).map_err(|e| io(path, e))?;
        writeln!(file, "step,loss,cross_entropy,dice_loss,diffusion,seconds").map_err(|e| io(path, e))?;
        Ok(Self { path: path.to_path_buf(), file, start: Instant::now() })
    }

    /// `seconds` is when the loss was read, which on a GPU is done for several steps at a time.
    fn row(&mut self, step: usize, losses: &[f64]) -> Result<()> {
        let mut row = format!("{step}");
        losses.iter().for_each(|loss| row += &format!(",{loss:.8}"));
        writeln!(self.file, "{row},{:.4}", self.start.elapsed().as_secs_f64()).map_err(|e| io(&self.path, e))
    }
}

fn io(path: &Path, e: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Io, "cannot be written", e).in_file(path)
}

impl Progress {
    /// Opens the reports of the run in `run`, which goes on after `step`; later rows of `metrics.csv` are dropped.
    ///
    /// `trace` is a CSV file that gets a row a step.
    pub(crate) fn new(
        run: &Path,
        recipe: &Recipe,
        step: usize,
        per_epoch: usize,
        epochs: usize,
        trace: Option<&Path>,
    ) -> Result<Self> {
        let classes: Vec<String> =
            recipe.classes[1..].iter().map(|class| class.name.replace([',', '"'], " ")).collect();
        let csv = run.join("metrics.csv");
        keep_rows(&csv, &header(&classes), step)?;
        let bar = ProgressBar::new((per_epoch * epochs) as u64).with_position(step as u64);
        let style = "{bar:30} step {pos}/{len} {msg} [{elapsed_precise} < {eta_precise}]";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        // The estimate counts from here, not from step 0 of an earlier process.
        bar.reset_eta();
        let events = EventWriter::create(&run.join("tensorboard"), step as u64 + 1)?;
        let trace = trace.map(Trace::create).transpose()?;
        let (epoch_start, waited) = (Instant::now(), Duration::ZERO);
        Ok(Self { bar, csv, events, classes, trace, epoch_start, waited, samples: 0 })
    }

    /// Counts time that a step spent waiting for its data.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// The losses of one step, total first, are known.
    pub(crate) fn step(&mut self, step: usize, losses: &[f64], samples: usize) -> Result<()> {
        self.samples += samples;
        self.bar.set_message(format!("loss {:.4}, {:.1} images/s", losses[0], self.rate()));
        self.bar.inc(1);
        self.trace.as_mut().map_or(Ok(()), |trace| trace.row(step, losses))
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

/// Writes the header, and of an older file the rows up to `step`.
fn keep_rows(path: &Path, header: &str, step: usize) -> Result<()> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let of = |row: &str| row.split(',').nth(1).and_then(|step| step.parse::<usize>().ok());
    let kept = old.lines().skip(1).filter(|row| of(row).is_some_and(|of| of <= step));
    let kept: String = kept.map(|row| format!("{row}\n")).collect();
    write_bytes(path, format!("{header}{kept}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_after_the_checkpoint_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        fs::write(&path, "epoch,step,loss\n1,10,0.5\n2,20,0.4\n3,27,0.3\n4,37,0.2").unwrap();
        // Steps an epoch may have changed with the data, so epochs are not counted.
        keep_rows(&path, "epoch,step,loss\n", 27).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "epoch,step,loss\n1,10,0.5\n2,20,0.4\n3,27,0.3\n");
    }
}
