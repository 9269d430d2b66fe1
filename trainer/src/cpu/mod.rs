//! Fast kernels for training on burn's CPU backend, with their own backward passes.
//!
//! Each function answers `None` on any other backend, where the caller falls back to the stock operations. They
//! compute the same numbers (see the tests), so the exported graph, which is captured from the stock operations, is
//! the trained one.

mod conv;
mod depthwise;
mod loss;
mod norm;
mod product;
mod simd;

use burn::backend::autodiff::{
    checkpoint::base::Checkpointer,
    checkpoint::strategy::NoCheckpointing,
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};

pub use loss::SMOOTHING;
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
        output: spread(1, &|a| (x[2 + a] + shape.padding[a].0 + shape.padding[a].1 - w[2 + a]) / shape.stride[a] + 1),
        kernel: spread(1, &|a| w[2 + a]),
        stride: spread(1, &|a| shape.stride[a]),
        pad: spread(0, &|a| shape.padding[a].0),
    }
}

/// The inputs of a kernel, contiguous.
enum Inputs {
    /// No gradients are wanted.
    Plain([FlexTensor; 3]),
    /// With their nodes in the autodiff graph.
    Tracked([FlexTensor; 3], [NodeGuard; 3]),
}

/// `None` if they are not on burn's CPU backend.
fn inputs<const D: usize, const E: usize>(x: &Tensor<D>, a: &Tensor<E>, b: &Tensor<1>) -> Option<Inputs> {
    let contiguous = |values: [FlexTensor; 3]| values.map(|value| value.to_contiguous());
    if !x.is_autodiff() && !a.is_autodiff() && !b.is_autodiff() {
        let x = x.clone().try_into_primitive::<Flex>().ok()?;
        let a = a.clone().try_into_primitive::<Flex>().ok()?;
        let b = b.clone().try_into_primitive::<Flex>().ok()?;
        return Some(Inputs::Plain(contiguous([x, a, b])));
    }
    // What is not part of the graph, the image for one, joins it as a constant.
    let x = x.clone().autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let a = a.clone().autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let b = b.clone().autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let nodes = [x.node(), a.node(), b.node()];
    Some(Inputs::Tracked(contiguous([x.into_primitive(), a.into_primitive(), b.into_primitive()]), nodes))
}

fn finish<const D: usize, const N: usize, O, S>(
    prep: OpsKind<O, Flex, S, NoCheckpointing, N>,
    state: S,
    y: FlexTensor,
) -> Tensor<D>
where
    O: Backward<Flex, N, State = S>,
    S: Clone + Send + std::fmt::Debug + 'static,
{
    Tensor::from_primitive::<Autodiff<Flex>>(match prep {
        OpsKind::Tracked(prep) => prep.finish(state, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    })
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
    let run = |[x, w, b]: &[FlexTensor; 3]| {
        let y = conv::forward(&geometry, slice(x), slice(w), Some(slice(b)));
        let mut shape = vec![geometry.batch, geometry.c_out];
        shape.extend(&geometry.output[5 - D..]);
        tensor(y, shape)
    };
    Some(match inputs(x, weight, bias)? {
        Inputs::Plain(values) => Tensor::from_primitive::<Flex>(run(&values)),
        Inputs::Tracked(values, nodes) => {
            let y = run(&values);
            let [x, w, _] = values;
            let prep = ConvBackward.prepare::<NoCheckpointing>(nodes).compute_bound().stateful();
            finish(prep, (x, w, geometry), y)
        }
    })
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
    let geometry =
        norm::Geometry { batch: dims[0], channels: dims[1], len: dims[2..].iter().product(), groups, epsilon, silu };
    let run = |[x, gamma, beta]: &[FlexTensor; 3]| {
        tensor(norm::forward(&geometry, slice(x), slice(gamma), slice(beta)), dims)
    };
    Some(match inputs(x, gamma, beta)? {
        Inputs::Plain(values) => Tensor::from_primitive::<Flex>(run(&values)),
        Inputs::Tracked(values, nodes) => {
            let y = run(&values);
            let [x, gamma, beta] = values;
            let prep = NormBackward.prepare::<NoCheckpointing>(nodes).compute_bound().stateful();
            finish(prep, (x, gamma, beta, geometry), y)
        }
    })
}

#[derive(Debug)]
struct LossBackward;

impl Backward<Flex, 1> for LossBackward {
    type State = (loss::Probabilities, FlexTensor, loss::Geometry);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let weights = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [node] = ops.parents;
        let (probabilities, one_hot, geometry) = ops.state;
        let &[cross_entropy, dice] = slice(&weights) else { unreachable!("the output has two elements") };
        if let Some(node) = node {
            let dx = loss::backward(&geometry, &probabilities, slice(&one_hot), [cross_entropy, dice]);
            grads.register::<Flex>(node.id, tensor(dx, one_hot.layout().shape().to_vec()));
        }
    }
}

/// Cross-entropy and 1 - soft Dice of the softmax of tracked `logits` `[N, K, ...]` against `one_hot`, shaped alike.
pub fn segmentation_losses<const D: usize>(logits: &Tensor<D>, one_hot: &Tensor<D>) -> Option<Tensor<1>> {
    let dims = logits.dims();
    let geometry = loss::Geometry { batch: dims[0], classes: dims[1], len: dims[2..].iter().product() };
    let x = logits.clone().autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let one_hot = one_hot.clone().inner().try_into_primitive::<Flex>().ok()?.to_contiguous();
    let node = x.node();
    let (losses, probabilities) = loss::forward(&geometry, slice(&x.into_primitive().to_contiguous()), slice(&one_hot));
    let y = tensor(losses.map(|loss| loss as f32).to_vec(), [2]);
    let prep = LossBackward.prepare::<NoCheckpointing>([node]).compute_bound().stateful();
    Some(finish(prep, (probabilities, one_hot, geometry), y))
}

#[cfg(test)]
mod tests;
