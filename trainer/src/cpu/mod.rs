//! Fast kernels for training on burn's CPU backend, with their own backward passes.
//!
//! Each function answers `None` on any other backend, where the caller falls back to the stock operations. They
//! compute the same numbers (see the tests), so the exported graph, which is captured from the stock operations, is
//! the trained one.

mod conv;
mod norm;

use burn::backend::autodiff::{
    checkpoint::strategy::NoCheckpointing,
    checkpoint::base::Checkpointer,
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};

pub use norm::sigmoid;

/// Stride, padding and groups of a convolution; each list holds one entry per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvShape {
    /// Stride.
    pub stride: Vec<usize>,
    /// Zeros before and after each axis.
    pub padding: Vec<(usize, usize)>,
    /// Channel groups.
    pub groups: usize,
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.storage::<f32>()
}

fn tensor(data: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape.into()))
}

fn conv_geometry(x: &[usize], w: &[usize], shape: &ConvShape) -> conv::Geometry {
    let axes = x.len() - 2;
    let spread = |fill: usize, value: &dyn Fn(usize) -> usize| {
        let mut out = [fill; 3];
        (0..axes).for_each(|axis| out[3 - axes + axis] = value(axis));
        out
    };
    conv::Geometry {
        batch: x[0],
        c_in: x[1],
        c_out: w[0],
        groups: shape.groups,
        input: spread(1, &|a| x[2 + a]),
        output: spread(1, &|a| {
            (x[2 + a] + shape.padding[a].0 + shape.padding[a].1 - w[2 + a]) / shape.stride[a] + 1
        }),
        kernel: spread(1, &|a| w[2 + a]),
        stride: spread(1, &|a| shape.stride[a]),
        pad: spread(0, &|a| shape.padding[a].0),
    }
}

fn conv_output(g: &conv::Geometry, axes: usize, y: Vec<f32>) -> FlexTensor {
    let mut shape = vec![g.batch, g.c_out];
    shape.extend(&g.output[3 - axes..]);
    tensor(y, shape)
}

#[derive(Debug)]
struct ConvBackward;

impl Backward<Flex, 3> for ConvBackward {
    type State = (FlexTensor, FlexTensor, conv::Geometry);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [node_x, node_w, node_bias] = ops.parents;
        let (x, w, geometry) = ops.state;
        let g = conv::backward(&geometry, slice(&x), slice(&w), slice(&dy), node_x.is_some());
        if let (Some(node), Some(dx)) = (node_x, g.x) {
            grads.register::<Flex>(node.id, tensor(dx, x.layout().shape().to_vec()));
        }
        if let Some(node) = node_w {
            grads.register::<Flex>(node.id, tensor(g.w, w.layout().shape().to_vec()));
        }
        if let Some(node) = node_bias {
            grads.register::<Flex>(node.id, tensor(g.bias, [geometry.c_out]));
        }
    }
}

/// Convolution of `x` `[N, C_in, ...]` with `weight` `[C_out, C_in / groups, ...]`, plus `bias` `[C_out]`.
pub fn conv<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<D>,
    bias: &Tensor<1>,
    shape: &ConvShape,
) -> Option<Tensor<D>> {
    let geometry = conv_geometry(&x.dims(), &weight.dims(), shape);
    if let (Ok(x), Ok(w), Ok(b)) = (
        x.clone().try_into_primitive::<Flex>(),
        weight.clone().try_into_primitive::<Flex>(),
        bias.clone().try_into_primitive::<Flex>(),
    ) {
        let (x, w, b) = (x.to_contiguous(), w.to_contiguous(), b.to_contiguous());
        let y = conv::forward(&geometry, slice(&x), slice(&w), Some(slice(&b)));
        return Some(Tensor::from_primitive::<Flex>(conv_output(&geometry, D - 2, y)));
    }
    let x = x.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let w = weight.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let b = bias.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let nodes = [x.node(), w.node(), b.node()];
    let (x, w, b) = (x.into_primitive(), w.into_primitive(), b.into_primitive());
    let (x, w, b) = (x.to_contiguous(), w.to_contiguous(), b.to_contiguous());
    let y = conv::forward(&geometry, slice(&x), slice(&w), Some(slice(&b)));
    let y = conv_output(&geometry, D - 2, y);
    let y = match ConvBackward.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x, w, geometry), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(y))
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = (FlexTensor, FlexTensor, FlexTensor, norm::Geometry);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [node_x, node_gamma, node_beta] = ops.parents;
        let (x, gamma, beta, geometry) = ops.state;
        let g = norm::backward(&geometry, slice(&x), slice(&gamma), slice(&beta), slice(&dy));
        if let Some(node) = node_x {
            grads.register::<Flex>(node.id, tensor(g.x, x.layout().shape().to_vec()));
        }
        if let Some(node) = node_gamma {
            grads.register::<Flex>(node.id, tensor(g.gamma, [geometry.channels]));
        }
        if let Some(node) = node_beta {
            grads.register::<Flex>(node.id, tensor(g.beta, [geometry.channels]));
        }
    }
}

/// Group normalisation of `x` `[N, C, ...]` with `gamma` and `beta` `[C]`, then SiLU where `silu` says so.
pub fn group_norm<const D: usize>(
    x: &Tensor<D>,
    gamma: &Tensor<1>,
    beta: &Tensor<1>,
    groups: usize,
    epsilon: f64,
    silu: bool,
) -> Option<Tensor<D>> {
    let dims = x.dims();
    let geometry = norm::Geometry {
        batch: dims[0],
        channels: dims[1],
        len: dims[2..].iter().product(),
        groups,
        epsilon,
        silu,
    };
    if let (Ok(x), Ok(gamma), Ok(beta)) = (
        x.clone().try_into_primitive::<Flex>(),
        gamma.clone().try_into_primitive::<Flex>(),
        beta.clone().try_into_primitive::<Flex>(),
    ) {
        let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
        let y = norm::forward(&geometry, slice(&x), slice(&gamma), slice(&beta));
        return Some(Tensor::from_primitive::<Flex>(tensor(y, dims)));
    }
    let x = x.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let gamma = gamma.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let beta = beta.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let nodes = [x.node(), gamma.node(), beta.node()];
    let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
    let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
    let y = tensor(norm::forward(&geometry, slice(&x), slice(&gamma), slice(&beta)), dims);
    let y = match NormBackward.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x, gamma, beta, geometry), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(y))
}

#[cfg(test)]
mod tests;
