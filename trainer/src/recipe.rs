//! The recipe: everything that decides a training run, as YAML. Unknown keys are errors.

use std::fs;
use std::path::{Path, PathBuf};

use ldseg::bundle::{Class, Measure};
use ldseg::diffusion::{LatentStandardisation, Prediction, Sampler, Schedule, ScheduleKind};
use ldseg::document::parse_yaml;
use ldseg::image::OrientationPolicy;
use ldseg::preprocess::{Normalisation, Resampling, SpacingPolicy};
use ldseg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use yaml_serde::Value;

use crate::data::{Augmentation, Spec, Validation};
use crate::model::{NetworkConfig, Preset};

/// Bounds of what a recipe can ask for, so that a slip of the pen is an error and not the end of the machine's memory.
const MAX_COUNT: usize = 1_000_000;
const MAX_WARMUP: usize = 1_000_000_000;
/// Numbers of a batch's images and class probabilities: 8 GB.
const MAX_BATCH: usize = 1 << 31;
/// A year and more.
const MAX_MINUTES: f64 = 1e6;

/// A whole recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model, e.g. `echo`.
    pub name: String,
    /// Seed of split, initialisation and training.
    #[serde(default)]
    pub seed: u64,
    /// What the model card says about the data.
    pub data: DataCard,
    /// Classes in index order; the first is background.
    pub classes: Vec<ClassRecipe>,
    /// What can be measured in a segmentation, and which classes that takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// The networks.
    pub network: NetworkRecipe,
    /// From file to network input.
    #[serde(default)]
    pub preprocessing: Preprocessing,
    /// The diffusion process.
    #[serde(default)]
    pub diffusion: Diffusion,
    /// Which patients are kept for validation.
    pub validation: Validation,
    /// Optimisation.
    #[serde(default)]
    pub training: Training,
    /// Augmentation.
    #[serde(default)]
    pub augmentation: Augmentation,
}

/// What the model card says about the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataCard {
    /// The data set, with its citation.
    pub source: String,
    /// Its licence, which the weights carry too.
    pub licence: String,
    /// What the model is meant for, and what not.
    pub intended_use: String,
}

/// A class and the values that stand for it in label files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRecipe {
    /// Its name.
    pub name: String,
    /// Overlay colour, 8-bit RGB.
    pub colour: [u8; 3],
    /// Stored values, e.g. `[255]`.
    pub values: Vec<u8>,
    /// See [`Class::unsure_below`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure_below: Option<f64>,
}

/// The preset and what departs from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRecipe {
    /// Which family of layers.
    pub preset: Preset,
    /// Size of the input along each spatial axis, slowest first.
    pub input_size: Vec<usize>,
    /// Image channels: 1 for grey, 3 for RGB; 8 at most.
    pub channels: usize,
    /// See [`NetworkConfig::downsampling`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downsampling: Option<usize>,
    /// See [`NetworkConfig::stem`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
    /// See [`NetworkConfig::latent_channels`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_channels: Option<usize>,
    /// See [`NetworkConfig::embedding_channels`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_channels: Option<usize>,
    /// See [`NetworkConfig::widths`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// See [`NetworkConfig::context_widths`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_widths: Option<Vec<usize>>,
    /// See [`NetworkConfig::label_widths`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_widths: Option<Vec<usize>>,
    /// See [`NetworkConfig::denoiser_widths`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoiser_widths: Option<Vec<usize>>,
    /// See [`NetworkConfig::denoiser_blocks`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoiser_blocks: Option<usize>,
    /// See [`NetworkConfig::denoiser_attention`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoiser_attention: Option<Vec<bool>>,
    /// See [`NetworkConfig::group_size`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_size: Option<usize>,
    /// See [`NetworkConfig::separable`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub separable: bool,
    /// See [`NetworkConfig::deterministic`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
}

/// From file to network input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocessing {
    /// Intensity normalisation, per image.
    pub normalisation: Normalisation,
    /// Resampling onto the network's grid.
    pub resampling: Resampling,
    /// How voxel spacing is honoured: `stretch`, or `{resample: [z, y, x]}` in mm, with which the network learns from
    /// random patches of its input size and segments in windows.
    pub spacing: SpacingPolicy,
    /// The way round to which volumes are turned by their affine, such as `RAS`, or `stored`. Pictures are taken as they are.
    pub orientation: OrientationPolicy,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self {
            normalisation: Normalisation::MinMax,
            resampling: Resampling::Linear,
            spacing: SpacingPolicy::Stretch,
            orientation: OrientationPolicy::default(),
        }
    }
}

/// The diffusion process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diffusion {
    /// T.
    pub timesteps: usize,
    /// Noise schedule.
    pub schedule: ScheduleKind,
    /// Added to the logarithm of its signal-to-noise ratio, see [`ldseg::diffusion::Schedule::shifted`].
    pub log_snr_shift: f64,
    /// What the denoiser predicts.
    pub prediction: Prediction,
    /// Where latents are standardised.
    pub latent_standardisation: LatentStandardisation,
    /// Part of the training samples at t = T - 1, where `direct` starts; the others have t uniform in 0..T. Noise that
    /// is not nearly pure betrays the label to the denoiser, so it is here that it learns to read the image.
    pub pure_noise: f64,
    /// Part of the other training samples whose z_t is noised from the denoiser's own estimate at T - 1 in place of the
    /// label's latent, as it happens when sampling (Bengio et al. 2015 on such exposure bias). Without effect for
    /// `reference`.
    pub own_estimate: f64,
    /// Which estimates are decoded under cross-entropy and Dice.
    pub decoded: Decoded,
    /// Sampler for validation, and the bundle's default.
    pub sampler: Sampler,
    /// Its steps.
    pub steps: usize,
}

impl Diffusion {
    /// Whether the estimate at timestep `t` is decoded under the segmentation loss.
    pub fn decodes(&self, t: usize, schedule: &Schedule) -> bool {
        let pure_noise = t + 1 == self.timesteps;
        match self.decoded {
            Decoded::All => true,
            Decoded::PureNoise => pure_noise,
            Decoded::Ends => pure_noise || schedule.alpha_bar(t) >= 0.5,
        }
    }

    /// alpha bar at every timestep.
    ///
    /// # Errors
    /// Those of [`Schedule::shifted`].
    pub fn noise_schedule(&self) -> Result<Schedule> {
        Schedule::shifted(self.schedule, self.timesteps, self.log_snr_shift)
    }
}

impl Default for Diffusion {
    fn default() -> Self {
        Self {
            timesteps: 1000,
            schedule: ScheduleKind::Cosine,
            log_snr_shift: 0.0,
            prediction: Prediction::X0,
            latent_standardisation: LatentStandardisation::None,
            pure_noise: 0.5,
            own_estimate: 0.5,
            decoded: Decoded::All,
            sampler: Sampler::Direct,
            steps: 1,
        }
    }
}

/// Which of the denoiser's estimates are decoded under the segmentation loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoded {
    /// Those at every timestep.
    All,
    /// Those at t = T - 1, from which `direct` answers. The others are trained under the mean squared error alone, whose
    /// minimum is the mean of z_0 given z_t and the image, as sampling from the posterior asks for.
    PureNoise,
    /// Those at t = T - 1 and those where the signal outweighs the noise (alpha bar of 1/2 or more): there the shape is
    /// settled, and the decoder learns to take what a sampler ends with.
    Ends,
}

/// Adam with or without decoupled weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimiser {
    /// Adam (Kingma and Ba 2015); `weight_decay` is not used.
    Adam,
    /// AdamW (Loshchilov and Hutter 2019).
    AdamW,
}

/// Optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// A bundle, or the folder of another run, whose best checkpoint counts: its weights are where this run starts, in
    /// place of random ones, for few images of a new kind. Its networks have to be the same, number of classes included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Passes over the training cases.
    pub epochs: usize,
    /// Times that each case is seen in one epoch, each time augmented anew: for data sets of few cases.
    pub repeats: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// Where the network learns from patches, the part of them that are centred on a voxel of the foreground, its class
    /// drawn evenly of those that the case holds. The others lie anywhere.
    pub foreground_patches: f64,
    /// Adam or AdamW.
    pub optimiser: Optimiser,
    /// Greatest learning rate, reached after the warm-up; it then falls along a cosine to a hundredth.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly from 0.
    pub warmup_steps: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Greatest norm of the gradient over all parameters; a larger one is scaled down.
    pub gradient_clip: f64,
    /// Decay of the exponential moving average of all four networks, which is what is validated and exported.
    pub ema_decay: f64,
    /// Weights of the loss terms.
    pub loss: LossWeights,
    /// Epochs between validations; the last epoch is always validated.
    pub validate_every: usize,
    /// Minutes between checkpoints within an epoch; one is written after every epoch anyway.
    pub checkpoint_minutes: f64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            start_from: None,
            epochs: 30,
            repeats: 1,
            batch_size: 8,
            foreground_patches: 1.0 / 3.0,
            optimiser: Optimiser::AdamW,
            learning_rate: 1e-3,
            warmup_steps: 200,
            weight_decay: 1e-4,
            gradient_clip: 1.0,
            ema_decay: 0.999,
            loss: LossWeights::default(),
            validate_every: 1,
            checkpoint_minutes: 5.0,
        }
    }
}

/// Weights of the loss terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossWeights {
    /// Cross-entropy of the decoded labels.
    pub cross_entropy: f64,
    /// 1 - soft Dice of the decoded labels, over all classes.
    pub dice: f64,
    /// Mean squared error of the denoiser's prediction.
    pub diffusion: f64,
    /// Part of the batch whose clean latent is decoded too, under the same cross-entropy and Dice: it keeps the label
    /// encoder and decoder an autoencoder.
    pub autoencoder: f64,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self { cross_entropy: 1.0, dice: 2.0, diffusion: 1.0, autoencoder: 0.25 }
    }
}

impl Recipe {
    /// Reads a recipe, changes it by `key=value` settings (`training.epochs=5`; values are YAML) and checks it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file can't be read, [`ErrorKind::Setting`] for anything that a recipe may not hold.
    pub fn load(path: &Path, settings: &[String]) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|e| Error::with_source(ErrorKind::Io, "the recipe cannot be read", e).in_file(path))?;
        let mut value: Value = parse_yaml(text.as_bytes())
            .map_err(|e| Error::with_source(ErrorKind::Setting, "the recipe is not YAML", e).in_file(path))?;
        for setting in settings {
            apply(&mut value, setting)?;
        }
        let recipe: Self = yaml_serde::from_value(value)
            .map_err(|e| Error::with_source(ErrorKind::Setting, "not a valid recipe", e).in_file(path))?;
        recipe.validate().map_err(|e| e.in_file(path))?;
        Ok(recipe)
    }

    /// The recipe as YAML.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] if it cannot be written.
    pub fn to_yaml(&self) -> Result<String> {
        yaml_serde::to_string(self)
            .map_err(|e| Error::with_source(ErrorKind::Setting, "the recipe cannot be written as YAML", e))
    }

    /// The four networks' configuration: the preset's, with what the recipe changes.
    pub fn network(&self) -> NetworkConfig {
        let r = &self.network;
        let make = match r.preset {
            Preset::Compact => NetworkConfig::compact,
            Preset::Reference => NetworkConfig::reference,
        };
        let preset = make(r.input_size.clone(), r.channels, self.classes.len());
        NetworkConfig {
            downsampling: r.downsampling.unwrap_or(preset.downsampling),
            stem: r.stem.unwrap_or(preset.stem),
            latent_channels: r.latent_channels.unwrap_or(preset.latent_channels),
            embedding_channels: r.embedding_channels.unwrap_or(preset.embedding_channels),
            widths: r.widths.clone().unwrap_or(preset.widths),
            context_widths: r.context_widths.clone().unwrap_or(preset.context_widths),
            label_widths: r.label_widths.clone().unwrap_or(preset.label_widths),
            denoiser_widths: r.denoiser_widths.clone().unwrap_or(preset.denoiser_widths),
            denoiser_blocks: r.denoiser_blocks.unwrap_or(preset.denoiser_blocks),
            denoiser_attention: r.denoiser_attention.clone().unwrap_or(preset.denoiser_attention),
            group_size: r.group_size.unwrap_or(preset.group_size),
            separable: r.separable,
            deterministic: r.deterministic,
            ..preset
        }
    }

    /// How cases are loaded.
    pub fn spec(&self) -> Spec {
        Spec {
            channels: self.network.channels,
            size: self.network.input_size.clone(),
            spacing: self.preprocessing.spacing.clone(),
            orientation: self.preprocessing.orientation,
            resampling: self.preprocessing.resampling,
            normalisation: self.preprocessing.normalisation,
            class_values: self.classes.iter().map(|class| class.values.clone()).collect(),
        }
    }

    /// The classes as a manifest holds them.
    pub fn manifest_classes(&self) -> Vec<Class> {
        self.classes
            .iter()
            .map(|class| Class { name: class.name.clone(), colour: class.colour, unsure_below: class.unsure_below })
            .collect()
    }

    /// Whether the images of a batch and the probabilities of its classes can be held in memory.
    fn check_batch(&self) -> Result<()> {
        let (n, batch) = (&self.network, self.training.batch_size);
        let maps = n.channels.saturating_add(self.classes.len());
        let numbers = n.input_size.iter().fold(batch.saturating_mul(maps), |product, n| product.saturating_mul(*n));
        if numbers <= MAX_BATCH {
            return Ok(());
        }
        let message = format!(
            "a batch of {batch} images of {:?} with {} channels and {} classes holds {numbers} numbers, expected {MAX_BATCH} \
             at most: a smaller training.batch_size or network.input_size",
            n.input_size,
            n.channels,
            self.classes.len()
        );
        Err(Error::new(ErrorKind::Setting, message))
    }

    fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
        self.network().validate()?;
        self.augmentation.validate(self.network.input_size.len())?;
        if let Some(problem) = self.preprocessing.spacing.problem(self.network.input_size.len()) {
            return fail(format!("preprocessing: {problem}"));
        }
        let t = &self.training;
        if !(0.0..=1.0).contains(&t.foreground_patches) {
            return fail(format!("training.foreground_patches is {}, expected 0 to 1", t.foreground_patches));
        }
        for (key, value) in [
            ("epochs", t.epochs),
            ("repeats", t.repeats),
            ("batch_size", t.batch_size),
            ("validate_every", t.validate_every),
        ] {
            if !(1..=MAX_COUNT).contains(&value) {
                return fail(format!("training.{key} is {value}, expected 1 to {MAX_COUNT}"));
            }
        }
        if t.warmup_steps > MAX_WARMUP {
            return fail(format!("training.warmup_steps is {}, expected {MAX_WARMUP} at most", t.warmup_steps));
        }
        self.check_batch()?;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(t.learning_rate) || !positive(t.gradient_clip) || !positive(t.checkpoint_minutes) {
            return fail("training: learning_rate, gradient_clip and checkpoint_minutes must be positive".into());
        }
        if t.checkpoint_minutes > MAX_MINUTES {
            return fail(format!(
                "training.checkpoint_minutes is {}, expected {MAX_MINUTES} at most",
                t.checkpoint_minutes
            ));
        }
        if !(0.0..1.0).contains(&t.ema_decay) {
            return fail(format!("training.ema_decay is {}, expected 0 to below 1", t.ema_decay));
        }
        let weights = [t.loss.cross_entropy, t.loss.dice, t.loss.diffusion, t.weight_decay];
        if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
            return fail("training: loss weights and weight_decay must not be negative".into());
        }
        if !(0.0..=1.0).contains(&t.loss.autoencoder) {
            return fail(format!("training.loss.autoencoder is {}, expected 0 to 1", t.loss.autoencoder));
        }
        let d = &self.diffusion;
        let no_diffusion = d.prediction == Prediction::X0
            && d.sampler == Sampler::Direct
            && [d.own_estimate, t.loss.diffusion, t.loss.autoencoder] == [0.0; 3];
        if self.network.deterministic && !no_diffusion {
            return fail(
                "network.deterministic goes with diffusion.prediction x0, diffusion.sampler direct and 0 for \
                 diffusion.own_estimate, training.loss.diffusion and training.loss.autoencoder"
                    .into(),
            );
        }
        for (key, part) in [("pure_noise", d.pure_noise), ("own_estimate", d.own_estimate)] {
            if !(0.0..=1.0).contains(&part) {
                return fail(format!("diffusion.{key} is {part}, expected 0 to 1"));
            }
        }
        if let Some(problem) = Measure::problem(&self.measures, self.classes.iter().map(|class| class.name.as_str())) {
            return fail(problem);
        }
        if d.timesteps < 2 || d.steps == 0 || d.steps >= d.timesteps {
            return fail(format!(
                "diffusion: timesteps {} and steps {}, expected 2 or more and 1 to timesteps - 1",
                d.timesteps, d.steps
            ));
        }
        d.noise_schedule().map_err(|e| Error::new(ErrorKind::Setting, format!("diffusion: {e}")))?;
        if d.sampler == Sampler::Direct && d.steps != 1 {
            return fail(format!("diffusion: sampler direct takes exactly 1 step, found {}", d.steps));
        }
        Ok(())
    }
}

/// Sets one dotted key, `a.b=value`; the value is YAML.
fn apply(recipe: &mut Value, setting: &str) -> Result<()> {
    let wrong = || Error::new(ErrorKind::Setting, format!("--set {setting}: expected KEY=VALUE"));
    let (key, text) = setting.split_once('=').ok_or_else(wrong)?;
    let value: Value = yaml_serde::from_str(text)
        .map_err(|e| Error::with_source(ErrorKind::Setting, format!("--set {setting}: the value is not YAML"), e))?;
    let mut target = recipe;
    for part in key.split('.') {
        let Value::Mapping(mapping) = target else { return Err(wrong()) };
        target = mapping.entry(Value::String(part.into())).or_insert_with(|| Value::Mapping(Default::default()));
    }
    *target = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Every setting below `value` with its dotted key, in the words of the documentation.
    fn settings(key: &str, value: Value) -> Vec<(String, String)> {
        match value {
            Value::Object(fields) => {
                fields.into_iter().flat_map(|(name, value)| settings(&format!("{key}.{name}"), value)).collect()
            }
            Value::String(text) => vec![(key.into(), text)],
            other => vec![(key.into(), other.to_string())],
        }
    }

    fn of(key: &str, value: impl Serialize) -> Vec<(String, String)> {
        settings(key, serde_json::to_value(value).unwrap())
    }

    #[test]
    fn what_no_machine_could_do_is_an_error() {
        let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/recipes/echo.yaml"));
        Recipe::load(path, &[]).unwrap();
        for (setting, expected) in [
            ("network.input_size=[100000, 100000]", "expected at most 67108864 voxels"),
            ("network.input_size=[4294967296, 4294967296]", "expected at most 67108864 voxels"),
            ("network.input_size=[8192, 8192]", "expected 2147483648 at most"),
            ("network.widths=[32, 100000]", "expected 1024 and 64 at most"),
            ("network.embedding_channels=1000000", "expected 1024 and 64 at most"),
            ("network.denoiser_blocks=1000000000", "expected 1024 and 64 at most"),
            ("network.context_widths=[8, 8, 8, 8, 8, 8, 8, 8, 8, 8]", "expected 8 at most"),
            ("training.batch_size=1000000000000", "training.batch_size is 1000000000000"),
            ("training.batch_size=100000", "expected 2147483648 at most"),
            ("training.epochs=18446744073709551615", "training.epochs is 18446744073709551615"),
            ("training.repeats=10000000", "training.repeats is 10000000"),
            ("training.checkpoint_minutes=1e300", "training.checkpoint_minutes is"),
            ("training.warmup_steps=18446744073709551615", "training.warmup_steps is"),
            ("diffusion.timesteps=1000000000000", "expected 2 to 10000"),
        ] {
            let error = Recipe::load(path, &[setting.into()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Setting, "{setting}");
            assert!(error.to_string().contains(expected), "{setting}: {error}");
        }
    }

    #[test]
    fn the_documentation_has_every_key_and_its_default() {
        let text = include_str!("../../docs/recipe.md");
        let rows: BTreeSet<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        let mut expected: Vec<String> = Vec::new();
        for (key, default) in [
            of("preprocessing", Preprocessing::default()),
            of("diffusion", Diffusion::default()),
            of("training", Training::default()),
            of("augmentation", Augmentation::default()),
            of("seed", 0),
        ]
        .concat()
        {
            expected.push(format!("| `{key}` | {default} |"));
        }
        let presets = [
            NetworkConfig::compact(vec![16; 2], 1, 2),
            NetworkConfig::compact(vec![16; 3], 1, 2),
            NetworkConfig::reference(vec![16; 2], 1, 2),
        ]
        .map(|preset| of("network", preset));
        let elsewhere = ["preset", "input_size", "channels", "classes", "separable", "deterministic"];
        for ((key, plane), ((_, volume), (_, reference))) in presets[0].iter().zip(presets[1].iter().zip(&presets[2])) {
            if !elsewhere.iter().any(|name| *key == format!("network.{name}")) {
                expected.push(format!("| `{key}` | {plane} | {volume} | {reference} |"));
            }
        }
        for key in ["name", "data.source", "data.licence", "data.intended_use", "classes", "validation"] {
            expected.push(format!("| `{key}` | required |"));
        }
        for key in ["network.preset", "network.input_size", "network.channels"] {
            expected.push(format!("| `{key}` | required |"));
        }
        expected.push("| `network.separable` | false |".into());
        expected.push("| `network.deterministic` | false |".into());
        expected.push("| `training.start_from` | none |".into());
        expected.push("| `measures` | none |".into());
        for row in &expected {
            assert!(rows.iter().any(|found| found.starts_with(row)), "docs/recipe.md lacks {row}");
        }
        assert_eq!(rows.len(), expected.len(), "docs/recipe.md has keys that recipes have not");
    }
}
