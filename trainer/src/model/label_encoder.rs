//! Label encoder: label map y to clean latent z_l0, of zero mean and unit variance.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::encoder::CompactEncoder;
use super::layers::{Conv, PublishedBlock, max_pool, standardise};
use super::{NetworkConfig, Preset};

/// z_l0 = f_label_enc(y).
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them a model")]
pub enum LabelEncoder<const D: usize> {
    /// The default for new work.
    Compact(CompactLabelEncoder<D>),
    /// As published.
    Reference(ReferenceLabelEncoder<D>),
}

impl<const D: usize> LabelEncoder<D> {
    /// Builds the preset's layers.
    pub fn new(config: &NetworkConfig, device: &Device) -> Self {
        match config.preset {
            Preset::Compact => Self::Compact(CompactLabelEncoder {
                body: CompactEncoder::new(
                    config,
                    &config.label_widths,
                    &[],
                    [config.classes, config.latent_channels],
                    device,
                ),
                classes: config.classes,
            }),
            Preset::Reference => Self::Reference(ReferenceLabelEncoder::new(config, device)),
        }
    }

    /// `y` `[N, 1, ...]`, the class index as a number, to `[N, C, .../downsampling]`.
    pub fn forward(&self, y: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Compact(network) => network.forward(y),
            Self::Reference(network) => network.forward(y),
        }
    }
}

/// One channel per class, encoded, then standardised per sample.
#[derive(Module, Debug)]
pub struct CompactLabelEncoder<const D: usize> {
    body: CompactEncoder<D>,
    #[module(skip)]
    classes: usize,
}

impl<const D: usize> CompactLabelEncoder<D> {
    fn forward(&self, y: Tensor<D>) -> Tensor<D> {
        // max(0, 1 - |y - k|) is 1 where y is class k and 0 at every other whole number.
        let one_hot = (0..self.classes)
            .map(|class| (y.clone() - class as f64).abs().mul_scalar(-1.0).add_scalar(1.0).clamp_min(0.0))
            .collect();
        standardise(self.body.forward(Tensor::cat(one_hot, 1)), 1e-5)
    }
}

/// Five residual blocks, pooling (2-D) or stride-2 convolutions (3-D) between them, and a layer normalisation whose
/// scale and shift have one number per element, which pins the input size.
#[derive(Module, Debug)]
pub struct ReferenceLabelEncoder<const D: usize> {
    blocks: Vec<PublishedBlock<D>>,
    downs: Vec<Conv<D>>,
    head: Conv<D>,
    gamma: Param<Tensor<D>>,
    beta: Param<Tensor<D>>,
}

impl<const D: usize> ReferenceLabelEncoder<D> {
    fn new(config: &NetworkConfig, device: &Device) -> Self {
        let widths = config.label_widths.clone();
        let inputs = [&[1], &widths[..]].concat();
        let mut element = [1; D];
        element[1..].copy_from_slice(&config.latent_shape());
        let strided = |width: &usize| Conv::new(*width, *width, 3, device).with_stride(2);
        Self {
            blocks: inputs.iter().zip(&widths).map(|(i, o)| PublishedBlock::new(*i, *o, device)).collect(),
            downs: if D == 5 { widths[..widths.len() - 1].iter().map(strided).collect() } else { Vec::new() },
            head: Conv::new(widths[widths.len() - 1], config.latent_channels, if D == 5 { 2 } else { 1 }, device),
            gamma: Initializer::Ones.init(element, device),
            beta: Initializer::Zeros.init(element, device),
        }
    }

    fn forward(&self, y: Tensor<D>) -> Tensor<D> {
        let mut x = self.blocks[0].forward(y);
        for (level, block) in self.blocks[1..].iter().enumerate() {
            x = match self.downs.get(level) {
                Some(down) => down.forward(x),
                None => max_pool(x),
            };
            x = block.forward(x);
        }
        standardise(self.head.forward(x), 1e-3) * self.gamma.val() + self.beta.val()
    }
}
