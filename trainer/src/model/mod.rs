//! The four networks, one file each, generic over the tensor rank `D` (4: 2-D images, 5: 3-D) and built from one
//! [`NetworkConfig`].

mod denoiser;
mod encoder;
mod image_encoder;
mod label_decoder;
mod label_encoder;
pub mod layers;

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use ldseg::bundle::MAX_CHANNELS;
use ldseg::{Error, ErrorKind, Result};

use layers::ResidualBlock;

pub use denoiser::Denoiser;
pub use image_encoder::ImageEncoder;
pub use label_decoder::LabelDecoder;
pub use label_encoder::LabelEncoder;

/// Which family of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Group normalisation in front, no layer that pins the input size, attention on the coarsest level at most.
    Compact,
    /// Exactly the layers of the published release; widths and sizes are theirs too.
    Reference,
}

/// Everything that shapes the four networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which family of layers.
    pub preset: Preset,
    /// Size of the input along each spatial axis, slowest first; a multiple of `downsampling`.
    pub input_size: Vec<usize>,
    /// Image channels.
    pub channels: usize,
    /// Number of classes, background included.
    pub classes: usize,
    /// Input size over latent size, 8 or 16.
    pub downsampling: usize,
    /// Stride of the first convolution of the compact encoders, and by how much the compact decoder's last layer
    /// enlarges, 2 or 4: nothing is computed at a finer grid. `reference` works at the full size; 1.
    pub stem: usize,
    /// Channels of the label latent z.
    pub latent_channels: usize,
    /// Channels of the image embedding z_i.
    pub embedding_channels: usize,
    /// Widths of the image encoder and label decoder, one per level, from the first convolution's output size (half
    /// the input size for `reference`) down to the latent's.
    pub widths: Vec<usize>,
    /// Widths of further levels of the compact image encoder, each half the size of the one before, the first half the
    /// latent's: what is seen there of the whole image is added to the embedding. May be empty.
    pub context_widths: Vec<usize>,
    /// Widths of the label encoder, whose input is far simpler; `reference` has one level more, at the input size.
    pub label_widths: Vec<usize>,
    /// Widths of the denoiser, one per level, from the latent's size downwards.
    pub denoiser_widths: Vec<usize>,
    /// Residual blocks on each level of the denoiser, on the way down and up; 0 leaves the two in the middle, for a
    /// denoiser of one level.
    pub denoiser_blocks: usize,
    /// For each level of the denoiser, whether attention follows its blocks.
    pub denoiser_attention: Vec<bool>,
    /// Normalisation: channels that share a mean and variance. 1 is instance normalisation, a number as large as the
    /// widest level is layer normalisation. `reference` has its own, batch normalisation included.
    pub group_size: usize,
    /// Whether each convolution of a compact residual block is a 3x3 filter for every channel and a 1x1 convolution.
    pub separable: bool,
    /// Whether the denoiser leaves z_t and t out of account and so maps z_i to z_0 with nothing left to chance: the
    /// baseline that shows what diffusion itself brings, as large and as deep as the model beside it.
    pub deterministic: bool,
}

/// Bounds of what can be asked for: far above any use, low enough not to exhaust a machine by a slip of the pen.
const MAX_VOXELS: usize = 1 << 26;
const MAX_LEVELS: usize = 8;
const MAX_WIDTH: usize = 1024;
const MAX_BLOCKS: usize = 64;

impl NetworkConfig {
    /// The default for new work.
    pub fn compact(input_size: Vec<usize>, channels: usize, classes: usize) -> Self {
        // A kernel of side 7 has seven times the weights in 3-D, and volumes are sampled more coarsely to begin with.
        let plane = input_size.len() == 2;
        Self {
            preset: Preset::Compact,
            input_size,
            channels,
            classes,
            downsampling: if plane { 16 } else { 8 },
            stem: if plane { 4 } else { 2 },
            latent_channels: if plane { 16 } else { 8 },
            embedding_channels: 48,
            widths: if plane { vec![32, 64, 96] } else { vec![24, 48, 96] },
            context_widths: Vec::new(),
            label_widths: vec![16, 32, 64],
            denoiser_widths: vec![32, 48],
            denoiser_blocks: 1,
            denoiser_attention: vec![false, true],
            group_size: 8,
            separable: false,
            deterministic: false,
        }
    }

    /// The published networks.
    pub fn reference(input_size: Vec<usize>, channels: usize, classes: usize) -> Self {
        Self {
            preset: Preset::Reference,
            input_size,
            channels,
            classes,
            downsampling: 16,
            stem: 1,
            latent_channels: 1,
            embedding_channels: 1,
            widths: vec![32, 64, 64, 32],
            context_widths: Vec::new(),
            label_widths: vec![16, 32, 64, 64, 32],
            denoiser_widths: vec![16, 32, 64],
            denoiser_blocks: 2,
            denoiser_attention: vec![false, true, true],
            group_size: 1,
            separable: false,
            deterministic: false,
        }
    }

    /// 2 or 3.
    pub fn spatial_axes(&self) -> usize {
        self.input_size.len()
    }

    /// Latent size along each spatial axis.
    pub fn latent_size(&self) -> Vec<usize> {
        self.input_size.iter().map(|n| n / self.downsampling).collect()
    }

    /// Shape of z without the batch axis.
    pub fn latent_shape(&self) -> Vec<usize> {
        [vec![self.latent_channels], self.latent_size()].concat()
    }

    /// Shape of z_i without the batch axis.
    pub fn embedding_shape(&self) -> Vec<usize> {
        [vec![self.embedding_channels], self.latent_size()].concat()
    }

    /// Groups that `channels` channels are normalised in.
    fn groups(&self, channels: usize) -> usize {
        (1..=channels).rev().find(|g| channels.is_multiple_of(*g) && channels / g >= self.group_size).unwrap_or(1)
    }

    /// A residual block of the kind that the networks are built of.
    fn block<const D: usize>(
        &self,
        c_in: usize,
        c_out: usize,
        groups: [usize; 2],
        device: &Device,
    ) -> ResidualBlock<D> {
        let new = if self.separable { ResidualBlock::separable } else { ResidualBlock::new };
        new(c_in, c_out, groups, device)
    }

    /// Checks that the networks can be built.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`], naming the setting and what was expected.
    pub fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, format!("network: {message}")));
        if !matches!(self.input_size.len(), 2 | 3) {
            return fail(format!("input_size is {:?}, expected 2 or 3 numbers", self.input_size));
        }
        let voxels = self.input_size.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
        if voxels.is_none_or(|voxels| voxels > MAX_VOXELS) {
            return fail(format!("input_size is {:?}, expected at most {MAX_VOXELS} voxels", self.input_size));
        }
        if !matches!(self.downsampling, 8 | 16) {
            return fail(format!("downsampling is {}, expected 8 or 16", self.downsampling));
        }
        if !(if self.preset == Preset::Compact { [2, 4] } else { [1, 1] }).contains(&self.stem) {
            return fail(format!("stem is {}, expected 2 or 4 for compact and 1 for reference", self.stem));
        }
        let levels = (self.downsampling / self.stem).ilog2() as usize + usize::from(self.preset == Preset::Compact);
        if self.widths.len() != levels {
            return fail(format!(
                "widths has {} levels, expected {levels} for downsampling {} and stem {}",
                self.widths.len(),
                self.downsampling,
                self.stem
            ));
        }
        let label_levels = self.widths.len() + usize::from(self.preset == Preset::Reference);
        if self.label_widths.len() != label_levels {
            return fail(format!("label_widths has {} levels, expected {label_levels}", self.label_widths.len()));
        }
        let levels = [self.context_widths.len(), self.denoiser_widths.len()];
        if levels.iter().any(|levels| *levels > MAX_LEVELS) {
            return fail(format!(
                "context_widths and denoiser_widths have {levels:?} levels, expected {MAX_LEVELS} at most"
            ));
        }
        let coarsest = 1 << self.context_widths.len().max(self.denoiser_widths.len().max(1) - 1);
        if let Some(n) = self.input_size.iter().find(|n| **n == 0 || *n % (self.downsampling * coarsest) != 0) {
            return fail(format!(
                "input_size holds {n}, expected a multiple of {} (downsampling, halved on to the coarsest level of \
                 context_widths or denoiser_widths)",
                self.downsampling * coarsest
            ));
        }
        if !self.context_widths.is_empty() && self.preset == Preset::Reference {
            return fail("context_widths go with the compact preset only".into());
        }
        if self.denoiser_blocks == 0 && (self.denoiser_widths.len() > 1 || self.preset == Preset::Reference) {
            return fail(
                "denoiser_blocks is 0, which goes with the compact preset and one level of denoiser_widths only".into(),
            );
        }
        if self.denoiser_widths.is_empty() || self.denoiser_attention.len() != self.denoiser_widths.len() {
            return fail("denoiser_widths and denoiser_attention need one entry per level".into());
        }
        if self.separable && self.preset == Preset::Reference {
            return fail("separable goes with the compact preset only".into());
        }
        let counts = [self.latent_channels, self.embedding_channels, self.group_size];
        let widths = [&self.widths, &self.context_widths, &self.label_widths, &self.denoiser_widths];
        if counts.contains(&0) || widths.iter().any(|widths| widths.contains(&0)) {
            return fail("channels, widths and group_size must be positive".into());
        }
        let greatest = counts[..2].iter().chain(widths.into_iter().flatten()).copied().max().unwrap_or(0);
        if greatest > MAX_WIDTH || self.denoiser_blocks > MAX_BLOCKS {
            return fail(format!(
                "the greatest number of channels is {greatest} and denoiser_blocks {}, expected {MAX_WIDTH} and {MAX_BLOCKS} \
                 at most",
                self.denoiser_blocks
            ));
        }
        if !(1..=MAX_CHANNELS).contains(&self.channels) {
            return fail(format!("channels is {}, expected 1 to {MAX_CHANNELS}", self.channels));
        }
        if !(2..=256).contains(&self.classes) {
            return fail(format!("classes is {}, expected 2 to 256", self.classes));
        }
        Ok(())
    }
}

/// The four networks of one model.
#[derive(Module, Debug)]
pub struct Networks<const D: usize> {
    /// y to z_l0.
    pub label_encoder: LabelEncoder<D>,
    /// X to z_i.
    pub image_encoder: ImageEncoder<D>,
    /// z_t, z_i and t to the prediction.
    pub denoiser: Denoiser<D>,
    /// z to class logits.
    pub label_decoder: LabelDecoder<D>,
}

impl<const D: usize> Networks<D> {
    /// Freshly initialised networks; `device.seed` beforehand makes them reproducible.
    pub fn new(config: &NetworkConfig, device: &Device) -> Self {
        Self {
            label_encoder: LabelEncoder::new(config, device),
            image_encoder: ImageEncoder::new(config, device),
            denoiser: Denoiser::new(config, device),
            label_decoder: LabelDecoder::new(config, device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Label encoder, image encoder, denoiser and label decoder.
    fn weights<const D: usize>(config: &NetworkConfig) -> [usize; 4] {
        config.validate().unwrap();
        let networks = Networks::<D>::new(config, &Device::default());
        let Networks { label_encoder, image_encoder, denoiser, label_decoder } = &networks;
        let counts =
            [label_encoder.num_params(), image_encoder.num_params(), denoiser.num_params(), label_decoder.num_params()];
        assert_eq!(networks.num_params(), counts.iter().sum::<usize>());
        counts
    }

    /// The published networks' counts of all weights, the moving statistics of batch normalisation included.
    #[test]
    fn the_reference_preset_has_as_many_weights_as_the_published_networks() {
        let glands = NetworkConfig::reference(vec![512, 512], 3, 2);
        assert_eq!(weights::<4>(&glands), [186_865, 294_063, 1_013_873, 271_722]);
        let knee = NetworkConfig::reference(vec![128, 128, 256], 1, 3);
        assert_eq!(weights::<5>(&knee), [788_897, 138_853, 2_209_937, 788_431]);
    }
}
