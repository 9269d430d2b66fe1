//! Layers that the four networks share, generic over the tensor rank `D`: 4 for 2-D images, 5 for 3-D.

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, LinearConfig};
use burn::tensor::activation::{relu, silu, softmax};
use burn::tensor::module::{conv_transpose2d, conv2d, conv3d, interpolate, max_pool2d};
use burn::tensor::ops::{
    ConvOptions, ConvTransposeOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions, PadMode,
};
use burn::tensor::{Device, Tensor};

use crate::cpu;

/// Reads a tensor of rank `D` as one of rank `E`; the caller knows that they are equal.
fn as_rank<const D: usize, const E: usize>(x: Tensor<D>) -> Tensor<E> {
    debug_assert_eq!(D, E);
    Tensor::from_dispatch(x.into_dispatch())
}

/// Number of spatial axes of a tensor of rank `D`.
pub const fn axes(rank: usize) -> usize {
    rank - 2
}

/// Convolution with 'same' padding in TensorFlow's sense: at stride 2 an even size is padded at its end only.
#[derive(Module, Debug)]
pub struct Conv<const D: usize> {
    weight: Param<Tensor<D>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    groups: usize,
}

impl<const D: usize> Conv<D> {
    /// A cubic kernel of side `kernel` from `c_in` to `c_out` channels.
    pub fn new(c_in: usize, c_out: usize, kernel: usize, device: &Device) -> Self {
        Self::grouped(c_in, c_out, kernel, 1, device)
    }

    /// As [`Conv::new`], its channels in `groups` groups.
    pub fn grouped(c_in: usize, c_out: usize, kernel: usize, groups: usize, device: &Device) -> Self {
        let mut shape = [kernel; D];
        (shape[0], shape[1]) = (c_out, c_in / groups);
        let fan_in = c_in / groups * kernel.pow(axes(D) as u32);
        let initializer = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
        Self {
            weight: initializer.init_with(shape, Some(fan_in), None, device),
            bias: Initializer::Zeros.init([c_out], device),
            stride: 1,
            groups,
        }
    }

    /// The same convolution at stride `stride`.
    pub fn with_stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// The same convolution with weights and bias at zero, so that a network starts from a constant output.
    pub fn zeroed(mut self, device: &Device) -> Self {
        self.weight = Initializer::Zeros.init(self.weight.dims(), device);
        self
    }

    /// `[N, C_in, ...]` to `[N, C_out, ...]`, each axis divided by the stride and rounded up.
    pub fn forward(&self, x: Tensor<D>) -> Tensor<D> {
        let (size, kernel) = (x.dims(), self.weight.dims());
        let padding: Vec<(usize, usize)> = (2..D)
            .map(|axis| {
                let out = size[axis].div_ceil(self.stride);
                let total = ((out - 1) * self.stride + kernel[axis]).saturating_sub(size[axis]);
                (total / 2, total - total / 2)
            })
            .collect();
        let shape = cpu::ConvShape { stride: vec![self.stride; axes(D)], padding, groups: self.groups };
        let (weight, bias) = (self.weight.val(), self.bias.val());
        cpu::conv(&x, &weight, &bias, &shape).unwrap_or_else(|| self.stock(x, weight, bias, shape.padding))
    }

    fn stock(&self, x: Tensor<D>, w: Tensor<D>, bias: Tensor<1>, padding: Vec<(usize, usize)>) -> Tensor<D> {
        if D == 4 {
            let padding = [padding[0], padding[1]];
            let options = ConvOptions::new_with_padding([self.stride; 2], padding, [1; 2], self.groups);
            return as_rank(conv2d(as_rank(x), as_rank(w), Some(bias), options));
        }
        // burn's conv3d refuses asymmetric padding, which stride 2 needs.
        let symmetric = padding.iter().all(|(before, after)| before == after);
        let (x, pad) = if symmetric {
            (x, [padding[0].0, padding[1].0, padding[2].0])
        } else {
            let mut all = [(0, 0); D];
            all[2..].copy_from_slice(&padding);
            (x.pad(all, PadMode::Constant(0.0)), [0; 3])
        };
        let options = ConvOptions::new([self.stride; 3], pad, [1; 3], self.groups);
        as_rank(conv3d(as_rank(x), as_rank(w), Some(bias), options))
    }
}

/// Transposed 3x3 convolution at stride 2 that yields exactly twice the size, cropping at the end. 2-D only.
#[derive(Module, Debug)]
pub struct ConvTranspose<const D: usize> {
    weight: Param<Tensor<D>>,
    bias: Param<Tensor<1>>,
}

impl<const D: usize> ConvTranspose<D> {
    /// From `c_in` to `c_out` channels.
    pub fn new(c_in: usize, c_out: usize, device: &Device) -> Self {
        let mut shape = [3; D];
        (shape[0], shape[1]) = (c_in, c_out);
        let initializer = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
        Self {
            weight: initializer.init_with(shape, Some(c_in * 9), None, device),
            bias: Initializer::Zeros.init([c_out], device),
        }
    }

    /// `[N, C_in, H, W]` to `[N, C_out, 2 H, 2 W]`.
    pub fn forward(&self, x: Tensor<D>) -> Tensor<D> {
        let [n, _, h, w] = as_rank::<D, 4>(x.clone()).dims();
        let options = ConvTransposeOptions::new([2; 2], [0; 2], [0; 2], [1; 2], 1);
        let y = conv_transpose2d(as_rank(x), as_rank(self.weight.val()), Some(self.bias.val()), options);
        let channels = y.dims()[1];
        as_rank(y.slice([0..n, 0..channels, 0..2 * h, 0..2 * w]))
    }
}

/// Maximum over blocks of side 2.
pub fn max_pool<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if D == 4 {
        return as_rank(max_pool2d(as_rank(x), MaxPoolOptions::new([2, 2])));
    }
    // burn 0.22 has no 3-D pooling: first over the two fast axes, then over the slow one.
    let [n, c, d, h, w] = as_rank::<D, 5>(x.clone()).dims();
    let plane = max_pool2d(x.reshape([n, c * d, h, w]), MaxPoolOptions::new([2, 2]));
    let (h, w) = (h / 2, w / 2);
    let pooled = max_pool2d(plane.reshape([n, c, d, h * w]), MaxPoolOptions::new([2, 1]));
    as_rank(pooled.reshape([n, c, d / 2, h, w]))
}

/// Repeats every element twice along each spatial axis.
pub fn upsample<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let nearest = |scale: [f32; 2]| {
        let mut options = InterpolateOptions::new(InterpolateMode::Nearest);
        options.scale_factor = Some(scale);
        options
    };
    if D == 4 {
        return as_rank(interpolate(as_rank(x), nearest([2.0, 2.0])));
    }
    let [n, c, d, h, w] = as_rank::<D, 5>(x.clone()).dims();
    let plane = interpolate(x.reshape([n, c * d, h, w]), nearest([2.0, 2.0]));
    let volume = interpolate(plane.reshape([n, c, d, 4 * h * w]), nearest([2.0, 1.0]));
    as_rank(volume.reshape([n, c, 2 * d, 2 * h, 2 * w]))
}

/// Moves blocks of side `b` from the channels into space (sub-pixel convolution, Shi et al. 2016):
/// `[N, K * b^axes, ...]` to `[N, K, b * ...]`.
///
/// Axis by axis, the fastest first: ONNX Runtime moves one axis several times as fast as two at once.
pub fn depth_to_space<const D: usize>(x: Tensor<D>, b: usize) -> Tensor<D> {
    let mut shape = x.dims();
    let k = shape[1] / b.pow(axes(D) as u32);
    shape[1] = k;
    let mut blocks = x.reshape([shape[0], k, b.pow(axes(D) as u32), shape[2..].iter().product(), 1]);
    for axis in (2..D).rev() {
        let slower_blocks = b.pow(axis as u32 - 2);
        let positions = shape[2..=axis].iter().product();
        let done = shape[axis + 1..].iter().product();
        blocks = blocks.reshape([shape[0], k * slower_blocks, b, positions, done]).permute([0, 1, 3, 2, 4]);
        shape[axis] *= b;
    }
    blocks.reshape(shape)
}

/// `y` `[N, 1, ...]`, the class index as a number, to `[N, K, ...]`, 1 where the class is and 0 elsewhere.
pub fn one_hot<const D: usize>(y: Tensor<D>, classes: usize) -> Tensor<D> {
    // max(0, 1 - |y - k|) is 1 where y is class k and 0 at every other whole number.
    let class = |k: usize| (y.clone() - k as f64).abs().mul_scalar(-1.0).add_scalar(1.0).clamp_min(0.0);
    Tensor::cat((0..classes).map(class).collect(), 1)
}

/// Softmax over the channels of `[N, K, ...]`, class by class: engines run a softmax whose axis is not the fastest lane
/// by lane, which for a label map takes longer than the whole network before it.
pub fn class_softmax<const D: usize>(logits: Tensor<D>) -> Tensor<D> {
    let classes = logits.dims()[1];
    let class = |x: &Tensor<D>, k: usize| x.clone().narrow(1, k, 1);
    // max(a, b) = a + relu(b - a).
    let greatest = (1..classes).fold(class(&logits, 0), |most, k| most.clone() + relu(class(&logits, k) - most));
    let p = (logits - greatest).exp();
    let total = (1..classes).fold(class(&p, 0), |total, k| total + class(&p, k));
    p / total
}

/// Group normalisation (Wu and He 2018), with SiLU after it where asked.
#[derive(Module, Debug)]
pub struct GroupNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    #[module(skip)]
    groups: usize,
}

/// Keras' default, which the published weights assume.
const EPSILON: f64 = 1e-3;

impl GroupNorm {
    /// `channels` channels in `groups` groups.
    pub fn new(groups: usize, channels: usize, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            groups,
        }
    }

    /// Normalises `[N, C, ...]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.run(x, false)
    }

    /// Normalises `[N, C, ...]`, then SiLU.
    pub fn forward_silu<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.run(x, true)
    }

    fn run<const D: usize>(&self, x: Tensor<D>, activate: bool) -> Tensor<D> {
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        cpu::group_norm(&x, &gamma, &beta, self.groups, EPSILON, activate).unwrap_or_else(|| {
            let y = self.stock(x, gamma, beta);
            if activate { silu(y) } else { y }
        })
    }

    /// Means are taken in two stages: an engine that sums a whole group of a volume one number after the other in f32
    /// would lose four digits.
    fn stock<const D: usize>(&self, x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<D> {
        let dims = x.dims();
        let (n, channels) = (dims[0], dims[1]);
        let x = x.reshape([n, self.groups, channels / self.groups * dims[2], dims[3..].iter().product()]);
        let mean = |x: Tensor<4>| x.mean_dim(3).mean_dim(2);
        let centred = x.clone() - mean(x);
        let variance = mean(centred.clone() * centred.clone());
        let normalised = centred / (variance + EPSILON).sqrt();
        let mut per_channel = [1; D];
        per_channel[1] = channels;
        normalised.reshape(dims) * gamma.reshape(per_channel) + beta.reshape(per_channel)
    }
}

/// (x - mean) / sqrt(variance + epsilon) over everything but the batch: what makes a latent fit the noise that is added to it.
pub fn standardise<const D: usize>(x: Tensor<D>, epsilon: f64) -> Tensor<D> {
    let dims = x.dims();
    let x = x.flatten::<2>(1, D as i64 - 1);
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    (centred / (variance + epsilon).sqrt()).reshape(dims)
}

/// Batch normalisation with Keras' epsilon and momentum.
pub fn batch_norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).with_epsilon(EPSILON).with_momentum(0.01).init(device)
}

/// Residual block of the published encoders and decoder: conv3-BN-SiLU-conv3-BN-dropout, plus 1x1-conv-BN shortcut,
/// then SiLU.
#[derive(Module, Debug)]
pub struct PublishedBlock<const D: usize> {
    conv1: Conv<D>,
    norm1: BatchNorm,
    conv2: Conv<D>,
    norm2: BatchNorm,
    shortcut: Conv<D>,
    shortcut_norm: BatchNorm,
    dropout: burn::nn::Dropout,
}

impl<const D: usize> PublishedBlock<D> {
    /// From `c_in` to `c_out` channels.
    pub fn new(c_in: usize, c_out: usize, device: &Device) -> Self {
        Self {
            conv1: Conv::new(c_in, c_out, 3, device),
            norm1: batch_norm(c_out, device),
            conv2: Conv::new(c_out, c_out, 3, device),
            norm2: batch_norm(c_out, device),
            shortcut: Conv::new(c_in, c_out, 1, device),
            shortcut_norm: batch_norm(c_out, device),
            dropout: burn::nn::DropoutConfig::new(0.2).init(),
        }
    }

    /// `[N, C_in, ...]` to `[N, C_out, ...]`.
    pub fn forward(&self, x: Tensor<D>) -> Tensor<D> {
        let y = silu(self.norm1.forward(self.conv1.forward(x.clone())));
        let y = self.dropout.forward(self.norm2.forward(self.conv2.forward(y)));
        silu(y + self.shortcut_norm.forward(self.shortcut.forward(x)))
    }
}

/// Residual block with the normalisation in front: GN-SiLU-conv3, + Dense(SiLU(time)), GN-SiLU-conv3, plus a shortcut
/// that is a 1x1 convolution where the width changes.
#[derive(Module, Debug)]
pub struct ResidualBlock<const D: usize> {
    norm1: GroupNorm,
    conv1: Conv<D>,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv<D>,
    mix: Vec<Conv<D>>,
    shortcut: Option<Conv<D>>,
}

impl<const D: usize> ResidualBlock<D> {
    /// From `c_in` to `c_out` channels, normalised in `groups` groups before each of the two convolutions.
    pub fn new(c_in: usize, c_out: usize, groups: [usize; 2], device: &Device) -> Self {
        Self {
            norm1: GroupNorm::new(groups[0], c_in, device),
            conv1: Conv::new(c_in, c_out, 3, device),
            time: None,
            norm2: GroupNorm::new(groups[1], c_out, device),
            conv2: Conv::new(c_out, c_out, 3, device),
            mix: Vec::new(),
            shortcut: (c_in != c_out).then(|| Conv::new(c_in, c_out, 1, device)),
        }
    }

    /// As [`ResidualBlock::new`], each of the two convolutions a filter for every channel and a 1x1 convolution after it.
    pub fn separable(c_in: usize, c_out: usize, groups: [usize; 2], device: &Device) -> Self {
        Self {
            conv1: Conv::grouped(c_in, c_in, 3, c_in, device),
            conv2: Conv::grouped(c_out, c_out, 3, c_out, device),
            mix: vec![Conv::new(c_in, c_out, 1, device), Conv::new(c_out, c_out, 1, device)],
            ..Self::new(c_in, c_out, groups, device)
        }
    }

    /// The same block with a timestep embedding of `width` numbers as a second input.
    pub fn with_time(mut self, c_out: usize, width: usize, device: &Device) -> Self {
        self.time = Some(LinearConfig::new(width, c_out).init(device));
        self
    }

    /// `[N, C_in, ...]` to `[N, C_out, ...]`; `time` `[N, width]` where the block was built for one.
    pub fn forward(&self, x: Tensor<D>, time: Option<&Tensor<2>>) -> Tensor<D> {
        let mix = |index: usize, y| match self.mix.get(index) {
            Some(mix) => mix.forward(y),
            None => y,
        };
        let mut y = mix(0, self.conv1.forward(self.norm1.forward_silu(x.clone())));
        if let (Some(dense), Some(time)) = (&self.time, time) {
            let shift = dense.forward(silu(time.clone()));
            let mut shape = [1; D];
            shape[..2].copy_from_slice(&shift.dims());
            y = y + shift.reshape(shape);
        }
        let y = mix(1, self.conv2.forward(self.norm2.forward_silu(y)));
        match &self.shortcut {
            Some(shortcut) => y + shortcut.forward(x),
            None => y + x,
        }
    }
}

/// Self-attention over all positions.
#[derive(Module, Debug)]
pub struct Attention {
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    residual: Residual,
    #[module(skip)]
    most_keys: usize,
}

/// Scores of one sample that are held at a time: 32 MiB.
const MAX_SCORES: usize = 1 << 23;

/// softmax(Q K^T) V (Vaswani et al. 2017, Eq. 1; `query` is scaled already), all `[N, heads, tokens, width]`.
///
/// `rows` queries at a time: a query's weights need all keys but no other query, and all scores of an image at once,
/// 8 heads over 64 x 64 tokens, would be 537 MB.
fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, rows: usize) -> Tensor<4> {
    let len = query.dims()[2];
    let key = key.swap_dims(2, 3);
    let block = |query: Tensor<4>| softmax(query.matmul(key.clone()), 3).matmul(value.clone());
    if rows >= len {
        return block(query);
    }
    let blocks = (0..len).step_by(rows).map(|first| block(query.clone().narrow(2, first, rows.min(len - first))));
    Tensor::cat(blocks.collect(), 2)
}

/// What an attention block adds its result to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The block's input.
    Input,
    /// The normalised input, as the published single-head blocks do.
    Normalised,
}

impl Attention {
    /// `heads` heads that share `channels`, behind a group normalisation in `groups` groups.
    pub fn new(channels: usize, heads: usize, groups: usize, residual: Residual, device: &Device) -> Self {
        let linear = || LinearConfig::new(channels, channels).init(device);
        Self {
            norm: GroupNorm::new(groups, channels, device),
            query: linear(),
            key: linear(),
            value: linear(),
            output: linear(),
            heads,
            residual,
            most_keys: usize::MAX,
        }
    }

    /// The same with at most `most_keys` keys and values, of positions that are pooled until they are so few: its time
    /// then grows with the number of positions, not with its square (Wang et al. 2021, Pyramid Vision Transformer).
    pub fn with_keys(mut self, most_keys: usize) -> Self {
        self.most_keys = most_keys;
        self
    }

    /// `[N, C, ...]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dims = x.dims();
        let (n, channels) = (dims[0], dims[1]);
        let positions = |x: &Tensor<D>| x.dims()[2..].iter().product::<usize>();
        let (len, width) = (positions(&x), channels / self.heads);
        let normalised = self.norm.forward(x.clone());
        let mut pooled = normalised.clone();
        while positions(&pooled) > self.most_keys && pooled.dims()[2..].iter().all(|side| *side > 1) {
            pooled = max_pool(pooled);
        }
        let tokens = |x: Tensor<D>| {
            let len = positions(&x);
            x.reshape([n, channels, len]).swap_dims(1, 2)
        };
        let own = tokens(normalised.clone());
        let others = if positions(&pooled) == len { own.clone() } else { tokens(pooled) };
        let split = |layer: &Linear, tokens: &Tensor<3>| {
            let len = tokens.dims()[1];
            layer.forward(tokens.clone()).reshape([n, len, self.heads, width]).swap_dims(1, 2)
        };
        let scale = 1.0 / (width as f64).sqrt();
        let query = split(&self.query, &own).mul_scalar(scale);
        let rows = (MAX_SCORES / (self.heads * others.dims()[1])).max(1);
        let mixed = attend(query, split(&self.key, &others), split(&self.value, &others), rows);
        let mixed = self.output.forward(mixed.swap_dims(1, 2).reshape([n, len, channels]));
        let mixed = mixed.swap_dims(1, 2).reshape(dims);
        match self.residual {
            Residual::Input => x + mixed,
            Residual::Normalised => normalised + mixed,
        }
    }
}

#[cfg(test)]
mod tests {
    use ldseg::diffusion::{NoiseKey, normal_latent};

    use super::*;
    use crate::engine::{to_array, to_device};

    #[test]
    fn blocks_move_from_the_channels_into_space() {
        let draw =
            |shape: &[usize]| normal_latent(NoiseKey { seed: 5, sample: 0, frame: 0, window: 0, step: 0 }, shape);
        let device = Device::default();
        let x = draw(&[2, 12, 3, 5]);
        let y = to_array(depth_to_space(to_device::<4>(&x, &device).unwrap(), 2)).unwrap();
        assert_eq!(y.shape(), [2, 3, 6, 10]);
        for (at, value) in y.indexed_iter() {
            assert_eq!(*value, x[[at[0], 4 * at[1] + 2 * (at[2] % 2) + at[3] % 2, at[2] / 2, at[3] / 2]]);
        }
        let x = draw(&[2, 54, 2, 3, 4]);
        let y = to_array(depth_to_space(to_device::<5>(&x, &device).unwrap(), 3)).unwrap();
        assert_eq!(y.shape(), [2, 2, 6, 9, 12]);
        for (at, value) in y.indexed_iter() {
            let block = 9 * (at[2] % 3) + 3 * (at[3] % 3) + at[4] % 3;
            assert_eq!(*value, x[[at[0], 27 * at[1] + block, at[2] / 3, at[3] / 3, at[4] / 3]]);
        }
    }

    /// Where neighbours are equal, a key that stands for all of them tells the same.
    #[test]
    fn attention_to_pooled_keys_is_attention_where_neighbours_are_equal() {
        fn check<const D: usize>(size: &[usize]) {
            let device = Device::default();
            device.seed(3);
            let full = Attention::new(8, 2, 2, Residual::Normalised, &device);
            let key = NoiseKey { seed: 4, sample: 0, frame: 0, window: 0, step: 0 };
            let x = upsample(to_device::<D>(&normal_latent(key, &[&[1, 8], size].concat()), &device).unwrap());
            let run = |attention: &Attention| to_array(attention.forward(x.clone())).unwrap();
            let positions = x.dims()[2..].iter().product::<usize>();
            let (all, pooled) = (run(&full), run(&full.clone().with_keys(positions - 1)));
            assert_eq!(all.shape(), x.dims());
            assert!((&all - &pooled).iter().all(|d| d.abs() < 1e-5));
            let fewer = run(&full.clone().with_keys(size.iter().product::<usize>() - 1));
            assert!((all - fewer).iter().any(|d| d.abs() > 1e-3));
        }
        check::<4>(&[4, 6]);
        check::<5>(&[2, 4, 6]);
    }

    /// Blocks that do not divide the tokens evenly included, forward and backward.
    #[test]
    fn attention_in_blocks_is_attention_at_once() {
        let device = Device::default().autodiff();
        let run = |rows: usize| {
            let [query, key, value] = [0, 1, 2].map(|sample| {
                let noise = normal_latent(NoiseKey { seed: 9, sample, frame: 0, window: 0, step: 0 }, &[2, 2, 10, 4]);
                to_device::<4>(&noise, &device).unwrap().require_grad()
            });
            let mixed = attend(query.clone(), key.clone(), value.clone(), rows);
            // Each output element weighs differently, so that no gradient cancels out.
            let gradients = (mixed.clone() * mixed.clone() + mixed.clone().sin()).sum().backward();
            let gradient = |x: &Tensor<4>| to_array(x.grad(&gradients).unwrap()).unwrap();
            [to_array(mixed.inner()).unwrap(), gradient(&query), gradient(&key), gradient(&value)]
        };
        let whole = run(10);
        for rows in [1, 3, 5, 9] {
            for (found, expected) in run(rows).iter().zip(&whole) {
                assert!(expected.std(0.0) > 0.01);
                assert!((found - expected).iter().all(|d| d.abs() < 1e-5), "{rows} rows");
            }
        }
    }
}
