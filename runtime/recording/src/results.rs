//! What segmenting a recording finds, as JSON has it.

use ldseg::bundle::Manifest;
use ldseg::segmenter::{Segmentation, calibrated_dice};
use ldseg::{Result, Tensor};
use serde::Serialize;

use crate::heart::{Heartbeat, Measured};
use crate::trust::{ImageKind, heartbeat_in_words};

/// Why a recording of unknown spacing is not measured.
pub(crate) const SPACING_NEEDED: &str = "its pixel spacing is not known";

/// What was found in a recording.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Found {
    /// One entry a class; of a cine over all its frames.
    pub classes: Vec<ClassResult>,
    /// Over all voxels, 0 to 1.
    pub mean_uncertainty: f64,
    /// Whether some class is unsure, of a cine in some frame.
    pub unsure: bool,
    /// Whether it is of the kind of image that the bundle was trained on, where the bundle tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_kind: Option<ImageKind>,
    /// Probability with which each interval holds the true value, at least; where there are intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_level: Option<f64>,
    /// What only a still image, or only a cine has.
    #[serde(flatten)]
    pub kind: FoundIn,
    /// What the user has to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What only a still image, or only a cine has.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum FoundIn {
    /// A picture or volume.
    Still {
        /// Denoiser calls; they vary where there is a deadline.
        steps: usize,
        /// Whether the deadline was kept, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        in_time: Option<bool>,
        /// What was measured, where that was asked for and the spacing is known.
        #[serde(flatten)]
        measured: Measured,
    },
    /// Frames over time.
    Cine {
        /// One entry a frame.
        frames: Vec<FrameResult>,
        /// What the ventricle's areas and volumes over time tell, where measuring was asked for and there is a ventricle.
        #[serde(skip_serializing_if = "Option::is_none")]
        heartbeat: Option<Heartbeat>,
    },
}

/// One frame of a cine.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct FrameResult {
    /// Counted from 0.
    pub index: usize,
    /// When it is shown, counted from the first frame.
    pub time_seconds: f64,
    /// One entry a class.
    pub classes: Vec<ClassResult>,
    /// Over all pixels, 0 to 1.
    pub mean_uncertainty: f64,
    /// Whether some class is unsure.
    pub unsure: bool,
    /// Denoiser calls.
    pub steps: usize,
    /// From the frame's pixels to its labels.
    pub milliseconds: f64,
    /// Whether the deadline was kept, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_time: Option<bool>,
    /// Whether it is of the kind of image that the bundle was trained on, where the bundle tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_kind: Option<ImageKind>,
    /// What was measured, where that was asked for and the spacing is known.
    #[serde(flatten)]
    pub measured: Measured,
}

/// One class of a picture, volume or frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClassResult {
    /// Its index in the manifest.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Pixels or voxels that are labelled so.
    pub voxels: usize,
    /// The Dice that the probabilities let expect, as calibrated; absent where no voxel has the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_dice: Option<f64>,
    /// Whether that is below the bundle's threshold for the class.
    pub unsure: bool,
}

impl Found {
    /// Whether the image is of another kind than the bundle was trained on.
    pub fn is_of_another_kind(&self) -> bool {
        self.image_kind.is_some_and(|kind| !kind.right)
    }

    /// What was measured over a cine, in a line; `None` where there is no heartbeat.
    pub fn heartbeat_in_words(&self) -> Option<String> {
        match &self.kind {
            FoundIn::Cine { heartbeat: Some(beat), .. } => Some(heartbeat_in_words(beat, self.interval_level)),
            _ => None,
        }
    }
}

impl ClassResult {
    /// All classes of a segmentation.
    ///
    /// # Errors
    /// Those of [`calibrated_dice`].
    pub fn all(manifest: &Manifest, segmentation: &Segmentation) -> Result<Vec<Self>> {
        let expected = calibrated_dice(manifest, segmentation)?;
        let mut voxels = [0; 256];
        segmentation.labels.iter().for_each(|&label| voxels[usize::from(label)] += 1);
        let classes = manifest.classes.iter().zip(expected).enumerate();
        let result = classes.map(|(index, (class, expected_dice))| Self {
            index,
            name: class.name.clone(),
            voxels: voxels[index],
            expected_dice,
            unsure: expected_dice.zip(class.unsure_below).is_some_and(|(expected, least)| expected < least),
        });
        Ok(result.collect())
    }

    /// Of a cine: the voxels of all frames together, the mean of the frames' expected Dice, and unsure where the class is so in
    /// any frame.
    pub(crate) fn over_frames(frames: &[FrameResult]) -> Vec<Self> {
        let Some(first) = frames.first() else { return Vec::new() };
        let class = |index: usize| {
            let of_frames = || frames.iter().map(|frame| &frame.classes[index]);
            let expected: Vec<f64> = of_frames().filter_map(|class| class.expected_dice).collect();
            Self {
                index,
                name: first.classes[index].name.clone(),
                voxels: of_frames().map(|class| class.voxels).sum(),
                expected_dice: (!expected.is_empty()).then(|| expected.iter().sum::<f64>() / expected.len() as f64),
                unsure: of_frames().any(|class| class.unsure),
            }
        };
        (0..first.classes.len()).map(class).collect()
    }

    /// Whether any class is unsure.
    pub fn any_unsure(classes: &[Self]) -> bool {
        classes.iter().any(|class| class.unsure)
    }
}

/// Mean over all voxels.
pub fn mean(uncertainty: &Tensor) -> f64 {
    uncertainty.iter().map(|&value| f64::from(value)).sum::<f64>() / uncertainty.len() as f64
}
