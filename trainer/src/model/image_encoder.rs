//! Image encoder: image X to image embedding z_i. It runs once per image.

use burn::module::Module;
use burn::nn::{BatchNorm, Dropout, DropoutConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use super::encoder::CompactEncoder;
use super::layers::{Attention, Conv, GroupNorm, Residual, batch_norm, max_pool};
use super::{NetworkConfig, Preset};

/// z_i = f_image_enc(X).
#[derive(Module, Debug)]
pub enum ImageEncoder<const D: usize> {
    /// The default for new work.
    Compact(CompactEncoder<D>),
    /// As published.
    Reference(ReferenceImageEncoder<D>),
}

impl<const D: usize> ImageEncoder<D> {
    /// Builds the preset's layers.
    pub fn new(config: &NetworkConfig, device: &Device) -> Self {
        match config.preset {
            Preset::Compact => {
                let channels = [config.channels, config.embedding_channels];
                Self::Compact(CompactEncoder::new(config, &config.widths, &config.context_widths, channels, device))
            }
            Preset::Reference => Self::Reference(ReferenceImageEncoder::new(config, device)),
        }
    }

    /// `x` `[N, C, ...]`, normalised as the manifest says, to `[N, E, .../downsampling]`.
    pub fn forward(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Compact(network) => network.forward(x),
            Self::Reference(network) => network.forward(x),
        }
    }
}

/// The published encoder: in 2-D with 8-head attention after the last two blocks and one head at the end; in 3-D with
/// convolutions in 4 groups and no attention.
#[derive(Module, Debug)]
pub struct ReferenceImageEncoder<const D: usize> {
    stem: Conv<D>,
    blocks: Vec<DownBlock<D>>,
    attention: Vec<Attention>,
    head: Conv<D>,
    head_attention: Option<Attention>,
    norm: BatchNorm,
}

impl<const D: usize> ReferenceImageEncoder<D> {
    fn new(config: &NetworkConfig, device: &Device) -> Self {
        let inputs = [&[16], &config.widths[..]].concat();
        let blocks = inputs.iter().zip(&config.widths).map(|(i, o)| DownBlock::new(*i, *o, device));
        let coarse = &config.widths[config.widths.len() - 2..];
        let (attention, head_attention, kernel) = if D == 4 {
            let eight = |width: &usize| Attention::new(*width, 8, 8, Residual::Input, device);
            let one = Attention::new(config.embedding_channels, 1, 1, Residual::Input, device);
            (coarse.iter().map(eight).collect(), Some(one), 1)
        } else {
            (Vec::new(), None, 3)
        };
        Self {
            stem: Conv::new(config.channels, 16, 3, device),
            blocks: blocks.collect(),
            attention,
            head: Conv::new(coarse[1], config.embedding_channels, kernel, device),
            head_attention,
            norm: batch_norm(config.embedding_channels, device),
        }
    }

    fn forward(&self, x: Tensor<D>) -> Tensor<D> {
        let mut x = self.stem.forward(x);
        let plain = self.blocks.len() - self.attention.len();
        for (level, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if level >= plain {
                x = self.attention[level - plain].forward(x);
            }
        }
        x = self.head.forward(x);
        if let Some(attention) = &self.head_attention {
            x = silu(attention.forward(x));
        }
        self.norm.forward(x)
    }
}

/// 1x1 shortcut; SiLU-conv3-dropout-SiLU-conv3; add; SiLU; halve; GroupNorm(4).
#[derive(Module, Debug)]
pub(crate) struct DownBlock<const D: usize> {
    shortcut: Conv<D>,
    conv1: Conv<D>,
    conv2: Conv<D>,
    down: Option<Conv<D>>,
    norm: GroupNorm,
    dropout: Dropout,
}

impl<const D: usize> DownBlock<D> {
    fn new(c_in: usize, c_out: usize, device: &Device) -> Self {
        let groups = if D == 4 { 1 } else { 4 };
        Self {
            shortcut: Conv::new(c_in, c_out, 1, device),
            conv1: Conv::grouped(c_in, c_out, 3, groups, device),
            conv2: Conv::grouped(c_out, c_out, 3, groups, device),
            down: (D == 4).then(|| Conv::new(c_out, c_out, 3, device).with_stride(2)),
            norm: GroupNorm::new(4, c_out, device),
            dropout: DropoutConfig::new(0.2).init(),
        }
    }

    fn forward(&self, x: Tensor<D>) -> Tensor<D> {
        let y = self.dropout.forward(self.conv1.forward(silu(x.clone())));
        let y = silu(self.conv2.forward(silu(y)) + self.shortcut.forward(x));
        let y = match &self.down {
            Some(down) => down.forward(y),
            None => max_pool(y),
        };
        self.norm.forward(y)
    }
}
