//! Denoiser: a small U-Net on the noisy latent z_t, the image embedding z_i and the timestep t.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor, TensorData};

use super::layers::{Attention, Conv, GroupNorm, Residual, ResidualBlock, axes, upsample};
use super::{NetworkConfig, Preset};

/// Positions that a compact denoiser's attention looks at, at most: those of 32 x 32, as the coarsest level of two has for
/// images of 512 x 512 at a downsampling of 8.
const MOST_KEYS: usize = 1024;
/// Width of the sinusoid and of the timestep embedding.
const TIME_WIDTH: usize = 64;

/// Prediction = f_denoiser(z_t, z_i, t).
///
/// Both presets share the layers. The published 2-D network uses every skip connection of the U-Net, those of the first
/// convolution and the downsamplers too; its 3-D network and the compact one have none of these and one block fewer per
/// level on the way up.
#[derive(Module, Debug)]
pub struct Denoiser<const D: usize> {
    time1: Linear,
    time2: Linear,
    stem: Conv<D>,
    down: Vec<Level<D>>,
    middle1: ResidualBlock<D>,
    middle_attention: Option<Attention>,
    middle2: ResidualBlock<D>,
    up: Vec<Level<D>>,
    norm: GroupNorm,
    head: Conv<D>,
    #[module(skip)]
    all_skips: bool,
    #[module(skip)]
    deterministic: bool,
}

/// The blocks of one level and the convolution that leads to the next one.
#[derive(Module, Debug)]
pub(crate) struct Level<const D: usize> {
    blocks: Vec<ResidualBlock<D>>,
    attention: Vec<Attention>,
    resize: Option<Conv<D>>,
}

struct Builder<'a> {
    config: &'a NetworkConfig,
    device: &'a Device,
}

impl Builder<'_> {
    fn groups(&self, channels: usize) -> usize {
        match self.config.preset {
            Preset::Reference => 4,
            Preset::Compact => self.config.groups(channels),
        }
    }

    fn block<const D: usize>(&self, c_in: usize, c_out: usize) -> ResidualBlock<D> {
        let groups = [self.groups(c_in), self.groups(c_out)];
        self.config.block(c_in, c_out, groups, self.device).with_time(c_out, TIME_WIDTH, self.device)
    }

    fn attention(&self, channels: usize) -> Attention {
        let attention = Attention::new(channels, 1, self.groups(channels), Residual::Normalised, self.device);
        match self.config.preset {
            Preset::Reference => attention,
            Preset::Compact => attention.with_keys(MOST_KEYS),
        }
    }

    /// `inputs` are the channels that enter each block.
    fn level<const D: usize>(&self, index: usize, inputs: &[usize], resize: Option<Conv<D>>) -> Level<D> {
        let width = self.config.denoiser_widths[index];
        let attends = self.config.denoiser_attention[index];
        Level {
            blocks: inputs.iter().map(|c_in| self.block(*c_in, width)).collect(),
            attention: inputs.iter().filter(|_| attends).map(|_| self.attention(width)).collect(),
            resize,
        }
    }
}

impl<const D: usize> Denoiser<D> {
    /// Builds the preset's layers.
    pub fn new(config: &NetworkConfig, device: &Device) -> Self {
        let build = Builder { config, device };
        let widths = &config.denoiser_widths;
        let all_skips = config.preset == Preset::Reference && axes(D) == 2;
        let mut skips = if all_skips { vec![widths[0]] } else { Vec::new() };
        let mut channels = widths[0];
        let mut down = Vec::new();
        for (index, width) in widths.iter().enumerate() {
            let mut inputs = vec![*width; config.denoiser_blocks];
            if let Some(first) = inputs.first_mut() {
                *first = channels;
            }
            skips.extend(inputs.iter().map(|_| width));
            channels = *width;
            let resize = (index + 1 < widths.len()).then(|| {
                skips.extend(all_skips.then_some(width));
                Conv::new(*width, *width, 3, device).with_stride(2)
            });
            down.push(build.level(index, &inputs, resize));
        }
        let (middle1, middle2) = (build.block(channels, channels), build.block(channels, channels));
        let attends = config.denoiser_attention.last().copied().unwrap_or(false);
        let middle_attention = attends.then(|| build.attention(channels));
        let mut up = Vec::new();
        for (index, width) in widths.iter().enumerate().rev() {
            let blocks = config.denoiser_blocks + usize::from(all_skips);
            let inputs: Vec<usize> = (0..blocks)
                .map(|_| {
                    let c_in = channels + skips.pop().unwrap_or(0);
                    channels = *width;
                    c_in
                })
                .collect();
            let resize = (index > 0).then(|| Conv::new(*width, *width, 3, device));
            up.push(build.level(index, &inputs, resize));
        }
        Self {
            time1: LinearConfig::new(TIME_WIDTH, TIME_WIDTH).init(device),
            time2: LinearConfig::new(TIME_WIDTH, TIME_WIDTH).init(device),
            stem: Conv::new(config.latent_channels + config.embedding_channels, widths[0], 3, device),
            down,
            middle1,
            middle_attention,
            middle2,
            up,
            norm: GroupNorm::new(build.groups(widths[0]), widths[0], device),
            head: Conv::new(widths[0], config.latent_channels, 3, device).zeroed(device),
            all_skips,
            deterministic: config.deterministic,
        }
    }

    /// `z_t` `[N, C, ...]`, `z_i` `[N, E, ...]`, `t` `[N]`, the raw timestep, to the prediction, shaped as `z_t`.
    pub fn forward(&self, z_t: Tensor<D>, z_i: Tensor<D>, t: Tensor<1>) -> Tensor<D> {
        // Kept as inputs: a bundle's denoiser takes three tensors, and finite noise times 0 is 0.
        let (z_t, t) = if self.deterministic { (z_t.mul_scalar(0.0), t.mul_scalar(0.0)) } else { (z_t, t) };
        let time = self.time2.forward(silu(self.time1.forward(sinusoid(t))));
        let mut x = self.stem.forward(Tensor::cat(vec![z_t, z_i], 1));
        let mut skips = if self.all_skips { vec![x.clone()] } else { Vec::new() };
        for level in &self.down {
            for (index, block) in level.blocks.iter().enumerate() {
                x = level.attend(index, block.forward(x, Some(&time)));
                skips.push(x.clone());
            }
            if let Some(resize) = &level.resize {
                x = resize.forward(x);
                if self.all_skips {
                    skips.push(x.clone());
                }
            }
        }
        x = self.middle1.forward(x, Some(&time));
        if let Some(attention) = &self.middle_attention {
            x = attention.forward(x);
        }
        x = self.middle2.forward(x, Some(&time));
        for level in &self.up {
            for (index, block) in level.blocks.iter().enumerate() {
                let skip = skips.pop().expect("as many skips as blocks on the way up");
                x = level.attend(index, block.forward(Tensor::cat(vec![x, skip], 1), Some(&time)));
            }
            if let Some(resize) = &level.resize {
                x = resize.forward(upsample(x));
            }
        }
        self.head.forward(self.norm.forward_silu(x))
    }
}

impl<const D: usize> Level<D> {
    fn attend(&self, index: usize, x: Tensor<D>) -> Tensor<D> {
        match self.attention.get(index) {
            Some(attention) => attention.forward(x),
            None => x,
        }
    }
}

/// Sines, then cosines, of t exp(-ln(10000) k / (half - 1)), k = 0..half (Vaswani et al. 2017, Sec. 3.5): `[N, 64]`.
fn sinusoid(t: Tensor<1>) -> Tensor<2> {
    let half = TIME_WIDTH / 2;
    let frequency = |k: usize| (-(10_000f64.ln()) * k as f64 / (half - 1) as f64).exp() as f32;
    let frequencies = TensorData::new((0..half).map(frequency).collect(), [1, half]);
    let n = t.dims()[0];
    let angles = t.clone().reshape([n, 1]) * Tensor::<2>::from_data(frequencies, &t.device());
    Tensor::cat(vec![angles.clone().sin(), angles.cos()], 1)
}
