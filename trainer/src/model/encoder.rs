//! The body that the compact image encoder and label encoder share.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::NetworkConfig;
use super::layers::{Conv, GroupNorm, ResidualBlock};

/// An overlapping convolution at the stem's stride, then on each level a residual block, with stride-2 convolutions
/// between the levels.
#[derive(Module, Debug)]
pub struct CompactEncoder<const D: usize> {
    stem: Conv<D>,
    blocks: Vec<ResidualBlock<D>>,
    downs: Vec<Conv<D>>,
    last: ResidualBlock<D>,
    norm: GroupNorm,
    head: Conv<D>,
}

impl<const D: usize> CompactEncoder<D> {
    /// From `c_in` channels to `c_out`, at 1 / `downsampling` of the size.
    pub fn new(config: &NetworkConfig, widths: &[usize], [c_in, c_out]: [usize; 2], device: &Device) -> Self {
        let coarsest = widths[widths.len() - 1];
        let block = |width: usize| config.block(width, width, [config.groups(width); 2], device);
        Self {
            stem: Conv::new(c_in, widths[0], 2 * config.stem - 1, device).with_stride(config.stem),
            blocks: widths.iter().map(|width| block(*width)).collect(),
            downs: widths.windows(2).map(|w| Conv::new(w[0], w[1], 3, device).with_stride(2)).collect(),
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
        self.head.forward(self.norm.forward_silu(self.last.forward(x, None)))
    }
}
