//! Convolution whose patches are gathered in runs.
//!
//! tract convolves by a matrix product of the kernel with the image's patches, which it gathers value by value, a panel of
//! some columns at a time, while the product runs. Most of a panel's columns lie side by side in a row of the image: here
//! they are copied together. The product is tract's own.

use std::alloc::Layout;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::MaybeUninit;
use std::sync::Arc;

use tract_linalg::mmm::{
    AsInputValue, EagerPackedInput, FusedSpec, MMMInputFormat, MMMInputValue, MatMatMul, MmmDispatch, Query,
};
use tract_linalg::pack::PackedFormat;
use tract_linalg::{BinOp, WeightType};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::math::Add;
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::normalise::{binary, follower};

/// Convolution of `[N, C, ...]` to `[N, O, ...]`, with a bias for each output channel, plus a second input where there is one.
#[derive(Debug, Clone)]
struct Convolve {
    /// Of the input, without the batch axis: `[C, ...]`.
    size: Vec<usize>,
    /// Zeros before the first value of each axis.
    before: Vec<usize>,
    /// The size with zeros on both sides.
    padded: Vec<usize>,
    /// Of the output, without the batch axis: `[O, ...]`.
    output: Vec<usize>,
    patches: Arc<Patches>,
    product: Box<dyn MatMatMul>,
    packing: usize,
    kernel: Box<dyn MMMInputValue>,
    bias: Arc<Tensor>,
}

impl PartialEq for Convolve {
    fn eq(&self, other: &Self) -> bool {
        (&self.size, &self.before, &self.padded, &self.output)
            == (&other.size, &other.before, &other.padded, &other.output)
            && self.patches == other.patches
            && self.packing == other.packing
            && self.product.name() == other.product.name()
            && *self.kernel == *other.kernel
            && self.bias == other.bias
    }
}

impl Eq for Convolve {}

/// Where a padded image's patches lie: output point p's value under tap k at `points[p] + taps[k]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Patches {
    packer: PackedFormat,
    points: Vec<usize>,
    taps: Vec<usize>,
}

/// Of an image or a panel; tract's panels start out uninitialised.
type Value = MaybeUninit<f32>;

/// A padded image as the right side of the product.
#[derive(Debug, Clone)]
struct Gathered {
    image: Arc<Vec<Value>>,
    patches: Arc<Patches>,
}

impl PartialEq for Gathered {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.image, &other.image) && self.patches == other.patches
    }
}

impl Eq for Gathered {}

impl Hash for Gathered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.patches.hash(state);
    }
}

impl Patches {
    /// Writes a panel, for each tap `R` points, zeros where there are no more. `W` is `R` or more, as registers hold them.
    #[inline(always)]
    fn gather<const R: usize, const W: usize>(&self, image: &[Value], panel: usize, out: &mut [Value]) {
        let points = &self.points[panel * R..];
        let rows = self.taps.iter().zip(out.chunks_exact_mut(R));
        let Some(points) = points.first_chunk::<R>() else {
            for (tap, out) in rows {
                for (at, out) in out.iter_mut().enumerate() {
                    *out = points.get(at).map_or(Value::new(0.0), |point| image[point + tap]);
                }
            }
            return;
        };
        let (first, last) = (points[0], points[R - 1]);
        // Points come in order, so the first run ends where a point is not as far from the first as it is down the list.
        let run = (0..R).position(|at| points[at] != first + at).unwrap_or(R);
        if run == R {
            for (row, tap) in self.taps.iter().enumerate() {
                let (image, out) = (&image[tap + first..], &mut out[row * R..]);
                // What is too much is written over by the next tap.
                match out.first_chunk_mut::<W>() {
                    Some(out) => out.copy_from_slice(&image[..W]),
                    None => out[..R].copy_from_slice(&image[..R]),
                }
            }
        } else if last - points[run] == R - 1 - run {
            for (tap, out) in rows {
                let (a, b) = (&image[tap + first..][..R], &image[tap + last + 1 - R..][..R]);
                (0..R).for_each(|at| out[at] = if at < run { a[at] } else { b[at] });
            }
        } else {
            for (tap, out) in rows {
                (0..R).for_each(|at| out[at] = image[tap + points[at]]);
            }
        }
    }
}

impl MMMInputValue for Gathered {
    fn format(&self) -> &dyn MMMInputFormat {
        &*self.patches
    }

    fn scratch_panel_buffer_layout(&self) -> Option<Layout> {
        Some(self.patches.packer.single_panel_layout(self.k(), size_of::<f32>()))
    }

    #[expect(unsafe_code, reason = "tract hands over a buffer of the layout above, which holds a panel")]
    fn panel_bytes(&self, i: usize, buffer: Option<*mut u8>) -> TractResult<*const u8> {
        let buffer = buffer.context("a panel needs a buffer")?;
        let len = self.k() * self.patches.packer.r;
        // SAFETY: the buffer is aligned for f32 and at least as long, and nobody else holds it.
        let out = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<Value>(), len) };
        let gather = gather(self.patches.packer.r).context("a panel of another width")?;
        gather(&self.patches, &self.image, i, out);
        Ok(buffer)
    }

    fn mn(&self) -> usize {
        self.patches.points.len()
    }

    fn k(&self) -> usize {
        self.patches.taps.len()
    }

    fn exotic_fact(&self) -> &dyn ExoticFact {
        &*self.patches
    }

    fn extract_at_mn_f16(&self, _: usize, _: &mut [f16]) -> TractResult<()> {
        bail!("patches are gathered by panels only")
    }

    fn extract_at_mn_f32(&self, _: usize, _: &mut [f32]) -> TractResult<()> {
        bail!("patches are gathered by panels only")
    }
}

type Gather = fn(&Patches, &[Value], usize, &mut [Value]);

/// [`Patches::gather`] for panels of `width` columns, those of tract's kernels, compiled for AVX2 where the processor has it.
fn gather(width: usize) -> Option<Gather> {
    fn of<const R: usize, const W: usize>() -> Option<Gather> {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn wide<const R: usize, const W: usize>(of: &Patches, image: &[Value], panel: usize, out: &mut [Value]) {
                of.gather::<R, W>(image, panel, out);
            }
            if is_x86_feature_detected!("avx2") {
                #[expect(
                    unsafe_code,
                    reason = "a function compiled for AVX2 may only run where the processor has it"
                )]
                // SAFETY: it has just been asked.
                return Some(|of, image, panel, out| unsafe { wide::<R, W>(of, image, panel, out) });
            }
        }
        Some(|of, image, panel, out| of.gather::<R, R>(image, panel, out))
    }
    match width {
        1 => of::<1, 1>(),
        2 => of::<2, 2>(),
        3 => of::<3, 4>(),
        4 => of::<4, 4>(),
        5 => of::<5, 8>(),
        6 => of::<6, 8>(),
        8 => of::<8, 8>(),
        12 => of::<12, 16>(),
        16 => of::<16, 16>(),
        _ => None,
    }
}

impl fmt::Display for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.patches.fmt(f)
    }
}

impl fmt::Display for Patches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("patches")
    }
}

impl ExoticFact for Patches {
    fn buffer_sizes(&self) -> TVec<TDim> {
        tvec!((self.taps.len() * self.points.len() * size_of::<f32>()).to_dim())
    }
}

/// A format that is gathered and never packed.
impl MMMInputFormat for Patches {
    fn prepare_tensor(&self, _: &Tensor, _: usize, _: usize) -> TractResult<Tensor> {
        bail!("patches are not packed")
    }

    fn prepare_one_view(&self, _: &TensorView, _: usize, _: usize) -> TractResult<Box<dyn MMMInputValue>> {
        bail!("patches are not packed")
    }

    fn precursor(&self) -> WeightType {
        self.packer.precursor()
    }

    fn r(&self) -> usize {
        self.packer.r
    }

    fn k_alignment(&self) -> usize {
        1
    }

    fn mem_size(&self, k: TDim, mn: TDim) -> TDim {
        k * mn * size_of::<f32>()
    }

    fn extract_at_mn_f16(&self, _: &EagerPackedInput, _: usize, _: &mut [f16]) -> TractResult<()> {
        bail!("patches are not packed")
    }

    fn extract_at_mn_f32(&self, _: &EagerPackedInput, _: usize, _: &mut [f32]) -> TractResult<()> {
        bail!("patches are not packed")
    }
}

impl Op for Convolve {
    fn name(&self) -> StaticName {
        "Convolve".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Convolve {
    op_out_of_plan!();

    #[expect(
        unsafe_code,
        reason = "tract's matrix product takes pointers; they are to the tensors here, whose shapes are known"
    )]
    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let samples = inputs[0].shape()[0];
        let shape = [&[samples], &*self.output].concat();
        let points = self.patches.points.len();
        // SAFETY: the product stores every value of each sample.
        let output = unsafe { Tensor::uninitialized::<f32>(&shape)? };
        let plain = inputs[0].try_as_plain_ram()?;
        let values = plain.as_slice::<f32>()?;
        ensure!(inputs[0].shape()[1..] == *self.size && inputs[1..].iter().all(|other| *other.shape() == *shape));
        // Room for the last tap to be copied a register at a time.
        let mut image = Arc::new(vec![Value::new(0.0); self.padded.iter().product::<usize>() + 16]);
        for (sample, values) in values.chunks_exact(self.size.iter().product()).enumerate() {
            let padded = Arc::get_mut(&mut image).context("an image that is still in use")?;
            pad(values, padded, &self.size, &self.before, &self.padded);
            let patches = Gathered { image: image.clone(), patches: self.patches.clone() };
            let (a, b) = (AsInputValue::Borrowed(&*self.kernel), AsInputValue::Borrowed(&patches));
            let mut steps = vec![
                FusedSpec::AddMatMul { a, b, packing: self.packing },
                FusedSpec::BinPerRow(self.bias.view(), BinOp::Add),
            ];
            // SAFETY: kernel, patches and bias are of as many channels, taps and points as the sample's output, and as the
            // second input's, which has its shape.
            unsafe {
                let store = self.product.c_from_data_and_strides(size_of::<f32>(), points as isize, 1);
                if let Some(other) = inputs.get(1) {
                    steps.push(FusedSpec::AddUnicast(store.wrap(&other.view_at_prefix(&[sample])?)));
                }
                steps.push(FusedSpec::Store(store.wrap(&output.view_at_prefix(&[sample])?)));
                self.product.run(self.output[0], points, &steps)?;
            }
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Convolve {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let batch = inputs[0].shape[0].clone();
        let shape: TVec<TDim> = std::iter::once(batch).chain(self.output.iter().map(|n| n.to_dim())).collect();
        Ok(tvec!(f32::fact(shape)))
    }
}

/// Copies `[size...]` into the middle of `[padded...]`, `before` values from its beginning along each axis.
fn pad(values: &[f32], target: &mut [Value], size: &[usize], before: &[usize], padded: &[usize]) {
    let (Some((_, size)), Some((first, before)), Some((_, padded))) =
        (size.split_first(), before.split_first(), padded.split_first())
    else {
        return;
    };
    if size.is_empty() {
        target[*first..].iter_mut().zip(values).for_each(|(target, value)| *target = Value::new(*value));
        return;
    }
    let (len, target_len) = (size.iter().product(), padded.iter().product());
    let targets = target.chunks_exact_mut(target_len).skip(*first);
    for (values, target) in values.chunks_exact(len).zip(targets) {
        pad(values, target, size, before, padded);
    }
}

/// Puts [`Convolve`] in the place of every convolution of a decluttered model that looks at more than single points; how
/// many there were.
pub(super) fn replace(model: &mut TypedModel) -> TractResult<usize> {
    let mut replaced = 0;
    for id in 0..model.nodes.len() {
        let Some(op) = Convolve::of(model, id)? else {
            continue;
        };
        let outlet = OutletId::new(id, 0);
        let mut patch = TypedModelPatch::default();
        let mut inputs = tvec!(patch.tap_model(model, model.node(id).inputs[0])?);
        let mut shunted = outlet;
        if let Some((sum, other)) = residual(model, outlet)? {
            inputs.push(patch.tap_model(model, other)?);
            shunted = sum;
        }
        let wire = patch.wire_node(format!("{}.convolve", model.node(shunted.node).name), op, &inputs)?[0];
        patch.shunt_outside(model, shunted, wire)?;
        patch.apply(model)?;
        replaced += 1;
    }
    Ok(replaced)
}

/// Where a convolution's output is only added to something of its shape: the sum, and what it is added to.
fn residual(model: &TypedModel, outlet: OutletId) -> TractResult<Option<(OutletId, OutletId)>> {
    let Some((next, [a, b])) = follower(model, outlet).and_then(|next| Some((next, binary::<Add>(model, next.id)?)))
    else {
        return Ok(None);
    };
    let other = if a == outlet { b } else { a };
    let same =
        other != outlet && model.outlet_fact(other)?.without_value() == model.outlet_fact(outlet)?.without_value();
    Ok(same.then_some((OutletId::new(next.id, 0), other)))
}

impl Convolve {
    fn of(model: &TypedModel, id: usize) -> TractResult<Option<Self>> {
        let node = model.node(id);
        let Some(conv) = node.op_as::<Conv>() else {
            return Ok(None);
        };
        let spec = &conv.pool_spec;
        let plain = conv.group == 1
            && conv.q_params.is_none()
            && conv.kernel_fmt == KernelFormat::OIHW
            && spec.data_format == DataFormat::NCHW
            && spec.kernel_shape.iter().product::<usize>() > 1;
        let facts = node.inputs.iter().map(|input| model.outlet_fact(*input)).collect::<TractResult<TVec<_>>>()?;
        let [input, kernel, bias] = *facts else {
            return Ok(None);
        };
        let (Some(shape), Some(kernel), Some(bias)) = (input.shape.as_concrete(), &kernel.konst, &bias.konst) else {
            return Ok(None);
        };
        let single =
            [input.datum_type, kernel.datum_type(), bias.datum_type()].iter().all(|of| *of == f32::datum_type());
        let (m, k) = (spec.output_channels, kernel.len() / spec.output_channels.max(1));
        if !plain || !single || bias.len() != m || shape.len() < 3 || shape.contains(&0) {
            return Ok(None);
        }
        let size = shape[1..].to_vec();
        let axes = spec.computed_padding(&size[1..]);
        let before: Vec<usize> = std::iter::once(0).chain(axes.iter().map(|axis| axis.pad_before)).collect();
        let around = std::iter::once(0).chain(axes.iter().map(|axis| axis.pad_before + axis.pad_after));
        let padded: Vec<usize> = size.iter().zip(around).map(|(n, around)| n + around).collect();
        let grid: Vec<usize> = axes.iter().map(|axis| axis.convoluted).collect();

        let strides: Vec<usize> = (0..padded.len()).map(|axis| padded[axis + 1..].iter().product()).collect();
        let scaled = |by: &[usize]| by.iter().zip(&strides[1..]).map(|(by, stride)| by * stride).collect::<Vec<_>>();
        let points = positions(&grid, &scaled(&spec.strides()));
        let taps = positions(
            &[&size[..1], &*spec.kernel_shape].concat(),
            &[&strides[..1], &scaled(&spec.dilations())].concat(),
        );
        let reach = points.last().zip(taps.last()).map(|(point, tap)| point + tap);
        if taps.len() != k || reach.is_none_or(|reach| reach >= padded.iter().product()) {
            return Ok(None);
        }
        let query = Query {
            weight: WeightType::Plain(f32::datum_type()),
            activation: f32::datum_type(),
            accumulators: tvec!(f32::datum_type()),
            store: None,
            allow_extractor: false,
            m: Some(m),
            k: Some(k),
            n: Some(points.len()),
        };
        let Some((product, packing, _)) = MmmDispatch::native().pick(&query) else {
            return Ok(None);
        };
        let (of_kernel, of_patches) = &product.packings()[packing];
        let Some(packer) = of_patches
            .downcast_ref::<PackedFormat>()
            .filter(|packer| packer.dt == f32::datum_type() && gather(packer.r).is_some())
        else {
            return Ok(None);
        };
        let matrix = kernel.clone().into_tensor().into_shape(&[m, k])?;
        let kernel = of_kernel.prepare_one(&matrix, 1, 0)?;
        let bias = bias.clone().into_tensor().into_shape(&[m])?.into_arc_tensor();
        let patches = Arc::new(Patches { packer: packer.clone(), points, taps });
        let output = [&[m], &*grid].concat();
        Ok(Some(Self { size, before, padded, output, patches, product, packing, kernel, bias }))
    }
}

/// The offsets of all places of a grid, in C order.
fn positions(grid: &[usize], strides: &[usize]) -> Vec<usize> {
    grid.iter().zip(strides).fold(vec![0], |offsets, (n, stride)| {
        offsets.iter().flat_map(|offset| (0..*n).map(move |at| offset + at * stride)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::normalise::tests::{noise, same_after};
    use super::*;

    #[test]
    fn panels_hold_the_points_under_each_tap() {
        let values = noise(4096, 3);
        let image: Vec<Value> = values.iter().map(|value| Value::new(*value)).collect();
        // Rows of a panel's width and more, of less, of so little that a panel has three; every other point.
        for (grid, strides) in [([9, 31], [40, 1]), ([8, 7], [9, 1]), ([13, 3], [5, 1]), ([5, 14], [64, 2])] {
            for width in [1, 2, 3, 4, 5, 6, 8, 12, 16] {
                let packer = PackedFormat::new(f32::datum_type(), width, 64);
                let points = positions(&grid, &strides);
                let patches = Patches { packer, points: points.clone(), taps: positions(&[4, 3, 3], &[800, 40, 1]) };
                for panel in 0..points.len().div_ceil(width) {
                    let mut out = vec![Value::new(f32::NAN); patches.taps.len() * width];
                    gather(width).unwrap()(&patches, &image, panel, &mut out);
                    for (tap, row) in patches.taps.iter().zip(out.chunks_exact(width)) {
                        for (at, found) in row.iter().enumerate() {
                            let expected = points.get(panel * width + at).map_or(0.0, |point| values[point + tap]);
                            #[expect(unsafe_code, reason = "what `gather` writes is not known to be initialised")]
                            // SAFETY: it was written twice.
                            let found = unsafe { found.assume_init() };
                            assert_eq!(found, expected, "{grid:?} {strides:?} {width} {panel}");
                        }
                    }
                }
            }
        }
    }

    /// Two samples; convolutions of stride 1, 2 and 4, with and without a sum after them.
    #[test]
    fn every_convolution_of_a_bundle_is_replaced_and_computes_the_same() {
        let networks = [
            ("image_encoder", vec![vec![2, 1, 224, 224]], 18),
            ("denoiser", vec![vec![2, 4, 28, 28], vec![2, 16, 28, 28], vec![2]], 6),
            ("label_decoder", vec![vec![2, 4, 28, 28]], 7),
        ];
        for (name, shapes, convolutions) in networks {
            same_after(name, &shapes, 1e-5, |model| assert_eq!(replace(model).unwrap(), convolutions, "{name}"));
        }
    }
}
