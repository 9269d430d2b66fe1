//! Normalisation as one operation.
//!
//! tract computes group normalisation operation by operation, through memory some ten times. It also takes the sums of
//! two axes that follow one another as one sum over a whole group, one number after the other in f32, which loses
//! digits where groups are large.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Mul, Rsqrt, Sub};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use crate::sum::sum;

/// (x - mean) / sqrt(variance + epsilon) over each of `blocks` equal runs of a tensor, then, where asked, times gamma plus
/// beta.
#[derive(Debug, Clone, PartialEq)]
struct Normalise {
    blocks: usize,
    epsilon: f32,
    affine: Option<Affine>,
}

/// What every channel is multiplied by and what is added to it; a sample's channels are spread over `groups` runs.
#[derive(Debug, Clone, PartialEq)]
struct Affine {
    groups: usize,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Eq for Normalise {}

impl Op for Normalise {
    fn name(&self) -> StaticName {
        "Normalise".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Normalise {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut output = args_1!(inputs).into_tensor();
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<f32>()?;
        let (total, len) = (values.len(), values.len() / self.blocks);
        tract_linalg::multithread::par_chunks_mut(values, len, total, |first, chunk| {
            chunk.chunks_exact_mut(len).enumerate().for_each(|(block, values)| self.run(first + block, values));
            Ok(())
        })?;
        Ok(tvec!(output.into()))
    }
}

impl TypedOp for Normalise {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
}

impl Normalise {
    /// One block, compiled for AVX2 where the processor has it.
    fn run(&self, block: usize, values: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn wide(of: &Normalise, block: usize, values: &mut [f32]) {
                of.normalise(block, values);
            }
            if is_x86_feature_detected!("avx2") {
                #[expect(
                    unsafe_code,
                    reason = "a function compiled for AVX2 may only run where the processor has it"
                )]
                // SAFETY: it has just been asked.
                return unsafe { wide(self, block, values) };
            }
        }
        self.normalise(block, values);
    }

    #[inline(always)]
    fn normalise(&self, block: usize, values: &mut [f32]) {
        let len = values.len() as f64;
        let mean = (sum(values, values, |x, _| x) / len) as f32;
        let variance = sum(values, values, |x, _| (x - mean) * (x - mean)) / len;
        let root = (1.0 / (variance + f64::from(self.epsilon)).sqrt()) as f32;
        let Some(Affine { groups, gamma, beta }) = &self.affine else {
            values.iter_mut().for_each(|x| *x = (*x - mean) * root);
            return;
        };
        let channels = gamma.len() / groups;
        let first = block % groups * channels;
        let channel_len = values.len() / channels;
        for (channel, values) in values.chunks_exact_mut(channel_len).enumerate() {
            let (scale, shift) = (gamma[first + channel] * root, beta[first + channel]);
            values.iter_mut().for_each(|x| *x = (*x - mean) * scale + shift);
        }
    }
}

/// Puts [`Normalise`] in the place of every normalisation of a decluttered model; how many there were.
pub(super) fn fuse(model: &mut TypedModel) -> TractResult<usize> {
    let mut fused = 0;
    for id in 0..model.nodes.len() {
        if let Some(patch) = Found::at(model, id).map(|found| found.patch(model)).transpose()? {
            patch.apply(model)?;
            fused += 1;
        }
    }
    Ok(fused)
}

/// A normalisation: what goes in, what comes out, and the reshaping that lies between it and its affine part.
struct Found {
    op: Normalise,
    input: OutletId,
    reshapes: Vec<AxisOp>,
    output: OutletId,
}

impl Found {
    /// That which ends, but for the affine part, in the multiplication `id`: (x - mean) * rsqrt(mean((x - mean)^2) + epsilon).
    fn at(model: &TypedModel, id: usize) -> Option<Self> {
        let product = binary::<Mul>(model, id)?;
        let (centred, root) = either(product, |input| {
            let node = model.node(input.node);
            node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Rsqrt>()).then(|| node.inputs[0])
        })?;
        let (squares, epsilon) = either(binary::<Add>(model, root.node)?, |input| scalar(model, input))?;
        let squares = model.node(squares.node);
        let axes = &squares.op_as::<Reduce>().filter(|op| op.reducer == Reducer::MeanOfSquares)?.axes;
        let difference = binary::<Sub>(model, centred.node)?;
        let (input, mean) = (difference[0], difference[1]);
        let (sum, part) = either(binary::<Mul>(model, mean.node)?, |input| scalar(model, input))?;
        let sum = model.node(sum.node);
        let same = sum.op_as::<Reduce>().is_some_and(|op| op.reducer == Reducer::Sum && op.axes == *axes);
        let fact = model.outlet_fact(input).ok()?;
        let shape = fact.shape.as_concrete()?;
        let kept = shape.len().checked_sub(axes.len())?;
        let len: usize = shape[kept..].iter().product();
        let whole = same
            && fact.datum_type == f32::datum_type()
            && axes.iter().copied().eq(kept..shape.len())
            && squares.inputs[0] == centred
            && sum.inputs[0] == input
            && (part * len as f32 - 1.0).abs() < 1e-3;
        let blocks: usize = shape[..kept].iter().product();
        if !whole || blocks * len == 0 || epsilon < 0.0 {
            return None;
        }
        let found = Self {
            op: Normalise { blocks, epsilon, affine: None },
            input,
            reshapes: Vec::new(),
            output: OutletId::new(id, 0),
        };
        Some(found.with_affine(model))
    }

    /// With the affine part that follows, if there is one: a number for each entry of axis 1.
    fn with_affine(mut self, model: &TypedModel) -> Self {
        let samples = model.outlet_fact(self.input).ok().and_then(|fact| fact.shape.as_concrete()?.first().copied());
        let (mut at, mut reshapes) = (self.output, Vec::new());
        while let Some((next, op)) = follower(model, at).and_then(|node| Some((node, node.op_as::<AxisOp>()?))) {
            if matches!(op, AxisOp::Move(..)) {
                return self;
            }
            reshapes.push(op.clone());
            at = OutletId::new(next.id, 0);
        }
        let affine = || {
            let shape = model.outlet_fact(at).ok()?.shape.as_concrete()?.to_vec();
            let (scaled, gamma) = channels::<Mul>(model, at, &shape)?;
            let (shifted, beta) = channels::<Add>(model, scaled, &shape)?;
            let groups = self.op.blocks / samples.filter(|samples| *samples == shape[0])?;
            (gamma.len().is_multiple_of(groups)).then_some((shifted, Affine { groups, gamma, beta }))
        };
        if let Some((output, affine)) = affine() {
            (self.op.affine, self.reshapes, self.output) = (Some(affine), reshapes, output);
        }
        self
    }

    fn patch(self, model: &TypedModel) -> TractResult<TypedModelPatch> {
        let mut patch = TypedModelPatch::default();
        let name = &model.node(self.output.node).name;
        let input = patch.tap_model(model, self.input)?;
        let mut wire = patch.wire_node(format!("{name}.normalise"), self.op, &[input])?[0];
        for (index, reshape) in self.reshapes.into_iter().enumerate() {
            wire = patch.wire_node(format!("{name}.reshape.{index}"), reshape, &[wire])?[0];
        }
        patch.shunt_outside(model, self.output, wire)?;
        Ok(patch)
    }
}

/// The inputs of a node that is the operation `O` on two tensors.
pub(super) fn binary<O: BinMiniOp>(model: &TypedModel, id: usize) -> Option<[OutletId; 2]> {
    let node = model.node(id);
    node.op_as::<TypedBinOp>().filter(|op| op.0.is::<O>())?;
    Some([*node.inputs.first()?, *node.inputs.get(1)?])
}

/// The input that is of some kind, and before it the other one.
fn either<T>([a, b]: [OutletId; 2], of_kind: impl Fn(OutletId) -> Option<T>) -> Option<(OutletId, T)> {
    of_kind(b).map(|found| (a, found)).or_else(|| of_kind(a).map(|found| (b, found)))
}

fn scalar(model: &TypedModel, outlet: OutletId) -> Option<f32> {
    let constant = model.outlet_fact(outlet).ok()?.konst.as_ref()?;
    (constant.len() == 1)
        .then(|| constant.cast_to::<f32>().ok()?.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.first().copied())?
}

/// The only node that reads `outlet`.
pub(super) fn follower(model: &TypedModel, outlet: OutletId) -> Option<&TypedNode> {
    let successors = model.outlet_successors(outlet);
    let only = successors.len() == 1 && !model.outputs.contains(&outlet);
    only.then(|| model.node(successors[0].node))
}

/// Where `outlet` of `shape` goes on as `O` of itself and a number for each entry of axis 1.
fn channels<O: BinMiniOp>(model: &TypedModel, outlet: OutletId, shape: &[usize]) -> Option<(OutletId, Vec<f32>)> {
    let next = follower(model, outlet)?;
    let (_, numbers) = either(binary::<O>(model, next.id)?, |input| {
        let constant = model.outlet_fact(input).ok()?.konst.as_ref()?;
        let per_channel = constant.rank() == shape.len()
            && constant.shape().iter().enumerate().all(|(axis, n)| *n == if axis == 1 { shape[1] } else { 1 });
        let values = constant.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec();
        per_channel.then_some(values)
    })?;
    Some((OutletId::new(next.id, 0), numbers))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use tract_onnx::prelude::*;

    use super::*;

    pub(in super::super) fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(draw).take(len).collect()
    }

    fn run(model: TypedModel, inputs: &[Tensor]) -> Vec<f32> {
        let plan = model.into_optimized().unwrap().into_runnable().unwrap();
        let outputs = plan.run(inputs.iter().map(|input| input.clone().into()).collect()).unwrap();
        outputs[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    /// A network of `models/echo` computes the same on noise, within `tolerance` of its greatest value, once `change` has
    /// been made to it.
    pub(in super::super) fn same_after(
        name: &str,
        shapes: &[Vec<usize>],
        tolerance: f32,
        change: impl Fn(&mut TypedModel),
    ) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../models/echo/{name}.onnx"));
        let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let mut model = onnx.model_for_path(path).unwrap();
        let mut inputs = Vec::new();
        for (index, shape) in shapes.iter().enumerate() {
            model.set_input_fact(index, f32::fact(shape).into()).unwrap();
            inputs.push(Tensor::from_shape(shape, &noise(shape.iter().product(), index as u32)).unwrap());
        }
        let plain = model.into_typed().unwrap().into_decluttered().unwrap();
        let mut changed = plain.clone();
        change(&mut changed);
        let (plain, changed) = (run(plain, &inputs), run(changed, &inputs));
        let scale = plain.iter().fold(0_f32, |most, x| most.max(x.abs()));
        assert!(scale > 0.1);
        for (a, b) in plain.iter().zip(&changed) {
            assert!((a - b).abs() < tolerance * scale, "{name}: {a} {b}");
        }
    }

    /// Two samples, so that channels of the second one begin anew.
    #[test]
    fn every_normalisation_of_a_bundle_is_one_operation_and_computes_the_same() {
        let networks = [
            ("image_encoder", vec![vec![2, 1, 224, 224]], 15),
            ("denoiser", vec![vec![2, 4, 28, 28], vec![2, 16, 28, 28], vec![2]], 5),
            ("label_decoder", vec![vec![2, 4, 28, 28]], 7),
        ];
        for (name, shapes, normalisations) in networks {
            same_after(name, &shapes, 1e-4, |model| assert_eq!(fuse(model).unwrap(), normalisations, "{name}"));
        }
    }

    #[test]
    fn a_large_group_far_from_zero_loses_no_digits() {
        let values: Vec<f32> = noise(1 << 21, 7).into_iter().map(|x| 100.0 + x).collect();
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let mut found = values.clone();
        Normalise { blocks: 1, epsilon: 0.0, affine: None }.run(0, &mut found);
        for (x, found) in values.iter().zip(found) {
            assert!(((f64::from(*x) - mean) / variance.sqrt() - f64::from(found)).abs() < 1e-4);
        }
    }
}
