//! What a study found: as JSON, as CSV and as Markdown tables.

use std::fmt::Write;

use serde::Serialize;

use super::{Corruption, Score, Settings};
use crate::metrics::summary::Summary;
use crate::scoring::{FailedCase, csv_cell, csv_number, groups};
use ldseg::Error;

/// The mean over the classes, in place of a class's name.
const MEAN: &str = "mean";

/// A point of a curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Point {
    bundle: String,
    corruption: Corruption,
    strength: f64,
    /// A class's name, or `mean`: the mean over the classes, of each image.
    class: String,
    dice: Summary,
}

/// Everything that a study found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RobustnessCurves {
    settings: Settings,
    bundles: Vec<String>,
    classes: Vec<String>,
    images: usize,
    curves: Vec<Point>,
    /// Images that could not be studied.
    pub failed: Vec<FailedCase>,
    /// What was noted of images, each with its path before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    #[serde(skip)]
    cases: Vec<(String, String)>,
    #[serde(skip)]
    scores: Vec<Score>,
}

impl RobustnessCurves {
    pub(super) fn new(settings: Settings, bundles: Vec<String>, mut classes: Vec<String>) -> Self {
        classes.push(MEAN.to_owned());
        let (curves, failed, cases, scores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { settings, bundles, classes, images: 0, curves, failed, notes: Vec::new(), cases, scores }
    }

    pub(super) fn case_count(&self) -> usize {
        self.cases.len()
    }

    pub(super) fn add(&mut self, name: String, patient: String, scores: Vec<Score>) {
        self.cases.push((name, patient));
        self.scores.extend(scores);
    }

    pub(super) fn fail(&mut self, name: String, error: &Error) {
        self.failed.push(FailedCase { name, error: error.to_string() });
    }

    /// Averages over the images.
    pub(super) fn finish(&mut self) {
        self.images = self.cases.len();
        let patients = groups(self.cases.iter().map(|(_, patient)| patient.as_str()));
        for corruption in self.settings.corruptions.clone() {
            let strengths = self.settings.strengths(corruption);
            for strength in std::iter::once(0.0).chain(strengths) {
                for subject in 0..self.bundles.len() {
                    let points = self.points(subject, corruption, strength, &patients);
                    self.curves.extend(points);
                }
            }
        }
    }

    fn points(&self, subject: usize, corruption: Corruption, strength: f64, patients: &[usize]) -> Vec<Point> {
        let of_this = |score: &&Score| {
            score.subject == subject
                && score.strength == strength
                && score.corruption.is_none_or(|found| found == corruption)
        };
        let scores: Vec<&Score> = self.scores.iter().filter(of_this).collect();
        let groups: Vec<usize> = scores.iter().map(|score| patients[score.case]).collect();
        let point = |(index, class): (usize, &String)| {
            let values: Vec<f64> = scores.iter().map(|score| score.dice[index]).collect();
            Point {
                bundle: self.bundles[subject].clone(),
                corruption,
                strength,
                class: class.clone(),
                dice: Summary::of(&values, &groups, self.settings.bootstrap),
            }
        };
        self.classes.iter().enumerate().map(point).collect()
    }

    /// The curves, one line a point.
    pub fn csv(&self) -> String {
        let mut text = "bundle,corruption,strength,class,mean,std,ci95_low,ci95_high,n\n".to_owned();
        for point in &self.curves {
            let d = &point.dice;
            let numbers = [d.mean, d.std, d.ci95[0], d.ci95[1]].map(csv_number).join(",");
            let (bundle, class) = (csv_cell(&point.bundle), csv_cell(&point.class));
            let (corruption, strength) = (point.corruption.name(), round(point.strength));
            text.extend([format!("{bundle},{corruption},{strength},{class},{numbers},{}\n", d.n)]);
        }
        text
    }

    /// The Dice of every image, one line a bundle, corruption, strength and image; clean images as `none`.
    pub fn cases_csv(&self) -> String {
        let mut text = "bundle,corruption,strength,name,patient".to_owned();
        self.classes.iter().for_each(|class| text.extend([",", &csv_cell(class)]));
        text.push('\n');
        for score in &self.scores {
            let (name, patient) = &self.cases[score.case];
            let corruption = score.corruption.map_or("none", Corruption::name);
            let [bundle, name, patient] = [&self.bundles[score.subject], name, patient].map(|cell| csv_cell(cell));
            text.push_str(&format!("{bundle},{corruption},{},{name},{patient}", round(score.strength)));
            score.dice.iter().for_each(|dice| text.extend([",", &csv_number(*dice)]));
            text.push('\n');
        }
        text
    }

    /// A table for each corruption: strengths down, bundles and classes across.
    ///
    /// # Errors
    /// None in practice: writing into a string.
    pub fn markdown(&self) -> std::result::Result<String, std::fmt::Error> {
        let mut text = format!("Mean Dice over {} images with its 95 % interval.\n", self.images);
        for corruption in &self.settings.corruptions {
            write!(text, "\n**{}**\n\n| strength |", corruption.name())?;
            for bundle in &self.bundles {
                self.classes.iter().try_for_each(|class| write!(text, " {bundle}: {class} |"))?;
            }
            write!(text, "\n|---|{}", "---|".repeat(self.bundles.len() * self.classes.len()))?;
            let mut strength = None;
            for point in self.curves.iter().filter(|point| point.corruption == *corruption) {
                if strength.replace(point.strength) != Some(point.strength) {
                    write!(text, "\n| {} |", round(point.strength))?;
                }
                let d = &point.dice;
                write!(text, " {:.3} ({:.3} to {:.3}) |", d.mean, d.ci95[0], d.ci95[1])?;
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// Without the digits that binary fractions leave.
fn round(strength: f64) -> f64 {
    (strength * 1e6).round() / 1e6
}
