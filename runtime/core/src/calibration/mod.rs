//! What is known of a bundle's answers beyond the answers: probabilities that are right as often as they say, the Dice
//! that a structure reaches, intervals about what is measured, and whether an image is of the right kind. Learned by
//! `ldseg-train calibrate` on patients kept for it, and kept in the manifest.

pub mod conformal;
mod dice;
mod kind;
mod temperature;

use serde::{Deserialize, Serialize};

pub use conformal::Scale;
pub use dice::DiceMap;
pub use kind::{Kind, Pooled, statistics};
pub use temperature::{Voxels, temper};

use crate::diffusion::Sampler;
use crate::{Error, ErrorKind, Result};

/// The manifest's `calibration`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The data that it was learned on.
    pub data: String,
    /// How many patients these are, none of which the networks were trained on.
    pub patients: usize,
    /// How many images of theirs.
    pub images: usize,
    /// Settings that all of it holds for.
    pub sampler: Sampler,
    /// Denoiser calls.
    pub steps: usize,
    /// Samples whose probabilities were averaged.
    pub samples: usize,
    /// See [`temper`]; above 0.
    pub temperature: f64,
    /// One for each class but the background that some image shows.
    pub expected_dice: Vec<DiceMap>,
    /// Part of the structures whose expected Dice was below their class's `unsure_below`.
    pub unsure_rate: f64,
    /// Probability with which an interval holds the true value, at least, above 0 and below 1.
    pub level: f64,
    /// Of what can be measured with such an interval.
    pub intervals: Vec<IntervalRule>,
    /// Whether an image is of the right kind; absent: not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Quantity {
    /// The left ventricle's area in one frame.
    LeftVentricleArea,
    /// Its long axis in one frame.
    LeftVentricleLongAxis,
    /// Its volume in one frame, by the method of discs in one plane.
    LeftVentricleVolume,
    /// The left atrium's area in one frame.
    LeftAtriumArea,
    /// Its long axis in one frame.
    LeftAtriumLongAxis,
    /// Its volume in one frame, by the method of discs in one plane.
    LeftAtriumVolume,
    /// The left ventricle's volume at end-diastole, in one plane.
    EndDiastolicVolume,
    /// The left ventricle's volume at end-systole, in one plane.
    EndSystolicVolume,
    /// From these two.
    EjectionFraction,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::LeftVentricleArea,
        Self::LeftVentricleLongAxis,
        Self::LeftVentricleVolume,
        Self::LeftAtriumArea,
        Self::LeftAtriumLongAxis,
        Self::LeftAtriumVolume,
        Self::EndDiastolicVolume,
        Self::EndSystolicVolume,
        Self::EjectionFraction,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeftVentricleArea => "left ventricle, area",
            Self::LeftVentricleLongAxis => "left ventricle, long axis",
            Self::LeftVentricleVolume => "left ventricle, volume",
            Self::LeftAtriumArea => "left atrium, area",
            Self::LeftAtriumLongAxis => "left atrium, long axis",
            Self::LeftAtriumVolume => "left atrium, volume",
            Self::EndDiastolicVolume => "end-diastolic volume",
            Self::EndSystolicVolume => "end-systolic volume",
            Self::EjectionFraction => "ejection fraction",
        }
    }

    /// In what its errors are counted: a fraction in itself, all else in parts of it.
    pub fn scale(self) -> Scale {
        if self == Self::EjectionFraction { Scale::Absolute } else { Scale::Relative }
    }

    /// The values that it can have.
    fn range(self) -> [f64; 2] {
        [0.0, if self == Self::EjectionFraction { 1.0 } else { f64::MAX }]
    }
}

/// How far from what is measured the true value lies at most, at the calibration's level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalRule {
    /// What is measured.
    pub quantity: Quantity,
    /// In what `within` is counted.
    pub scale: Scale,
    /// See [`conformal::quantile`].
    pub within: f64,
}

impl Calibration {
    /// The interval about a measured value, within what the quantity can be; `None` for what has none.
    pub fn interval(&self, quantity: Quantity, measured: f64) -> Option<[f64; 2]> {
        let rule = self.intervals.iter().find(|rule| rule.quantity == quantity)?;
        let [least, most] = quantity.range();
        Some(rule.scale.interval(measured, rule.within).map(|value| value.clamp(least, most)))
    }

    /// Whether it holds for answers with these settings.
    pub fn holds_for(&self, sampler: Sampler, steps: usize, samples: usize) -> bool {
        (self.sampler, self.steps, self.samples) == (sampler, steps, samples)
    }

    /// Checks what its types alone don't, for a bundle with these classes and so many [`statistics`] of an image.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`], naming the key.
    pub fn check(&self, classes: &[&str], statistics: usize) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Bundle, format!("calibration: {message}")));
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return fail(format!("temperature is {}, expected above 0", self.temperature));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return fail(format!("level is {}, expected above 0 and below 1", self.level));
        }
        if !(0.0..=1.0).contains(&self.unsure_rate) {
            return fail(format!("unsure_rate is {}, expected 0 to 1", self.unsure_rate));
        }
        for map in &self.expected_dice {
            if !(classes.contains(&map.class.as_str())
                && map.offset.is_finite()
                && map.slope.is_finite()
                && map.slope >= 0.0)
            {
                return fail(format!("expected_dice of `{}` is of no class, or out of range", map.class));
            }
        }
        for rule in &self.intervals {
            if !(rule.within.is_finite() && rule.within >= 0.0) {
                return fail(format!("within is {}, expected 0 or more", rule.within));
            }
        }
        match self.kind.as_ref().and_then(|kind| kind.problem(statistics)) {
            Some(problem) => fail(problem),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        Calibration {
            data: "test".into(),
            patients: 40,
            images: 160,
            sampler: Sampler::Direct,
            steps: 1,
            samples: 1,
            temperature: 1.5,
            expected_dice: vec![DiceMap { class: "cavity".into(), offset: -1.0, slope: 1.0 }],
            unsure_rate: 0.1,
            level: 0.9,
            intervals: vec![
                IntervalRule { quantity: Quantity::EjectionFraction, scale: Scale::Absolute, within: 0.1 },
                IntervalRule { quantity: Quantity::EndDiastolicVolume, scale: Scale::Relative, within: 0.25 },
            ],
            kind: None,
        }
    }

    #[test]
    fn intervals_stay_within_what_can_be() {
        let calibration = calibration();
        let near = |found: Option<[f64; 2]>, expected: [f64; 2]| {
            found.unwrap().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
        };
        assert!(near(calibration.interval(Quantity::EjectionFraction, 0.54), [0.44, 0.64]));
        assert!(near(calibration.interval(Quantity::EjectionFraction, 0.95), [0.85, 1.0]));
        assert!(near(calibration.interval(Quantity::EndDiastolicVolume, 100.0), [75.0, 125.0]));
        assert_eq!(calibration.interval(Quantity::LeftAtriumArea, 10.0), None);
    }

    #[test]
    fn what_is_out_of_range_or_of_no_class_is_refused() {
        let check = |calibration: Calibration| calibration.check(&["background", "cavity", "wall"], 7);
        check(calibration()).unwrap();
        let rule = IntervalRule { quantity: Quantity::EjectionFraction, scale: Scale::Absolute, within: f64::NAN };
        let map = DiceMap { class: "lung".into(), offset: 0.0, slope: 1.0 };
        let kind = |size: usize| Kind {
            mean: vec![0.0; size],
            whitening: (0..size).map(|row| vec![1.0; row + 1]).collect(),
            threshold: 2.0,
            false_alarms: 0.01,
        };
        check(Calibration { kind: Some(kind(7)), ..calibration() }).unwrap();
        for wrong in [
            Calibration { temperature: 0.0, ..calibration() },
            Calibration { temperature: f64::NAN, ..calibration() },
            Calibration { level: 1.0, ..calibration() },
            Calibration { unsure_rate: -0.1, ..calibration() },
            Calibration { intervals: vec![rule], ..calibration() },
            Calibration { expected_dice: vec![map], ..calibration() },
            Calibration { kind: Some(kind(6)), ..calibration() },
            Calibration { kind: Some(Kind { threshold: f64::NAN, ..kind(7) }), ..calibration() },
        ] {
            let error = check(wrong).unwrap_err();
            assert!(error.kind() == ErrorKind::Bundle && error.to_string().starts_with("calibration: "), "{error}");
        }
    }
}
