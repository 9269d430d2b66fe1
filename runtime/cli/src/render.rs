//! `ldseg render`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use ldseg::bundle::{Bundle, Manifest};
use ldseg::image::{Image, Region};
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg::{Error, ErrorKind, Result};
use ldseg_evaluate::render::{Cut, Figure, Level, Study, View, diffusion, robustness};
use ldseg_evaluate::robustness::Corruption;
use ldseg_evaluate::scoring::{labels_of, read_classes};
use ldseg_io::case_name;
use ldseg_recording::{Prepared, Wish};

use super::robustness::corruptions;
use super::segment::SamplingArgs;
use super::wish::{Hints, WishArgs};
use super::{EngineArgs, Outcome, note, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum RenderCommand {
    /// The latent on its way from noise to a segmentation: one frame or column a step
    Diffusion(FigureArgs),
    /// The segmentation under growing noise, with its Dice: one frame or column a strength
    Robustness(RobustnessArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct FigureArgs {
    /// A picture or volume, or a cine, of which one frame is shown
    input: PathBuf,
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// The figure: .png for one sheet, .gif for an animation
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Frame of a cine, counted from 0
    #[arg(long, value_name = "N")]
    frame: Option<usize>,
    /// Slice of a volume, counted from 0 [default: the middle one]
    #[arg(long, value_name = "N")]
    slice: Option<usize>,
    /// Axis across which a volume is cut, turned to the bundle's orientation, 0 being the slowest one [default: 0]
    #[arg(long, value_name = "AXIS")]
    axis: Option<usize>,
    /// Longest side of a panel, pixels
    #[arg(long, value_name = "PIXELS", default_value = "224")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(16..=4096))]
    size: usize,
    #[command(flatten)]
    wish: WishArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RobustnessArgs {
    #[command(flatten)]
    figure: FigureArgs,
    /// The image's reference label map
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// Classes with their stored values, as `ldseg evaluate` takes them [default: labels are class indices]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// What is done to the image
    #[arg(long, default_value = Corruption::Gaussian.name(), value_parser = corruptions())]
    corruption: Corruption,
    /// Strengths above 0, evenly up to the corruption's greatest
    #[arg(long, default_value = "4", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    levels: usize,
    /// Seed of the corruption
    #[arg(long, value_name = "N", default_value_t = 0)]
    corruption_seed: u64,
}

/// What both figures start from.
struct Scene {
    segmenter: Segmenter,
    /// All of it.
    image: Image,
    /// What of it is segmented, where it is not all.
    part: Option<Region>,
    options: SegmentOptions,
    view: View,
}

pub(super) fn run(command: RenderCommand) -> anyhow::Result<Outcome> {
    match command {
        RenderCommand::Diffusion(args) => {
            let (input, output) = (args.input.clone(), args.output.clone());
            let Scene { mut segmenter, image, part, options, view } = scene(args)?;
            let image = part.map_or_else(|| Ok(image.clone()), |part| part.crop(&image))?;
            diffusion(&mut segmenter, &image, &options, view).map_err(|e| e.in_file(&input))?.write(&output)?;
            print(&format!("{} -> {}", input.display(), output.display()))?;
        }
        RenderCommand::Robustness(args) => draw_robustness(args)?,
    }
    Ok(Outcome::Done)
}

fn draw_robustness(args: RobustnessArgs) -> anyhow::Result<()> {
    let (input, output) = (args.figure.input.clone(), args.figure.output.clone());
    let classes = args.classes.as_deref().map(read_classes).transpose()?;
    let Scene { mut segmenter, image, part, options, view } = scene(args.figure)?;
    let count = segmenter.manifest().classes.len();
    if let Some(classes) = classes.as_ref().filter(|classes| classes.len() != count) {
        let message = format!("{} classes are listed, but the bundle has {count}", classes.len());
        return Err(Error::new(ErrorKind::Setting, message).into());
    }
    let reference = labels_of(&image, &input, &args.labels, classes.as_deref(), count)?;
    let name = case_name(&input).unwrap_or_default();
    let strengths = std::iter::once(0.0).chain(args.corruption.strengths(args.levels)).collect();
    let study = Study { name: &name, corruption: args.corruption, strengths, seed: args.corruption_seed, part };
    let (figure, levels) =
        robustness(&mut segmenter, &image, &reference, &study, &options, view).map_err(|e| e.in_file(&input))?;
    figure.write(&output)?;
    print(&table(segmenter.manifest(), args.corruption, &levels)?)
}

fn scene(args: FigureArgs) -> Result<Scene> {
    Figure::check_name(&args.output)?;
    let bundle = Bundle::load(&args.bundle)?;
    let mut options = args.sampling.options(bundle.manifest())?;
    let (image, part) = read(&args.input, args.frame, bundle.manifest(), &args.wish.wish())?;
    // Latents lie as the networks take volumes, and the image is drawn beside them.
    let image = bundle.manifest().orientation().turn(&image.geometry).image(image);
    options.frame = args.frame.unwrap_or(0) as u64;
    let segmenter = Segmenter::from_bundle(&bundle, &args.engine.options())?;
    let cut = match (args.axis, args.slice) {
        (None, None) => None,
        (axis, index) => Some(Cut { axis: axis.unwrap_or(0), index }),
    };
    Ok(Scene { segmenter, image, part, options, view: View { cut, size: args.size } })
}

fn read(path: &Path, frame: Option<usize>, manifest: &Manifest, wish: &Wish) -> Result<(Image, Option<Region>)> {
    let prepared = Prepared::open(&[path.to_path_buf()], manifest.channels, wish)?;
    prepared.notes_with_path().iter().for_each(|text| note(text));
    let mut hints = Hints::default();
    hints.about_spacing(prepared.decisions(), manifest, false);
    hints.tell();
    let fail = |message: String| Err(Error::new(ErrorKind::Setting, message).in_file(path));
    match (prepared.is_cine(), frame) {
        (false, Some(_)) => fail("is a still image, it has no frames to choose from".into()),
        (true, None) => fail(format!("is a cine of {} frames, --frame says which is shown", prepared.frame_count())),
        (_, frame) => Ok((prepared.frame(frame.unwrap_or(0))?, prepared.decisions().part())),
    }
}

/// Strengths down, classes across.
fn table(
    manifest: &Manifest,
    corruption: Corruption,
    levels: &[Level],
) -> std::result::Result<String, std::fmt::Error> {
    let mut text = format!("| {} |", corruption.name());
    let names = manifest.classes.iter().skip(1).map(|class| class.name.as_str());
    names.chain(["mean"]).try_for_each(|name| write!(text, " {name} |"))?;
    write!(text, "\n|{}", "---|".repeat(manifest.classes.len() + 1))?;
    for level in levels {
        write!(text, "\n| {:.3} |", level.strength)?;
        level.dice.iter().try_for_each(|dice| write!(text, " {dice:.3} |"))?;
    }
    Ok(text)
}
