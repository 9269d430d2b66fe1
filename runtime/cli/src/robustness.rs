//! `ldseg robustness`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use ldseg::bundle::Bundle;
use ldseg::document::Versioned;
use ldseg::files::write_bytes;
use ldseg::segmenter::Segmenter;
use ldseg_evaluate::robustness::{Corruption, RobustnessCurves, Settings, Subject, study};
use ldseg_evaluate::scoring::read_classes;

use super::evaluate::BootstrapArgs;
use super::segment::{SamplingArgs, prepare_output};
use super::wish::WishArgs;
use super::{EngineArgs, Outcome, note, print, print_json, report};

#[derive(Debug, clap::Args)]
pub(super) struct RobustnessArgs {
    /// Folder of a bundle; may be repeated, to have several side by side
    #[arg(long, value_name = "DIR", required = true)]
    bundle: Vec<PathBuf>,
    /// Folder of images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder of reference label maps: `X_gt`, `X_anno` or `X` for the image `X`; may be the images' folder
    #[arg(long, value_name = "DIR")]
    labels: PathBuf,
    /// Folder for robustness.json, .csv, .md and robustness_cases.csv, made where it is missing
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Classes with their stored values, as `ldseg evaluate` takes them [default: labels are class indices]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Corruptions, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_parser = corruptions())]
    corruptions: Vec<Corruption>,
    /// Strengths above 0 of each corruption
    #[arg(long, default_value = "4", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    levels: usize,
    /// Seed of the corruptions
    #[arg(long, value_name = "N", default_value_t = 0)]
    corruption_seed: u64,
    #[command(flatten)]
    wish: WishArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    /// Print the results as one JSON document in place of tables
    #[arg(long)]
    json: bool,
}

pub(super) fn corruptions() -> impl TypedValueParser<Value = Corruption> {
    PossibleValuesParser::new(Corruption::ALL.map(Corruption::name)).try_map(|name| name.parse::<Corruption>())
}

pub(super) fn run(args: RobustnessArgs) -> anyhow::Result<Outcome> {
    let classes = args.classes.as_deref().map(read_classes).transpose()?;
    let engine = args.engine.options();
    let mut subjects = Vec::new();
    for folder in &args.bundle {
        let bundle = Bundle::load(folder)?;
        let options = args.sampling.options(bundle.manifest())?;
        let segmenter = Segmenter::from_bundle(&bundle, &engine)?;
        subjects.push(Subject { name: name(folder, &args.bundle), segmenter, options });
    }
    prepare_output(&args.output)?;
    let corruptions = if args.corruptions.is_empty() { Corruption::ALL.to_vec() } else { args.corruptions };
    let settings =
        Settings { corruptions, levels: args.levels, seed: args.corruption_seed, bootstrap: args.bootstrap.into() };
    let (bar, wish) = (progress_bar(), args.wish.wish());
    let classes = classes.as_deref();
    let found = study(&mut subjects, &args.images, &args.labels, classes, &wish, &settings, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    found.notes.iter().for_each(|text| note(text));
    found.failed.iter().for_each(|case| report(&case.error));
    write(&found, &args.output)?;
    if args.json {
        print_json(&found)?
    } else {
        print(&found.markdown()?)?
    }
    Ok(Outcome::from_success(found.failed.is_empty()))
}

/// The folder's own name, unless another bundle's folder has it too.
fn name(folder: &Path, all: &[PathBuf]) -> String {
    let alike = all.iter().filter(|other| other.file_name() == folder.file_name()).count();
    match folder.file_name() {
        Some(name) if alike == 1 => name.to_string_lossy().into_owned(),
        _ => folder.display().to_string(),
    }
}

fn write(found: &RobustnessCurves, output: &Path) -> anyhow::Result<()> {
    write_bytes(&output.join("robustness.json"), &serde_json::to_vec_pretty(&Versioned::new(found))?)?;
    write_bytes(&output.join("robustness.csv"), found.csv().as_bytes())?;
    write_bytes(&output.join("robustness_cases.csv"), found.cases_csv().as_bytes())?;
    write_bytes(&output.join("robustness.md"), found.markdown()?.as_bytes())?;
    Ok(())
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} images, {eta} left");
    ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
