//! `ldseg evaluate`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ldseg::document::Versioned;
use ldseg::files::write_bytes;
use ldseg::{Error, ErrorKind};
use ldseg_evaluate::metrics::summary::Bootstrap;
use ldseg_evaluate::scoring::{FolderScores, ObjectChoice, Settings, SurfaceChoice, evaluate, read_classes};

use super::{Outcome, note, pixel_size, print, print_json, report};

#[derive(Debug, clap::Args)]
pub(super) struct EvaluateArgs {
    /// Folder of label maps as `ldseg segment` writes them
    #[arg(long, value_name = "DIR")]
    predictions: PathBuf,
    /// Folder of reference label maps: `X_gt`, `X_anno` or `X` for the prediction `X`; also in `labels/` or `labelsTr/`
    #[arg(long, value_name = "DIR")]
    labels: PathBuf,
    /// Classes with names and stored values: a recipe, a bundle's manifest, or a list of its own, YAML or JSON
    /// [default: every value above 0 is a class]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// JSON file for the results; CSV files are written beside it, one of the cases and one of the averages
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What distances are taken between
    #[arg(long, value_enum, default_value_t = Surface::Voxel)]
    surface: Surface,
    /// Tolerance of the surface Dice, mm
    #[arg(long, value_name = "MM", default_value_t = 1.0)]
    tolerance: f64,
    /// Also compare objects as in the GlaS challenge
    #[arg(long, value_enum)]
    objects: Option<ObjectsKind>,
    /// Height and width of a pixel in mm, of pictures [default: what their files tell]
    #[arg(long, value_name = "MM,MM", value_delimiter = ',', num_args = 1)]
    spacing: Vec<f64>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    /// Print the results as one JSON document in place of a table
    #[arg(long)]
    json: bool,
}

/// How intervals are drawn.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct BootstrapArgs {
    /// Bootstrap samples for the 95 % intervals
    #[arg(long, value_name = "N", default_value_t = Bootstrap::default().resamples)]
    resamples: usize,
    /// Seed of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 0)]
    bootstrap_seed: u64,
}

impl From<BootstrapArgs> for Bootstrap {
    fn from(args: BootstrapArgs) -> Self {
        Self { resamples: args.resamples, seed: args.bootstrap_seed }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Surface {
    /// Centres of border voxels, as medpy
    Voxel,
    /// Marching cubes' surface weighted by area, as DeepMind's surface-distance
    Surfel,
    /// Both, the latter as *_surfel_mm
    Both,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ObjectsKind {
    /// Connected components of each class
    Components,
    /// Stored values are instance ids; a binary mask falls into its connected components
    Instances,
}

pub(super) fn run(args: EvaluateArgs) -> anyhow::Result<Outcome> {
    let settings = settings(&args)?;
    // Told before the work is done, not after it.
    beside(&args.output, "")?;
    let classes = args.classes.as_deref().map(read_classes).transpose()?;
    let found = evaluate(&args.predictions, &args.labels, classes.as_deref(), &settings)?;
    found.failed.iter().for_each(|case| report(&case.error));
    write(&found, &args.output)?;
    found.left_out.iter().for_each(|text| note(text));
    if found.without_prediction > 0 {
        note(&format!("{} label maps have no prediction", found.without_prediction));
    }
    if found.without_spacing() > 0 {
        note(&format!(
            "the spacing of {} cases is not known: they have no measure in mm or ml; --spacing tells that of pictures \
             (1,1 counts in pixels)",
            found.without_spacing()
        ));
    }
    for (text, count, first) in found.notes() {
        note(&format!("{text} ({count} cases, the first is {first})"));
    }
    if args.json {
        print_json(&found)?
    } else {
        print(&found.table()?)?
    }
    Ok(Outcome::from_success(found.failed.is_empty()))
}

fn settings(args: &EvaluateArgs) -> ldseg::Result<Settings> {
    Ok(Settings {
        surface: match args.surface {
            Surface::Voxel => SurfaceChoice::Voxel,
            Surface::Surfel => SurfaceChoice::Surfel,
            Surface::Both => SurfaceChoice::Both,
        },
        tolerance_mm: args.tolerance,
        objects: args.objects.map(|objects| match objects {
            ObjectsKind::Components => ObjectChoice::Components,
            ObjectsKind::Instances => ObjectChoice::Instances,
        }),
        picture_spacing_mm: pixel_size(&args.spacing, "--spacing")?,
        bootstrap: args.bootstrap.into(),
    })
}

fn write(found: &FolderScores, output: &Path) -> anyhow::Result<()> {
    write_bytes(output, &serde_json::to_vec_pretty(&Versioned::new(found))?)?;
    write_bytes(&beside(output, "")?, found.cases_csv().as_bytes())?;
    if let Some(text) = found.sampling_csv() {
        write_bytes(&beside(output, "_sampling")?, text.as_bytes())?;
    }
    write_bytes(&beside(output, "_summary")?, found.summary_csv().as_bytes())?;
    Ok(())
}

/// The CSV file beside `metrics.json`: `metrics.csv` or, with a suffix, `metrics_summary.csv`.
fn beside(output: &Path, suffix: &str) -> ldseg::Result<PathBuf> {
    let is_csv = output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    match output.file_stem() {
        Some(stem) if !is_csv => Ok(output.with_file_name(format!("{}{suffix}.csv", stem.to_string_lossy()))),
        _ => Err(Error::new(ErrorKind::Setting, "is no name for a JSON file").in_file(output)),
    }
}
