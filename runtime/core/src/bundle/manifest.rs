//! `manifest.yaml`: everything about a model that is not a weight. Unknown keys are errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::diffusion::{LatentStandardisation, MAX_TIMESTEPS, Prediction, Sampler, Schedule, ScheduleKind};
use crate::engine::NetworkSpec;
use crate::image::OrientationPolicy;
use crate::preprocess::{Normalisation, Resampling, SpacingPolicy};
use crate::{Error, ErrorKind, Result};

/// The one format version that this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Largest network input, channels aside: far above any model's, low enough to allocate.
const MAX_VOXELS: usize = 1 << 31;

/// Most channels that a model may take.
pub const MAX_CHANNELS: usize = 8;

/// All of `manifest.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT_VERSION`]; any other is an error.
    pub format_version: u32,
    /// The model's name, e.g. `echo`.
    pub name: String,
    /// 2 or 3.
    pub spatial_axes: usize,
    /// Size of the network's input along each spatial axis, slowest first: `[H, W]` or `[D, H, W]`.
    pub input_size: Vec<usize>,
    /// How the file's voxel spacing is honoured.
    pub spacing: SpacingPolicy,
    /// The way round in which the networks take volumes: `RAS` where absent. Pictures have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<OrientationPolicy>,
    /// Image channels: 1 for grey, 3 for RGB; [`MAX_CHANNELS`] at most.
    pub channels: usize,
    /// Intensity normalisation, per image.
    pub normalisation: Normalisation,
    /// Resampling from the file's grid to the network's (`input_size`, or as `spacing` says) and back.
    pub resampling: Resampling,
    /// Classes in index order; index 0 is background.
    pub classes: Vec<Class>,
    /// What can be measured in a segmentation, and which classes that takes; absent: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// Latent shape without the batch axis: `[C, h, w]` or `[C, d, h, w]`.
    pub latent_shape: Vec<usize>,
    /// Number of diffusion timesteps T.
    pub timesteps: usize,
    /// Noise schedule.
    pub schedule: ScheduleKind,
    /// Added to the logarithm of the schedule's signal-to-noise ratio, see [`Schedule::shifted`]; 0 where absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_snr_shift: f64,
    /// What the denoiser predicts.
    pub prediction: Prediction,
    /// How latents are standardised, always per sample.
    pub latent_standardisation: LatentStandardisation,
    /// Sampler used unless asked otherwise.
    pub default_sampler: Sampler,
    /// Steps used unless asked otherwise.
    pub default_steps: usize,
    /// ONNX operator set of all four networks.
    pub onnx_opset: i64,
    /// Inputs and outputs of each network, keyed by file stem: `image_encoder`, `denoiser`, `label_decoder`,
    /// `label_encoder`.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// How far an engine may be from the golden tensors; absent for f32 networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerances: Option<Tolerances>,
    /// SHA-256 and size of every other file of the bundle, keyed by file name.
    pub files: BTreeMap<String, FileEntry>,
    /// What was learned of the bundle's answers on patients kept for it; absent: nothing, and no interval is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Where the weights came from.
    pub provenance: Provenance,
}

/// Whether a number is what an absent key stands for.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// Whether a character moves the cursor, changes colours, or turns the direction of what follows.
fn unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One segmentation class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its name, e.g. `left ventricle`.
    pub name: String,
    /// Overlay colour, 8-bit RGB.
    pub colour: [u8; 3],
    /// Expected Dice ([`crate::segmenter::calibrated_dice`]) below which the structure is flagged as unsure, above 0 to 1.
    /// Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure_below: Option<f64>,
}

/// Something that can be measured in a segmentation. Classes are named as in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Measure {
    /// Chambers of the left heart in an apical view, by the method of discs.
    LeftHeart {
        /// The cavity of the left ventricle.
        ventricle: String,
        /// Its wall.
        myocardium: String,
        /// The left atrium, where the bundle segments it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        atrium: Option<String>,
    },
}

impl Measure {
    /// The classes that it takes.
    pub fn classes(&self) -> Vec<&str> {
        match self {
            Self::LeftHeart { ventricle, myocardium, atrium } => {
                [ventricle, myocardium].into_iter().chain(atrium).map(String::as_str).collect()
            }
        }
    }

    /// What is wrong with the first of `measures` that takes a class which is not among `names`.
    pub fn problem<'a>(measures: &[Self], names: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
        let unknown = |class: &&str| !names.clone().any(|name| name == *class);
        let class = measures.iter().flat_map(Self::classes).find(unknown)?;
        Some(format!("measures takes the class `{class}`, expected one of {}", names.collect::<Vec<_>>().join(", ")))
    }
}

/// How far an engine may be from the golden tensors, which f32 networks computed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerances {
    /// Largest difference of one network's output, over the standard deviation of the reference.
    pub network: f64,
    /// Largest difference of a class probability after the whole loop.
    pub probability: f64,
    /// Smallest part of voxels with equal labels after the whole loop.
    pub label_agreement: f64,
}

impl Tolerances {
    /// What is wrong with them: so wide that nothing would be out of them, or so narrow that nothing could be within.
    fn problem(&self) -> Option<String> {
        let within = |value: f64, most: f64| value > 0.0 && value <= most;
        if !within(self.network, Self::MAX_NETWORK) {
            return Some(format!("network is {}, expected above 0 to {}", self.network, Self::MAX_NETWORK));
        }
        if !within(self.probability, 1.0) {
            return Some(format!("probability is {}, expected above 0 to 1", self.probability));
        }
        if !(Self::MIN_AGREEMENT..=1.0).contains(&self.label_agreement) {
            return Some(format!("label_agreement is {}, expected {} to 1", self.label_agreement, Self::MIN_AGREEMENT));
        }
        None
    }

    /// The widest for a network: int8 weights come to half of it.
    const MAX_NETWORK: f64 = 8.0;
    /// The lowest agreement of labels.
    const MIN_AGREEMENT: f64 = 0.9;
}

impl Default for Tolerances {
    /// Those of f32 networks.
    fn default() -> Self {
        Self { network: 1e-4, probability: 1e-3, label_agreement: 0.999 }
    }
}

/// Integrity of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Lower-case hexadecimal SHA-256.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
}

/// Where a bundle's weights came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The recipe's name.
    pub recipe: String,
    /// The seed of split, initialisation and training.
    pub seed: u64,
    /// Version of the code that wrote the bundle.
    pub code_version: String,
    /// Day of export, `YYYY-MM-DD`.
    pub date: String,
}

impl Manifest {
    /// alpha bar at every timestep.
    ///
    /// # Errors
    /// Those of [`Schedule::shifted`].
    pub fn noise_schedule(&self) -> Result<Schedule> {
        Schedule::shifted(self.schedule, self.timesteps, self.log_snr_shift)
    }

    /// The way round in which the networks take images: of pictures as they are stored.
    pub fn orientation(&self) -> OrientationPolicy {
        if self.spatial_axes == 3 { self.orientation.unwrap_or_default() } else { OrientationPolicy::Stored }
    }

    /// What of it is shown to people.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let Provenance { recipe, code_version, date, .. } = &self.provenance;
        let classes = self.classes.iter().map(|class| &class.name);
        [&self.name, recipe, code_version, date].into_iter().chain(classes).map(String::as_str)
    }

    /// Checks everything that the types alone don't.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`], naming the key and what was expected.
    pub fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Bundle, message));
        if self.format_version != FORMAT_VERSION {
            return fail(format!("format_version is {}, expected {FORMAT_VERSION}", self.format_version));
        }
        if let Some(text) = self.texts().find(|text| text.chars().any(unprintable)) {
            return fail(format!("`{}` has a control character", text.escape_default()));
        }
        if !matches!(self.spatial_axes, 2 | 3) {
            return fail(format!("spatial_axes is {}, expected 2 or 3", self.spatial_axes));
        }
        if self.input_size.len() != self.spatial_axes || self.input_size.contains(&0) {
            return fail(format!(
                "input_size is {:?}, expected {} positive numbers",
                self.input_size, self.spatial_axes
            ));
        }
        if self.latent_shape.len() != self.spatial_axes + 1 || self.latent_shape.contains(&0) {
            return fail(format!(
                "latent_shape is {:?}, expected {} positive numbers",
                self.latent_shape,
                self.spatial_axes + 1
            ));
        }
        if self.orientation.is_some() && self.spatial_axes == 2 {
            return fail("orientation is given, expected none for pictures".into());
        }
        if let Some(problem) = self.spacing.problem(self.spatial_axes) {
            return fail(problem);
        }
        if !(1..=MAX_CHANNELS).contains(&self.channels) {
            return fail(format!("channels is {}, expected 1 to {MAX_CHANNELS}", self.channels));
        }
        if !(2..=256).contains(&self.classes.len()) {
            return fail(format!("classes has {} entries, expected 2 to 256", self.classes.len()));
        }
        let out_of_range = |class: &&Class| class.unsure_below.is_some_and(|least| !(least > 0.0 && least <= 1.0));
        if let Some(class) = self.classes.iter().find(out_of_range) {
            return fail(format!("class `{}`: unsure_below is out of range, expected above 0 to 1", class.name));
        }
        if let Some(problem) = Measure::problem(&self.measures, self.classes.iter().map(|class| class.name.as_str())) {
            return fail(problem);
        }
        if let Some(problem) = self.tolerances.as_ref().and_then(Tolerances::problem) {
            return fail(format!("tolerances: {problem}"));
        }
        let voxels = self.input_size.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if voxels.is_none_or(|voxels| voxels > MAX_VOXELS) {
            return fail(format!("input_size is {:?}, expected at most {MAX_VOXELS} voxels", self.input_size));
        }
        if !(2..=MAX_TIMESTEPS).contains(&self.timesteps) {
            return fail(format!("timesteps is {}, expected 2 to {MAX_TIMESTEPS}", self.timesteps));
        }
        if let Err(error) = self.noise_schedule() {
            return fail(error.to_string());
        }
        if !(1..self.timesteps).contains(&self.default_steps) {
            return fail(format!("default_steps is {}, expected 1 to {}", self.default_steps, self.timesteps - 1));
        }
        let classes: Vec<&str> = self.classes.iter().map(|class| class.name.as_str()).collect();
        self.calibration.as_ref().map_or(Ok(()), |calibration| calibration.check(&classes, self.statistic_count()))
    }

    /// How many [`statistics`](crate::calibration::statistics) an image has: of z_i, of the latent, of the classes.
    fn statistic_count(&self) -> usize {
        let embedding = self.networks.get(super::DENOISER).and_then(|spec| spec.inputs.get(1)?.shape.get(1)).copied();
        2 * embedding.unwrap_or(0) + 2 * self.latent_shape[0] + self.classes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::manifest;
    use super::*;

    #[test]
    fn tolerances_that_check_nothing_are_refused() {
        let check = |tolerances| Manifest { tolerances: Some(tolerances), ..manifest() }.validate();
        let usual = Tolerances::default();
        check(usual).unwrap();
        check(Tolerances { network: 4.0, probability: 1.0, label_agreement: 0.9 }).unwrap();
        for value in [0.0, -1.0, f64::INFINITY, f64::NAN, 1e9] {
            for (wrong, expected) in [
                (Tolerances { network: value, ..usual }, "tolerances: network is"),
                (Tolerances { probability: value, ..usual }, "tolerances: probability is"),
                (Tolerances { label_agreement: value, ..usual }, "tolerances: label_agreement is"),
            ] {
                let error = check(wrong).unwrap_err();
                assert!(error.kind() == ErrorKind::Bundle && error.to_string().contains(expected), "{error}");
            }
        }
    }
}
