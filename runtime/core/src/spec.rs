//! What a network takes and gives.

use serde::{Deserialize, Serialize};

/// The named tensors of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Inputs in order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in order.
    pub outputs: Vec<TensorSpec>,
}

/// Name and shape of an f32 tensor. The batch axis comes first and is written 0: it is dynamic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Its name inside the ONNX file.
    pub name: String,
    /// Its shape; 0 stands for the dynamic batch axis.
    pub shape: Vec<usize>,
}

/// The concrete shape for `batch` samples.
pub(crate) fn with_batch(spec: &TensorSpec, batch: usize) -> Vec<usize> {
    spec.shape.iter().enumerate().map(|(axis, &size)| if axis == 0 && size == 0 { batch } else { size }).collect()
}
