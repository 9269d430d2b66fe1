//! `ldseg measure`.

use std::path::{Path, PathBuf};

use ldseg::{Error, ErrorKind, Result};
use ldseg_evaluate::scoring::{ClassSpec, read_classes, read_measures, reference_labels};
use ldseg_io::read_recording;
use ldseg_recording::decide::Spacing;
use ldseg_recording::heart::{Biplane, FrameVentricle, Heartbeat, LeftHeart, biplane, heartbeat};
use ndarray::Axis;
use serde::Serialize;

use super::{Outcome, note, pixel_size, print, print_json};

/// Part of the longer long axis by which the two views' may differ without a note.
const LONG_AXIS_DIFFERENCE: f64 = 0.1;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("views").required(true).multiple(true))]
pub(super) struct MeasureArgs {
    /// Label maps of the apical four-chamber view: of a cine, or of end-diastole and end-systole
    #[arg(long, value_name = "FILE", num_args = 1.., group = "views")]
    four_chamber: Vec<PathBuf>,
    /// Label maps of the apical two-chamber view, likewise
    #[arg(long, value_name = "FILE", num_args = 1.., group = "views")]
    two_chamber: Vec<PathBuf>,
    /// Classes with names and stored values: a bundle's manifest, a recipe, or a list of its own, YAML or JSON
    #[arg(long, value_name = "FILE")]
    classes: PathBuf,
    /// Height and width of a pixel in mm, one number if they are equal, for files that don't tell it
    #[arg(long, value_name = "MM,MM", value_delimiter = ',', num_args = 1)]
    pixel_spacing: Vec<f64>,
    /// Print the results as one JSON document in place of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    four_chamber: Option<Heartbeat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    two_chamber: Option<Heartbeat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    biplane: Option<Biplane>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// The label maps of one view.
struct View {
    frames: Vec<FrameVentricle>,
    /// Whether the files tell their spacing, or it was given.
    in_ml: bool,
    heartbeat: Heartbeat,
    /// Where a file says another spacing than the user.
    notes: Vec<String>,
}

pub(super) fn run(args: MeasureArgs) -> anyhow::Result<Outcome> {
    let given = pixel_size(&args.pixel_spacing, "--pixel-spacing")?;
    let classes = read_classes(&args.classes)?;
    let measures = read_measures(&args.classes)?;
    let names = classes.iter().map(|class| class.name.as_str());
    let heart = LeftHeart::declared(&measures, names).ok_or_else(|| {
        let message = "declares no measures of kind `left_heart`, which say which classes are ventricle and myocardium";
        Error::new(ErrorKind::Setting, message).in_file(&args.classes)
    })?;
    let view = |files: &[PathBuf]| (!files.is_empty()).then(|| View::read(files, &classes, heart, given)).transpose();
    let (four, two) = (view(&args.four_chamber)?, view(&args.two_chamber)?);
    let mut notes: Vec<String> =
        [&four, &two].into_iter().flatten().flat_map(|view| view.notes.iter().cloned()).collect();
    if [&four, &two].into_iter().flatten().any(|view| !view.in_ml) {
        notes.push("the pixel spacing is not known, so there are no volumes; --pixel-spacing gives it".into());
    }
    let biplane = match (&four, &two) {
        (Some(four), Some(two)) if four.in_ml != two.in_ml => {
            notes.push("of one view alone the pixel spacing is known, so the two are not measured together".into());
            None
        }
        (Some(four), Some(two)) => biplane(&four.frames, &two.frames, four.in_ml),
        _ => None,
    };
    if let Some(found) = biplane.as_ref().filter(|found| found.long_axis_difference > LONG_AXIS_DIFFERENCE) {
        notes.push(format!(
            "the ventricle is {:.0} % shorter in one view than in the other at end-diastole: it may be foreshortened",
            100.0 * found.long_axis_difference
        ));
    }
    let [four_chamber, two_chamber] = [four, two].map(|view| view.map(|view| view.heartbeat));
    let document = Document { four_chamber, two_chamber, biplane, notes };
    if args.json {
        print_json(&document)?;
    } else {
        document.notes.iter().for_each(|text| note(text));
        print(&document.table())?;
    }
    Ok(Outcome::Done)
}

impl View {
    /// `files` holds one at least.
    fn read(files: &[PathBuf], classes: &[ClassSpec], heart: LeftHeart, given: Option<[f64; 2]>) -> Result<Self> {
        let decided = files.iter().map(|path| spacing(path, given)).collect::<Result<Vec<_>>>()?;
        let notes = files
            .iter()
            .zip(&decided)
            .filter_map(|(path, (_, note))| note.as_ref().map(|note| format!("{}: {note}", path.display())));
        let notes = notes.collect();
        let spacings: Vec<_> = decided.into_iter().map(|(spacing, _)| spacing).collect();
        let (mut frames, in_ml) = (Vec::new(), spacings[0].is_some());
        for (path, spacing) in files.iter().zip(spacings) {
            if spacing.is_some() != in_ml {
                let message = format!("and {} differ in whether they tell their pixel spacing", files[0].display());
                return Err(Error::new(ErrorKind::Format, message).in_file(path));
            }
            let labels = reference_labels(path, Some(classes), classes.len())?;
            let maps = if labels.ndim() == 2 { labels.insert_axis(Axis(0)) } else { labels };
            for map in maps.outer_iter() {
                let ventricle = heart.ventricle(&map.to_owned(), spacing.unwrap_or([1.0; 2]))?;
                frames.push(FrameVentricle { ventricle, samples: Vec::new() });
            }
        }
        let fail = |message: &str| Err(Error::new(ErrorKind::Format, message).in_file(&files[0]));
        if frames.len() < 2 {
            return fail("is one frame, expected a cine or, with a second file, end-diastole and end-systole");
        }
        match heartbeat(&frames, in_ml) {
            Some(heartbeat) => Ok(Self { frames, in_ml, heartbeat, notes }),
            None => fail("shows no left ventricle that is open towards the mitral plane"),
        }
    }
}

/// Along (y, x), mm, by the one rule ([`Spacing::decide`]), and what has to be noted of it. A file doesn't tell it that is a
/// picture, or a NIfTI of exactly 1 mm, which is what a cine's label map gets where the cine didn't tell.
fn spacing(path: &Path, given: Option<[f64; 2]>) -> Result<(Option<[f64; 2]>, Option<String>)> {
    let known = read_recording(path)?.spacing();
    let plane = known.and_then(|spacing| spacing.last_chunk::<2>().copied()).filter(|plane| *plane != [1.0; 2]);
    let slice = |spacing: &Option<[f64; 2]>| spacing.map(|spacing| spacing.to_vec());
    let decided =
        Spacing::decide(slice(&plane).as_deref(), slice(&given).as_deref(), 2).map_err(|e| e.in_file(path))?;
    Ok((decided.of_pixel(), decided.note()))
}

impl Document {
    fn table(&self) -> String {
        let views = [("four-chamber", &self.four_chamber), ("two-chamber", &self.two_chamber)];
        let mut lines =
            vec!["| | ED frame | ES frame | EDV ml | ESV ml | EF % |\n|---|---|---|---|---|---|".to_owned()];
        let ml = |volume: Option<f64>| volume.map_or(String::new(), |volume| format!("{volume:.1}"));
        for (name, beat) in views.into_iter().filter_map(|(name, beat)| Some((name, beat.as_ref()?))) {
            lines.push(format!(
                "| {name} | {} | {} | {} | {} | {:.1} |",
                beat.end_diastole_frame,
                beat.end_systole_frame,
                ml(beat.end_diastolic_volume_ml),
                ml(beat.end_systolic_volume_ml),
                100.0 * beat.ejection_fraction
            ));
        }
        if let Some(found) = &self.biplane {
            lines.push(format!(
                "| biplane | | | {} | {} | {:.1} |",
                ml(found.end_diastolic_volume_ml),
                ml(found.end_systolic_volume_ml),
                100.0 * found.ejection_fraction
            ));
        }
        lines.join("\n")
    }
}
