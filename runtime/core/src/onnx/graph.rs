//! What a network asks of the machine: shapes of all tensors, multiply-adds, memory. Told before an engine sees it.

use std::collections::HashMap;

use super::operators::{self, Value};
use super::{MIN_OPSET, Model, fail, tensor::FLOAT};
use crate::Result;
use crate::spec::{NetworkSpec, with_batch};

/// Ten times what the largest network of ours has. tract plans them in seconds.
const MAX_NODES: usize = 5_000;
/// Elements of one tensor, with the batch: 2 GiB of f32.
const MAX_ELEMENTS: u64 = 1 << 29;
/// Elements of all tensors that are needed at one time, with the batch: 4 GiB of f32.
const MAX_HELD: u64 = 1 << 30;
/// Multiply-adds of one run, with the batch: a minute or two on two cores.
const MAX_MULTIPLY_ADDS: u64 = 1 << 41;

impl Model<'_> {
    /// The most samples, `most` at most, that this network runs as one batch.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Bundle`] where it cannot run even one: it has nodes or operators that no network of ours has, is not
    /// as `spec` says, or asks for more than the limits above.
    pub(crate) fn largest_batch(&self, spec: &NetworkSpec, most: usize) -> Result<usize> {
        self.check(spec, 1)?;
        Ok((2..=most).take_while(|&batch| self.check(spec, batch).is_ok()).last().unwrap_or(1))
    }

    fn check(&self, spec: &NetworkSpec, batch: usize) -> Result<()> {
        // The bytes that would mark another format must not come to lie where an engine looks for them.
        if !(3..=127).contains(&self.ir_version) || self.opset < MIN_OPSET {
            let (format, opset) = (self.ir_version, self.opset);
            let message =
                format!("the ONNX file has format {format} and opset {opset}, expected 3 and {MIN_OPSET} or newer");
            return Err(fail(message));
        }
        if self.nodes.is_empty() || self.nodes.len() > MAX_NODES {
            return Err(fail(format!("the network has {} nodes, expected 1 to {MAX_NODES}", self.nodes.len())));
        }
        let mut values: HashMap<&str, Value> = HashMap::new();
        for tensor in &self.weights {
            if values.insert(tensor.name, Value::of(tensor)).is_some() || tensor.name.is_empty() {
                return Err(fail(format!("two tensors are called `{}`", tensor.name.escape_debug())));
            }
        }
        for port in self.inputs.iter().filter(|port| !self.weights.iter().any(|tensor| tensor.name == port.name)) {
            let declared = spec.inputs.iter().find(|tensor| tensor.name == port.name);
            let Some(declared) = declared.filter(|_| port.kind == FLOAT) else {
                let (name, kind) = (port.name.escape_debug(), port.kind);
                return Err(fail(format!("the input `{name}` of type {kind} is not one that the manifest has")));
            };
            let shape = with_batch(declared, batch);
            if values.insert(port.name, Value::plain(shape)).is_some() {
                return Err(fail(format!("two inputs are called `{}`", port.name.escape_debug())));
            }
        }
        self.follow(&mut values)?;
        for port in &self.outputs {
            let name = port.name.escape_debug();
            let Some(declared) = spec.outputs.iter().find(|tensor| tensor.name == port.name) else {
                return Err(fail(format!("the output `{name}` is not one that the manifest has")));
            };
            let (found, expected) = (values.get(port.name), with_batch(declared, batch));
            if port.kind != FLOAT || found.is_none_or(|found| found.shape != expected) {
                let found = found.map(|found| found.shape.as_slice());
                let message = format!("the output `{name}` is {found:?}, the manifest says f32 {expected:?}");
                return Err(fail(message));
            }
        }
        Ok(())
    }

    /// Computes the shape of everything, one node after the other.
    fn follow<'a>(&'a self, values: &mut HashMap<&'a str, Value>) -> Result<()> {
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            last.extend(node.inputs.iter().map(|&input| (input, index)));
        }
        last.extend(self.outputs.iter().map(|port| (port.name, self.nodes.len())));
        let weights = self.weights.iter().map(|tensor| tensor.name);
        let weights: std::collections::HashSet<&str> = weights.collect();
        let (mut multiply_adds, mut held) = (0_u64, 0_u64);
        for (index, node) in self.nodes.iter().enumerate() {
            let place = |message: String| {
                let (operator, name) = (node.operator.escape_debug(), node.name.escape_debug());
                fail(format!("the operator {operator} (`{name}`) {message}"))
            };
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for name in &node.inputs {
                let value = values.get(name);
                if value.is_none() && !name.is_empty() {
                    return Err(place(format!("takes `{}`, which nothing before it gives", name.escape_debug())));
                }
                inputs.push(value);
            }
            let result = operators::infer(node, &inputs, self.opset).map_err(place)?;
            multiply_adds = multiply_adds.saturating_add(result.multiply_adds);
            if multiply_adds > MAX_MULTIPLY_ADDS {
                return Err(place(format!("takes the network beyond {MAX_MULTIPLY_ADDS} multiply-adds a run")));
            }
            if result.outputs.len() != node.outputs.len() {
                let (found, expected) = (node.outputs.len(), result.outputs.len());
                return Err(place(format!("has {found} outputs, expected {expected}")));
            }
            for (name, value) in node.outputs.iter().zip(result.outputs) {
                let elements = value.elements();
                if elements == 0 || elements > MAX_ELEMENTS || value.shape.len() > super::MAX_AXES {
                    let shape = &value.shape;
                    return Err(place(format!(
                        "gives a tensor of shape {shape:?}, expected 1 to {MAX_ELEMENTS} elements"
                    )));
                }
                held += elements;
                if name.is_empty() || values.insert(name, value).is_some() {
                    return Err(place(format!("gives `{}`, which is there already", name.escape_debug())));
                }
            }
            if held.saturating_add(result.scratch) > MAX_HELD {
                return Err(place(format!("makes the network hold more than {MAX_HELD} elements at one time")));
            }
            let mut done: Vec<&str> = node.inputs.clone();
            done.extend(&node.outputs);
            done.sort_unstable();
            done.dedup();
            for name in done.into_iter().filter(|name| !weights.contains(name)) {
                // What is used no more, or never.
                if last.get(name).is_none_or(|&last| last <= index) {
                    held = held.saturating_sub(values.get(name).map_or(0, Value::elements));
                }
            }
        }
        Ok(())
    }
}
