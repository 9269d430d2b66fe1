//! What an evaluation found: as JSON, as CSV and as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{CaseScores, ClassSpec, SamplingMeasure, SamplingSummary, Settings, SpacingSource, sampling};
use crate::metrics::summary::Summary;
use ldseg::metrics::nanmean;
use ldseg::{Error, ErrorKind, Result};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Measure {
    /// [`Overlap::dice`](ldseg::metrics::Overlap::dice).
    Dice,
    /// [`Overlap::iou`](ldseg::metrics::Overlap::iou).
    Iou,
    /// Hausdorff distance, mm.
    Hausdorff,
    /// 95th percentile of the surface distances, mm.
    Hd95,
    /// Average symmetric surface distance, mm.
    Assd,
    /// Normalised surface Dice at the tolerance.
    Nsd,
    /// Volume of the prediction less that of the reference, ml; NaN in 2-D.
    VolumeDifference,
    /// Area of the prediction less that of the reference, mm^2; NaN in 3-D.
    AreaDifference,
    /// Hausdorff distance between surfels, mm, beside that between voxels.
    HausdorffSurfel,
    /// 95th percentile between surfels, mm, beside that between voxels.
    Hd95Surfel,
    /// Average distance between surfels, mm, beside that between voxels.
    AssdSurfel,
    /// [`ObjectScores::f1`](crate::metrics::objects::ObjectScores::f1).
    ObjectF1,
    /// [`ObjectScores::dice`](crate::metrics::objects::ObjectScores::dice).
    ObjectDice,
    /// [`ObjectScores::hausdorff`](crate::metrics::objects::ObjectScores::hausdorff), mm.
    ObjectHausdorff,
}

ldseg::named!(
    "measure",
    Measure {
        Dice = "dice",
        Iou = "iou",
        Hausdorff = "hausdorff_mm",
        Hd95 = "hd95_mm",
        Assd = "assd_mm",
        Nsd = "nsd",
        VolumeDifference = "volume_difference_ml",
        AreaDifference = "area_difference_mm2",
        HausdorffSurfel = "hausdorff_surfel_mm",
        Hd95Surfel = "hd95_surfel_mm",
        AssdSurfel = "assd_surfel_mm",
        ObjectF1 = "object_f1",
        ObjectDice = "object_dice",
        ObjectHausdorff = "object_hausdorff_mm",
    }
);

impl serde::Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The value of each measure; NaN, `null` in JSON, where it is not defined.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(BTreeMap<Measure, f64>);

impl Values {
    /// Sets a measure's value.
    pub fn set(&mut self, measure: Measure, value: f64) {
        self.0.insert(measure, value);
    }

    /// Leaves undefined what is in mm, mm^2 or ml, or within a tolerance in mm.
    pub(super) fn forget_lengths(&mut self) {
        for (measure, value) in &mut self.0 {
            if !matches!(measure, Measure::Dice | Measure::Iou | Measure::ObjectF1 | Measure::ObjectDice) {
                *value = f64::NAN;
            }
        }
    }

    /// A measure's value; NaN where it was not taken.
    pub fn get(&self, measure: Measure) -> f64 {
        self.0.get(&measure).copied().unwrap_or(f64::NAN)
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(measure, value)| map.serialize_entry(measure, value))?;
        map.end()
    }
}

/// A case with its scores.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Case {
    name: String,
    patient: String,
    #[serde(flatten)]
    scores: CaseScores,
}

/// A case that could not be scored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct FailedCase {
    /// Its name.
    pub name: String,
    /// What went wrong, with the file.
    pub error: String,
}

/// Everything that an evaluation found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct FolderScores {
    settings: Settings,
    /// Surfaces of the surface Dice, whatever the distances are taken between.
    nsd_surface: &'static str,
    /// Name of each class, where it has one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    class_names: BTreeMap<u8, String>,
    cases: Vec<Case>,
    summary: BTreeMap<u8, BTreeMap<Measure, Summary>>,
    /// The mean of the classes' means.
    foreground_mean: Values,
    /// Of the samples and probabilities, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<SamplingSummary>,
    /// Those that could not be scored.
    pub failed: Vec<FailedCase>,
    /// Label maps without a prediction, which is no failure.
    pub without_prediction: usize,
    /// What was left out of the folders.
    #[serde(rename = "notes", skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl FolderScores {
    pub(super) fn new(
        settings: Settings,
        classes: Option<&[ClassSpec]>,
        without_prediction: usize,
        left_out: Vec<String>,
    ) -> Self {
        let named = classes.unwrap_or_default().iter().enumerate().skip(1);
        Self {
            settings,
            nsd_surface: "surfel",
            class_names: named.map(|(index, class)| (index as u8, class.name.clone())).collect(),
            cases: Vec::new(),
            summary: BTreeMap::new(),
            foreground_mean: Values::default(),
            sampling: None,
            failed: Vec::new(),
            without_prediction,
            left_out,
        }
    }

    pub(super) fn add(&mut self, name: String, patient: String, scores: Result<CaseScores>) {
        match scores {
            Ok(scores) => self.cases.push(Case { name, patient, scores }),
            Err(error) => self.failed.push(FailedCase { name, error: error.to_string() }),
        }
    }

    /// Makes all cases have the same classes and averages them.
    pub(super) fn finish(&mut self) -> Result<()> {
        let all = |of: fn(&CaseScores) -> &Vec<u8>| -> BTreeSet<u8> {
            self.cases.iter().flat_map(|case| of(&case.scores)).copied().collect()
        };
        let (predicted, referenced) = (all(|scores| &scores.predicted), all(|scores| &scores.referenced));
        let unnamed = self.class_names.is_empty();
        if unnamed && !predicted.is_empty() && !referenced.is_empty() && predicted.is_disjoint(&referenced) {
            let message = format!(
                "predictions hold the values {predicted:?}, label maps {referenced:?}: none in common; a file of classes \
                 says which stand for the same"
            );
            return Err(Error::new(ErrorKind::Setting, message));
        }
        let classes: BTreeSet<u8> = self.cases.iter().flat_map(|case| case.scores.classes.keys()).copied().collect();
        let measures = self.measures();
        for case in &mut self.cases {
            for class in &classes {
                // In neither map: nothing is defined.
                let undefined = || Values(measures.iter().map(|measure| (*measure, f64::NAN)).collect());
                case.scores.classes.entry(*class).or_insert_with(undefined);
            }
        }
        let groups = groups(self.cases.iter().map(|case| case.patient.as_str()));
        let sampled: Vec<_> =
            self.cases.iter().zip(&groups).map(|(case, group)| (case.scores.sampling.as_ref(), *group)).collect();
        self.sampling = sampling::summarise(&sampled, self.settings.bootstrap);
        for class in classes {
            let of = |measure: Measure| -> Vec<f64> {
                self.cases.iter().map(|case| case.scores.classes[&class].get(measure)).collect()
            };
            let summary = |measure: &Measure| (*measure, Summary::of(&of(*measure), &groups, self.settings.bootstrap));
            self.summary.insert(class, measures.iter().map(summary).collect());
        }
        for measure in measures {
            let means: Vec<f64> = self.summary.values().map(|measures| measures[&measure].mean).collect();
            self.foreground_mean.set(measure, nanmean(&means));
        }
        Ok(())
    }

    /// The measures that were taken, in order.
    fn measures(&self) -> Vec<Measure> {
        let values = self.cases.iter().flat_map(|case| case.scores.classes.values());
        values.flat_map(|values| values.0.keys()).copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Cases without a measure in mm or ml, as neither file nor settings tell their spacing.
    pub fn without_spacing(&self) -> usize {
        self.cases.iter().filter(|case| case.scores.spacing_from == SpacingSource::Unknown).count()
    }

    /// What has to be known of the files: each note, with the number of cases and the first of them.
    pub fn notes(&self) -> Vec<(&str, usize, &str)> {
        let mut notes: Vec<(&str, usize, &str)> = Vec::new();
        for (case, note) in self.cases.iter().flat_map(|case| case.scores.notes.iter().map(move |note| (case, note))) {
            match notes.iter_mut().find(|(text, ..)| text == note) {
                Some((_, count, _)) => *count += 1,
                None => notes.push((note, 1, &case.name)),
            }
        }
        notes
    }

    /// One line a case and class; a value that is not defined is empty.
    pub fn cases_csv(&self) -> String {
        let measures = self.measures();
        let mut text = "name,patient,class,class_name".to_owned();
        measures.iter().for_each(|measure| text.extend([",", measure.name()]));
        text.push('\n');
        for case in &self.cases {
            for (class, values) in &case.scores.classes {
                let class_name = self.class_names.get(class).map_or("", String::as_str);
                let class = class.to_string();
                let names = [case.name.as_str(), &case.patient, &class, class_name].map(csv_cell);
                text.push_str(&names.join(","));
                measures.iter().for_each(|measure| text.extend([",", &csv_number(values.get(*measure))]));
                text.push('\n');
            }
        }
        text
    }

    /// One line a case with samples or probabilities; `None` where there is no such case.
    pub fn sampling_csv(&self) -> Option<String> {
        self.sampling.as_ref()?;
        let mut text = "name,patient,samples".to_owned();
        SamplingMeasure::ALL.iter().for_each(|measure| text.extend([",", measure.name()]));
        text.push('\n');
        for case in &self.cases {
            let Some(scores) = &case.scores.sampling else { continue };
            let samples = scores.samples.map_or_else(String::new, |samples| samples.to_string());
            text.push_str(&[csv_cell(&case.name), csv_cell(&case.patient), samples].join(","));
            for measure in SamplingMeasure::ALL {
                let value = scores.values.get(&measure).copied().unwrap_or(f64::NAN);
                text.extend([",", &csv_number(value)]);
            }
            text.push('\n');
        }
        Some(text)
    }

    /// The averages with the class that each is of; those of samples and probabilities are of all.
    fn averages(&self) -> impl Iterator<Item = (String, &str, &'static str, &Summary)> {
        let classes = self.summary.iter().flat_map(|(class, measures)| {
            let name = self.class_names.get(class).map_or("", String::as_str);
            measures.iter().map(move |(measure, summary)| (class.to_string(), name, measure.name(), summary))
        });
        let sampling = self.sampling.iter().flat_map(|sampling| &sampling.summary);
        classes.chain(sampling.map(|(measure, summary)| ("all".to_owned(), "", measure.name(), summary)))
    }

    /// One line a class and measure.
    pub fn summary_csv(&self) -> String {
        let mut text = "class,class_name,measure,mean,std,ci95_low,ci95_high,n\n".to_owned();
        for (class, name, measure, s) in self.averages() {
            let numbers = [s.mean, s.std, s.ci95[0], s.ci95[1]].map(csv_number).join(",");
            text.extend([format!("{class},{},{measure},{numbers},{}\n", csv_cell(name), s.n)]);
        }
        text
    }

    /// The averages as a Markdown table, one row a class and measure.
    ///
    /// # Errors
    /// None in practice: writing into a string.
    pub fn table(&self) -> std::result::Result<String, std::fmt::Error> {
        let mut text = "| class | measure | mean | std | 95 % interval | n |\n|---|---|---|---|---|---|\n".to_owned();
        for (class, name, measure, s) in self.averages().filter(|(.., summary)| summary.n > 0) {
            let class = if name.is_empty() { class } else { format!("{class} {name}") };
            let digits = 4;
            writeln!(
                text,
                "| {class} | {measure} | {:.digits$} | {:.digits$} | {:.digits$} to {:.digits$} | {} |",
                s.mean, s.std, s.ci95[0], s.ci95[1], s.n
            )?;
        }
        Ok(text)
    }
}

/// Numbers equal names alike, from 0 on.
pub(crate) fn groups<'a>(names: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    names
        .map(|name| {
            let next = numbers.len();
            *numbers.entry(name).or_insert(next)
        })
        .collect()
}

/// A number of a CSV file, empty where it is not defined.
pub(crate) fn csv_number(value: f64) -> String {
    if value.is_nan() { String::new() } else { value.to_string() }
}

/// Text as a cell of a CSV file, quoted where it has to be (RFC 4180).
pub(crate) fn csv_cell(text: &str) -> String {
    let quote = text.contains(['"', ',', '\n', '\r']);
    if quote { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
