//! The rest of a bundle: manifest, golden tensors and model card.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use burn::module::Module;
use burn::tensor::Device;
use ldseg::bundle::Golden;
use ldseg::bundle::{CARD_FILE, FORMAT_VERSION, GOLDEN_FILE, Manifest, Provenance, write_bundle};
use ldseg::diffusion::{NoiseKey, normal_latent};
use ldseg::engine::Network;
use ldseg::preprocess::{SpacingPolicy, normalise};
use ldseg::segmenter::{SegmentOptions, argmax};
use ldseg::{Error, ErrorKind, Result, Tensor};
use ndarray::{Axis, IxDyn};

use super::{OPSET, network_specs, onnx_files};
use crate::data::Validation;
use crate::engine::{BurnNetwork, segmenter};
use crate::model::Networks;
use crate::recipe::Recipe;
use crate::train::RECIPE_FILE;
use crate::train::checkpoint::{Checkpoints, State, Which, check_finite, load_networks};

/// Everything that a recipe says about its bundle; the files are still missing.
pub fn manifest(recipe: &Recipe) -> Manifest {
    let config = recipe.network();
    Manifest {
        format_version: FORMAT_VERSION,
        name: recipe.name.clone(),
        spatial_axes: config.spatial_axes(),
        input_size: config.input_size.clone(),
        spacing: recipe.preprocessing.spacing.clone(),
        orientation: (config.spatial_axes() == 3).then_some(recipe.preprocessing.orientation),
        channels: config.channels,
        normalisation: recipe.preprocessing.normalisation,
        resampling: recipe.preprocessing.resampling,
        classes: recipe.manifest_classes(),
        measures: recipe.measures.clone(),
        latent_shape: config.latent_shape(),
        timesteps: recipe.diffusion.timesteps,
        schedule: recipe.diffusion.schedule,
        log_snr_shift: recipe.diffusion.log_snr_shift,
        prediction: recipe.diffusion.prediction,
        latent_standardisation: recipe.diffusion.latent_standardisation,
        default_sampler: recipe.diffusion.sampler,
        default_steps: recipe.diffusion.steps,
        onnx_opset: OPSET,
        networks: network_specs(&config),
        tolerances: None,
        files: Default::default(),
        calibration: None,
        provenance: Provenance {
            recipe: recipe.name.clone(),
            seed: recipe.seed,
            code_version: env!("CARGO_PKG_VERSION").into(),
            date: today(),
        },
    }
}

/// Exports the moving average of a run's checkpoint.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Format`] if `run` is not a run folder with a checkpoint; those of [`write()`].
pub fn export_run(run: &Path, which: Which, output: &Path) -> Result<()> {
    let recipe = Recipe::load(&run.join(RECIPE_FILE), &[])?;
    let Some((dir, state)) = Checkpoints::of(run).find(which)? else {
        return Err(Error::new(ErrorKind::Io, "the run has no such checkpoint yet").in_file(run));
    };
    let weights = dir.join("average.bpk");
    let device = Device::flex();
    let config = recipe.network();
    if config.spatial_axes() == 2 {
        write(&recipe, &load_networks(Networks::<4>::new(&config, &device), &weights)?, &state, output)
    } else {
        write(&recipe, &load_networks(Networks::<5>::new(&config, &device), &weights)?, &state, output)
    }
}

/// Writes `networks` as a bundle to the folder `output`.
///
/// # Errors
/// [`ErrorKind::Engine`] where a weight or an output is not finite; those of the export, of running the networks and of
/// [`write_bundle`].
pub fn write<const D: usize>(recipe: &Recipe, networks: &Networks<D>, state: &State, output: &Path) -> Result<()> {
    let origin = format!("trained for {} steps", state.step);
    let mut recipe = recipe.clone();
    if state.spacing_in_voxels {
        recipe.preprocessing.spacing = recipe.preprocessing.spacing.in_voxels();
    }
    let recipe = &recipe;
    let card = model_card(recipe, networks.num_params(), &origin, &validation_metrics(recipe, state));
    write_with_card(recipe, networks, &card, output)
}

/// As [`write()`], for networks that were not trained here; `card` is the model card.
///
/// # Errors
/// Those of [`write()`].
pub fn write_with_card<const D: usize>(
    recipe: &Recipe,
    networks: &Networks<D>,
    card: &str,
    output: &Path,
) -> Result<()> {
    let manifest = manifest(recipe);
    let networks = networks.valid();
    check_finite(&networks)?;
    let golden = golden(&networks, &manifest)?.to_safetensors()?;
    let onnx: Vec<(String, Vec<u8>)> = onnx_files(&recipe.network(), &networks)?
        .into_iter()
        .map(|(name, bytes)| (format!("{name}.onnx"), bytes))
        .collect();
    let mut files: Vec<(&str, &[u8])> = onnx.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    files.push((GOLDEN_FILE, &golden));
    files.push((CARD_FILE, card.as_bytes()));
    write_bundle(output, manifest, &files)
}

/// One sample's way through the networks as burn computes it. The image is smoothed noise and the labels are bands:
/// nobody's data leaves with a bundle.
pub(super) fn golden<const D: usize>(networks: &Networks<D>, manifest: &Manifest) -> Result<Golden> {
    let device = Device::flex();
    let run = |name, inputs: &[&Tensor]| -> Result<Tensor> {
        BurnNetwork::new(networks, name, &device)
            .run(inputs)?
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Engine, format!("{name} has no output")))
    };
    let shape = [vec![1, manifest.channels], manifest.input_size.clone()].concat();
    let key = |step| NoiseKey { seed: manifest.provenance.seed, sample: 0, frame: 0, window: 0, step };
    let mut image = normal_latent(key(1), &shape[1..]);
    for axis in 1..image.ndim() {
        image.accumulate_axis_inplace(Axis(axis), |previous, value| *value += 0.9 * previous);
    }
    normalise(&mut image, manifest.normalisation);
    let image = image.insert_axis(Axis(0));
    let mut grid = shape.clone();
    grid[1] = 1;
    let rows = manifest.input_size[0];
    let classes = manifest.classes.len();
    let labels_in = Tensor::from_shape_fn(IxDyn(&grid), |index| (index[2] * classes / rows) as f32);
    let noise = normal_latent(key(0), &manifest.latent_shape).insert_axis(Axis(0));
    let last = Tensor::from_elem(IxDyn(&[1]), (manifest.timesteps - 1) as f32);

    let z_i = run(ldseg::bundle::IMAGE_ENCODER, &[&image])?;
    let z_l0 = run(ldseg::bundle::LABEL_ENCODER, &[&labels_in])?;
    let prediction = run(ldseg::bundle::DENOISER, &[&noise, &z_i, &last])?;
    let decoded = run(ldseg::bundle::LABEL_DECODER, &[&z_l0])?;
    let mut whole = segmenter(networks, manifest.clone(), &device)?;
    let options = SegmentOptions::defaults(manifest);
    let probabilities = whole.run_latent(&image, noise.clone(), &options, &mut |_, _| {})?;
    let labels = argmax(&probabilities.index_axis(Axis(0), 0).to_owned()).mapv(f32::from).insert_axis(Axis(0));
    Ok(Golden { image, labels_in, noise, z_i, z_l0, prediction, decoded, probabilities, labels })
}

/// The section on metrics of a model that was trained here.
fn validation_metrics(recipe: &Recipe, state: &State) -> String {
    let mut metrics = String::from("Not validated at this checkpoint.\n");
    if !state.dice.is_empty() {
        let fold = match recipe.validation {
            Validation::Fold(fold) => format!(", fold {fold}"),
            _ => String::new(),
        };
        metrics = format!(
            "Mean Dice over the validation patients (split by patient, seed {}{fold}), on the network's grid, sampler `{}` with \
             {} steps; beside it what the label encoder and decoder alone make of the reference labels, which bounds it:\n\n\
             | class | Dice | autoencoder |\n|---|---|---|\n",
            recipe.seed, recipe.diffusion.sampler, recipe.diffusion.steps
        );
        let number = |dice: &f64| if dice.is_nan() { "in no case".into() } else { format!("{dice:.4}") };
        for (index, class) in recipe.classes[1..].iter().enumerate() {
            let [dice, autoencoder] = [&state.dice, &state.autoencoder_dice]
                .map(|dice| dice.get(index).map_or("not measured".into(), number));
            metrics += &format!("| {} | {dice} | {autoencoder} |\n", class.name);
        }
        metrics += "\nThe best checkpoint was chosen by this figure, so expect a little less on new patients.\n";
    }
    metrics
}

/// The model card: `origin` says how the `weights` many weights came about, `metrics` how good they are.
pub fn model_card(recipe: &Recipe, weights: usize, origin: &str, metrics: &str) -> String {
    format!(
        "# {name}\n\nLatent diffusion segmentation (LDSeg, Zaman et al., arXiv 2407.12952), {weights} weights, \
         {origin}.\n\n## Intended use\n\n{intended}\n\nNot a medical device: for research, with a person who checks \
         the result.\n\n## Training data\n\n{source}\n\nLicence of the data, which the weights carry too: {licence}\n\n\
         ## Metrics\n\n{metrics}\n## Limits\n\nTrained on one data set: other devices, views, protocols and pathologies \
         may be segmented wrongly without any sign of it. {grid} The \
         uncertainty map shows where samples and classes disagree, not whether the image is of the right kind.\n",
        name = recipe.name,
        intended = recipe.data.intended_use,
        source = recipe.data.source,
        licence = recipe.data.licence,
        grid = grid(recipe),
    )
}

/// What happens to an image's grid, in a sentence.
fn grid(recipe: &Recipe) -> String {
    let size = &recipe.network.input_size;
    match &recipe.preprocessing.spacing {
        SpacingPolicy::Stretch => format!("Images are stretched to {size:?} before they are segmented."),
        SpacingPolicy::Resample(spacing) => format!(
            "Images are resampled to voxels of {spacing:?} mm and segmented in overlapping windows of {size:?}: what \
             only the whole image tells is not seen."
        ),
        SpacingPolicy::ResampleVoxels(voxels) => format!(
            "Images are resampled so that a voxel is {voxels:?} of their own, whatever these measure, and segmented in \
             overlapping windows of {size:?}: what only the whole image tells is not seen."
        ),
        other => format!("Images are brought to the network's grid by {other:?}."),
    }
}

/// Today's date in UTC, `YYYY-MM-DD` (Hinnant's civil-from-days algorithm).
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
