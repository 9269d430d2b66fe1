//! Label decoder: latent z to class probabilities at the input's size.

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use super::layers::{
    Conv, ConvTranspose, GroupNorm, PublishedBlock, ResidualBlock, axes, batch_norm, class_softmax, depth_to_space,
    upsample,
};
use super::{NetworkConfig, Preset};

/// yhat = f_label_dec(z).
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them a model")]
pub enum LabelDecoder<const D: usize> {
    /// The default for new work.
    Compact(CompactLabelDecoder<D>),
    /// As published.
    Reference(ReferenceLabelDecoder<D>),
}

impl<const D: usize> LabelDecoder<D> {
    /// Builds the preset's layers.
    pub fn new(config: &NetworkConfig, device: &Device) -> Self {
        match config.preset {
            Preset::Compact => Self::Compact(CompactLabelDecoder::new(config, device)),
            Preset::Reference => Self::Reference(ReferenceLabelDecoder::new(config, device)),
        }
    }

    /// `z` `[N, C, ...]` to unnormalised log-probabilities `[N, K, ... * downsampling]`.
    pub fn logits(&self, z: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Compact(network) => network.forward(z),
            Self::Reference(network) => network.forward(z),
        }
    }

    /// `z` `[N, C, ...]` to class probabilities `[N, K, ... * downsampling]`.
    pub fn forward(&self, z: Tensor<D>) -> Tensor<D> {
        class_softmax(self.logits(z))
    }
}

/// Residual blocks with nearest-neighbour enlargement between them; the last enlargement is a sub-pixel convolution, so
/// nothing runs at the full size.
#[derive(Module, Debug)]
pub struct CompactLabelDecoder<const D: usize> {
    stem: Conv<D>,
    first: ResidualBlock<D>,
    blocks: Vec<ResidualBlock<D>>,
    narrow: Vec<Conv<D>>,
    norm: GroupNorm,
    head: Conv<D>,
    #[module(skip)]
    enlargement: usize,
}

impl<const D: usize> CompactLabelDecoder<D> {
    fn new(config: &NetworkConfig, device: &Device) -> Self {
        let widths: Vec<usize> = config.widths.iter().rev().copied().collect();
        let finest = widths[widths.len() - 1];
        let block = |width: usize| config.block(width, width, [config.groups(width); 2], device);
        Self {
            stem: Conv::new(config.latent_channels, widths[0], 3, device),
            first: block(widths[0]),
            blocks: widths.iter().map(|width| block(*width)).collect(),
            narrow: widths.windows(2).map(|w| Conv::new(w[0], w[1], 1, device)).collect(),
            norm: GroupNorm::new(config.groups(finest), finest, device),
            head: Conv::new(finest, config.classes * config.stem.pow(axes(D) as u32), 1, device),
            enlargement: config.stem,
        }
    }

    fn forward(&self, z: Tensor<D>) -> Tensor<D> {
        let mut x = self.blocks[0].forward(self.first.forward(self.stem.forward(z), None), None);
        for (narrow, block) in self.narrow.iter().zip(&self.blocks[1..]) {
            x = block.forward(upsample(narrow.forward(x)), None);
        }
        depth_to_space(self.head.forward(self.norm.forward_silu(x)), self.enlargement)
    }
}

/// Four times (enlarge, residual block), then SiLU, a 1x1 convolution and batch normalisation; enlarged by a stride-2
/// transposed convolution in 2-D, by nearest neighbour and a convolution in 3-D.
#[derive(Module, Debug)]
pub struct ReferenceLabelDecoder<const D: usize> {
    ups: Vec<Up<D>>,
    blocks: Vec<PublishedBlock<D>>,
    head: Conv<D>,
    norm: BatchNorm,
}

/// How the published decoder doubles the size.
#[derive(Module, Debug)]
pub(crate) enum Up<const D: usize> {
    /// 2-D.
    Transposed(ConvTranspose<D>),
    /// 3-D.
    Nearest(Conv<D>),
}

impl<const D: usize> ReferenceLabelDecoder<D> {
    fn new(config: &NetworkConfig, device: &Device) -> Self {
        let inputs = [&[config.latent_channels], &config.widths[..]].concat();
        let up = |(c_in, c_out): (&usize, &usize)| match D {
            4 => Up::Transposed(ConvTranspose::new(*c_in, *c_out, device)),
            _ => Up::Nearest(Conv::new(*c_in, *c_out, 3, device)),
        };
        let finest = config.widths[config.widths.len() - 1];
        Self {
            ups: inputs.iter().zip(&config.widths).map(up).collect(),
            blocks: config.widths.iter().map(|width| PublishedBlock::new(*width, *width, device)).collect(),
            head: Conv::new(finest, config.classes, 1, device),
            norm: batch_norm(config.classes, device),
        }
    }

    fn forward(&self, z: Tensor<D>) -> Tensor<D> {
        let mut x = z;
        for (up, block) in self.ups.iter().zip(&self.blocks) {
            x = match up {
                Up::Transposed(conv) => conv.forward(x),
                Up::Nearest(conv) => conv.forward(upsample(x)),
            };
            x = block.forward(x);
        }
        self.norm.forward(self.head.forward(silu(x)))
    }
}
