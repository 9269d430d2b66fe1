//! Lowers a captured forward pass to an ONNX model: the graph that was trained is the graph that ships.
//!
//! The capture runs with a batch of [`CAPTURE_BATCH`]; an axis 0 of that length is the batch and stays dynamic.
//! Operations on constants alone are not expected but for reshapes, which are folded.

use std::collections::BTreeMap;

use burn::backend::ir::{
    ActivationOperationIr, BaseOperationIr, FloatOperationIr, InterpolateModeIr, ModuleOperationIr, NumericOperationIr,
    OperationIr, PadModeIr, ScalarIr, TensorId, TensorIr,
};
use burn::tensor::{CapturedGraph, TensorData};
use ldseg::engine::NetworkSpec;
use ldseg::{Error, ErrorKind, Result};
use onnx_ir::{AttributeProto, AttributeType, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// Operator set of the exported models.
pub const OPSET: i64 = 17;
/// Version of the ONNX file format.
const IR_VERSION: i64 = 8;
/// Batch size during capture: an unlikely length for any other axis.
pub(crate) const CAPTURE_BATCH: usize = 7;

/// ONNX element types.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Writes `captured`, whose inputs and outputs are those of `spec` in order, as an ONNX file.
///
/// # Errors
/// [`ErrorKind::Engine`] for an operation that has no lowering.
pub(crate) fn to_onnx(name: &str, captured: &CapturedGraph, spec: &NetworkSpec) -> Result<Vec<u8>> {
    let mut lowering = Lowering {
        model: ModelProto::new(),
        inputs: &captured.graph.inputs,
        constants: &captured.values,
        names: BTreeMap::new(),
        shapes: BTreeMap::new(),
        fresh: 0,
    };
    for (id, tensor) in captured.graph.inputs.iter().zip(&spec.inputs) {
        lowering.names.insert(*id, tensor.name.clone());
        lowering.model.graph.mut_or_insert_default().input.push(value_info(&tensor.name, &tensor.shape));
    }
    for operation in &captured.graph.operations {
        lowering.operation(operation)?;
    }
    for (id, tensor) in captured.graph.outputs.iter().zip(&spec.outputs) {
        let inner = lowering.name(*id)?;
        lowering.node("Identity", &[inner], tensor.name.clone(), Vec::new());
        lowering.model.graph.mut_or_insert_default().output.push(value_info(&tensor.name, &tensor.shape));
    }
    let mut model = lowering.model;
    model.ir_version = IR_VERSION;
    model.producer_name = "ldseg".into();
    model.producer_version = env!("CARGO_PKG_VERSION").into();
    model.graph.mut_or_insert_default().name = name.into();
    model.opset_import.push(Default::default());
    if let Some(opset) = model.opset_import.last_mut() {
        opset.version = OPSET;
    }
    model
        .write_to_bytes()
        .map_err(|e| Error::with_source(ErrorKind::Engine, format!("{name}: the ONNX graph cannot be written"), e))
}

struct Lowering<'a> {
    model: ModelProto,
    inputs: &'a [TensorId],
    constants: &'a BTreeMap<TensorId, TensorData>,
    /// ONNX name of every tensor seen so far.
    names: BTreeMap<TensorId, String>,
    /// Constants that a reshape gave another shape: where the values are, and that shape.
    shapes: BTreeMap<TensorId, (TensorId, Vec<usize>)>,
    fresh: usize,
}

fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let mut info = ValueInfoProto::new();
    info.name = name.into();
    let tensor = info.type_.mut_or_insert_default().mut_tensor_type();
    tensor.elem_type = FLOAT;
    let dims = &mut tensor.shape.mut_or_insert_default().dim;
    for size in shape {
        dims.push(Default::default());
        match (dims.last_mut(), size) {
            (Some(dim), 0) => dim.set_dim_param("batch".into()),
            (Some(dim), size) => dim.set_dim_value(*size as i64),
            (None, _) => {}
        }
    }
    info
}

fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    let mut attribute = AttributeProto::new();
    attribute.name = name.into();
    attribute.type_ = AttributeType::INTS.into();
    attribute.ints = values.into_iter().map(|value| value as i64).collect();
    attribute
}

fn int(name: &str, value: usize) -> AttributeProto {
    let mut attribute = AttributeProto::new();
    attribute.name = name.into();
    attribute.type_ = AttributeType::INT.into();
    attribute.i = value as i64;
    attribute
}

fn float(name: &str, value: f32) -> AttributeProto {
    let mut attribute = AttributeProto::new();
    attribute.name = name.into();
    attribute.type_ = AttributeType::FLOAT.into();
    attribute.f = value;
    attribute
}

fn string(name: &str, value: &str) -> AttributeProto {
    let mut attribute = AttributeProto::new();
    attribute.name = name.into();
    attribute.type_ = AttributeType::STRING.into();
    attribute.s = value.as_bytes().to_vec().into();
    attribute
}

fn number(scalar: ScalarIr) -> f32 {
    match scalar {
        ScalarIr::Float(value) => value as f32,
        ScalarIr::Int(value) => value as f32,
        ScalarIr::UInt(value) => value as f32,
        ScalarIr::Bool(value) => f32::from(u8::from(value)),
    }
}

fn dims(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.to_vec()
}

/// Paddings as ONNX wants them: all the starts, then all the ends.
fn pads(padding: &[(usize, usize)]) -> AttributeProto {
    ints("pads", padding.iter().map(|p| p.0).chain(padding.iter().map(|p| p.1)))
}

impl Lowering<'_> {
    /// The ONNX name of a tensor; a constant is written to the file when first used.
    fn name(&mut self, id: TensorId) -> Result<String> {
        if let Some(name) = self.names.get(&id) {
            return Ok(name.clone());
        }
        let source = self.shapes.get(&id).map_or(id, |(source, _)| *source);
        let data = self.constants.get(&source).ok_or_else(|| {
            Error::new(ErrorKind::Engine, format!("export: {id} is used before anything computes it"))
        })?;
        let shape = self.shapes.get(&id).map_or_else(|| data.shape().to_vec(), |(_, shape)| shape.clone());
        let values = data
            .try_to_vec::<f32>()
            .map_err(|e| Error::new(ErrorKind::Engine, format!("export: constant {id} is not f32: {e:?}")))?;
        let name = format!("c{}", id.value());
        self.initializer(&name, &shape, FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect());
        self.names.insert(id, name.clone());
        Ok(name)
    }

    fn initializer(&mut self, name: &str, shape: &[usize], element_type: i32, bytes: Vec<u8>) {
        let mut tensor = TensorProto::new();
        tensor.name = name.into();
        tensor.dims = shape.iter().map(|size| *size as i64).collect();
        tensor.data_type = element_type;
        tensor.raw_data = bytes.into();
        self.model.graph.mut_or_insert_default().initializer.push(tensor);
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.fresh += 1;
        format!("{prefix}_{}", self.fresh)
    }

    fn int_list(&mut self, values: &[i64]) -> String {
        let name = self.fresh("shape");
        self.initializer(&name, &[values.len()], INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect());
        name
    }

    fn float_list(&mut self, shape: &[usize], values: &[f32]) -> String {
        let name = self.fresh("value");
        self.initializer(&name, shape, FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect());
        name
    }

    fn node(&mut self, kind: &str, inputs: &[String], output: String, attributes: Vec<AttributeProto>) {
        let mut node = NodeProto::new();
        node.op_type = kind.into();
        node.name = format!("{kind}_{output}");
        node.input = inputs.to_vec();
        node.output = vec![output];
        node.attribute = attributes;
        self.model.graph.mut_or_insert_default().node.push(node);
    }

    fn emit(
        &mut self,
        kind: &str,
        inputs: &[&TensorIr],
        out: &TensorIr,
        attributes: Vec<AttributeProto>,
    ) -> Result<()> {
        let inputs = inputs.iter().map(|tensor| self.name(tensor.id)).collect::<Result<Vec<_>>>()?;
        self.emit_named(kind, &inputs, out, attributes);
        Ok(())
    }

    fn emit_named(&mut self, kind: &str, inputs: &[String], out: &TensorIr, attributes: Vec<AttributeProto>) {
        let name = format!("t{}", out.id.value());
        self.names.insert(out.id, name.clone());
        self.node(kind, inputs, name, attributes);
    }

    fn with_scalar(&mut self, kind: &str, input: &TensorIr, scalar: f32, out: &TensorIr) -> Result<()> {
        let inputs = [self.name(input.id)?, self.float_list(&[], &[scalar])];
        self.emit_named(kind, &inputs, out, Vec::new());
        Ok(())
    }

    fn operation(&mut self, operation: &OperationIr) -> Result<()> {
        match operation {
            OperationIr::Drop(_) | OperationIr::Init(_) => Ok(()),
            OperationIr::BaseFloat(base) => self.base(base),
            OperationIr::NumericFloat(_, numeric) => self.numeric(numeric),
            OperationIr::Float(_, float) => self.float(float),
            OperationIr::Activation(activation) => self.activation(activation),
            OperationIr::Module(module) => self.module(module),
            other => Err(no_lowering(other)),
        }
    }

    fn base(&mut self, operation: &BaseOperationIr) -> Result<()> {
        match operation {
            BaseOperationIr::Reshape(op) => self.reshape(&op.input, &op.out),
            BaseOperationIr::SwapDims(op) => {
                let mut order: Vec<usize> = (0..dims(&op.input).len()).collect();
                order.swap(op.dim1, op.dim2);
                self.emit("Transpose", &[&op.input], &op.out, vec![ints("perm", order)])
            }
            BaseOperationIr::Permute(op) => {
                self.emit("Transpose", &[&op.input], &op.out, vec![ints("perm", op.axes.iter().copied())])
            }
            BaseOperationIr::Cat(op) => {
                let inputs: Vec<&TensorIr> = op.tensors.iter().collect();
                self.emit("Concat", &inputs, &op.out, vec![int("axis", op.dim)])
            }
            BaseOperationIr::Expand(op) => self.expand(&op.input, &op.out),
            BaseOperationIr::Slice(op) => {
                let (mut starts, mut ends, mut axes) = (Vec::new(), Vec::new(), Vec::new());
                for (axis, (size, range)) in dims(&op.tensor).into_iter().zip(&op.ranges).enumerate() {
                    let (start, end) = (range.start as i64, range.end.map_or(size as i64, |end| end as i64));
                    if range.step != 1 || start < 0 || end < 0 {
                        return Err(no_lowering(operation));
                    }
                    if (start, end) != (0, size as i64) {
                        starts.push(start);
                        ends.push(end);
                        axes.push(axis as i64);
                    }
                }
                let inputs =
                    [self.name(op.tensor.id)?, self.int_list(&starts), self.int_list(&ends), self.int_list(&axes)];
                self.emit_named("Slice", &inputs, &op.out, Vec::new());
                Ok(())
            }
            other => Err(no_lowering(other)),
        }
    }

    fn reshape(&mut self, input: &TensorIr, out: &TensorIr) -> Result<()> {
        let shape = dims(out);
        let known = self.constants.contains_key(&input.id) || self.shapes.contains_key(&input.id);
        if known && !self.inputs.contains(&input.id) {
            let source = self.shapes.get(&input.id).map_or(input.id, |(source, _)| *source);
            self.shapes.insert(out.id, (source, shape));
            return Ok(());
        }
        // burn merges other axes into the batch, and parts them again, around products of small matrices. -1 is what is
        // left of the input for that axis: the batch stays dynamic.
        let batched = |shape: &[usize]| shape.first().is_some_and(|size| size % CAPTURE_BATCH == 0);
        let mut target: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        match (batched(&dims(input)), batched(&shape)) {
            (true, true) => target[0] = -1,
            (false, false) => {}
            _ => {
                let moved = format!("a reshape that moves the batch axis, {:?} to {shape:?}", dims(input));
                return Err(no_lowering(&moved));
            }
        }
        let inputs = [self.name(input.id)?, self.int_list(&target)];
        self.emit_named("Reshape", &inputs, out, Vec::new());
        Ok(())
    }

    /// ONNX operators broadcast by themselves, and `Expand` keeps an axis where it is told 1.
    fn expand(&mut self, input: &TensorIr, out: &TensorIr) -> Result<()> {
        let (from, to) = (dims(input), dims(out));
        if from.first() != to.first() && to.first() == Some(&CAPTURE_BATCH) {
            return Err(no_lowering(&"an expansion along the batch axis"));
        }
        let shape: Vec<i64> = from.iter().zip(&to).map(|(a, b)| if a == b { 1 } else { *b as i64 }).collect();
        let inputs = [self.name(input.id)?, self.int_list(&shape)];
        self.emit_named("Expand", &inputs, out, Vec::new());
        Ok(())
    }

    fn numeric(&mut self, operation: &NumericOperationIr) -> Result<()> {
        use NumericOperationIr as Op;
        match operation {
            Op::Add(op) => self.emit("Add", &[&op.lhs, &op.rhs], &op.out, Vec::new()),
            Op::Sub(op) => self.emit("Sub", &[&op.lhs, &op.rhs], &op.out, Vec::new()),
            Op::Mul(op) => self.emit("Mul", &[&op.lhs, &op.rhs], &op.out, Vec::new()),
            Op::Div(op) => self.emit("Div", &[&op.lhs, &op.rhs], &op.out, Vec::new()),
            Op::AddScalar(op) => self.with_scalar("Add", &op.lhs, number(op.rhs), &op.out),
            Op::SubScalar(op) => self.with_scalar("Sub", &op.lhs, number(op.rhs), &op.out),
            Op::MulScalar(op) => self.with_scalar("Mul", &op.lhs, number(op.rhs), &op.out),
            Op::DivScalar(op) => self.with_scalar("Div", &op.lhs, number(op.rhs), &op.out),
            Op::ClampMin(op) => self.with_scalar("Max", &op.lhs, number(op.rhs), &op.out),
            Op::ClampMax(op) => self.with_scalar("Min", &op.lhs, number(op.rhs), &op.out),
            Op::Abs(op) => self.emit("Abs", &[&op.input], &op.out, Vec::new()),
            Op::Neg(op) => self.emit("Neg", &[&op.input], &op.out, Vec::new()),
            Op::MeanDim(op) => {
                let attributes = vec![ints("axes", [op.axis]), int("keepdims", 1)];
                self.emit("ReduceMean", &[&op.input], &op.out, attributes)
            }
            Op::SumDim(op) => {
                let inputs = [self.name(op.input.id)?, self.int_list(&[op.axis as i64])];
                self.emit_named("ReduceSum", &inputs, &op.out, vec![int("keepdims", 1)]);
                Ok(())
            }
            Op::MaxDim(op) => {
                let attributes = vec![ints("axes", [op.axis]), int("keepdims", 1)];
                self.emit("ReduceMax", &[&op.input], &op.out, attributes)
            }
            Op::Pad(op) => {
                let PadModeIr::Constant(value) = op.mode else { return Err(no_lowering(operation)) };
                let amounts: Vec<i64> =
                    op.padding.iter().map(|p| p.0 as i64).chain(op.padding.iter().map(|p| p.1 as i64)).collect();
                let inputs = [self.name(op.input.id)?, self.int_list(&amounts), self.float_list(&[], &[number(value)])];
                self.emit_named("Pad", &inputs, &op.out, vec![string("mode", "constant")]);
                Ok(())
            }
            other => Err(no_lowering(other)),
        }
    }

    fn float(&mut self, operation: &FloatOperationIr) -> Result<()> {
        use FloatOperationIr as Op;
        match operation {
            Op::Exp(op) => self.emit("Exp", &[&op.input], &op.out, Vec::new()),
            Op::Log(op) => self.emit("Log", &[&op.input], &op.out, Vec::new()),
            Op::Sqrt(op) => self.emit("Sqrt", &[&op.input], &op.out, Vec::new()),
            Op::Sin(op) => self.emit("Sin", &[&op.input], &op.out, Vec::new()),
            Op::Cos(op) => self.emit("Cos", &[&op.input], &op.out, Vec::new()),
            Op::Recip(op) => self.emit("Reciprocal", &[&op.input], &op.out, Vec::new()),
            Op::Matmul(op) => self.emit("MatMul", &[&op.lhs, &op.rhs], &op.out, Vec::new()),
            other => Err(no_lowering(other)),
        }
    }

    fn activation(&mut self, operation: &ActivationOperationIr) -> Result<()> {
        use ActivationOperationIr as Op;
        match operation {
            Op::Relu(op) => self.emit("Relu", &[&op.input], &op.out, Vec::new()),
            Op::Sigmoid(op) => self.emit("Sigmoid", &[&op.input], &op.out, Vec::new()),
            Op::Softmax(op) => self.emit("Softmax", &[&op.input], &op.out, vec![int("axis", op.axis)]),
            other => Err(no_lowering(other)),
        }
    }

    fn module(&mut self, operation: &ModuleOperationIr) -> Result<()> {
        use ModuleOperationIr as Op;
        match operation {
            Op::Conv2d(op) => {
                let attributes = vec![
                    ints("strides", op.options.stride),
                    ints("dilations", op.options.dilation),
                    int("group", op.options.groups),
                    pads(&op.options.padding),
                ];
                let inputs: Vec<&TensorIr> = [&op.x, &op.weight].into_iter().chain(&op.bias).collect();
                self.emit("Conv", &inputs, &op.out, attributes)
            }
            Op::Conv3d(op) => {
                let attributes = vec![
                    ints("strides", op.options.stride),
                    ints("dilations", op.options.dilation),
                    int("group", op.options.groups),
                    pads(&op.options.padding.map(|p| (p, p))),
                ];
                let inputs: Vec<&TensorIr> = [&op.x, &op.weight].into_iter().chain(&op.bias).collect();
                self.emit("Conv", &inputs, &op.out, attributes)
            }
            Op::ConvTranspose2d(op) => {
                let attributes = vec![
                    ints("strides", op.options.stride),
                    ints("dilations", op.options.dilation),
                    int("group", op.options.groups),
                    ints("output_padding", op.options.padding_out),
                    pads(&op.options.padding.map(|p| (p, p))),
                ];
                let inputs: Vec<&TensorIr> = [&op.x, &op.weight].into_iter().chain(&op.bias).collect();
                self.emit("ConvTranspose", &inputs, &op.out, attributes)
            }
            Op::MaxPool2d(op) => {
                let attributes = vec![ints("kernel_shape", op.kernel_size), ints("strides", op.stride)];
                self.emit("MaxPool", &[&op.x], &op.out, attributes)
            }
            Op::Interpolate(op) => {
                if op.options.mode != InterpolateModeIr::Nearest {
                    return Err(no_lowering(operation));
                }
                let (from, to) = (dims(&op.x), op.output_size);
                let scales = [1.0, 1.0, to[0] as f32 / from[2] as f32, to[1] as f32 / from[3] as f32];
                let inputs = [self.name(op.x.id)?, String::new(), self.float_list(&[4], &scales)];
                let attributes = vec![
                    string("mode", "nearest"),
                    string("coordinate_transformation_mode", "asymmetric"),
                    string("nearest_mode", "floor"),
                ];
                self.emit_named("Resize", &inputs, &op.out, attributes);
                Ok(())
            }
            Op::BatchNorm(op) => {
                let inputs = [&op.x, &op.gamma, &op.beta, &op.mean, &op.variance];
                self.emit("BatchNormalization", &inputs, &op.out, vec![float("epsilon", number(op.epsilon))])
            }
            Op::Linear(op) => {
                let Some(bias) = &op.bias else {
                    return self.emit("MatMul", &[&op.x, &op.weight], &op.out, Vec::new());
                };
                let product = self.fresh("linear");
                let inputs = [self.name(op.x.id)?, self.name(op.weight.id)?];
                self.node("MatMul", &inputs, product.clone(), Vec::new());
                let inputs = [product, self.name(bias.id)?];
                self.emit_named("Add", &inputs, &op.out, Vec::new());
                Ok(())
            }
            other => Err(no_lowering(other)),
        }
    }
}

fn no_lowering(operation: &dyn std::fmt::Debug) -> Error {
    let text = format!("{operation:?}");
    let text: String = text.chars().take(120).collect();
    Error::new(ErrorKind::Engine, format!("export: no ONNX lowering for {text}"))
}
