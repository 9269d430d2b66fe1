//! The body that the compact image encoder and label encoder share.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::NetworkConfig;
use super::layers::{Conv, GroupNorm, ResidualBlock, upsample};

/// An overlapping convolution at the stem's stride, then on each level a residual block, with stride-2 convolutions
/// between the levels. Coarser levels than the output's, where there are any, add what they see to it.
#[derive(Module, Debug)]
pub struct CompactEncoder<const D: usize> {
    stem: Conv<D>,
    blocks: Vec<ResidualBlock<D>>,
    downs: Vec<Conv<D>>,
    context: Vec<ContextLevel<D>>,
    last: ResidualBlock<D>,
    norm: GroupNorm,
    head: Conv<D>,
}

/// A level below the output's: down by a stride-2 convolution, a residual block, whatever lies deeper, a second residual
/// block, and a 1x1 convolution on the way back up.
#[derive(Module, Debug)]
pub(crate) struct ContextLevel<const D: usize> {
    down: Conv<D>,
    first: ResidualBlock<D>,
    second: ResidualBlock<D>,
    up: Conv<D>,
}

impl<const D: usize> CompactEncoder<D> {
    /// From `c_in` channels to `c_out`, at 1 / `downsampling` of the size; `widths` are those of the levels down to there,
    /// `context` of those below.
    pub fn new(
        config: &NetworkConfig,
        widths: &[usize],
        context: &[usize],
        [c_in, c_out]: [usize; 2],
        device: &Device,
    ) -> Self {
        let coarsest = widths[widths.len() - 1];
        let block = |width: usize| config.block(width, width, [config.groups(width); 2], device);
        Self {
            stem: Conv::new(c_in, widths[0], 2 * config.stem - 1, device).with_stride(config.stem),
            blocks: widths.iter().map(|width| block(*width)).collect(),
            downs: widths.windows(2).map(|w| Conv::new(w[0], w[1], 3, device).with_stride(2)).collect(),
            context: [&[coarsest], context]
                .concat()
                .windows(2)
                .map(|w| ContextLevel {
                    down: Conv::new(w[0], w[1], 3, device).with_stride(2),
                    first: block(w[1]),
                    second: block(w[1]),
                    up: Conv::new(w[1], w[0], 1, device),
                })
                .collect(),
            last: block(coarsest),
            norm: GroupNorm::new(config.groups(coarsest), coarsest, device),
            head: Conv::new(coarsest, c_out, 1, device),
        }
    }

    /// `[N, c_in, ...]` to `[N, c_out, .../downsampling]`.
    pub fn forward(&self, x: Tensor<D>) -> Tensor<D> {
        let mut x = self.blocks[0].forward(self.stem.forward(x), None);
        for (down, block) in self.downs.iter().zip(&self.blocks[1..]) {
            x = block.forward(down.forward(x), None);
        }
        let mut skips = Vec::new();
        for level in &self.context {
            skips.push(x.clone());
            x = level.first.forward(level.down.forward(x), None);
        }
        for (level, skip) in self.context.iter().zip(skips).rev() {
            x = skip + upsample(level.up.forward(level.second.forward(x, None)));
        }
        self.head.forward(self.norm.forward_silu(self.last.forward(x, None)))
    }
}
