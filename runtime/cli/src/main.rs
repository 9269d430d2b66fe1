//! The `ldseg` command: segments images with a bundle, and checks, times and scores bundles. Results go to standard output,
//! progress and messages to standard error.

mod bench;
mod budget;
#[cfg(feature = "evaluate")]
mod evaluate;
mod info;
mod inputs;
#[cfg(feature = "docs")]
mod manual;
#[cfg(feature = "evaluate")]
mod measure;
#[cfg(feature = "report")]
mod render;
#[cfg(feature = "report")]
mod report;
#[cfg(feature = "evaluate")]
mod robustness;
mod segment;
mod stream;
mod verify;
mod wish;

use std::{
    io::{ErrorKind as IoErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    Parser, Subcommand,
    builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser},
};
use ldseg::ErrorKind;
use ldseg::document::Versioned;
use ldseg::engine::{Device, EngineKind, EngineOptions};

/// Segments medical images by diffusion in a latent space
#[derive(Debug, Parser)]
#[command(name = "ldseg", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Segment images: one label map an input, in the input's own grid
    Segment(segment::SegmentArgs),
    /// Segment frames as they come, from standard input or a folder: one JSON line a frame
    Stream(stream::StreamArgs),
    /// Replay a bundle's reference tensors: each network, and the whole loop
    Verify(verify::VerifyArgs),
    /// Time a bundle: loading, each network, and the whole loop
    Bench(bench::BenchArgs),
    /// Describe a bundle or an image file
    Info(info::InfoArgs),
    /// Score label maps against references: overlap, distances, objects; with averages and intervals
    #[cfg(feature = "evaluate")]
    Evaluate(evaluate::EvaluateArgs),
    /// Volumes and ejection fraction from label maps of echocardiograms, of one view or, biplane, of two
    #[cfg(feature = "evaluate")]
    Measure(measure::MeasureArgs),
    /// Dice against the strength of noise and other corruptions, for one bundle or several
    #[cfg(feature = "evaluate")]
    Robustness(robustness::RobustnessArgs),
    /// Draw figures of what a bundle does with an image, as PNG or animated GIF
    #[cfg(feature = "report")]
    #[command(subcommand)]
    Render(render::RenderCommand),
    /// Write a report of a bundle as one HTML file: training, scores, pictures, robustness, calibration and times
    #[cfg(feature = "report")]
    Report(report::ReportArgs),
    /// Print the script that completes this command in a shell
    #[cfg(feature = "docs")]
    Completions(manual::CompletionsArgs),
    /// Print this command's manual page, or write those of all subcommands
    #[cfg(feature = "docs")]
    Man(manual::ManArgs),
}

/// What runs the networks.
#[derive(Debug, Clone, clap::Args)]
struct EngineArgs {
    /// Engine that runs the networks [default: the first one built in]
    #[arg(long, value_parser = engines())]
    engine: Option<EngineKind>,
    /// Device; all but cpu need engine ort and an ONNX Runtime built with it
    #[arg(long, value_parser = devices(), default_value = Device::Cpu.name())]
    device: Device,
    /// CPU threads [default: all]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=EngineOptions::MAX_THREADS as u64))]
    threads: Option<usize>,
    /// ONNX Runtime's library [default: ORT_DYLIB_PATH, else the one beside this executable]
    #[arg(long, value_name = "PATH")]
    ort_library: Option<PathBuf>,
}

impl EngineArgs {
    fn options(self) -> EngineOptions {
        let default = EngineOptions::default();
        EngineOptions {
            engine: self.engine.unwrap_or(default.engine),
            device: self.device,
            threads: self.threads.unwrap_or(default.threads),
            ort_library: self.ort_library,
        }
    }
}

fn engines() -> impl TypedValueParser<Value = EngineKind> {
    PossibleValuesParser::new(EngineKind::ALL.map(EngineKind::name)).try_map(|name| name.parse::<EngineKind>())
}

fn devices() -> impl TypedValueParser<Value = Device> {
    PossibleValuesParser::new(Device::ALL.map(Device::name)).try_map(|name| name.parse::<Device>())
}

/// Height and width of a pixel in mm, as an option gives it: one number or two.
#[cfg(feature = "evaluate")]
fn pixel_size(numbers: &[f64], option: &str) -> ldseg::Result<Option<[f64; 2]>> {
    let size = match *numbers {
        [] => return Ok(None),
        [both] => [both; 2],
        [height, width] => [height, width],
        _ => {
            let message = format!("{option} has {} numbers, expected the height and width of a pixel", numbers.len());
            return Err(ldseg::Error::new(ErrorKind::Setting, message));
        }
    };
    if size.iter().any(|mm| !(mm.is_finite() && *mm > 0.0)) {
        return Err(ldseg::Error::new(ErrorKind::Setting, format!("{option} is {size:?}, expected positive numbers")));
    }
    Ok(Some(size))
}

/// How a command that could start ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was done.
    Done,
    /// Something failed, and was reported.
    SomeFailed,
}

impl Outcome {
    fn from_success(success: bool) -> Self {
        if success { Self::Done } else { Self::SomeFailed }
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::FAILURE,
        Err(error) => {
            report(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Runs the command.
fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Segment(args) => segment::run(args),
        Command::Stream(args) => stream::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Info(args) => info::run(args),
        #[cfg(feature = "evaluate")]
        Command::Evaluate(args) => evaluate::run(args),
        #[cfg(feature = "evaluate")]
        Command::Measure(args) => measure::run(args),
        #[cfg(feature = "evaluate")]
        Command::Robustness(args) => robustness::run(args),
        #[cfg(feature = "report")]
        Command::Render(command) => render::run(command),
        #[cfg(feature = "report")]
        Command::Report(args) => report::run(args),
        #[cfg(feature = "docs")]
        Command::Completions(args) => {
            print(&args.script(command_line()))?;
            Ok(Outcome::Done)
        }
        #[cfg(feature = "docs")]
        Command::Man(args) => {
            if let Some(page) = args.page(command_line())? {
                print(&page)?;
            }
            Ok(Outcome::Done)
        }
    }
}

/// What the commands about the command line describe.
#[cfg(feature = "docs")]
fn command_line() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// 2 where the user asked for something impossible, 1 for anything else that fails.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ldseg::Error>().map(ldseg::Error::kind) {
        Some(ErrorKind::Setting) => 2,
        _ => 1,
    }
}

/// Writes an error to standard error. Nobody may be listening any more; that is no reason to fail.
pub(crate) fn report(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
}

/// Tells something on standard error that is no error.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Writes a result to standard output. A reader that has left, as `head` does, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    print_to_reader(text).map(drop)
}

/// The same, and tells whether there is a reader.
fn print_to_reader(text: &str) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    Ok(heard(writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()))?)
}

/// Whether what was written to standard output has a reader.
fn heard(written: std::io::Result<()>) -> std::io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == IoErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e),
    }
}

/// A path as JSON has it, which is Unicode: bytes that are no text become U+FFFD.
fn lossy<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(&Versioned::new(document))?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_told_before_anything_runs() {
        let right = "ldseg segment a.png --bundle m --output o --engine ort --device cuda --threads 2 --sampler dpm++ \
                     --steps 5 --samples 3 --seed 7 --overlay --uncertainty --json --ort-library lib.so";
        parse(right).unwrap();
        for wrong in [
            "--steps 0",
            "--samples 0",
            "--threads 0",
            "--steps -1",
            "--sampler euler",
            "--engine burn",
            "--device gpu",
            "--unknown",
        ] {
            let error = parse(&format!("ldseg segment a.png --bundle m --output o {wrong}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
        assert_eq!(parse("ldseg segment --bundle m --output o").unwrap_err().exit_code(), 2);
        assert_eq!(parse("ldseg segment a.png --bundle m").unwrap_err().exit_code(), 2);
        assert_eq!(parse("ldseg bench --bundle m --runs 0").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn settings_out_of_range_are_wrong_usage() {
        let code = |kind| exit_code(&ldseg::Error::new(kind, "x").into());
        assert_eq!((code(ErrorKind::Setting), code(ErrorKind::Io), code(ErrorKind::Bundle)), (2, 1, 1));
    }
}
