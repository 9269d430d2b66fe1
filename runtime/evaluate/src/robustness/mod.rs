//! How much worse bundles get as images do: Dice against the strength of corruptions.

mod corrupt;
mod report;

use std::path::Path;

use serde::Serialize;

pub use corrupt::{Corruption, corrupt};
pub use report::RobustnessCurves;

use crate::metrics::summary::Bootstrap;
use crate::scoring::{ClassSpec, Pair, Paired, labels_of, pair, patient_from_name, read_patients};
use ldseg::image::{Image, Labels, Region};
use ldseg::metrics::dice_per_class;
use ldseg::metrics::nanmean;
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg::{Error, ErrorKind, Result};
use ldseg_recording::{Prepared, Wish, segment_part};

/// What is studied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// The corruptions.
    pub corruptions: Vec<Corruption>,
    /// Strengths above 0 of each corruption, evenly up to its greatest; clean images come in addition.
    pub levels: usize,
    /// Seed of the corruptions.
    pub seed: u64,
    /// Drawing of intervals.
    pub bootstrap: Bootstrap,
}

impl Settings {
    /// The strengths at which a corruption is studied, without 0.
    pub fn strengths(&self, corruption: Corruption) -> Vec<f64> {
        corruption.strengths(self.levels)
    }
}

/// A bundle to study: its name in tables, its networks, and how it segments.
pub struct Subject {
    /// A name of its own.
    pub name: String,
    /// Its networks.
    pub segmenter: Segmenter,
    /// Sampler, steps, samples and seed.
    pub options: SegmentOptions,
}

/// A measurement: one image, corrupted one way, segmented by one bundle.
#[derive(Debug, Clone, PartialEq)]
struct Score {
    subject: usize,
    /// `None`: the clean image.
    corruption: Option<Corruption>,
    strength: f64,
    case: usize,
    /// Dice of each class above 0, then their mean.
    dice: Vec<f64>,
}

/// Segments every image of a folder, clean and corrupted in all ways, with every subject, and scores it against its label
/// map. Noise is added on the file's own grid, before the bundle's preprocessing. `progress` is called after each image.
///
/// `classes` says which values of the label maps stand for which class; without it they are class indices. `wish` is what the
/// user says of every image.
///
/// # Errors
/// [`ErrorKind::Setting`] where there is no subject, no level, or subjects differ in their number of classes; those of
/// [`pair`]. Images that fail are listed in the report.
pub fn study(
    subjects: &mut [Subject],
    images: &Path,
    labels: &Path,
    classes: Option<&[ClassSpec]>,
    wish: &Wish,
    settings: &Settings,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<RobustnessCurves> {
    let class_names = check(subjects, classes, settings)?;
    let Paired { pairs, notes, .. } = pair(images, labels)?;
    let patients = read_patients(labels)?;
    let names = subjects.iter().map(|subject| subject.name.clone()).collect();
    let mut report = RobustnessCurves::new(settings.clone(), names, class_names);
    report.notes.extend(notes);
    let count = pairs.len();
    for (index, pair) in pairs.into_iter().enumerate() {
        let listed = patients.as_ref().and_then(|list| list.patients.get(&pair.name).cloned());
        let patient = listed.unwrap_or_else(|| patient_from_name(&pair.name).to_owned());
        let case = report.case_count();
        let name = pair.name.clone();
        match score(subjects, pair, case, (classes, wish), settings, &mut report.notes) {
            Ok(scores) => report.add(name, patient, scores),
            Err(error) => report.fail(name, &error),
        }
        progress(index + 1, count);
    }
    report.finish();
    Ok(report)
}

/// The names of the classes above 0.
fn check(subjects: &[Subject], classes: Option<&[ClassSpec]>, settings: &Settings) -> Result<Vec<String>> {
    let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
    if settings.levels == 0 || settings.corruptions.is_empty() {
        return fail("there is nothing to study, expected a corruption and a level at least".into());
    }
    let Some(first) = subjects.first() else {
        return fail("there is no bundle to study, expected one at least".into());
    };
    let expected = first.segmenter.manifest().classes.len();
    for subject in subjects {
        let found = subject.segmenter.manifest().classes.len();
        if found != expected {
            return fail(format!("{} has {found} classes, but {} has {expected}", subject.name, first.name));
        }
    }
    if let Some(classes) = classes.filter(|classes| classes.len() != expected) {
        return fail(format!("{} classes are listed, but {} has {expected}", classes.len(), first.name));
    }
    Ok(first.segmenter.manifest().classes.iter().skip(1).map(|class| class.name.clone()).collect())
}

fn score(
    subjects: &mut [Subject],
    pair: Pair,
    case: usize,
    (classes, wish): (Option<&[ClassSpec]>, &Wish),
    settings: &Settings,
    notes: &mut Vec<String>,
) -> Result<Vec<Score>> {
    let (path, labels_path) = pair.files?;
    // Bundles of other channels see the image in another way; clean, or corrupted, each sees its own.
    let mut images: Vec<(usize, Image, Option<Region>)> = Vec::new();
    for channels in subjects.iter().map(|subject| subject.segmenter.manifest().channels) {
        if !images.iter().any(|(of, ..)| *of == channels) {
            let prepared = Prepared::open(std::slice::from_ref(&path), channels, wish)?;
            notes.extend(
                prepared.notes_with_path().into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>(),
            );
            images.push((channels, prepared.still()?, prepared.decisions().part()));
        }
    }
    let count = subjects.first().map_or(0, |subject| subject.segmenter.manifest().classes.len());
    let Some((_, image, _)) = images.first() else { return Ok(Vec::new()) };
    let labels = labels_of(image, &path, &labels_path, classes, count)?;
    let strengths = settings.corruptions.iter().flat_map(|corruption| {
        settings.strengths(*corruption).into_iter().map(|strength| (Some(*corruption), strength))
    });
    let mut scores = Vec::new();
    for (corruption, strength) in std::iter::once((None, 0.0)).chain(strengths) {
        let kind = corruption.unwrap_or(Corruption::Gaussian);
        let corrupted = images
            .iter()
            .map(|(of, image, part)| (*of, corrupt(image, &pair.name, kind, strength, settings.seed), *part));
        let corrupted: Vec<_> = corrupted.collect();
        for (index, subject) in subjects.iter_mut().enumerate() {
            let channels = subject.segmenter.manifest().channels;
            let Some((_, image, part)) = corrupted.iter().find(|(of, ..)| *of == channels) else { continue };
            let found = segment_part(&mut subject.segmenter, image, *part, &subject.options);
            let found = found.map_err(|e| e.in_file(&path))?;
            let dice = dice(&found.labels, &labels, count);
            scores.push(Score { subject: index, corruption, strength, case, dice });
        }
    }
    Ok(scores)
}

/// Dice of each class above 0, then their mean.
pub(crate) fn dice(found: &Labels, labels: &Labels, classes: usize) -> Vec<f64> {
    let mut dice = dice_per_class(found, labels, classes).split_off(1);
    dice.push(nanmean(&dice));
    dice
}
