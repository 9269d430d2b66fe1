//! `ldseg report`.

use std::path::PathBuf;

use ldseg::files::write_bytes;
use ldseg_evaluate::report::{Images, Sources, report};
use ldseg_evaluate::scoring::read_classes;

use super::wish::WishArgs;
use super::{EngineArgs, Outcome, print};

#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Run folder of `ldseg-train fit`
    run: Option<PathBuf>,
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Folder of the evaluation's images, for pictures of the best, the median and the worst
    #[arg(long, value_name = "DIR", requires_all = ["labels", "evaluation"])]
    images: Option<PathBuf>,
    /// Folder of their reference label maps
    #[arg(long, value_name = "DIR", requires = "images")]
    labels: Option<PathBuf>,
    /// Classes with their stored values, as `ldseg evaluate` takes them [default: labels are class indices]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// What `ldseg evaluate` wrote
    #[arg(long, value_name = "JSON")]
    evaluation: Option<PathBuf>,
    /// What `ldseg robustness` wrote
    #[arg(long, value_name = "JSON")]
    robustness: Option<PathBuf>,
    /// What `ldseg bench --json` printed
    #[arg(long, value_name = "JSON")]
    benchmark: Option<PathBuf>,
    /// The report, one HTML file
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    wish: WishArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: ReportArgs) -> anyhow::Result<Outcome> {
    let classes = args.classes.as_deref().map(read_classes).transpose()?;
    let wish = args.wish.wish();
    let images = args.images.zip(args.labels).map(|(images, labels)| Images { images, labels, classes, wish });
    let sources = Sources {
        run: args.run,
        bundle: args.bundle,
        images,
        evaluation: args.evaluation,
        robustness: args.robustness,
        benchmark: args.benchmark,
    };
    write_bytes(&args.output, report(&sources, &args.engine.options())?.as_bytes())?;
    print(&args.output.display().to_string())?;
    Ok(Outcome::Done)
}
