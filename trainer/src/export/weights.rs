//! Weights back out of a bundle, to train on from a model that was given away without its run.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use ldseg::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER, LABEL_ENCODER};
use ldseg::{Error, ErrorKind, Result};
use onnx_ir::{Message, ModelProto, TensorProto};

use super::bundle::golden;
use super::onnx_files;
use crate::model::{NetworkConfig, Networks};

/// Each parameter is filled with a number of its own, from this one on, by which an exported graph tells them apart. No
/// other constant is as large.
const FIRST_NUMBER: usize = 1 << 20;

/// Largest difference of a loaded network's output from the bundle's golden tensor, over that tensor's standard
/// deviation.
const TOLERANCE: f32 = 1e-3;

/// Replaces all weights of `networks`, which `config` describes, by those of the bundle in `dir`.
///
/// ONNX files don't name their weights. But networks of one configuration always use theirs in the same order: so
/// numbered weights, exported, tell where each one is. What then comes out is held to the bundle's golden tensors.
///
/// # Errors
/// Those of [`Bundle::load`]; [`ErrorKind::Format`], naming the file, if it is not of such networks.
pub fn load_bundle<const D: usize>(networks: Networks<D>, config: &NetworkConfig, dir: &Path) -> Result<Networks<D>> {
    let bundle = Bundle::load(dir)?;
    let mut numbers = Numbers::default();
    let numbered = Networks::<D>::new(config, &Device::flex()).map(&mut numbers);
    let mut weights = BTreeMap::new();
    for (name, template) in onnx_files(config, &numbered)? {
        let file = dir.join(format!("{name}.onnx"));
        let other = || Error::new(ErrorKind::Format, "not one of this recipe's networks").in_file(&file);
        let parse = |bytes: &[u8]| {
            let model = ModelProto::parse_from_bytes(bytes);
            model.map_err(|e| Error::with_source(ErrorKind::Format, "not an ONNX model", e).in_file(&file))
        };
        let (ours, theirs) = (parse(&template)?, parse(bundle.network(&name)?.0)?);
        let (places, values) = (constants(&ours), constants(&theirs));
        if places.len() != values.len() {
            return Err(other());
        }
        for (place, value) in places.into_iter().zip(values) {
            if place.dims != value.dims || place.data_type != value.data_type {
                return Err(other());
            }
            if let Some(number) = number(place).filter(|number| *number < numbers.0.len()) {
                let found = floats(value).filter(|found| found.len() == numbers.0[number]).ok_or_else(other)?;
                weights.insert(number, found);
            }
        }
    }
    if weights.len() != numbers.0.len() {
        let message = format!("holds {} of {} weights", weights.len(), numbers.0.len());
        return Err(Error::new(ErrorKind::Format, message).in_file(dir));
    }
    let weights: Vec<Vec<f32>> = weights.into_values().collect();
    check(&numbered.map(&mut Assign { weights: weights.iter() }), &bundle)?;
    Ok(networks.map(&mut Assign { weights: weights.iter() }))
}

/// Holds each network to the bundle's golden tensors.
fn check<const D: usize>(networks: &Networks<D>, bundle: &Bundle) -> Result<()> {
    let (expected, found) = (bundle.golden()?, golden(networks, bundle.manifest())?);
    let pairs = [
        (IMAGE_ENCODER, &expected.z_i, &found.z_i),
        (LABEL_ENCODER, &expected.z_l0, &found.z_l0),
        (DENOISER, &expected.prediction, &found.prediction),
        (LABEL_DECODER, &expected.decoded, &found.decoded),
    ];
    for (name, expected, found) in pairs {
        let most = TOLERANCE * expected.std(0.0);
        let close = expected.shape() == found.shape() && expected.iter().zip(found).all(|(a, b)| (a - b).abs() <= most);
        if !close {
            let message = "computes something else with this recipe's networks than with the bundle's: the recipe's differ, or \
                           another version of ldseg wrote it";
            return Err(Error::new(ErrorKind::Format, message).in_file(&bundle.dir().join(format!("{name}.onnx"))));
        }
    }
    Ok(())
}

/// The graph's constants that came from the networks.
fn constants(model: &ModelProto) -> Vec<&TensorProto> {
    model.graph.initializer.iter().filter(|tensor| tensor.name.starts_with('c')).collect()
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

impl<'a, I: Iterator<Item = &'a Vec<f32>>> ModuleMapper for Assign<I> {
    fn map_float<const R: usize>(&mut self, param: Param<Tensor<R>>) -> Param<Tensor<R>> {
        match self.weights.next() {
            Some(values) => {
                param.map(|old| Tensor::from_data(TensorData::new(values.clone(), old.dims()), &old.device()))
            }
            None => param,
        }
    }
}
