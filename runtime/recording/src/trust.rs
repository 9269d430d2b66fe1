//! How far an answer can be believed, by the bundle's calibration: intervals about what was measured, and no measurement of
//! an image that is not of the kind that the bundle was trained on.

use std::collections::BTreeMap;

use ldseg::Result;
use ldseg::bundle::Manifest;
use ldseg::calibration::{Calibration, Quantity};
use ldseg::frames::FrameOptions;
use ldseg::image::Labels;
use ldseg::segmenter::{SegmentOptions, Segmentation};
use serde::Serialize;

use crate::heart::{Chamber, Heartbeat, LeftHeart, Measured};

/// Intervals by what they are about, in the unit of the value beside them.
pub type Intervals = BTreeMap<Quantity, [f64; 2]>;

/// Whether an image is of the kind that the bundle was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImageKind {
    /// How far from what is usual it lies: about 1 is usual. Of a cine the median over its frames.
    pub score: f64,
    /// The largest score of the right kind.
    pub threshold: f64,
    /// Whether it is of the right kind.
    pub right: bool,
    /// Whether it was to be measured all the same.
    pub measured_anyway: bool,
}

/// What a bundle's calibration says of answers with some settings.
#[derive(Debug, Clone)]
pub struct Trust {
    bundle: String,
    calibration: Option<Calibration>,
    /// Whether there are no intervals though the bundle has some, since these hold for other settings.
    other_settings: bool,
    pub(crate) measure_anyway: bool,
}

impl Trust {
    /// Of answers with these options. With `measure_anyway` what is of another kind is measured all the same.
    pub fn new(manifest: &Manifest, options: &FrameOptions, measure_anyway: bool) -> Self {
        let alike = options.warm_start.is_none() && options.deadline.is_none();
        Self::of_image(manifest, &options.segment, alike, measure_anyway)
    }

    /// The same of one image alone; `alike` says whether it is segmented as images were for calibration.
    pub(crate) fn of_image(manifest: &Manifest, options: &SegmentOptions, alike: bool, measure_anyway: bool) -> Self {
        let calibration = manifest.calibration.clone();
        let other_settings = calibration
            .as_ref()
            .is_some_and(|own| !(alike && own.holds_for(options.sampler, options.steps, options.samples)));
        Self { bundle: manifest.name.clone(), calibration, other_settings, measure_anyway }
    }

    /// The kind of an image; `None` where the bundle doesn't tell.
    ///
    /// # Errors
    /// Those of [`ldseg::calibration::Kind::score`].
    pub fn kind(&self, segmentation: &Segmentation) -> Result<Option<ImageKind>> {
        let kind = self.calibration.as_ref().and_then(|calibration| calibration.kind.as_ref());
        let score = kind.map(|kind| kind.score(&segmentation.statistics)).transpose()?;
        Ok(score.and_then(|score| self.by_score(score)))
    }

    /// The kind of a cine: by the median of its frames' scores.
    pub fn kind_of_cine(&self, frames: &[ImageKind]) -> Option<ImageKind> {
        let mut scores: Vec<f64> = frames.iter().map(|frame| frame.score).collect();
        scores.sort_by(f64::total_cmp);
        self.by_score(*scores.get(scores.len() / 2)?)
    }

    fn by_score(&self, score: f64) -> Option<ImageKind> {
        let threshold = self.calibration.as_ref()?.kind.as_ref()?.threshold;
        Some(ImageKind { score, threshold, right: score <= threshold, measured_anyway: self.measure_anyway })
    }

    /// The level of the intervals, where there are any for these settings.
    pub fn level(&self) -> Option<f64> {
        self.with_intervals().map(|calibration| calibration.level)
    }

    /// The level, where there is one of these intervals.
    pub(crate) fn level_of<'a>(&self, mut intervals: impl Iterator<Item = &'a Intervals>) -> Option<f64> {
        self.level().filter(|_| intervals.any(|of_one| !of_one.is_empty()))
    }

    fn with_intervals(&self) -> Option<&Calibration> {
        let own = self.calibration.as_ref().filter(|_| !self.other_settings);
        own.filter(|calibration| !calibration.intervals.is_empty())
    }

    /// Measures one frame, where its kind lets it be measured, and adds the intervals.
    ///
    /// # Errors
    /// Those of [`LeftHeart::measure`].
    pub fn measure(
        &self,
        heart: Option<&LeftHeart>,
        labels: &Labels,
        spacing: Option<[f64; 2]>,
        kind: Option<ImageKind>,
    ) -> Result<Measured> {
        let Some(heart) = heart.filter(|_| ImageKind::may_be_measured(kind)) else { return Ok(Measured::default()) };
        let mut measured = heart.measure(labels, spacing)?;
        self.frame_intervals(&mut measured, kind);
        Ok(measured)
    }

    /// Adds the intervals about what was measured in one frame, of an image of this kind: none is about what is of another.
    fn frame_intervals(&self, measured: &mut Measured, kind: Option<ImageKind>) {
        use Quantity::*;
        let (Some(calibration), true) = (self.with_intervals(), kind.is_none_or(|kind| kind.right)) else { return };
        let ventricle = [LeftVentricleArea, LeftVentricleLongAxis, LeftVentricleVolume];
        let atrium = [LeftAtriumArea, LeftAtriumLongAxis, LeftAtriumVolume];
        let chambers = [(&measured.left_ventricle, ventricle), (&measured.left_atrium, atrium)];
        let mut intervals = Intervals::new();
        for (chamber, quantities) in chambers {
            let Some(Chamber { area_cm2, long_axis_mm, volume_ml, .. }) = chamber else { continue };
            for (quantity, value) in quantities.into_iter().zip([area_cm2, long_axis_mm, volume_ml]) {
                intervals.extend(calibration.interval(quantity, *value).map(|interval| (quantity, interval)));
            }
        }
        measured.intervals = intervals;
    }

    /// Adds the intervals about what a heartbeat tells.
    pub fn heartbeat_intervals(&self, heartbeat: &mut Heartbeat, kind: Option<ImageKind>) {
        use Quantity::*;
        let (Some(calibration), true) = (self.with_intervals(), kind.is_none_or(|kind| kind.right)) else { return };
        let values = [
            (EndDiastolicVolume, heartbeat.end_diastolic_volume_ml),
            (EndSystolicVolume, heartbeat.end_systolic_volume_ml),
            (EjectionFraction, Some(heartbeat.ejection_fraction)),
        ];
        let intervals = values.into_iter().filter_map(|(quantity, value)| {
            calibration.interval(quantity, value?).map(|interval| (quantity, interval))
        });
        heartbeat.intervals = intervals.collect();
        heartbeat.ejection_fraction_interval = heartbeat.intervals.get(&EjectionFraction).copied();
    }

    /// What the user has to know. `measuring` says whether something was to be measured.
    pub fn notes(&self, kind: Option<ImageKind>, measuring: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(kind) = kind.filter(|kind| !kind.right) {
            let mut text = format!(
                "is not of the kind of image that {} was trained on (score {:.2}, at most {:.2} is): its labels may mean \
                 nothing",
                self.bundle, kind.score, kind.threshold
            );
            match (measuring, kind.measured_anyway) {
                (true, true) => text += "; measured all the same, as was asked for, and without intervals",
                (true, false) => text += "; it is not measured",
                (false, _) => {}
            }
            notes.push(text);
        }
        if let (true, true, Some(own)) = (measuring, self.other_settings, &self.calibration) {
            notes.push(format!(
                "has no intervals: they hold for sampler {}, {} steps, {} samples, without warm start or deadline",
                own.sampler.name(),
                own.steps,
                own.samples
            ));
        }
        notes
    }
}

impl ImageKind {
    /// Whether it may be measured: it is of the right kind, or was to be measured all the same.
    pub fn may_be_measured(kind: Option<Self>) -> bool {
        kind.is_none_or(|kind| kind.right || kind.measured_anyway)
    }
}

/// A value with its interval, in words: `54 %, 90 % interval 46 to 61`.
pub fn in_words(value: f64, unit: &str, interval: Option<[f64; 2]>, level: Option<f64>) -> String {
    let digits = usize::from(value.abs() < 10.0);
    let mut text = format!("{value:.digits$} {unit}");
    if let Some(([low, high], level)) = interval.zip(level) {
        text += &format!(", {:.0} % interval {low:.digits$} to {high:.digits$}", 100.0 * level);
    }
    text
}

/// What a heartbeat tells, in a line.
pub fn heartbeat_in_words(beat: &Heartbeat, level: Option<f64>) -> String {
    let interval = |quantity| beat.intervals.get(&quantity).copied();
    let percent = interval(Quantity::EjectionFraction).map(|interval| interval.map(|value| 100.0 * value));
    let mut parts = vec![format!("EF {}", in_words(100.0 * beat.ejection_fraction, "%", percent, level))];
    for (name, quantity, volume) in [
        ("EDV", Quantity::EndDiastolicVolume, beat.end_diastolic_volume_ml),
        ("ESV", Quantity::EndSystolicVolume, beat.end_systolic_volume_ml),
    ] {
        parts.extend(volume.map(|volume| format!("{name} {}", in_words(volume, "ml", interval(quantity), level))));
    }
    parts.join("; ")
}

/// Draws a frame and both diagonals in red: these labels may mean nothing.
#[cfg(feature = "files")]
pub(crate) fn strike_out(picture: &mut image::RgbImage) {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    let thick = (width.min(height) / 60).max(1);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (x, y) = (i64::from(x), i64::from(y));
        let edge = x.min(y).min(width - 1 - x).min(height - 1 - y) < thick;
        // Pixels of both diagonals, as thick across.
        let near = |x: i64| (x * height - y * width).abs() <= thick * width.max(height) / 2;
        if edge || near(x) || near(width - 1 - x) {
            *pixel = image::Rgb([255, 0, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_with_their_interval() {
        assert_eq!(in_words(54.2, "%", Some([46.1, 61.3]), Some(0.9)), "54 %, 90 % interval 46 to 61");
        assert_eq!(in_words(5.44, "ml", Some([4.0, 6.96]), Some(0.8)), "5.4 ml, 80 % interval 4.0 to 7.0");
        assert_eq!(in_words(54.2, "%", None, Some(0.9)), "54 %");
    }

    #[cfg(feature = "files")]
    #[test]
    fn what_is_struck_out_shows_it_at_any_size() {
        for (width, height) in [(224, 224), (640, 480), (7, 90), (1, 1)] {
            let mut picture = image::RgbImage::new(width, height);
            strike_out(&mut picture);
            let red = |x: u32, y: u32| picture.get_pixel(x, y).0 == [255, 0, 0];
            assert!(red(0, 0) && red(width - 1, height - 1) && red(width / 2, height / 2), "{width} x {height}");
            assert!(red(width / 4, height / 4) || width < 8);
            if width > 100 {
                assert!(!red(width / 2, height / 4) && !red(width / 4, height / 2), "the rest can still be seen");
            }
        }
    }
}
