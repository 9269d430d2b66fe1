//! `ldseg verify`.

use std::{fmt::Write, path::PathBuf};

use ldseg::bundle::Bundle;
use ldseg::verify::{Verification, verify};

use super::{EngineArgs, Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: VerifyArgs) -> anyhow::Result<Outcome> {
    let report = verify(&Bundle::load(&args.bundle)?, &args.engine.options())?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&table(&report)?)?;
    }
    Ok(Outcome::from_success(report.passed))
}

fn table(report: &Verification) -> Result<String, std::fmt::Error> {
    let mut text = format!("{} with {} on {}\n", report.bundle, report.engine, report.device);
    for check in &report.checks {
        // Agreement is a part of one, differences are small numbers.
        let (value, bound) = match check.name {
            "labels" => (format!("{:.3} %", 100.0 * check.value), format!("at least {} %", 100.0 * check.tolerance)),
            _ => (format!("{:.2e}", check.value), format!("at most {:e}", check.tolerance)),
        };
        let verdict = if check.passed { "ok" } else { "FAILED" };
        writeln!(text, "{:<15}{:<24}{value:>11}   {bound:<17}{verdict}", check.name, check.measure)?;
    }
    Ok(text)
}
