//! `ldseg-train calibrate`: what is known of a bundle's answers, from patients that nothing else was learned from.

#![expect(clippy::print_stderr, reason = "calibrating says how it goes")]

mod collect;
mod fit;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use ldseg::bundle::{Bundle, CARD_FILE, Manifest, write_bundle};
use ldseg::calibration::{Calibration, Kind, Quantity, Voxels, conformal};
use ldseg::document::parse_yaml;
use ldseg::segmenter::SegmentOptions;
use ldseg::{Error, ErrorKind, Result};
use ldseg_evaluate::metrics::sampling::Reliability;
use ldseg_evaluate::scoring::read_classes;
use serde::Deserialize;

use self::collect::{Asked, Record, by_patient};
use self::fit::{DiceTable, Fitted, IntervalTable, groups};
use crate::data::{Case, discover};
use crate::recipe::Recipe;
use crate::train::{RECIPE_FILE, SPLIT_FILE};

/// Groups of patients in which what was fitted is judged by what is fitted to the other groups.
const GROUPS: usize = 10;
/// Where the model card tells of it.
const SECTION: &str = "## Calibration";

/// What to learn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Probability with which an interval holds the true value, above 0 and below 1.
    pub level: f64,
    /// Part of the structures that is to be flagged as unsure, 0 to 1.
    pub unsure_rate: f64,
    /// Part of the images of the right kind that may be refused, above 0 and below 1.
    pub false_alarms: f64,
    /// Samples whose probabilities are averaged, as they will be when the bundle is used.
    pub samples: usize,
    /// Height and width in mm of pixels of files that don't tell it. Errors are counted in parts of what is measured, so
    /// only the ratio of the two matters, unless the bundle resamples to mm: it needs to know them then. `None`: square pixels
    /// of unknown size.
    pub pixel_spacing: Option<[f64; 2]>,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
        for (name, value) in [("level", self.level), ("false alarms", self.false_alarms)] {
            if !(value > 0.0 && value < 1.0) {
                return fail(format!("{name} is {value}, expected above 0 and below 1"));
            }
        }
        if !(0.0..=1.0).contains(&self.unsure_rate) {
            return fail(format!("the rate of unsure structures is {}, expected 0 to 1", self.unsure_rate));
        }
        if let Some(wrong) = self.pixel_spacing.filter(|own| own.iter().any(|mm| !(mm.is_finite() && *mm > 0.0))) {
            return fail(format!("the pixel spacing is {wrong:?}, expected positive numbers"));
        }
        Ok(())
    }
}

/// The two sides of a run's split, by patient.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitFile {
    train: BTreeSet<String>,
    validation: BTreeSet<String>,
}

/// A run: what was trained, and on whom.
struct Run {
    recipe: Recipe,
    recipe_path: PathBuf,
    split: SplitFile,
    split_path: PathBuf,
}

impl Run {
    fn read(dir: &Path) -> Result<Self> {
        let (recipe_path, split_path) = (dir.join(RECIPE_FILE), dir.join(SPLIT_FILE));
        let text = fs::read_to_string(&split_path)
            .map_err(|e| Error::with_source(ErrorKind::Io, "the split cannot be read", e).in_file(&split_path))?;
        let split = parse_yaml(text.as_bytes()).map_err(|e| {
            Error::with_source(ErrorKind::Format, "is no list of training and validation patients", e)
                .in_file(&split_path)
        })?;
        Ok(Self { recipe: Recipe::load(&recipe_path, &[])?, recipe_path, split, split_path })
    }

    /// The cases of the patients that calibrate: those that are listed, or the validation side.
    fn cases(&self, all: &[Case], listed: Option<&Path>) -> Result<Vec<Case>> {
        let wanted = match listed {
            Some(path) => patients_in(path)?,
            None => self.split.validation.clone(),
        };
        let fail = |message: String, path: &Path| Err(Error::new(ErrorKind::Setting, message).in_file(path));
        let trained: Vec<&String> = wanted.intersection(&self.split.train).collect();
        if let Some(first) = trained.first() {
            let message = format!(
                "{} of the {} patients are among those that the bundle was trained on, such as {first}; expected others",
                trained.len(),
                wanted.len()
            );
            return fail(message, &self.split_path);
        }
        let cases: Vec<Case> = all.iter().filter(|case| wanted.contains(&case.patient)).cloned().collect();
        let found: BTreeSet<&String> = cases.iter().map(|case| &case.patient).collect();
        match wanted.iter().find(|patient| !found.contains(patient)) {
            Some(missing) => fail(format!("{missing} has no case in the data"), listed.unwrap_or(&self.split_path)),
            None if wanted.is_empty() => fail("names no patient".into(), listed.unwrap_or(&self.split_path)),
            None => Ok(cases),
        }
    }

    /// Those that the bundle was trained on, as far as the data has them.
    fn training_cases(&self, all: &[Case]) -> Vec<Case> {
        all.iter().filter(|case| self.split.train.contains(&case.patient)).cloned().collect()
    }
}

/// One patient a line; empty lines and what follows a # don't count.
fn patients_in(path: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(path)
        .map_err(|e: io::Error| Error::with_source(ErrorKind::Io, "the patients cannot be read", e).in_file(path))?;
    let names = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// A manifest with nothing calibrated but a temperature.
fn at_temperature(manifest: &Manifest, options: &SegmentOptions, temperature: f64) -> Manifest {
    let calibration = Calibration {
        data: String::new(),
        patients: 0,
        images: 0,
        sampler: options.sampler,
        steps: options.steps,
        samples: options.samples,
        temperature,
        expected_dice: Vec::new(),
        unsure_rate: 0.0,
        level: 0.5,
        intervals: Vec::new(),
        kind: None,
    };
    Manifest { calibration: Some(calibration), ..manifest.clone() }
}

fn options(manifest: &Manifest, samples: usize, keep_samples: bool) -> SegmentOptions {
    SegmentOptions { samples, keep_samples, ..SegmentOptions::defaults(manifest) }
}

fn calibration_error(records: &[Record]) -> f64 {
    let mut all = Reliability::default();
    records.iter().for_each(|record| all.merge(&record.reliability));
    all.calibration_error()
}

/// Calibrates the bundle in `bundle`, which was exported from the run folder `run`, on patients of the folder `data`: those
/// that `patients` lists, one a line, or the run's validation side. The manifest gets its `calibration`, the classes their
/// `unsure_below`, the model card a section, which is returned, Markdown. The bundle is replaced as a whole or not at all.
///
/// # Errors
/// [`ErrorKind::Setting`] for settings out of range, and patients that the run was trained on or that have no case; those
/// of reading and segmenting.
pub fn calibrate(
    bundle: &Path,
    run: &Path,
    data: &Path,
    patients: Option<&Path>,
    settings: &Settings,
) -> Result<String> {
    settings.check()?;
    let (loaded, run) = (Bundle::load(bundle)?, Run::read(run)?);
    let all = discover(data)?;
    let cases = run.cases(&all, patients)?;
    let classes = read_classes(&run.recipe_path)?;
    let mut manifest = Manifest { calibration: None, ..loaded.manifest().clone() };
    let options = options(&manifest, settings.samples, false);
    options.check(manifest.timesteps)?;

    let asked = |manifest: &Manifest| Asked {
        bundle: &loaded,
        manifest: manifest.clone(),
        options: options.clone(),
        spacing: settings.pixel_spacing,
    };
    let raw = asked(&manifest);
    let mut voxels = Voxels::default();
    raw.voxels(&cases, &classes)?.into_iter().for_each(|own| voxels.extend(own));
    let before = calibration_error(&raw.records(&cases, &classes)?);
    let temperature = round(voxels.fit());
    let tempered = asked(&at_temperature(&manifest, &options, temperature));
    let records = tempered.records(&cases, &classes)?;
    let fitted = Fitted::to(&manifest, &records.iter().collect::<Vec<_>>(), settings.unsure_rate, settings.level);

    let training = run.training_cases(&all);
    let kind = match training.len() {
        0 | 1 => {
            eprintln!(
                "note: {}: has no training images of this run, so the kind of an image is not told",
                data.display()
            );
            None
        }
        _ => {
            let (spec, augmentation) = (run.recipe.spec(), &run.recipe.augmentation);
            let statistics = tempered.training_statistics(&training, &spec, augmentation, run.recipe.seed)?;
            Some(threshold(Kind::fit(&statistics)?, &records, settings.false_alarms)?)
        }
    };

    let text = describe(
        &manifest,
        &records,
        &fitted,
        kind.as_ref(),
        settings,
        [before, calibration_error(&records)],
        temperature,
    )?;
    for (class, least) in manifest.classes.iter_mut().zip(&fitted.unsure_below) {
        class.unsure_below = least.map(round);
    }
    manifest.calibration = Some(Calibration {
        data: run.recipe.data.source.clone(),
        patients: patient_count(&records),
        images: records.len(),
        sampler: options.sampler,
        steps: options.steps,
        samples: options.samples,
        temperature,
        expected_dice: fitted.maps,
        unsure_rate: settings.unsure_rate,
        level: settings.level,
        intervals: fitted.rules,
        kind,
    });
    let card = with_section(&loaded.model_card(), &text);
    let files = loaded.files().map(|(name, bytes)| (name, if name == CARD_FILE { card.as_bytes() } else { bytes }));
    write_bundle(bundle, manifest, &files.collect::<Vec<_>>())?;
    Ok(text)
}

/// Five significant digits are more than some dozen patients can tell.
fn round(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

fn patient_count(records: &[Record]) -> usize {
    records.iter().map(|record| record.patient.as_str()).collect::<BTreeSet<_>>().len()
}

/// The threshold at a rate of false alarms. Where so few patients don't tell it, the largest score among them, and what
/// that guarantees.
fn threshold(kind: Kind, records: &[Record], false_alarms: f64) -> Result<Kind> {
    let mut by_patient: std::collections::BTreeMap<&str, Vec<f64>> = Default::default();
    for record in records {
        by_patient.entry(&record.patient).or_default().push(kind.score(&record.statistics)?);
    }
    let scores: Vec<Vec<f64>> = by_patient.into_values().collect();
    let (threshold, false_alarms) = match conformal::quantile(&scores, 1.0 - false_alarms) {
        Some(score) => (score, false_alarms),
        None => {
            let largest = scores.iter().flatten().copied().fold(0.0, f64::max);
            (largest, 1.0 - conformal::highest_level(scores.len()))
        }
    };
    Ok(Kind { threshold: round(threshold * (1.0 + 1e-4)), false_alarms: round(false_alarms), ..kind })
}

/// What was learned, and how it does on patients of whom it was not learned: each of [`GROUPS`] groups of them by what
/// the others give.
fn describe(
    manifest: &Manifest,
    records: &[Record],
    fitted: &Fitted,
    kind: Option<&Kind>,
    settings: &Settings,
    errors: [f64; 2],
    temperature: f64,
) -> Result<String> {
    let group_of = groups(records, GROUPS);
    let mut judged = Judged::new(manifest);
    for group in 0..GROUPS {
        let of = |inside: bool| -> Vec<&Record> {
            records
                .iter()
                .zip(&group_of)
                .filter(|(_, own)| (**own == group) == inside)
                .map(|(record, _)| record)
                .collect()
        };
        let (own, others) = (of(true), of(false));
        if !own.is_empty() && !others.is_empty() {
            judged.add(
                manifest,
                &own,
                &Fitted::to(manifest, &others, settings.unsure_rate, settings.level),
                settings.level,
            );
        }
    }
    let mut text = format!(
        "On {} images of {} patients that nothing else was learned from. Tables: each tenth of these patients by what the \
         others give.\n\nTemperature {temperature}: the foreground's calibration error is {:.4}, before {:.4} (on the same \
         patients).\n\n",
        records.len(),
        patient_count(records),
        errors[1],
        errors[0],
    );
    judged.write(&mut text, settings.level);
    for rule in &fitted.rules {
        let _ = writeln!(text, "- {}: {:.1} % either way", rule.quantity.name(), 100.0 * rule.within);
    }
    if let Some(kind) = kind {
        let scores = records.iter().map(|record| kind.score(&record.statistics)).collect::<Result<Vec<_>>>()?;
        let _ = writeln!(
            text,
            "\nScore of kind: {:.2} on average, threshold {}; of images of the right kind at most {:.1} % are refused.",
            scores.iter().sum::<f64>() / scores.len() as f64,
            kind.threshold,
            100.0 * kind.false_alarms
        );
    }
    Ok(text)
}

/// Tables in the making.
struct Judged {
    dice: Vec<(String, DiceTable)>,
    intervals: Vec<(Quantity, IntervalTable)>,
}

impl Judged {
    fn new(manifest: &Manifest) -> Self {
        Self {
            dice: manifest.classes.iter().map(|class| (class.name.clone(), DiceTable::default())).collect(),
            intervals: Quantity::ALL.map(|quantity| (quantity, IntervalTable::default())).into(),
        }
    }

    fn add(&mut self, manifest: &Manifest, own: &[&Record], fitted: &Fitted, level: f64) {
        for (index, class) in manifest.classes.iter().enumerate().skip(1) {
            self.dice[index].1.add(own, index, &class.name, fitted);
        }
        let measured = by_patient(&own.iter().map(|record| (*record).clone()).collect::<Vec<_>>());
        for (quantity, table) in &mut self.intervals {
            let rule = fitted.rules.iter().find(|rule| rule.quantity == *quantity);
            table.add(measured.values(), *quantity, rule, level);
        }
    }

    fn write(&self, text: &mut String, level: f64) {
        let _ = writeln!(text, "{}", DiceTable::HEAD);
        for (name, table) in self.dice.iter().skip(1) {
            let _ = writeln!(text, "{}", table.line(name));
        }
        let lines: Vec<String> = self.intervals.iter().filter_map(|(quantity, table)| table.line(*quantity)).collect();
        if !lines.is_empty() {
            let _ = writeln!(
                text,
                "\nIntervals at {} %:\n\n{}\n{}\n",
                100.0 * level,
                IntervalTable::HEAD,
                lines.join("\n")
            );
        }
    }
}

/// Cross-validation: for each fold, a run and the bundle that was exported from it. Each fold's validation patients are
/// judged by what the other folds' give. Returns tables, Markdown; no bundle is changed. With `naive` samples or more than
/// one, the middle part of the samples' values is judged beside.
///
/// # Errors
/// [`ErrorKind::Setting`] for fewer than two folds, a patient that validates in two, and settings out of range; those of
/// [`calibrate`].
pub fn cross_validate(folds: &[(PathBuf, PathBuf)], data: &Path, naive: usize, settings: &Settings) -> Result<String> {
    settings.check()?;
    if folds.len() < 2 {
        return Err(Error::new(ErrorKind::Setting, format!("{} folds, expected two or more", folds.len())));
    }
    let all = discover(data)?;
    let mut read = Vec::new();
    let mut seen = BTreeSet::new();
    for (bundle, run) in folds {
        let (bundle, run) = (Bundle::load(bundle)?, Run::read(run)?);
        let cases = run.cases(&all, None)?;
        if let Some(twice) = run.split.validation.iter().find(|patient| !seen.insert((*patient).clone())) {
            let message = format!("{twice} validates in another fold too, expected every patient in one");
            return Err(Error::new(ErrorKind::Setting, message).in_file(&run.split_path));
        }
        let classes = read_classes(&run.recipe_path)?;
        read.push((bundle, run, cases, classes));
    }
    let raw = |bundle: &Bundle| Manifest { calibration: None, ..bundle.manifest().clone() };
    let mut voxels = Vec::new();
    let mut errors = [Reliability::default(); 2];
    for (bundle, _, cases, classes) in &read {
        let manifest = raw(bundle);
        let options = options(&manifest, settings.samples, false);
        let asked = Asked { bundle, options, manifest, spacing: settings.pixel_spacing };
        let mut own = Voxels::default();
        asked.voxels(cases, classes)?.into_iter().for_each(|of| own.extend(of));
        asked.records(cases, classes)?.iter().for_each(|r| errors[0].merge(&r.reliability));
        voxels.push(own);
    }
    let (mut records, mut temperatures): (Vec<Vec<Record>>, Vec<f64>) = Default::default();
    let mut false_alarms = Vec::new();
    for (index, (bundle, run, cases, classes)) in read.iter().enumerate() {
        let mut others = Voxels::default();
        voxels.iter().enumerate().filter(|(i, _)| *i != index).for_each(|(_, own)| others.extend(own.clone()));
        let temperature = others.fit();
        let asked = |options: SegmentOptions| Asked {
            bundle,
            manifest: at_temperature(&raw(bundle), &options, temperature),
            options,
            spacing: settings.pixel_spacing,
        };
        let sampled =
            (naive > 1).then(|| asked(options(bundle.manifest(), naive, true)).records(cases, classes)).transpose()?;
        let asked = asked(options(bundle.manifest(), settings.samples, false));
        let mut own = asked.records(cases, classes)?;
        if let Some(sampled) = sampled {
            own.iter_mut().zip(sampled).for_each(|(record, sampled)| record.take_samples(sampled));
        }
        own.iter().for_each(|record| errors[1].merge(&record.reliability));
        let training = asked.training_statistics(
            &run.training_cases(&all),
            &run.recipe.spec(),
            &run.recipe.augmentation,
            run.recipe.seed,
        )?;
        // One half of the patients gives the threshold, the other is judged by it, and the other way round.
        let kind = Kind::fit(&training)?;
        let half = groups(&own, 2);
        for group in 0..2 {
            let of = |inside: bool| -> Vec<Record> {
                own.iter()
                    .zip(&half)
                    .filter(|(_, own)| (**own == group) == inside)
                    .map(|(record, _)| record.clone())
                    .collect()
            };
            let told = threshold(kind.clone(), &of(false), settings.false_alarms)?;
            for record in of(true) {
                false_alarms.push(f64::from(u8::from(told.score(&record.statistics)? > told.threshold)));
            }
        }
        temperatures.push(temperature);
        records.push(own);
        eprintln!("fold {} of {}: {} images", index + 1, read.len(), records[index].len());
    }
    let manifest = read[0].0.manifest();
    let mut judged = Judged::new(manifest);
    for (index, own) in records.iter().enumerate() {
        let others: Vec<&Record> =
            records.iter().enumerate().filter(|(i, _)| *i != index).flat_map(|(_, r)| r).collect();
        let fitted = Fitted::to(manifest, &others, settings.unsure_rate, settings.level);
        judged.add(manifest, &own.iter().collect::<Vec<_>>(), &fitted, settings.level);
    }
    let temperatures = temperatures.iter().map(|t| format!("{t:.2}")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "{} folds, {} images of {} patients, each by what the other folds give. Temperatures {temperatures}: the foreground's \
         calibration error is {:.4}, before {:.4}.\n\n",
        read.len(),
        records.iter().map(Vec::len).sum::<usize>(),
        records.iter().map(|own| patient_count(own)).sum::<usize>(),
        errors[1].calibration_error(),
        errors[0].calibration_error(),
    );
    judged.write(&mut text, settings.level);
    let _ = writeln!(
        text,
        "Refused as of another kind: {:.2} % of {} images of the right kind, asked for {} %.",
        100.0 * false_alarms.iter().sum::<f64>() / false_alarms.len() as f64,
        false_alarms.len(),
        100.0 * settings.false_alarms
    );
    Ok(text)
}

/// The card with its section on calibration, in place of an older one.
fn with_section(card: &str, text: &str) -> String {
    let mut kept = String::new();
    let mut skipping = false;
    for line in card.lines() {
        if line.starts_with("## ") {
            skipping = line == SECTION;
        }
        if !skipping {
            kept += line;
            kept.push('\n');
        }
    }
    format!("{}\n\n{SECTION}\n\n{}\n", kept.trim_end(), text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_has_one_section() {
        let once = with_section("# echo\n\n## Limits\n\nMany.\n", "First.");
        assert_eq!(once, "# echo\n\n## Limits\n\nMany.\n\n## Calibration\n\nFirst.\n");
        let moved = once.replace("First.\n", "First.\n\n## Last\n\nWords.\n");
        assert_eq!(
            with_section(&moved, "Second."),
            "# echo\n\n## Limits\n\nMany.\n\n## Last\n\nWords.\n\n## Calibration\n\nSecond.\n"
        );
    }

    #[test]
    fn patients_of_training_are_refused() {
        let case = |patient: &str| Case {
            name: format!("{patient}_ED"),
            patient: patient.into(),
            images: vec![],
            labels: "".into(),
        };
        let all = ["p1", "p2", "p3", "p4"].map(case);
        let dir = tempfile::tempdir().unwrap();
        let list = |text: &str| {
            let path = dir.path().join("patients.txt");
            fs::write(&path, text).unwrap();
            path
        };
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let run = Run {
            recipe: Recipe::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/recipes/echo.yaml")), &[])
                .unwrap(),
            recipe_path: "recipe.yaml".into(),
            split: SplitFile { train: set(&["p1", "p2"]), validation: set(&["p3"]) },
            split_path: "split.yaml".into(),
        };
        let names = |cases: Vec<Case>| cases.into_iter().map(|case| case.patient).collect::<Vec<_>>();
        assert_eq!(names(run.cases(&all, None).unwrap()), ["p3"]);
        assert_eq!(names(run.cases(&all, Some(&list("p4 # kept\n\n p3\n"))).unwrap()), ["p3", "p4"]);
        assert_eq!(names(run.training_cases(&all)), ["p1", "p2"]);
        for (text, told) in [("p4\np1\n", "such as p1"), ("p9\n", "p9 has no case"), ("# none\n", "names no patient")] {
            let error = run.cases(&all, Some(&list(text))).unwrap_err();
            assert!(error.kind() == ErrorKind::Setting && error.to_string().contains(told), "{error}");
        }
    }
}
