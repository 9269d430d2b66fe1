//! `ldseg measure`.

use std::path::PathBuf;

use ldseg::{Error, ErrorKind, Result};
use ldseg_evaluate::scoring::{ClassSpec, class_indices, read_classes, read_measures};
use ldseg_recording::PreparedLabels;
use ldseg_recording::heart::{Biplane, FrameVentricle, Heartbeat, LeftHeart, Measured, biplane, heartbeat};
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
    four_chamber: Option<View>,
    #[serde(skip_serializing_if = "Option::is_none")]
    two_chamber: Option<View>,
    #[serde(skip_serializing_if = "Option::is_none")]
    biplane: Option<Biplane>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// What the label maps of one view tell.
#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    heartbeat: Heartbeat,
    /// One entry a frame; none where the spacing is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frames: Vec<Measured>,
    #[serde(skip)]
    ventricles: Vec<FrameVentricle>,
    /// Whether the files tell their spacing, or it was given.
    #[serde(skip)]
    in_ml: bool,
    /// What has to be known of the files.
    #[serde(skip)]
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
        (Some(four), Some(two)) => biplane(&four.ventricles, &two.ventricles, four.in_ml),
        _ => None,
    };
    if let Some(found) = biplane.as_ref().filter(|found| found.long_axis_difference > LONG_AXIS_DIFFERENCE) {
        notes.push(format!(
            "the ventricle is {:.0} % shorter in one view than in the other at end-diastole: it may be foreshortened",
            100.0 * found.long_axis_difference
        ));
    }
    let document = Document { four_chamber: four, two_chamber: two, biplane, notes };
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
        let (mut ventricles, mut frames, mut notes, mut known) = (Vec::new(), Vec::new(), Vec::new(), None);
        for path in files {
            let opened = PreparedLabels::open(path)?;
            let spacing = opened.pixel_spacing(given)?;
            notes.extend(spacing.note().map(|note| format!("{}: {note}", path.display())));
            let spacing = spacing.of_pixel();
            if *known.get_or_insert(spacing.is_some()) != spacing.is_some() {
                let message = format!("and {} differ in whether they tell their pixel spacing", files[0].display());
                return Err(Error::new(ErrorKind::Format, message).in_file(path));
            }
            for labels in opened.frames()? {
                let labels = class_indices(labels, path, Some(classes), classes.len())?;
                // A ratio of volumes needs no unit.
                let ventricle = heart.ventricle(&labels, spacing.unwrap_or([1.0; 2]))?;
                ventricles.push(FrameVentricle { ventricle, samples: Vec::new() });
                frames.push(heart.measure(&labels, spacing)?);
            }
        }
        let fail = |message: &str| Err(Error::new(ErrorKind::Format, message).in_file(&files[0]));
        if ventricles.len() < 2 {
            return fail("is one frame, expected a cine or, with a second file, end-diastole and end-systole");
        }
        let in_ml = known.unwrap_or(false);
        let Some(heartbeat) = heartbeat(&ventricles, in_ml) else {
            return fail("shows no left ventricle that is open towards the mitral plane");
        };
        let atria: Vec<_> = frames.iter().map(|frame| frame.left_atrium.clone()).collect();
        let heartbeat = heartbeat.with_atrium(&atria);
        if !in_ml {
            frames.clear();
        }
        Ok(Self { heartbeat, frames, ventricles, in_ml, notes })
    }
}

impl Document {
    fn table(&self) -> String {
        let views = [("four-chamber", &self.four_chamber), ("two-chamber", &self.two_chamber)];
        let mut lines = vec![
            "| | ED frame | ES frame | EDV ml | ESV ml | EF % | LA ml |\n|---|---|---|---|---|---|---|".to_owned(),
        ];
        let ml = |volume: Option<f64>| volume.map_or(String::new(), |volume| format!("{volume:.1}"));
        for (name, view) in views.into_iter().filter_map(|(name, view)| Some((name, view.as_ref()?))) {
            let beat = &view.heartbeat;
            lines.push(format!(
                "| {name} | {} | {} | {} | {} | {:.1} | {} |",
                beat.end_diastole_frame,
                beat.end_systole_frame,
                ml(beat.end_diastolic_volume_ml),
                ml(beat.end_systolic_volume_ml),
                100.0 * beat.ejection_fraction,
                ml(beat.left_atrium_end_systolic_volume_ml)
            ));
        }
        if let Some(found) = &self.biplane {
            lines.push(format!(
                "| biplane | | | {} | {} | {:.1} | |",
                ml(found.end_diastolic_volume_ml),
                ml(found.end_systolic_volume_ml),
                100.0 * found.ejection_fraction
            ));
        }
        lines.join("\n")
    }
}
