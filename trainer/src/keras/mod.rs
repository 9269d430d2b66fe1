//! Imports the weights that the published release keeps as Keras HDF5 files.

mod assign;
mod layout;
mod weights;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use ldseg::diffusion::{LatentStandardisation, Prediction, Sampler};
use ldseg::image::OrientationPolicy;
use ldseg::{Error, ErrorKind, Result};

use crate::data::Validation;
use crate::export;
use crate::model::{NetworkConfig, Networks, Preset};
use crate::recipe::{ClassRecipe, DataCard, Diffusion, NetworkRecipe, Preprocessing, Recipe};
use assign::assign;
use weights::Weights;

/// Names of the release's files, without the ending `.hdf5` or, for volumes, `3D.hdf5`: label encoder, image encoder,
/// denoiser and label decoder.
const FILES: [&str; 4] = ["labelEncoder", "imageEncoder", "denoiser", "labelDecoder"];
/// Steps that the release samples with.
const STEPS: usize = 15;
/// Overlay colours of the classes; background is black.
const COLOURS: [[u8; 3]; 7] =
    [[230, 80, 60], [70, 190, 90], [70, 120, 230], [240, 190, 50], [170, 90, 220], [60, 200, 210], [240, 130, 190]];

/// A release's weights as they were read, not yet matched to the networks.
pub struct Release {
    config: NetworkConfig,
    /// In the order of [`FILES`].
    weights: [Weights; 4],
}

impl Release {
    /// Reads the four files in the folder `source`: `labelEncoder.hdf5`, `imageEncoder.hdf5`, `denoiser.hdf5` and
    /// `labelDecoder.hdf5`, or the same for volumes, which end in `3D.hdf5`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a file is missing or the folder holds both sorts; [`ErrorKind::Format`] if a file cannot be
    /// understood.
    pub fn read(source: &Path) -> Result<Self> {
        let files = |ending: &str| FILES.map(|name| source.join(format!("{name}{ending}")));
        let (plane, volume) = (files(".hdf5"), files("3D.hdf5"));
        let any = |files: &[PathBuf]| files.iter().any(|file| file.is_file());
        let (paths, axes) = match (any(&plane), any(&volume)) {
            (true, false) => (plane, 2),
            (false, true) => (volume, 3),
            (found, _) => {
                let found = if found { "both sorts" } else { "neither" };
                let message = format!(
                    "holds {found}, expected either labelEncoder.hdf5, imageEncoder.hdf5, denoiser.hdf5 and \
                     labelDecoder.hdf5, or the same with 3D.hdf5 at the end"
                );
                return Err(Error::new(ErrorKind::Io, message).in_file(source));
            }
        };
        let [label_encoder, image_encoder, denoiser, label_decoder] = paths;
        let weights = [
            Weights::read(&label_encoder)?,
            Weights::read(&image_encoder)?,
            Weights::read(&denoiser)?,
            Weights::read(&label_decoder)?,
        ];
        let config = config(&weights, axes)?;
        Ok(Self { config, weights })
    }

    /// The networks' configuration: the `reference` preset with the input size, channels and classes of the files.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The four networks with the files' weights, ready to run. `D` is 4 for images and 5 for volumes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], naming file and weights, if any weight is missing, of another shape or left over.
    pub fn networks<const D: usize>(&self, device: &Device) -> Result<Networks<D>> {
        let (config, axes) = (&self.config, self.config.spatial_axes());
        let fresh = Networks::<D>::new(config, device);
        let [label_encoder, image_encoder, denoiser, label_decoder] = &self.weights;
        let networks = Networks {
            label_encoder: assign(fresh.label_encoder, &layout::label_encoder(config), axes, label_encoder)?,
            image_encoder: assign(fresh.image_encoder, &layout::image_encoder(config), axes, image_encoder)?,
            denoiser: assign(fresh.denoiser, &layout::denoiser(config), axes, denoiser)?,
            label_decoder: assign(fresh.label_decoder, &layout::label_decoder(config), axes, label_decoder)?,
        };
        Ok(networks.valid())
    }
}

/// What the shapes of a few weights say about the networks; all others are checked against it later.
fn config([label_encoder, image_encoder, _, label_decoder]: &[Weights; 4], axes: usize) -> Result<NetworkConfig> {
    // One number per element of the latent, channel last.
    let affine = shape(label_encoder, "encoder_output/gamma", axes + 1)?;
    let layer = |weights: &Weights, index: fn(&[usize]) -> Option<&usize>| {
        let kind = layout::Kind::Conv.keras_name(axes);
        match index(&weights.numbered(&kind)) {
            Some(0) => Ok(format!("{kind}/kernel")),
            Some(number) => Ok(format!("{kind}_{number}/kernel")),
            None => Err(Error::new(ErrorKind::Format, format!("holds no layer `{kind}`")).in_file(weights.path())),
        }
    };
    let stem = shape(image_encoder, &layer(image_encoder, <[usize]>::first)?, axes + 2)?;
    let head = shape(label_decoder, &layer(label_decoder, <[usize]>::last)?, axes + 2)?;
    let preset = NetworkConfig::reference(Vec::new(), stem[axes], head[axes + 1]);
    let input_size = affine[..axes].iter().map(|size| size * preset.downsampling).collect();
    let config = NetworkConfig { input_size, ..preset };
    config.validate().map_err(|e| e.in_file(label_encoder.path()))?;
    Ok(config)
}

fn shape<'a>(weights: &'a Weights, name: &str, rank: usize) -> Result<&'a [usize]> {
    let found = weights.get(name).map(|tensor| tensor.shape());
    found.filter(|shape| shape.len() == rank).ok_or_else(|| {
        let found = found.map_or("nothing".into(), |shape| format!("{shape:?}"));
        let message = format!("`{name}`: found {found}, expected an array of {rank} axes");
        Error::new(ErrorKind::Format, message).in_file(weights.path())
    })
}

/// Writes the release in `source` as a bundle to the folder `output`. `name` and the `classes`' names are what the
/// manifest says; with no `classes` they are numbered.
///
/// # Errors
/// Those of [`Release::read`], [`Release::networks`] and [`export::write_with_card`]; [`ErrorKind::Setting`] unless
/// there is one name for each class.
pub fn import(source: &Path, output: &Path, name: Option<&str>, classes: &[String]) -> Result<()> {
    let release = Release::read(source)?;
    let recipe = release.recipe(name, classes)?;
    let device = Device::flex();
    match release.config.spatial_axes() {
        2 => write(&recipe, &release.networks::<4>(&device)?, output),
        _ => write(&recipe, &release.networks::<5>(&device)?, output),
    }
}

fn write<const D: usize>(recipe: &Recipe, networks: &Networks<D>, output: &Path) -> Result<()> {
    let metrics = "Not known to the import: see whoever trained the weights.\n";
    let card = export::model_card(recipe, networks.num_params(), "imported from Keras", metrics);
    export::write_with_card(recipe, networks, &card, output)
}

impl Release {
    /// The recipe that describes the release: its prediction, standardisation, schedule, sampler and steps.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] unless `classes` is empty or has one name for each class.
    pub fn recipe(&self, name: Option<&str>, classes: &[String]) -> Result<Recipe> {
        let config = &self.config;
        if !classes.is_empty() && classes.len() != config.classes {
            let message = format!("{} class names, expected {}, background included", classes.len(), config.classes);
            return Err(Error::new(ErrorKind::Setting, message));
        }
        let class = |index: usize| ClassRecipe {
            name: classes.get(index).cloned().unwrap_or_else(|| match index {
                0 => "background".into(),
                _ => format!("class {index}"),
            }),
            colour: if index == 0 { [0; 3] } else { COLOURS[(index - 1) % COLOURS.len()] },
            values: vec![index as u8],
            unsure_below: None,
        };
        Ok(Recipe {
            name: name.map_or_else(|| format!("reference-{}d", config.spatial_axes()), String::from),
            seed: 0,
            data: DataCard {
                source:
                    "What the published release, or whoever trained these weights with it, was trained on (Zaman et \
                         al., arXiv 2407.12952)."
                        .into(),
                licence: "That of the release and of its training data.".into(),
                intended_use: "Comparison with the published networks, and running models trained with the published \
                               release."
                    .into(),
            },
            classes: (0..config.classes).map(class).collect(),
            measures: Vec::new(),
            network: NetworkRecipe {
                preset: Preset::Reference,
                input_size: config.input_size.clone(),
                channels: config.channels,
                downsampling: None,
                stem: None,
                latent_channels: None,
                embedding_channels: None,
                widths: None,
                context_widths: None,
                label_widths: None,
                denoiser_widths: None,
                denoiser_blocks: None,
                denoiser_attention: None,
                group_size: None,
                separable: false,
                deterministic: false,
            },
            // The release takes volumes as they are stored.
            preprocessing: Preprocessing { orientation: OrientationPolicy::Stored, ..Preprocessing::default() },
            diffusion: Diffusion {
                prediction: Prediction::Reference,
                latent_standardisation: LatentStandardisation::EachStep,
                sampler: Sampler::Ddim,
                steps: STEPS,
                ..Diffusion::default()
            },
            validation: Validation::Count(0),
            training: Default::default(),
            augmentation: Default::default(),
        })
    }
}

#[cfg(test)]
mod tests;
