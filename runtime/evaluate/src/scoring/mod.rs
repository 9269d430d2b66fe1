//! Scores segmentations against reference label maps: every measure of every class in every case, and their averages.
//!
//! Conventions: a measure that a case does not define, such as the Dice of a class that neither map holds, is NaN, `null`
//! in JSON, and left out of averages (nnU-Net's nanmean). Distances are in mm by the file's spacing, and not defined where
//! that is not known. Volumes are compared in space: a prediction that is stored another way round is turned onto its label map.

mod case;
mod classes;
mod files;
mod report;
mod sampling;

use std::path::Path;

use serde::Serialize;

pub use case::{CaseScores, ObjectSource, SpacingSource};
pub use classes::{ClassSpec, class_indices, labels_of, read_classes, read_measures, reference_labels};
pub use files::{Pair, Paired, PatientList, is_patient_list, pair, patient_from_name, read_patients};
pub use report::{FailedCase, FolderScores, Measure, Values};
pub(crate) use report::{csv_cell, csv_number, groups};
pub use sampling::{SamplingMeasure, SamplingScores, SamplingSummary};

use crate::metrics::summary::Bootstrap;
use ldseg::threads::on_all_cores;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::Palettes;

/// Which surfaces distances are taken between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SurfaceChoice {
    /// [`SurfaceKind::Voxel`](crate::metrics::surface::SurfaceKind::Voxel), as medpy.
    Voxel,
    /// [`SurfaceKind::Surfel`](crate::metrics::surface::SurfaceKind::Surfel), as DeepMind's surface-distance.
    Surfel,
    /// Both: those between surfels under names of their own.
    Both,
}

/// What the objects of a label map are, where they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectChoice {
    /// The connected components of each class.
    Components,
    /// Stored values are instance ids, all of one class; a map that holds one value besides 0 is a binary mask, whose
    /// connected components are the objects.
    Instances,
}

/// How to score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Surfaces for Hausdorff distance, HD95 and ASSD. The surface Dice is always that of the surfels, by its definition.
    pub surface: SurfaceChoice,
    /// Tolerance of the surface Dice, mm.
    pub tolerance_mm: f64,
    /// Whether and how objects are compared; pictures only.
    pub objects: Option<ObjectChoice>,
    /// Spacing along rows and columns (the height of a pixel, then its width), mm, of pictures; it wins over what files say.
    /// `None`: what files say, and where they don't, no measure in mm is defined.
    pub picture_spacing_mm: Option<[f64; 2]>,
    /// Drawing of intervals.
    pub bootstrap: Bootstrap,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            surface: SurfaceChoice::Voxel,
            tolerance_mm: 1.0,
            objects: None,
            picture_spacing_mm: None,
            bootstrap: Bootstrap::default(),
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`].
    pub fn check(&self, classes: Option<&[ClassSpec]>) -> Result<()> {
        let fail = |message: &str| Err(Error::new(ErrorKind::Setting, message));
        if !self.tolerance_mm.is_finite() || self.tolerance_mm < 0.0 {
            return fail(&format!("the tolerance is {} mm, expected 0 or more", self.tolerance_mm));
        }
        if self.picture_spacing_mm.is_some_and(|mm| mm.iter().any(|mm| !mm.is_finite() || *mm <= 0.0)) {
            return fail("the spacing of pictures is not positive, expected mm above 0");
        }
        if self.objects == Some(ObjectChoice::Instances) && classes.is_some() {
            return fail("instance ids are no classes: objects by instances take no file of classes");
        }
        Ok(())
    }
}

/// Scores every prediction in a folder against its label map, on all cores. Cases that fail are listed in the report.
///
/// `classes` says which values stand for which class; without it, every value above 0 in any file is a class. Images of
/// one patient (by a list in the labels' folder, else by name) stay together when intervals are drawn.
///
/// # Errors
/// [`ErrorKind::Setting`] for settings out of range and where predictions and label maps have no class in common; those
/// of [`pair`] and [`read_patients`].
pub fn evaluate(
    predictions: &Path,
    labels: &Path,
    classes: Option<&[ClassSpec]>,
    settings: &Settings,
) -> Result<FolderScores> {
    settings.check(classes)?;
    let Paired { pairs, left_over, notes } = pair(predictions, labels)?;
    let patients = read_patients(labels)?;
    let scored = on_all_cores(pairs, |pair| {
        let scores = pair.files.and_then(|(prediction, labels)| {
            case::score(&prediction, &labels, classes, settings).map(|scores| (labels, scores))
        });
        (pair.name, scores)
    });
    let mut palettes = Palettes::default();
    let listed = |name: &str| patients.as_ref().and_then(|list| list.patients.get(name).cloned());
    let mut report = FolderScores::new(settings.clone(), classes, left_over, notes);
    for (name, scores) in scored {
        let scores = scores.and_then(|(labels, scores)| {
            let (palette, values) = &scores.colours;
            palettes.add(&labels, palette.as_deref(), values.iter().copied())?;
            Ok(scores)
        });
        let patient = listed(&name).unwrap_or_else(|| patient_from_name(&name).to_owned());
        report.add(name, patient, scores);
    }
    report.finish()?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// An 8-bit picture of 2 x 2 pixels, with a palette where there are colours.
    fn picture(path: &Path, values: [u8; 4], colours: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), 2, 2);
        encoder.set_depth(png::BitDepth::Eight);
        if !colours.is_empty() {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(colours);
        }
        encoder.write_header().unwrap().write_image_data(&values).unwrap();
    }

    #[test]
    fn references_with_palettes_count_by_index_and_have_to_agree() {
        let folder = tempfile::tempdir().unwrap();
        let [predictions, labels] = ["predictions", "labels"].map(|name| folder.path().join(name));
        [&predictions, &labels].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let (one, other) = ([9, 9, 9, 220, 50, 47, 64, 160, 70], [9, 9, 9, 64, 160, 70, 220, 50, 47]);
        for (name, colours) in [("a.png", one), ("b.png", one), ("c.png", other)] {
            picture(&predictions.join(name), [0, 1, 2, 2], &[]);
            picture(&labels.join(name), [0, 1, 2, 2], &colours);
        }
        let report = evaluate(&predictions, &labels, None, &Settings::default()).unwrap();
        let report = serde_json::to_value(&report).unwrap();
        for case in [0, 1] {
            for class in ["1", "2"] {
                assert_eq!(report["cases"][case]["classes"][class]["dice"], 1.0);
            }
        }
        let failed = report["failed"][0].to_string();
        assert!(failed.contains("c.png: shows the label 1 in the colour [64, 160, 70]"), "{report}");

        // Lossy, whatever its name says.
        fs::write(labels.join("a.png"), [0xFF, 0xD8, 0xFF, 0xE0]).unwrap();
        let report = evaluate(&predictions, &labels, None, &Settings::default()).unwrap();
        let report = serde_json::to_value(&report).unwrap().to_string();
        assert!(report.contains("a.png: is a JPEG"), "{report}");
    }

    #[test]
    fn a_spacing_of_exactly_1_mm_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let [predictions, labels] = ["predictions", "labels"].map(|name| folder.path().join(name));
        [&predictions, &labels].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
        for (name, mm) in [("a", "1 1"), ("b", "0.5 1")] {
            let header = format!(
                "NDims = 2\nDimSize = 2 2\nElementSpacing = {mm}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
            );
            for folder in [&predictions, &labels] {
                fs::write(folder.join(format!("{name}.mha")), [header.as_bytes(), &[0, 1, 1, 0]].concat()).unwrap();
            }
        }
        let scored = |settings: &Settings| {
            let report = evaluate(&predictions, &labels, None, settings).unwrap();
            serde_json::to_value(&report).unwrap()["cases"].clone()
        };
        let cases = scored(&Settings::default());
        assert!(cases[0]["notes"].to_string().contains("exactly 1 mm wide"), "{cases}");
        assert!(cases[1]["notes"].is_null(), "{cases}");
        let cases = scored(&Settings { picture_spacing_mm: Some([1.0; 2]), ..Settings::default() });
        assert!(cases[0]["notes"].is_null() && cases[1]["notes"].to_string().contains("is taken"), "{cases}");
    }
}
