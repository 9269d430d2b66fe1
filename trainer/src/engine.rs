//! burn as an engine of the runtime, so that training validates with the very loop that devices run.

use burn::tensor::{Device, Tensor, TensorData};
use ldseg::bundle::{DENOISER, IMAGE_ENCODER, LABEL_DECODER, LABEL_ENCODER, Manifest};
use ldseg::engine::Network;
use ldseg::segmenter::Segmenter;
use ldseg::{Error, ErrorKind, Result};

use crate::model::Networks;

/// One of the four networks, run by burn.
pub struct BurnNetwork<const D: usize> {
    networks: Networks<D>,
    name: &'static str,
    device: Device,
}

impl<const D: usize> BurnNetwork<D> {
    /// `name` is one of [`ldseg::bundle::NETWORKS`]; `networks` are not on an autodiff device.
    pub fn new(networks: &Networks<D>, name: &'static str, device: &Device) -> Self {
        Self { networks: networks.clone(), name, device: device.clone() }
    }
}

/// A segmenter whose networks burn runs.
///
/// # Errors
/// Those of [`Segmenter::from_networks`].
pub fn segmenter<const D: usize>(networks: &Networks<D>, manifest: Manifest, device: &Device) -> Result<Segmenter> {
    let network = |name| Box::new(BurnNetwork::new(networks, name, device));
    Segmenter::from_networks(manifest, network(IMAGE_ENCODER), network(DENOISER), network(LABEL_DECODER))
}

/// Moves an array to the device.
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] where its rank is not `R`.
pub fn to_device<const R: usize>(array: &ldseg::Tensor, device: &Device) -> Result<Tensor<R>> {
    if array.ndim() != R {
        let message = format!("a tensor of shape {:?}, expected {R} axes", array.shape());
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    }
    let values: Vec<f32> = array.iter().copied().collect();
    Ok(Tensor::from_data(TensorData::new(values, array.shape().to_vec()), device))
}

/// Moves a tensor back.
///
/// # Errors
/// [`ErrorKind::Engine`] where the device cannot be read.
pub fn to_array<const R: usize>(tensor: Tensor<R>) -> Result<ldseg::Tensor> {
    let shape = tensor.dims().to_vec();
    let values = tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|e| Error::new(ErrorKind::Engine, format!("burn's output is not readable as f32: {e:?}")))?;
    ldseg::Tensor::from_shape_vec(shape, values)
        .map_err(|e| Error::with_source(ErrorKind::Engine, "burn's output does not fill its shape", e))
}

impl<const D: usize> Network for BurnNetwork<D> {
    fn run(&mut self, inputs: &[&ldseg::Tensor]) -> Result<Vec<ldseg::Tensor>> {
        let device = &self.device;
        let output = match (self.name, inputs) {
            (IMAGE_ENCODER, [image]) => self.networks.image_encoder.forward(to_device(image, device)?),
            (LABEL_ENCODER, [labels]) => self.networks.label_encoder.forward(to_device(labels, device)?),
            (LABEL_DECODER, [z]) => self.networks.label_decoder.forward(to_device(z, device)?),
            (DENOISER, [z_t, z_i, t]) => {
                self.networks.denoiser.forward(to_device(z_t, device)?, to_device(z_i, device)?, to_device(t, device)?)
            }
            (name, inputs) => {
                return Err(Error::new(ErrorKind::Engine, format!("{name} cannot take {} inputs", inputs.len())));
            }
        };
        let output = to_array(output)?;
        if !output.iter().all(|value| value.is_finite()) {
            let message = format!("{}: its output holds values that are not finite", self.name);
            return Err(Error::new(ErrorKind::Engine, message));
        }
        Ok(vec![output])
    }
}
