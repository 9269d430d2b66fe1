//! Segmenting and measuring: one frame, one image in memory, a whole recording.

use ldseg::Result;
use ldseg::frames::{Frame, FrameOptions, Frames};
use ldseg::image::{Image, Region};
use ldseg::segmenter::{SegmentOptions, Segmentation, Segmenter};

use crate::decide::{Decisions, prepare};
use crate::heart::{LeftHeart, Measured};
use crate::results::SPACING_NEEDED;
use crate::trust::{ImageKind, Trust};

/// What is said of one segmentation, whoever asks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// What was measured: nothing where nothing was to be measured, the spacing is not known, or the image is of another kind
    /// than the bundle was trained on.
    pub measured: Measured,
    /// Whether it is of that kind, where the bundle tells.
    pub image_kind: Option<ImageKind>,
    /// Probability with which each interval about what was measured holds the true value, at least; where there are intervals.
    pub interval_level: Option<f64>,
    /// What the user has to know of the recording, its kind, and of what was measured.
    pub notes: Vec<String>,
}

/// Judges the kind of one segmented image or frame, and measures it by `heart`, unless it shows several views. Every entry
/// point answers so.
///
/// # Errors
/// Those of [`Trust::kind`] and [`Trust::measure`].
pub fn answer(
    trust: &Trust,
    heart: Option<&LeftHeart>,
    decisions: &Decisions,
    segmentation: &Segmentation,
) -> Result<Answer> {
    let heart = heart.filter(|_| decisions.is_one_view());
    let spacing = decisions.spacing.of_pixel();
    let image_kind = trust.kind(segmentation)?;
    let measured = trust.measure(heart, &segmentation.labels, spacing, image_kind)?;
    let interval_level = trust.level_of([&measured.intervals].into_iter());
    let mut notes = decisions.notes();
    if heart.is_some() && spacing.is_none() {
        notes.push(format!("is not measured: {SPACING_NEEDED}"));
    }
    notes.extend(trust.notes(image_kind, heart.is_some()));
    Ok(Answer { measured, image_kind, interval_level, notes })
}

/// Decides about an image in memory, segments it, and measures what the bundle declares.
///
/// # Errors
/// Those of [`Segmenter::segment`], [`prepare`] and [`answer`].
pub fn segment_image(
    segmenter: &mut Segmenter,
    image: Image,
    options: &SegmentOptions,
) -> Result<(Segmentation, Answer)> {
    let (image, decisions) = prepare(image, segmenter.manifest().channels)?;
    let segmentation = segmenter.segment(&image, options)?;
    let trust = Trust::of_image(segmenter.manifest(), options, true, false);
    let answer = answer(&trust, LeftHeart::of(segmenter.manifest()).as_ref(), &decisions, &segmentation)?;
    Ok((segmentation, answer))
}

/// Segments an image, or the `part` of a picture `[C, H, W]` that was decided on: all else is background then.
///
/// # Errors
/// Those of [`Segmenter::segment`]; [`ldseg::ErrorKind::ShapeMismatch`] where the part does not lie in the picture.
pub fn segment_part(
    segmenter: &mut Segmenter,
    image: &Image,
    part: Option<Region>,
    options: &SegmentOptions,
) -> Result<Segmentation> {
    match (part, image.data.shape()) {
        (Some(part), &[_, height, width]) => {
            segmenter.segment(&part.crop(image)?, options)?.within(part, [height, width])
        }
        _ => segmenter.segment(image, options),
    }
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
    use crate::results::{ClassResult, Found, FoundIn, FrameResult, mean};

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
            let part = decisions.part();
            let mut segment = |runner: &mut Self, index: usize| {
                let image = prepared.frame(index)?;
                let frame = runner.segment(&image, part, index as u64).map_err(|e| e.in_file(prepared.path()))?;
                each(&image, &frame.segmentation)?;
                Ok(frame)
            };
            if !prepared.is_cine() {
                let frame = segment(self, 0)?;
                let classes = ClassResult::all(self.segmenter.manifest(), &frame.segmentation)?;
                let Answer { measured, image_kind, interval_level, notes } =
                    answer(&self.trust, heart, decisions, &frame.segmentation)?;
                let kind = FoundIn::Still { steps: frame.segmentation.steps, in_time: frame.in_time, measured };
                return Ok(Found {
                    unsure: ClassResult::any_unsure(&classes),
                    classes,
                    mean_uncertainty: mean(&frame.segmentation.uncertainty),
                    image_kind,
                    interval_level,
                    kind,
                    notes,
                });
            }
            let spacing = decisions.spacing.of_pixel();
            let heart = heart.filter(|_| decisions.is_one_view());
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
                let answer = answer(&self.trust, heart, decisions, &frame.segmentation)?;
                frames.push(self.frame_result(index, time_seconds, &frame, answer)?);
                time_seconds += shown;
            }
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
            let intervals = frames.iter().map(|frame| &frame.measured.intervals);
            let interval_level = self.trust.level_of(intervals.chain(beat.iter().map(|beat| &beat.intervals)));
            let mut notes = decisions.notes();
            if heart.is_some() && spacing.is_none() {
                notes.push(format!(
                    "has no volumes in ml, only an ejection fraction for square pixels: {SPACING_NEEDED}"
                ));
            }
            notes.extend(self.trust.notes(image_kind, heart.is_some()));
            let classes = ClassResult::over_frames(&frames);
            Ok(Found {
                unsure: ClassResult::any_unsure(&classes),
                classes,
                mean_uncertainty: frames.iter().map(|frame| frame.mean_uncertainty).sum::<f64>() / frames.len() as f64,
                image_kind,
                interval_level,
                kind: FoundIn::Cine { frames, heartbeat: beat },
                notes,
            })
        }

        fn frame_result(&self, index: usize, time_seconds: f64, frame: &Frame, answer: Answer) -> Result<FrameResult> {
            let classes = ClassResult::all(self.segmenter.manifest(), &frame.segmentation)?;
            Ok(FrameResult {
                index,
                time_seconds,
                unsure: ClassResult::any_unsure(&classes),
                classes,
                mean_uncertainty: mean(&frame.segmentation.uncertainty),
                steps: frame.segmentation.steps,
                milliseconds: frame.time.as_secs_f64() * 1e3,
                in_time: frame.in_time,
                image_kind: answer.image_kind,
                measured: answer.measured,
            })
        }
    }

    /// What is to be measured: the left heart as the bundle declares it.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where the bundle's manifest declares no such measure.
    pub fn left_heart(manifest: &ldseg::bundle::Manifest) -> Result<LeftHeart> {
        LeftHeart::of(manifest).ok_or_else(|| {
            let message = format!(
                "{} declares no measures of kind `left_heart` in its manifest, and nothing can be measured",
                manifest.name
            );
            ldseg::Error::new(ErrorKind::Setting, message)
        })
    }
}

#[cfg(feature = "files")]
pub use whole::left_heart;
