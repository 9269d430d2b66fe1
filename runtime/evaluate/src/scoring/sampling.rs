//! Scores of a case's samples and probabilities, where `ldseg segment --keep-samples` wrote them beside its label map.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::Axis;
use serde::{Serialize, Serializer};

use crate::metrics::sampling::{
    Reliability, ReliabilityBin, energy_distance, reliability, uncertainty_error_correlation,
};
use crate::metrics::summary::Summary;
use ldseg::image::{Labels, Turn};
use ldseg::segmenter::argmax;
use ldseg::uncertainty::entropy;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{PROBABILITIES, SAMPLES, case_name, read_label_stack, read_stack};

/// What is measured of samples and probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SamplingMeasure {
    /// [`energy_distance`].
    EnergyDistance,
    /// [`Reliability::calibration_error`] of all voxels.
    CalibrationError,
    /// The same near the foreground.
    CalibrationErrorForeground,
    /// [`uncertainty_error_correlation`] of the entropy.
    Correlation,
}

ldseg::named!(
    "measure",
    SamplingMeasure {
        EnergyDistance = "generalised_energy_distance",
        CalibrationError = "expected_calibration_error",
        CalibrationErrorForeground = "expected_calibration_error_foreground",
        Correlation = "uncertainty_error_correlation",
    }
);

impl Serialize for SamplingMeasure {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A case's measures; those whose file is missing are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SamplingScores {
    /// How many samples there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// The measures; NaN, `null` in JSON, where one is not defined.
    #[serde(flatten)]
    pub values: BTreeMap<SamplingMeasure, f64>,
    /// Of all voxels, and of those near the foreground.
    #[serde(skip)]
    pub reliability: [Reliability; 2],
}

/// Over all cases that have them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SamplingSummary {
    /// Average of each measure.
    pub summary: BTreeMap<SamplingMeasure, Summary>,
    /// The reliability diagram of all voxels of all cases.
    pub reliability: Vec<ReliabilityBin>,
    /// That of those near the foreground.
    pub reliability_foreground: Vec<ReliabilityBin>,
}

/// Scores what lies beside a prediction, turned as that is; `None` where nothing does.
///
/// # Errors
/// Those of reading, naming the file; [`ErrorKind::Format`] where the reference holds a class that the probabilities or
/// samples do not know.
pub(super) fn score(prediction: &Path, reference: &Labels, turn: Turn) -> Result<Option<SamplingScores>> {
    let stored = turn.inverse().array(reference.clone());
    let size = stored.shape();
    let (samples, probabilities) = (beside(prediction, SAMPLES), beside(prediction, PROBABILITIES));
    let mut scores = SamplingScores { samples: None, values: BTreeMap::new(), reliability: Default::default() };
    let mut classes = reference.iter().max().map_or(1, |largest| usize::from(*largest) + 1);
    if let Some(path) = &probabilities {
        let probabilities = turn.array(read_stack(path, size)?);
        if probabilities.shape()[0] < classes.max(2) {
            let message = format!("has {} classes, the label map has {classes}", probabilities.shape()[0]);
            return Err(Error::new(ErrorKind::Format, message).in_file(path));
        }
        classes = probabilities.shape()[0];
        let found = argmax(&probabilities);
        scores.reliability = reliability(&probabilities, &found, reference);
        let errors = scores.reliability.each_ref().map(Reliability::calibration_error);
        scores.values.insert(SamplingMeasure::CalibrationError, errors[0]);
        scores.values.insert(SamplingMeasure::CalibrationErrorForeground, errors[1]);
        let correlation = uncertainty_error_correlation(&entropy(&probabilities), &found, reference);
        scores.values.insert(SamplingMeasure::Correlation, correlation);
    }
    if let Some(path) = &samples {
        let maps = turn.array(read_label_stack(path, size)?);
        let largest = maps.iter().max().map_or(0, |largest| usize::from(*largest));
        let samples: Vec<Labels> = maps.axis_iter(Axis(0)).map(|map| map.to_owned()).collect();
        scores.samples = Some(samples.len());
        let distance = energy_distance(&samples, reference, classes.max(largest + 1));
        scores.values.insert(SamplingMeasure::EnergyDistance, distance);
    }
    Ok((samples.is_some() || probabilities.is_some()).then_some(scores))
}

/// `X_suffix.nii.gz` or `.nii` beside the prediction `X`, where it is there.
fn beside(prediction: &Path, suffix: &str) -> Option<PathBuf> {
    let name = case_name(prediction)?;
    let paths = ["nii.gz", "nii"].map(|extension| prediction.with_file_name(format!("{name}{suffix}.{extension}")));
    paths.into_iter().find(|path| path.is_file())
}

/// Averages over the cases that have scores, each with the group that it is drawn with; `None` where no case has any.
pub(super) fn summarise(
    cases: &[(Option<&SamplingScores>, usize)],
    bootstrap: crate::metrics::summary::Bootstrap,
) -> Option<SamplingSummary> {
    let scored: Vec<_> = cases.iter().filter_map(|(scores, group)| Some(((*scores)?, *group))).collect();
    let groups: Vec<usize> = scored.iter().map(|(_, group)| *group).collect();
    let mut pooled = [Reliability::default(); 2];
    scored
        .iter()
        .for_each(|(scores, _)| pooled.iter_mut().zip(&scores.reliability).for_each(|(all, own)| all.merge(own)));
    let measures = SamplingMeasure::ALL.into_iter().filter_map(|measure| {
        let value = |scores: &SamplingScores| scores.values.get(&measure).copied();
        let values: Vec<f64> = scored.iter().map(|(scores, _)| value(scores).unwrap_or(f64::NAN)).collect();
        let taken = scored.iter().any(|(scores, _)| value(scores).is_some());
        taken.then(|| (measure, Summary::of(&values, &groups, bootstrap)))
    });
    (!scored.is_empty()).then(|| SamplingSummary {
        summary: measures.collect(),
        reliability: pooled[0].bins(),
        reliability_foreground: pooled[1].bins(),
    })
}
