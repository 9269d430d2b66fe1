//! Weights back out of a bundle, to train on from a model that was given away without its run.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use ldseg::bundle::Bundle;
use ldseg::{Error, ErrorKind, Result};
use onnx_ir::{Message, ModelProto, TensorProto};

use super::onnx_files;
use crate::model::{NetworkConfig, Networks};

/// Parameters are told apart in an exported graph by a number that each is filled with; no other constant has one as high.
const FIRST_NUMBER: usize = 1 << 20;

/// Replaces all weights of `networks`, which `config` describes, by those of the bundle in `dir`.
///
/// ONNX files don't name their weights. But networks of one configuration are always exported as the same graph: so
/// numbered weights, exported, tell where each one is.
///
/// # Errors
/// Those of [`Bundle::load`]; [`ErrorKind::Format`], naming the file, if it is not the graph of such networks.
pub fn load_bundle<const D: usize>(networks: Networks<D>, config: &NetworkConfig, dir: &Path) -> Result<Networks<D>> {
    let bundle = Bundle::load(dir)?;
    let mut numbers = Numbers::default();
    let numbered = Networks::<D>::new(config, &Device::default()).map(&mut numbers);
    let mut weights = BTreeMap::new();
    for (name, template) in onnx_files(config, &numbered)? {
        let file = dir.join(format!("{name}.onnx"));
        let other = || {
            let message = "not one of this recipe's networks, or written by another version of ldseg";
            Error::new(ErrorKind::Format, message).in_file(&file)
        };
        let parse = |bytes: &[u8]| {
            let model = ModelProto::parse_from_bytes(bytes);
            model.map_err(|e| Error::with_source(ErrorKind::Format, "not an ONNX model", e).in_file(&file))
        };
        let (ours, theirs) = (parse(&template)?, parse(bundle.network(&name)?.0)?);
        let operations =
            |model: &ModelProto| model.graph.node.iter().map(|node| node.op_type.clone()).collect::<Vec<_>>();
        let (places, values) = (&ours.graph.initializer, &theirs.graph.initializer);
        if operations(&ours) != operations(&theirs) || places.len() != values.len() {
            return Err(other());
        }
        for (place, value) in places.iter().zip(values) {
            if place.dims != value.dims || place.data_type != value.data_type {
                return Err(other());
            }
            if let Some(number) = number(place) {
                weights
                    .insert(number, floats(value).filter(|found| found.len() == numbers.0[number]).ok_or_else(other)?);
            }
        }
    }
    if weights.len() != numbers.0.len() {
        let message = format!("holds {} of {} weights", weights.len(), numbers.0.len());
        return Err(Error::new(ErrorKind::Format, message).in_file(dir));
    }
    Ok(networks.map(&mut Assign { weights: weights.into_values() }))
}

fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    let chunks = tensor.raw_data.chunks_exact(4);
    chunks.remainder().is_empty().then(|| chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// The parameter that a constant of numbered networks is.
fn number(tensor: &TensorProto) -> Option<usize> {
    let values = floats(tensor)?;
    let first = *values.first()?;
    (first >= FIRST_NUMBER as f32 && values.iter().all(|value| *value == first)).then(|| first as usize - FIRST_NUMBER)
}

/// Fills every parameter with its number and keeps how long it is.
#[derive(Default)]
struct Numbers(Vec<usize>);

impl ModuleMapper for Numbers {
    fn map_float<const R: usize>(&mut self, param: Param<Tensor<R>>) -> Param<Tensor<R>> {
        let number = (FIRST_NUMBER + self.0.len()) as f32;
        self.0.push(param.dims().iter().product());
        param.map(|old| old.zeros_like().add_scalar(number))
    }
}

/// Gives parameters their weights in the order of [`Numbers`].
struct Assign<I> {
    weights: I,
}

impl<I: Iterator<Item = Vec<f32>>> ModuleMapper for Assign<I> {
    fn map_float<const R: usize>(&mut self, param: Param<Tensor<R>>) -> Param<Tensor<R>> {
        match self.weights.next() {
            Some(values) => param.map(|old| Tensor::from_data(TensorData::new(values, old.dims()), &old.device())),
            None => param,
        }
    }
}
