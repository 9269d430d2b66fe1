//! Exports trained networks as a bundle.

mod bundle;
mod onnx;
mod weights;

use burn::backend::Capture;
use burn::module::Module;
use burn::tensor::{CapturedGraph, Device, Tensor};
use ldseg::bundle::{DENOISER, IMAGE_ENCODER, LABEL_DECODER, LABEL_ENCODER};
use ldseg::engine::{NetworkSpec, TensorSpec};
use ldseg::{Error, ErrorKind, Result};

use crate::model::{NetworkConfig, Networks};
use onnx::{CAPTURE_BATCH, to_onnx};

pub use bundle::{export_run, manifest, model_card, write, write_with_card};
pub use onnx::OPSET;
pub use weights::load_bundle;

/// Names and shapes of the inputs and outputs of all four networks, the batch axis written 0.
pub fn network_specs(config: &NetworkConfig) -> std::collections::BTreeMap<String, NetworkSpec> {
    let tensor = |name: &str, shape: Vec<usize>| TensorSpec { name: name.into(), shape: [vec![0], shape].concat() };
    let grid = |channels: usize| [vec![channels], config.input_size.clone()].concat();
    let (latent, embedding) = (config.latent_shape(), config.embedding_shape());
    let spec = |inputs: Vec<TensorSpec>, output: TensorSpec| NetworkSpec { inputs, outputs: vec![output] };
    [
        (IMAGE_ENCODER, spec(vec![tensor("image", grid(config.channels))], tensor("z_i", embedding.clone()))),
        (
            DENOISER,
            spec(
                vec![tensor("z_t", latent.clone()), tensor("z_i", embedding), tensor("t", vec![])],
                tensor("prediction", latent.clone()),
            ),
        ),
        (LABEL_DECODER, spec(vec![tensor("z", latent.clone())], tensor("probabilities", grid(config.classes)))),
        (LABEL_ENCODER, spec(vec![tensor("labels", grid(1))], tensor("z_l0", latent))),
    ]
    .into_iter()
    .map(|(name, spec)| (name.to_string(), spec))
    .collect()
}

/// The four ONNX files, named by their network.
///
/// # Errors
/// [`ErrorKind::Engine`] for an operation that has no lowering.
pub fn onnx_files<const D: usize>(config: &NetworkConfig, networks: &Networks<D>) -> Result<Vec<(String, Vec<u8>)>> {
    network_specs(config)
        .into_iter()
        .map(|(name, spec)| {
            let captured = capture(networks, &name, &spec)?;
            Ok((name.clone(), to_onnx(&name, &captured, &spec)?))
        })
        .collect()
}

fn capture<const D: usize>(networks: &Networks<D>, name: &str, spec: &NetworkSpec) -> Result<CapturedGraph> {
    let device = Device::capture();
    let mut problem = None;
    let captured = device.capture_scope(|scope| match record(networks, name, spec, &device) {
        Ok((inputs, output)) => scope.complete(inputs, [output]),
        Err(error) => {
            problem = Some(error);
            scope.complete([], [])
        }
    });
    match problem {
        Some(error) => Err(error),
        None => captured.map_err(|e| Error::new(ErrorKind::Engine, format!("export of {name}: {e}"))),
    }
}

type Boundary = (Vec<burn::tensor::TensorId>, burn::tensor::TensorId);

fn id<const R: usize>(tensor: &Tensor<R>) -> std::result::Result<burn::tensor::TensorId, Error> {
    let primitive = tensor
        .clone()
        .try_into_primitive::<Capture>()
        .map_err(|e| Error::new(ErrorKind::Engine, format!("not on the capture device: {e:?}")))?;
    Ok(primitive.id())
}

fn record<const D: usize>(networks: &Networks<D>, name: &str, spec: &NetworkSpec, device: &Device) -> Result<Boundary> {
    // Batch normalisation shares its running statistics between clones: `valid` makes a copy that may be moved.
    let networks = networks.valid().fork(device);
    let mut inputs = Vec::new();
    let mut input = |index: usize| -> Result<Tensor<D>> {
        let mut shape = [CAPTURE_BATCH; D];
        shape[1..].copy_from_slice(&spec.inputs[index].shape[1..]);
        let tensor = Tensor::<D>::zeros(shape, &Device::flex()).to_device(device);
        inputs.push(id(&tensor)?);
        Ok(tensor)
    };
    let output = match name {
        IMAGE_ENCODER => networks.image_encoder.forward(input(0)?),
        LABEL_ENCODER => networks.label_encoder.forward(input(0)?),
        LABEL_DECODER => networks.label_decoder.forward(input(0)?),
        _ => {
            let (z_t, z_i) = (input(0)?, input(1)?);
            let t = Tensor::<1>::zeros([CAPTURE_BATCH], &Device::flex()).to_device(device);
            inputs.push(id(&t)?);
            networks.denoiser.forward(z_t, z_i, t)
        }
    };
    Ok((inputs, id(&output)?))
}
