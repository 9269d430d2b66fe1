//! Segmenting and measuring: one frame, one image in memory, a whole recording.

use ldseg::Result;
use ldseg::frames::{Frame, FrameOptions, Frames};
use ldseg::image::{Image, Region};
use ldseg::segmenter::{SegmentOptions, Segmentation, Segmenter};

use crate::decide::{Decisions, prepare};
use crate::heart::{LeftHeart, Measured};
use crate::trust::{ImageKind, Trust};

/// One image's answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// What was segmented.
    pub segmentation: Segmentation,
    /// What was decided before.
    pub decisions: Decisions,
    /// What was measured: nothing where the bundle declares no measure, the spacing is not known, or the image is of
    /// another kind than the bundle was trained on.
    pub measured: Measured,
    /// Whether it is of that kind, where the bundle tells.
    pub image_kind: Option<ImageKind>,
    /// Probability with which each interval about what was measured holds the true value, at least.
    pub interval_level: Option<f64>,
    /// What the user has to know of its kind and intervals.
    trust_notes: Vec<String>,
}

impl Answer {
    /// What the user has to know.
    pub fn notes(&self) -> Vec<String> {
        [self.decisions.notes(), self.trust_notes.clone()].concat()
    }
}

/// Decides about an image in memory, segments and measures it.
///
/// # Errors
/// Those of [`Segmenter::segment`] and [`prepare`].
pub fn segment_image(segmenter: &mut Segmenter, image: Image, options: &SegmentOptions) -> Result<Answer> {
    let (image, decisions) = prepare(image, segmenter.manifest().channels)?;
    let segmentation = segmenter.segment(&image, options)?;
    let trust = Trust::of_image(segmenter.manifest(), options, true, false);
    let (heart, image_kind) = (LeftHeart::of(segmenter.manifest()), trust.kind(&segmentation)?);
    let measured = trust.measure(heart.as_ref(), &segmentation.labels, decisions.spacing.of_pixel(), image_kind)?;
    let interval_level = (!measured.intervals.is_empty()).then(|| trust.level()).flatten();
    let trust_notes = trust.notes(image_kind, heart.is_some());
    Ok(Answer { segmentation, decisions, measured, image_kind, interval_level, trust_notes })
}

/// Segments frames in order, the whole of each or a part.
pub struct Runner {
    segmenter: Segmenter,
    frames: Frames,
    trust: Trust,
}

impl Runner {
    /// # Errors
    /// Those of [`Frames::new`].
    pub fn new(segmenter: Segmenter, options: FrameOptions) -> Result<Self> {
        let trust = Trust::new(segmenter.manifest(), &options, false);
        Ok(Self { segmenter, frames: Frames::new(options)?, trust })
    }

    /// The same, measuring images of any kind where `anyway` is set.
    pub fn measuring_anyway(mut self, anyway: bool) -> Self {
        self.trust.measure_anyway = anyway;
        self
    }

    /// What the bundle's calibration says of its answers.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// What segments.
    pub fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    /// Forgets the frame before: another recording begins.
    pub fn restart(&mut self) {
        self.frames.restart();
    }

    /// Segments a frame `[C, H, W]`, or the `part` of it that was decided on: all else is background then.
    ///
    /// # Errors
    /// Those of [`Frames::segment`]; [`ldseg::ErrorKind::ShapeMismatch`] where the part does not lie in the frame.
    pub fn segment(&mut self, image: &Image, part: Option<Region>, index: u64) -> Result<Frame> {
        let (Some(part), &[_, height, width]) = (part, image.data.shape()) else {
            return self.frames.segment(&mut self.segmenter, image, index);
        };
        let frame = self.frames.segment(&mut self.segmenter, &part.crop(image)?, index)?;
        Ok(Frame { segmentation: frame.segmentation.within(part, [height, width])?, ..frame })
    }
}

#[cfg(feature = "files")]
mod whole {
    use ldseg::ErrorKind;

    use super::*;
    use crate::heart::{FrameVentricle, heartbeat};
    use crate::prepared::Prepared;
    use crate::results::{ClassResult, Found, FoundIn, FrameResult, SPACING_NEEDED, mean};

    impl Runner {
        /// Segments every frame of a recording, and measures by `heart` where that is asked for. `each` sees every frame
        /// as decided, and its segmentation.
        ///
        /// # Errors
        /// Those of [`Self::segment`], naming the file; those of `each`.
        pub fn run(
            &mut self,
            prepared: &Prepared,
            heart: Option<&LeftHeart>,
            each: &mut dyn FnMut(&Image, &Segmentation) -> Result<()>,
        ) -> Result<Found> {
            self.restart();
            let decisions = prepared.decisions();
            let (part, spacing) = (decisions.part(), decisions.spacing.of_pixel());
            let heart = heart.filter(|_| decisions.is_one_view());
            let mut notes = decisions.notes();
            let mut segment = |runner: &mut Self, index: usize| {
                let image = prepared.frame(index)?;
                let frame = runner.segment(&image, part, index as u64).map_err(|e| e.in_file(prepared.path()))?;
                each(&image, &frame.segmentation)?;
                Ok(frame)
            };
            if !prepared.is_cine() {
                let frame = segment(self, 0)?;
                let classes = ClassResult::all(self.segmenter.manifest(), &frame.segmentation)?;
                let image_kind = self.trust.kind(&frame.segmentation)?;
                let measured = self.trust.measure(heart, &frame.segmentation.labels, spacing, image_kind)?;
                if heart.is_some() && spacing.is_none() {
                    notes.push(format!("is not measured: {SPACING_NEEDED}"));
                }
                let mean_uncertainty = mean(&frame.segmentation.uncertainty);
                let kind = FoundIn::Still { steps: frame.segmentation.steps, in_time: frame.in_time, measured };
                return Ok(self.trusted(
                    Found::new(classes, mean_uncertainty, kind, notes),
                    image_kind,
                    heart.is_some(),
                ));
            }
            let (mut frames, mut time_seconds) = (Vec::new(), 0.0);
            let (mut ventricles, mut atria) = (Vec::new(), Vec::new());
            for (index, shown) in prepared.seconds().iter().enumerate() {
                let frame = segment(self, index)?;
                if let Some(heart) = heart {
                    // A ratio of volumes needs no unit.
                    let measure = |labels| heart.ventricle(labels, spacing.unwrap_or([1.0; 2]));
                    let samples = frame.segmentation.samples.iter().map(measure).collect::<Result<_>>()?;
                    ventricles.push(FrameVentricle { ventricle: measure(&frame.segmentation.labels)?, samples });
                    let atrium = spacing.map(|spacing| heart.atrium(&frame.segmentation.labels, spacing));
                    atria.push(atrium.transpose()?.flatten());
                }
                frames.push(self.frame_result(index, time_seconds, &frame, heart, spacing)?);
                time_seconds += shown;
            }
            if heart.is_some() && spacing.is_none() {
                notes.push(format!(
                    "has no volumes in ml, only an ejection fraction for square pixels: {SPACING_NEEDED}"
                ));
            }
            let mean_uncertainty = frames.iter().map(|frame| frame.mean_uncertainty).sum::<f64>() / frames.len() as f64;
            let classes = ClassResult::over_frames(&frames);
            let kinds: Vec<ImageKind> = frames.iter().filter_map(|frame| frame.image_kind).collect();
            let image_kind = self.trust.kind_of_cine(&kinds);
            let mut beat = None;
            if ImageKind::may_be_measured(image_kind) {
                beat = heartbeat(&ventricles, spacing.is_some()).map(|beat| beat.with_atrium(&atria));
                beat.iter_mut().for_each(|beat| self.trust.heartbeat_intervals(beat, image_kind));
            } else {
                // A frame that passes by chance is none to measure in.
                frames.iter_mut().for_each(|frame| frame.measured = Measured::default());
            }
            let found = Found::new(classes, mean_uncertainty, FoundIn::Cine { frames, heartbeat: beat }, notes);
            Ok(self.trusted(found, image_kind, heart.is_some()))
        }

        /// With what the calibration says.
        fn trusted(&self, found: Found, image_kind: Option<ImageKind>, measuring: bool) -> Found {
            let mut notes = found.notes;
            notes.extend(self.trust.notes(image_kind, measuring));
            let interval_level = self.trust.level().filter(|_| measuring && image_kind.is_none_or(|kind| kind.right));
            Found { image_kind, interval_level, notes, ..found }
        }

        fn frame_result(
            &self,
            index: usize,
            time_seconds: f64,
            frame: &Frame,
            heart: Option<&LeftHeart>,
            spacing: Option<[f64; 2]>,
        ) -> Result<FrameResult> {
            let classes = ClassResult::all(self.segmenter.manifest(), &frame.segmentation)?;
            let image_kind = self.trust.kind(&frame.segmentation)?;
            let measured = self.trust.measure(heart, &frame.segmentation.labels, spacing, image_kind)?;
            Ok(FrameResult {
                index,
                time_seconds,
                unsure: ClassResult::any_unsure(&classes),
                classes,
                mean_uncertainty: mean(&frame.segmentation.uncertainty),
                steps: frame.segmentation.steps,
                milliseconds: frame.time.as_secs_f64() * 1e3,
                in_time: frame.in_time,
                image_kind,
                measured,
            })
        }
    }

    /// What `--measure` asks for: the left heart as the bundle declares it.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where the bundle's manifest declares no such measure.
    pub fn left_heart(manifest: &ldseg::bundle::Manifest) -> Result<LeftHeart> {
        LeftHeart::of(manifest).ok_or_else(|| {
            let message = format!(
                "--measure needs a bundle whose manifest declares measures of kind `left_heart`, {} declares none",
                manifest.name
            );
            ldseg::Error::new(ErrorKind::Setting, message)
        })
    }
}

#[cfg(feature = "files")]
pub use whole::left_heart;
