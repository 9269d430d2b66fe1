//! The operators that networks may use: those of our exports and of plain segmentation networks. Each with the shape that it
//! gives, and what that costs.

use super::tensor::Tensor;
use super::{
    Attribute, KIND_FLOAT, KIND_FLOATS, KIND_INT, KIND_INTS, KIND_TENSOR, KIND_TEXT, MAX_AXES, MAX_KNOWN, Node,
};

/// A tensor inside a network, as far as it is known before a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    pub(super) shape: Vec<usize>,
    /// The values, where they are a few integers that follow from the file and the inputs' shapes.
    ints: Option<Vec<i64>>,
    floats: Option<Vec<f32>>,
}

/// What a node gives, and what it costs.
pub(super) struct Inferred {
    pub(super) outputs: Vec<Value>,
    pub(super) multiply_adds: u64,
    /// Elements that an engine may hold while it computes, beside inputs and outputs.
    pub(super) scratch: u64,
}

impl Value {
    pub(super) fn plain(shape: Vec<usize>) -> Self {
        Self { shape, ..Self::default() }
    }

    pub(super) fn of(tensor: &Tensor<'_>) -> Self {
        Self { shape: tensor.shape.clone(), ints: tensor.ints(), floats: tensor.floats() }
    }

    fn list(ints: Vec<i64>) -> Self {
        Self { shape: vec![ints.len()], ints: (ints.len() <= MAX_KNOWN).then_some(ints), floats: None }
    }

    pub(super) fn elements(&self) -> u64 {
        count(&self.shape)
    }
}

fn count(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product, &size| product.saturating_mul(size as u64))
}

type Answer<T> = std::result::Result<T, String>;

/// The attributes that an operator may have; `None` for an operator that is not run.
fn attributes(operator: &str) -> Option<&'static [&'static str]> {
    Some(match operator {
        "Abs" | "Add" | "Ceil" | "Clip" | "Cos" | "Div" | "Erf" | "Exp" | "Expand" | "Floor" | "GlobalAveragePool"
        | "GlobalMaxPool" | "HardSwish" | "Identity" | "Log" | "MatMul" | "Max" | "Min" | "Mish" | "Mul" | "Neg"
        | "PRelu" | "Pow" | "Reciprocal" | "Relu" | "Sigmoid" | "Sin" | "Softplus" | "Sqrt" | "Sub" | "Tanh" => &[],
        "AveragePool" => {
            &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"]
        }
        "BatchNormalization" => &["epsilon", "momentum", "training_mode"],
        "Cast" => &["saturate", "to"],
        "Concat" | "Flatten" | "Gather" | "LogSoftmax" | "Softmax" => &["axis"],
        "Constant" => &["value", "value_float", "value_floats", "value_int", "value_ints"],
        "Conv" => &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"],
        "ConvTranspose" => &["auto_pad", "dilations", "group", "kernel_shape", "output_padding", "pads", "strides"],
        "DepthToSpace" => &["blocksize", "mode"],
        "DequantizeLinear" | "QuantizeLinear" => &["axis", "saturate"],
        "Dropout" => &["seed"],
        "Elu" | "LeakyRelu" => &["alpha"],
        "Gelu" => &["approximate"],
        "Gemm" => &["alpha", "beta", "transA", "transB"],
        "GroupNormalization" => &["epsilon", "num_groups", "stash_type"],
        "HardSigmoid" => &["alpha", "beta"],
        "InstanceNormalization" => &["epsilon"],
        "LayerNormalization" => &["axis", "epsilon", "stash_type"],
        "MaxPool" => &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"],
        "Pad" => &["mode"],
        "ReduceMax" | "ReduceMean" | "ReduceSum" => &["axes", "keepdims", "noop_with_empty_axes"],
        "Reshape" => &["allowzero"],
        "Resize" => &[
            "antialias",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "mode",
            "nearest_mode",
        ],
        "Shape" => &["end", "start"],
        "Slice" => &[],
        "Split" => &["axis", "num_outputs", "split"],
        "Squeeze" | "Unsqueeze" => &["axes"],
        "Transpose" => &["perm"],
        _ => return None,
    })
}

/// The outputs of `node`, whose optional inputs may be absent.
///
/// # Errors
/// What is wrong with it, as the end of a sentence about it.
pub(super) fn infer(node: &Node<'_>, inputs: &[Option<&Value>], opset: i64) -> Answer<Inferred> {
    let known = attributes(node.operator).ok_or("is none that segmentation networks use, and is not run")?;
    for (index, attribute) in node.attributes.iter().enumerate() {
        let name = attribute.name;
        let again = node.attributes[..index].iter().any(|before| before.name == name);
        if !known.contains(&name) || again {
            return Err(format!("has the attribute `{}`, which is not known, or twice", name.escape_debug()));
        }
        if !matches!(attribute.kind, KIND_FLOAT | KIND_INT | KIND_TEXT | KIND_TENSOR | KIND_FLOATS | KIND_INTS) {
            return Err(format!("has the attribute `{name}` of type {}, which is not known", attribute.kind));
        }
    }
    let call = Call { node, inputs, opset };
    let (mut multiply_adds, mut scratch) = (None, 0);
    let outputs = match node.operator {
        "Constant" => vec![call.constant()?],
        "Shape" => vec![call.shape()?],
        "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" => {
            let (shape, work, padded) = call.windows()?;
            multiply_adds = Some(work);
            scratch = padded;
            vec![Value::plain(shape)]
        }
        "MatMul" | "Gemm" => {
            let (shape, inner) = if node.operator == "MatMul" { call.matmul()? } else { call.gemm()? };
            multiply_adds = Some(count(&shape).saturating_mul(inner));
            vec![Value::plain(shape)]
        }
        "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min" | "Pow" | "PRelu" => vec![call.broadcast()?],
        "Cast" | "Identity" => vec![call.input(0)?.clone()],
        "Softmax" | "LogSoftmax" | "LayerNormalization" => {
            call.axis(call.int("axis", -1)?, call.input(0)?.shape.len())?;
            vec![Value::plain(call.input(0)?.shape.clone())]
        }
        "BatchNormalization" | "InstanceNormalization" | "GroupNormalization" => {
            if call.int("training_mode", 0)? != 0 || call.input(0)?.shape.len() < 2 {
                return Err("is told to train, or has no channels".into());
            }
            vec![Value::plain(call.input(0)?.shape.clone())]
        }
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let x = &call.input(0)?.shape;
            vec![Value::plain(x.iter().enumerate().map(|(axis, &size)| if axis < 2 { size } else { 1 }).collect())]
        }
        "ReduceMax" | "ReduceMean" | "ReduceSum" => {
            multiply_adds = Some(call.input(0)?.elements());
            vec![Value::plain(call.reduced()?)]
        }
        "Reshape" => vec![call.reshaped()?],
        "Flatten" => {
            let x = &call.input(0)?.shape;
            let axis = call.int("axis", 1)?;
            let axis = if axis == x.len() as i64 { x.len() } else { call.axis(axis, x.len())? };
            vec![Value::plain(vec![size(count(&x[..axis]).into())?, size(count(&x[axis..]).into())?])]
        }
        "Expand" => {
            let target = call.told(1)?.iter().map(|&to| size(to.into())).collect::<Answer<Vec<_>>>()?;
            vec![Value::plain(broadcast(&call.input(0)?.shape, &target)?)]
        }
        "Transpose" => {
            let x = &call.input(0)?.shape;
            let order = call.ints("perm", &(0..x.len() as i64).rev().collect::<Vec<_>>())?;
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if sorted.iter().copied().ne(0..x.len() as i64) {
                return Err(format!("orders {} axes by {order:?}", x.len()));
            }
            vec![Value::plain(order.iter().map(|&axis| x[axis as usize]).collect())]
        }
        "Concat" => vec![call.concatenated()?],
        "Slice" => vec![call.sliced()?],
        "Split" => call.split()?,
        "Squeeze" | "Unsqueeze" => vec![call.squeezed()?],
        "Gather" => vec![call.gathered()?],
        "Pad" => vec![Value::plain(call.padded()?)],
        "Resize" => {
            let shape = call.resized()?;
            multiply_adds = Some(count(&shape).saturating_mul(8));
            vec![Value::plain(shape)]
        }
        "DepthToSpace" => {
            let (x, block) = (&call.input(0)?.shape, call.int("blocksize", 0)?);
            let block = usize::try_from(block).ok().filter(|block| (1..=1024).contains(block));
            let (Some(block), &[n, c, h, w]) = (block, x.as_slice()) else {
                return Err("has no blocks of a picture".into());
            };
            if !c.is_multiple_of(block * block) {
                return Err(format!("makes blocks of {block} from {c} channels"));
            }
            vec![Value::plain(vec![
                n,
                c / (block * block),
                size(h as i128 * block as i128)?,
                size(w as i128 * block as i128)?,
            ])]
        }
        // One value for each.
        _ => vec![Value::plain(call.input(0)?.shape.clone())],
    };
    let elements = outputs.iter().fold(0_u64, |sum, output| sum.saturating_add(output.elements()));
    Ok(Inferred { multiply_adds: multiply_adds.unwrap_or(elements), scratch, outputs })
}

/// A size that came of arithmetic.
fn size(value: i128) -> Answer<usize> {
    usize::try_from(value).ok().filter(|size| (1..1 << 31).contains(size)).ok_or(format!("gives an axis of {value}"))
}

/// As numpy does it.
fn broadcast(a: &[usize], b: &[usize]) -> Answer<Vec<usize>> {
    let axes = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(axes).map_or(1, |axis| shape[axis]);
    (0..axes)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(format!("takes shapes that don't fit each other: {a:?} and {b:?}")),
        })
        .collect()
}

struct Call<'a> {
    node: &'a Node<'a>,
    inputs: &'a [Option<&'a Value>],
    opset: i64,
}

impl Call<'_> {
    fn optional(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index).copied().flatten()
    }

    fn input(&self, index: usize) -> Answer<&Value> {
        self.optional(index).ok_or(format!("lacks its input {index}"))
    }

    /// The integers of an input, which have to follow from the file and the inputs' shapes.
    fn told(&self, index: usize) -> Answer<&[i64]> {
        let told = self.input(index)?.ints.as_deref();
        told.ok_or(format!("is told numbers by its input {index} that are known in a run only"))
    }

    fn attribute(&self, name: &str) -> Option<&Attribute<'_>> {
        self.node.attributes.iter().find(|attribute| attribute.name == name)
    }

    fn int(&self, name: &str, default: i64) -> Answer<i64> {
        match self.attribute(name) {
            None => Ok(default),
            Some(told) if told.kind == KIND_INT => Ok(told.int),
            Some(_) => Err(format!("has `{name}` as another thing than a number")),
        }
    }

    fn ints(&self, name: &str, default: &[i64]) -> Answer<Vec<i64>> {
        match self.attribute(name) {
            None => Ok(default.to_vec()),
            Some(told) if told.kind == KIND_INTS && told.ints.len() <= MAX_KNOWN => Ok(told.ints.clone()),
            Some(_) => Err(format!("has `{name}` as another thing than a few numbers")),
        }
    }

    fn axis(&self, axis: i64, axes: usize) -> Answer<usize> {
        let counted = if axis < 0 { axis + axes as i64 } else { axis };
        let found = usize::try_from(counted).ok().filter(|&axis| axis < axes);
        found.ok_or(format!("names the axis {axis} of {axes}"))
    }

    fn constant(&self) -> Answer<Value> {
        let [told] = self.node.attributes.as_slice() else { return Err("has no one value".into()) };
        match (told.name, told.kind, &told.tensor) {
            ("value", KIND_TENSOR, Some(tensor)) => Ok(Value::of(tensor)),
            ("value_int", KIND_INT, _) => Ok(Value { shape: Vec::new(), ..Value::list(vec![told.int]) }),
            ("value_ints", KIND_INTS, _) => Ok(Value::list(told.ints.clone())),
            ("value_float", KIND_FLOAT, _) => Ok(Value { floats: Some(vec![told.float]), ..Value::default() }),
            ("value_floats", KIND_FLOATS, _) => Ok(Value::plain(vec![told.floats.len() / 4])),
            _ => Err("has a value of a type that is not known".into()),
        }
    }

    fn shape(&self) -> Answer<Value> {
        let shape = &self.input(0)?.shape;
        let axes = shape.len() as i64;
        let bound = |told: i64| (if told < 0 { told + axes } else { told }).clamp(0, axes) as usize;
        let (start, end) = (bound(self.int("start", 0)?), bound(self.int("end", axes)?));
        Ok(Value::list(shape.get(start..end).unwrap_or_default().iter().map(|&size| size as i64).collect()))
    }

    /// Convolutions and pooling: the shape, multiply-adds, and elements of the input with its border.
    fn windows(&self) -> Answer<(Vec<usize>, u64, u64)> {
        let operator = self.node.operator;
        let (x, pool) = (&self.input(0)?.shape, operator.ends_with("Pool"));
        let axes = x.len().checked_sub(2).filter(|&axes| axes > 0).ok_or("takes no picture")?;
        let weights = if pool { &[][..] } else { &self.input(1)?.shape };
        let kernel: Vec<i64> = weights.iter().skip(2).map(|&size| size as i64).collect();
        let kernel = self.ints("kernel_shape", &kernel)?;
        let fits = pool
            || weights.len() == axes + 2 && weights[2..].iter().map(|&size| size as i64).eq(kernel.iter().copied());
        let ones = vec![1; axes];
        let (strides, dilations) = (self.ints("strides", &ones)?, self.ints("dilations", &ones)?);
        let (pads, more) = (self.ints("pads", &vec![0; 2 * axes])?, self.ints("output_padding", &vec![0; axes])?);
        let group = self.int("group", 1)?;
        let positive = |list: &[i64]| list.len() == axes && list.iter().all(|&value| value > 0);
        let lengths = pads.len() == 2 * axes && more.len() == axes;
        if !fits || !positive(&kernel) || !positive(&strides) || !positive(&dilations) || !lengths || group < 1 {
            return Err(format!(
                "has kernel {kernel:?}, strides {strides:?}, dilations {dilations:?}, pads {pads:?} and {group} groups"
            ));
        }
        if pads.iter().chain(&more).any(|&pad| pad < 0) {
            return Err(format!("has pads {pads:?} and {more:?} below 0"));
        }
        let automatic = self.attribute("auto_pad").map_or(&b"NOTSET"[..], |told| told.text);
        let transposed = operator == "ConvTranspose";
        let group = group as usize;
        let (channels, taps) = if pool {
            (x[1], 1)
        } else if transposed {
            let fits = weights[0] == x[1] && x[1].is_multiple_of(group);
            if !fits {
                return Err(format!("takes weights {weights:?} for an input {x:?} in {group} groups"));
            }
            (size(weights[1] as i128 * group as i128)?, x[1] / group)
        } else {
            let fits = weights[1].checked_mul(group) == Some(x[1]) && weights[0].is_multiple_of(group);
            if !fits {
                return Err(format!("takes weights {weights:?} for an input {x:?} in {group} groups"));
            }
            (weights[0], weights[1])
        };
        let (mut shape, mut padded) = (vec![x[0], channels], x[0] as u64 * x[1] as u64);
        for axis in 0..axes {
            let [length, kernel, stride, dilation] =
                [x[axis + 2] as i64, kernel[axis], strides[axis], dilations[axis]].map(i128::from);
            let border = i128::from(pads[axis]) + i128::from(pads[axis + axes]);
            let reach = dilation * (kernel - 1) + 1;
            let ceil = |a: i128, b: i128| (a + b - 1).div_euclid(b);
            let given = match (automatic, transposed) {
                (b"NOTSET", true) => stride * (length - 1) + i128::from(more[axis]) + reach - border,
                (b"NOTSET", false) if self.int("ceil_mode", 0)? != 0 => ceil(length + border - reach, stride) + 1,
                (b"NOTSET", false) => (length + border - reach).div_euclid(stride) + 1,
                (b"VALID", true) => stride * (length - 1) + reach,
                (b"VALID", false) => (length - reach).div_euclid(stride) + 1,
                (b"SAME_UPPER" | b"SAME_LOWER", true) => length * stride,
                (b"SAME_UPPER" | b"SAME_LOWER", false) => ceil(length, stride),
                _ => return Err("has an `auto_pad` that is not known".into()),
            };
            shape.push(size(given)?);
            let around = if transposed { stride * length + reach } else { length + border + reach };
            padded = padded.saturating_mul(u64::try_from(around).unwrap_or(u64::MAX));
        }
        let area = kernel.iter().fold(1_u64, |product, &size| product.saturating_mul(size as u64));
        let positions = if transposed { count(&x[2..]) } else { count(&shape[2..]) };
        let work = positions.saturating_mul(area).saturating_mul(taps as u64);
        let work = work.saturating_mul(channels as u64).saturating_mul(x[0] as u64);
        Ok((shape, work, padded))
    }

    fn matmul(&self) -> Answer<(Vec<usize>, u64)> {
        let (a, b) = (&self.input(0)?.shape, &self.input(1)?.shape);
        let ([front @ .., rows, inner], [others @ .., same, columns]) = (a.as_slice(), b.as_slice()) else {
            return Err(format!("takes shapes that are no matrices: {a:?} and {b:?}"));
        };
        if inner != same {
            return Err(format!("takes matrices that don't fit each other: {a:?} and {b:?}"));
        }
        let mut shape = broadcast(front, others)?;
        shape.extend([rows, columns]);
        Ok((shape, *inner as u64))
    }

    fn gemm(&self) -> Answer<(Vec<usize>, u64)> {
        let (a, b) = (&self.input(0)?.shape, &self.input(1)?.shape);
        let (&[mut m, mut k], &[mut same, mut n]) = (a.as_slice(), b.as_slice()) else {
            return Err(format!("takes shapes that are no matrices: {a:?} and {b:?}"));
        };
        if self.int("transA", 0)? != 0 {
            (m, k) = (k, m);
        }
        if self.int("transB", 0)? != 0 {
            (same, n) = (n, same);
        }
        let sum = self.optional(2).map_or(Ok(vec![m, n]), |c| broadcast(&c.shape, &[m, n]))?;
        if k != same || sum != [m, n] {
            return Err(format!("takes matrices that don't fit each other: {a:?} and {b:?}"));
        }
        Ok((sum, k as u64))
    }

    fn broadcast(&self) -> Answer<Value> {
        let mut shape = self.input(0)?.shape.clone();
        for index in 1..self.inputs.len() {
            shape = broadcast(&shape, &self.input(index)?.shape)?;
        }
        let ints = match self.inputs {
            [Some(a), Some(b)] => a.ints.as_ref().zip(b.ints.as_ref()).and_then(|(a, b)| self.computed(a, b)),
            _ => None,
        };
        Ok(Value { ints: ints.filter(|ints| ints.len() as u64 == count(&shape)), shape, floats: None })
    }

    /// Integers computed from integers: as exporters compute shapes.
    fn computed(&self, a: &[i64], b: &[i64]) -> Option<Vec<i64>> {
        let length = a.len().max(b.len());
        let at = |list: &[i64], index: usize| list.get(if list.len() == 1 { 0 } else { index }).copied();
        let one = |index| {
            let (a, b) = (at(a, index)?, at(b, index)?);
            match self.node.operator {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                _ => None,
            }
        };
        (0..length).map(one).collect()
    }

    /// The axes that are named as an attribute or, since some operator set, by the second input.
    fn axes(&self, axes: usize) -> Answer<Option<Vec<usize>>> {
        let told = match (self.attribute("axes"), self.optional(1)) {
            (Some(_), None) => self.ints("axes", &[])?,
            (None, Some(_)) => self.told(1)?.to_vec(),
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err("names its axes twice".into()),
        };
        let mut named = told.iter().map(|&axis| self.axis(axis, axes)).collect::<Answer<Vec<_>>>()?;
        named.sort_unstable();
        if named.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("names an axis twice: {told:?}"));
        }
        Ok(Some(named))
    }

    fn reduced(&self) -> Answer<Vec<usize>> {
        let x = &self.input(0)?.shape;
        let mut axes = self.axes(x.len())?.unwrap_or_default();
        if axes.is_empty() {
            if self.int("noop_with_empty_axes", 0)? != 0 {
                return Ok(x.clone());
            }
            axes = (0..x.len()).collect();
        }
        let keep = self.int("keepdims", 1)? != 0;
        let kept = |(axis, &size): (usize, &usize)| match axes.contains(&axis) {
            true => keep.then_some(1),
            false => Some(size),
        };
        Ok(x.iter().enumerate().filter_map(kept).collect())
    }

    fn reshaped(&self) -> Answer<Value> {
        let (x, told) = (self.input(0)?, self.told(1)?);
        if self.int("allowzero", 0)? != 0 || told.len() > MAX_AXES {
            return Err(format!("makes empty tensors, or too many axes: {told:?}"));
        }
        let mut shape = Vec::with_capacity(told.len());
        let mut left = None;
        for (axis, &to) in told.iter().enumerate() {
            shape.push(match to {
                0 => *x.shape.get(axis).ok_or(format!("keeps the axis {axis} of {:?}", x.shape))?,
                -1 if left.replace(axis).is_none() => 1,
                to => size(to.into())?,
            });
        }
        if let Some(axis) = left {
            shape[axis] = size(i128::from(x.elements() / count(&shape).max(1)))?;
        }
        if count(&shape) != x.elements() {
            return Err(format!("makes {told:?} of {:?}", x.shape));
        }
        Ok(Value { shape, ..x.clone() })
    }

    fn concatenated(&self) -> Answer<Value> {
        let first = self.input(0)?;
        if self.attribute("axis").is_none() {
            return Err("lacks its axis".into());
        }
        let axis = self.axis(self.int("axis", 0)?, first.shape.len())?;
        let (mut shape, mut ints) = (first.shape.clone(), first.ints.clone());
        for index in 1..self.inputs.len() {
            let next = self.input(index)?;
            let fits = next.shape.len() == shape.len()
                && (0..shape.len()).all(|other| other == axis || shape[other] == next.shape[other]);
            if !fits {
                return Err(format!("joins shapes that don't fit each other: {shape:?} and {:?}", next.shape));
            }
            shape[axis] = size(shape[axis] as i128 + next.shape[axis] as i128)?;
            ints = ints.zip(next.ints.as_ref()).map(|(ints, next)| [&ints[..], next].concat());
        }
        ints = ints.filter(|ints| shape.len() == 1 && ints.len() <= MAX_KNOWN);
        Ok(Value { shape, ints, floats: None })
    }

    fn sliced(&self) -> Answer<Value> {
        let x = self.input(0)?;
        let (starts, ends) = (self.told(1)?, self.told(2)?);
        let axes = match self.optional(3) {
            Some(_) => self.told(3)?.to_vec(),
            None => (0..starts.len() as i64).collect(),
        };
        let steps = if self.optional(4).is_some() { self.told(4)?.to_vec() } else { vec![1; starts.len()] };
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(format!(
                "has {} starts, {} ends, {} axes and {} steps",
                starts.len(),
                ends.len(),
                axes.len(),
                steps.len()
            ));
        }
        let (mut shape, mut ints, mut seen) = (x.shape.clone(), x.ints.clone(), Vec::new());
        for (((&start, &end), &axis), &step) in starts.iter().zip(ends).zip(&axes).zip(&steps) {
            let axis = self.axis(axis, shape.len())?;
            if seen.contains(&axis) {
                return Err("cuts an axis twice".into());
            }
            seen.push(axis);
            let length = i128::from(x.shape[axis] as i64);
            let at = |told: i64| if told < 0 { i128::from(told) + length } else { i128::from(told) };
            let (step, (low, high)) = (i128::from(step), if step > 0 { (0, length) } else { (-1, length - 1) });
            if step == 0 {
                return Err("has a step of 0".into());
            }
            let (start, end) = (at(start).clamp(low.max(0), high), at(end).clamp(low, high));
            let kept = (end - start + step - step.signum()).div_euclid(step);
            shape[axis] = size(kept)?;
            ints = ints.filter(|_| x.shape.len() == 1).and_then(|ints| {
                (0..kept).map(|index| ints.get(usize::try_from(start + index * step).ok()?).copied()).collect()
            });
        }
        Ok(Value { shape, ints, floats: None })
    }

    fn split(&self) -> Answer<Vec<Value>> {
        let (x, parts) = (&self.input(0)?.shape, self.node.outputs.len());
        let axis = self.axis(self.int("axis", 0)?, x.len())?;
        let told = match self.optional(1) {
            Some(_) => self.told(1)?.to_vec(),
            None => self.ints("split", &[])?,
        };
        if self.int("num_outputs", parts as i64)? != parts as i64 || parts == 0 || told.len() > parts {
            return Err(format!("has {parts} outputs, which it doesn't say"));
        }
        let lengths = if told.is_empty() {
            if !x[axis].is_multiple_of(parts) {
                return Err(format!("splits {} in {parts}", x[axis]));
            }
            vec![x[axis]; parts].iter().map(|length| length / parts).collect()
        } else {
            told.iter().map(|&length| size(length.into())).collect::<Answer<Vec<_>>>()?
        };
        if lengths.len() != parts || lengths.iter().map(|&length| length as u64).sum::<u64>() != x[axis] as u64 {
            return Err(format!("splits {} into {lengths:?}", x[axis]));
        }
        let part = |length: usize| {
            let mut shape = x.clone();
            shape[axis] = length;
            Value::plain(shape)
        };
        Ok(lengths.into_iter().map(part).collect())
    }

    fn squeezed(&self) -> Answer<Value> {
        let x = self.input(0)?;
        let mut shape = x.shape.clone();
        if self.node.operator == "Squeeze" {
            let ones = || (0..shape.len()).filter(|&axis| x.shape[axis] == 1).collect();
            let axes = self.axes(shape.len())?.unwrap_or_else(ones);
            if axes.iter().any(|&axis| x.shape[axis] != 1) {
                return Err(format!("drops axes {axes:?} of {:?}", x.shape));
            }
            for axis in axes.into_iter().rev() {
                shape.remove(axis);
            }
        } else {
            let more = if self.opset < 13 { self.ints("axes", &[])?.len() } else { self.told(1)?.len() };
            for axis in self.axes(shape.len() + more)?.unwrap_or_default() {
                shape.insert(axis, 1);
            }
        }
        Ok(Value { shape, ..x.clone() })
    }

    fn gathered(&self) -> Answer<Value> {
        let (x, indices) = (self.input(0)?, self.input(1)?);
        let axis = self.axis(self.int("axis", 0)?, x.shape.len())?;
        let shape = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
        let one = |ints: &[i64], index: i64| {
            let index = if index < 0 { index + ints.len() as i64 } else { index };
            ints.get(usize::try_from(index).ok()?).copied()
        };
        let known = x.ints.as_ref().filter(|_| x.shape.len() == 1).zip(indices.ints.as_ref());
        let ints = known.and_then(|(ints, indices)| indices.iter().map(|&index| one(ints, index)).collect());
        Ok(Value { shape, ints, floats: None })
    }

    fn padded(&self) -> Answer<Vec<usize>> {
        let (x, pads) = (&self.input(0)?.shape, self.told(1)?);
        let axes = match self.optional(3) {
            Some(_) => self.told(3)?.iter().map(|&axis| self.axis(axis, x.len())).collect::<Answer<Vec<_>>>()?,
            None => (0..x.len()).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!("pads {} axes by {pads:?}", axes.len()));
        }
        let mut shape = x.clone();
        for (index, &axis) in axes.iter().enumerate() {
            let (before, after) = (i128::from(pads[index]), i128::from(pads[index + axes.len()]));
            shape[axis] = size(shape[axis] as i128 + before + after)?;
        }
        Ok(shape)
    }

    fn resized(&self) -> Answer<Vec<usize>> {
        let x = &self.input(0)?.shape;
        // An empty list stands for none.
        let given = |index| self.optional(index).filter(|value| value.elements() > 0);
        match (given(2), given(3)) {
            (None, Some(sizes)) => {
                let sizes = sizes.ints.as_ref().filter(|sizes| sizes.len() == x.len());
                let sizes = sizes.ok_or("is told sizes that are known in a run only")?;
                sizes.iter().map(|&to| size(to.into())).collect()
            }
            (Some(scales), None) => {
                let scales = scales.floats.as_ref().filter(|scales| scales.len() == x.len());
                let scales = scales.ok_or("is told scales that are known in a run only")?;
                let scaled = |(&from, &by): (&usize, &f32)| size((from as f64 * f64::from(by)).floor() as i128);
                x.iter().zip(scales).map(scaled).collect()
            }
            _ => Err("has not either scales or sizes".into()),
        }
    }
}
