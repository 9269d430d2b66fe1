//! `ldseg bench`.

use std::{fmt::Write, path::PathBuf};

use clap::builder::RangedU64ValueParser;
use ldseg::bench::{Benchmark, bench};

use super::{EngineArgs, Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct BenchArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Timed runs of each stage, after one untimed
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000), default_value = "10")]
    runs: usize,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BenchArgs) -> anyhow::Result<Outcome> {
    let report = bench(&args.bundle, &args.engine.options(), args.runs)?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&table(&report)?)?;
    }
    Ok(Outcome::Done)
}

fn table(report: &Benchmark) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        "{} with {} on {}, {} threads, {} steps, {} runs\n",
        report.bundle, report.engine, report.device, report.threads, report.steps, report.runs
    );
    writeln!(text, "{:<15}{:>12}{:>12}{:>12}", "", "median ms", "min ms", "max ms")?;
    writeln!(text, "{:<15}{:>12.2}", "load", 1e3 * report.load_seconds)?;
    for stage in &report.stages {
        let [median, min, max] = [stage.median_seconds, stage.min_seconds, stage.max_seconds].map(|s| 1e3 * s);
        writeln!(text, "{:<15}{median:>12.2}{min:>12.2}{max:>12.2}", stage.name)?;
    }
    if let Some(bytes) = report.peak_memory_bytes {
        writeln!(text, "{:<15}{:>9.0} MiB", "peak memory", bytes as f64 / f64::from(1 << 20))?;
    }
    Ok(text)
}
