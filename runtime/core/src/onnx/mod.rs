//! ONNX files of unknown origin: read strictly, held to limits, and written anew for an engine.
//!
//! Readers of protobuf differ in what they take for which field. So no engine sees the bytes of a file: it gets those that
//! [`Model::write`] makes of what was understood here, and nothing that was not. Data outside the file, graphs inside nodes
//! and functions are not understood, so no engine meets them.

mod graph;
mod operators;
mod tensor;
mod wire;

use std::borrow::Cow;

use tensor::Tensor;
use wire::{Message, fields};

use crate::{Error, ErrorKind, Result};

/// Axes of the largest tensor.
const MAX_AXES: usize = 8;
/// Longest list of numbers that is followed to the shapes that it makes.
const MAX_KNOWN: usize = 64;
/// Operator sets from this one on: those before told shapes as attributes.
const MIN_OPSET: i64 = 11;

/// An ONNX file, as far as it says what is computed.
#[derive(Debug)]
pub(crate) struct Model<'a> {
    ir_version: u64,
    opset: i64,
    nodes: Vec<Node<'a>>,
    name: &'a str,
    weights: Vec<Tensor<'a>>,
    inputs: Vec<Port<'a>>,
    outputs: Vec<Port<'a>>,
}

#[derive(Debug, Default)]
struct Node<'a> {
    name: &'a str,
    operator: &'a str,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    attributes: Vec<Attribute<'a>>,
}

/// `AttributeProto`: of its values the one that `kind` names.
#[derive(Debug, Default)]
struct Attribute<'a> {
    name: &'a str,
    kind: u64,
    float: f32,
    int: i64,
    text: &'a [u8],
    tensor: Option<Tensor<'a>>,
    floats: Cow<'a, [u8]>,
    ints: Vec<i64>,
}

/// `AttributeProto.type`.
const KIND_FLOAT: u64 = 1;
const KIND_INT: u64 = 2;
const KIND_TEXT: u64 = 3;
const KIND_TENSOR: u64 = 4;
const KIND_FLOATS: u64 = 6;
const KIND_INTS: u64 = 7;

/// An input or output of the graph.
#[derive(Debug)]
struct Port<'a> {
    name: &'a str,
    kind: u64,
    /// `None`: not told.
    shape: Option<Vec<Size<'a>>>,
}

#[derive(Debug)]
enum Size<'a> {
    Known(i64),
    Named(&'a str),
}

fn fail(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Bundle, message)
}

/// Stores what a file may say once.
fn once<T>(place: &mut Option<T>, value: T) -> Result<()> {
    if place.replace(value).is_some() {
        return Err(fail("expected an ONNX file, found a field twice that is there once"));
    }
    Ok(())
}

fn unknown<T>(message: &str, field: u32) -> Result<T> {
    Err(fail(format!("{message} has the field {field}, which is not known")))
}

impl<'a> Model<'a> {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] where it is not ONNX, refers to data outside itself, has weights that are not all there or not
    /// finite, or holds what is not understood: another format, functions, graphs in nodes, fields that are not known.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        if bytes.get(4..8) == Some(b"ORTM") {
            return Err(fail("the file is of ONNX Runtime's own format, expected an ONNX file"));
        }
        let (mut ir_version, mut opset, mut graph) = (None, None, None);
        fields(bytes, |field, value| match field {
            1 => once(&mut ir_version, value.number()?),
            7 => once(&mut graph, value.bytes()?),
            8 => match operator_set(value.bytes()?)? {
                ("" | "ai.onnx", version) => once(&mut opset, version),
                // No node may use them.
                _ => Ok(()),
            },
            // Who made it, and words for people.
            2 | 3 | 4 | 6 | 14 => value.bytes().map(drop),
            5 => value.number().map(drop),
            20 => Err(fail("the ONNX file holds graphs for training, which are not run")),
            25 => Err(fail("the ONNX file holds functions of its own, which are not run")),
            _ => unknown("the ONNX file", field),
        })?;
        let mut model = Self {
            ir_version: ir_version.unwrap_or(0),
            opset: opset.unwrap_or(0),
            nodes: Vec::new(),
            name: "",
            weights: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        fields(graph.unwrap_or_default(), |field, value| match field {
            1 => Node::read(value.bytes()?).map(|node| model.nodes.push(node)),
            2 => value.text().map(|text| model.name = text),
            5 => Tensor::read(value.bytes()?).map(|tensor| model.weights.push(tensor)),
            11 => Port::read(value.bytes()?).map(|port| model.inputs.push(port)),
            12 => Port::read(value.bytes()?).map(|port| model.outputs.push(port)),
            // Words for people, and shapes in between: they follow from those of the inputs.
            10 | 13 | 14 | 16 => value.bytes().map(drop),
            15 => Err(fail("the ONNX file holds sparse tensors, which are not read")),
            _ => unknown("the ONNX file's graph", field),
        })?;
        let constants = model.nodes.iter().flat_map(|node| &node.attributes).filter_map(|held| held.tensor.as_ref());
        model.weights.iter().chain(constants).try_for_each(Tensor::check_finite)?;
        Ok(model)
    }

    /// The same as a file: what an engine gets.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut graph = Message::default();
        self.nodes.iter().for_each(|node| graph.message(1, node.write()));
        graph.bytes(2, Cow::Borrowed(if self.name.is_empty() { b"graph" } else { self.name.as_bytes() }));
        self.weights.iter().for_each(|tensor| graph.message(5, tensor.write()));
        self.inputs.iter().for_each(|port| graph.message(11, port.write()));
        self.outputs.iter().for_each(|port| graph.message(12, port.write()));
        let mut opset = Message::default();
        opset.int(2, self.opset);
        let mut model = Message::default();
        model.number(1, self.ir_version);
        // Before the graph: so the bytes that would mark ONNX Runtime's own format are not the file's to choose.
        model.message(8, opset);
        model.message(7, graph);
        model.into_bytes()
    }
}

/// `OperatorSetIdProto`: domain and version.
fn operator_set(bytes: &[u8]) -> Result<(&str, i64)> {
    let (mut domain, mut version) = ("", 0);
    fields(bytes, |field, value| match field {
        1 => value.text().map(|text| domain = text),
        2 => value.int().map(|number| version = number),
        _ => unknown("an operator set", field),
    })?;
    Ok((domain, version))
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let (mut node, mut domain) = (Self::default(), "");
        fields(bytes, |field, value| match field {
            1 => value.text().map(|text| node.inputs.push(text)),
            2 => value.text().map(|text| node.outputs.push(text)),
            3 => value.text().map(|text| node.name = text),
            4 => value.text().map(|text| node.operator = text),
            5 => Attribute::read(value.bytes()?).map(|attribute| node.attributes.push(attribute)),
            6 | 9 => value.bytes().map(drop),
            7 => value.text().map(|text| domain = text),
            _ => unknown("a node", field),
        })?;
        if !matches!(domain, "" | "ai.onnx") {
            let (domain, operator) = (domain.escape_debug(), node.operator.escape_debug());
            return Err(fail(format!(
                "the ONNX file uses the operator `{operator}` of `{domain}`, expected ONNX's own"
            )));
        }
        Ok(node)
    }

    fn write(&self) -> Message<'_> {
        let mut message = Message::default();
        self.inputs.iter().for_each(|input| message.bytes(1, Cow::Borrowed(input.as_bytes())));
        self.outputs.iter().for_each(|output| message.bytes(2, Cow::Borrowed(output.as_bytes())));
        message.text(3, self.name);
        message.text(4, self.operator);
        self.attributes.iter().for_each(|attribute| message.message(5, attribute.write()));
        message
    }
}

impl<'a> Attribute<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut attribute = Self::default();
        fields(bytes, |field, value| match field {
            1 => value.text().map(|text| attribute.name = text),
            2 => value.float().map(|number| attribute.float = number),
            3 => value.int().map(|number| attribute.int = number),
            4 => value.bytes().map(|text| attribute.text = text),
            5 => once(&mut attribute.tensor, Tensor::read(value.bytes()?)?),
            7 => value.fixed_to(4, &mut attribute.floats),
            8 => value.ints_to(&mut attribute.ints),
            13 => value.bytes().map(drop),
            20 => value.number().map(|kind| attribute.kind = kind),
            6 | 11 => Err(fail("the ONNX file holds graphs in nodes, such as loops, which are not run")),
            _ => unknown("an attribute", field),
        })?;
        Ok(attribute)
    }

    fn write(&self) -> Message<'_> {
        let mut message = Message::default();
        message.text(1, self.name);
        match (self.kind, &self.tensor) {
            (KIND_FLOAT, _) => message.float(2, self.float),
            (KIND_INT, _) => message.int(3, self.int),
            (KIND_TEXT, _) => message.bytes(4, Cow::Borrowed(self.text)),
            (KIND_TENSOR, Some(tensor)) => message.message(5, tensor.write()),
            (KIND_FLOATS, _) => {
                self.floats.as_chunks::<4>().0.iter().for_each(|b| message.float(7, f32::from_le_bytes(*b)));
            }
            _ => self.ints.iter().for_each(|&number| message.int(8, number)),
        }
        message.number(20, self.kind);
        message
    }
}

impl<'a> Port<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let (mut name, mut kind) = ("", None);
        fields(bytes, |field, value| match field {
            1 => value.text().map(|text| name = text),
            2 => once(&mut kind, value.bytes()?),
            3 | 4 => value.bytes().map(drop),
            _ => unknown("an input or output", field),
        })?;
        let mut port = Self { name, kind: 0, shape: None };
        let mut tensor = None;
        fields(kind.unwrap_or_default(), |field, value| match field {
            1 => once(&mut tensor, value.bytes()?),
            6 => value.bytes().map(drop),
            _ => Err(fail(format!("`{}` is no tensor, expected inputs and outputs to be", name.escape_debug()))),
        })?;
        fields(tensor.unwrap_or_default(), |field, value| match field {
            1 => value.number().map(|number| port.kind = number),
            2 => once(&mut port.shape, shape(value.bytes()?)?),
            _ => unknown("a type", field),
        })?;
        Ok(port)
    }

    fn write(&self) -> Message<'_> {
        let mut tensor = Message::default();
        tensor.number(1, self.kind);
        if let Some(shape) = &self.shape {
            let mut dims = Message::default();
            for size in shape {
                let mut dim = Message::default();
                match size {
                    Size::Known(size) => dim.int(1, *size),
                    Size::Named(name) => dim.text(2, name),
                }
                dims.message(1, dim);
            }
            tensor.message(2, dims);
        }
        let mut kind = Message::default();
        kind.message(1, tensor);
        let mut message = Message::default();
        message.text(1, self.name);
        message.message(2, kind);
        message
    }
}

/// `TensorShapeProto`.
fn shape(bytes: &[u8]) -> Result<Vec<Size<'_>>> {
    let mut shape = Vec::new();
    fields(bytes, |field, value| {
        if field != 1 {
            return unknown("a shape", field);
        }
        let mut size = Size::Named("");
        fields(value.bytes()?, |field, value| match field {
            1 => value.int().map(|number| size = Size::Known(number)),
            2 => value.text().map(|text| size = Size::Named(text)),
            3 => value.bytes().map(drop),
            _ => unknown("a size", field),
        })?;
        shape.push(size);
        Ok(())
    })?;
    Ok(shape)
}

#[cfg(test)]
mod tests;
