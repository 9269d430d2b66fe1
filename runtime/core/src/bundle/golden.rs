//! A bundle's reference tensors.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{IMAGE_ENCODER, Manifest};
use crate::{Error, ErrorKind, Result, Tensor};

/// The content of `golden.safetensors`, all f32: one sample's way through the four networks, as the trainer computed
/// it. The sampler and its steps are the manifest's defaults, the seed of any noise that the sampler adds is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// Network input `[1, C, ...]`.
    pub image: Tensor,
    /// Class index per voxel `[1, 1, ...]`, what the label encoder takes.
    pub labels_in: Tensor,
    /// The starting latent z_T `[1, latent...]`.
    pub noise: Tensor,
    /// Image encoder, of `image`.
    pub z_i: Tensor,
    /// Label encoder, of `labels_in`.
    pub z_l0: Tensor,
    /// Denoiser, of `noise` and `z_i` at t = T-1.
    pub prediction: Tensor,
    /// Label decoder, of `z_l0`: `[1, K, ...]`.
    pub decoded: Tensor,
    /// The whole loop, from `image` and `noise`: `[1, K, ...]`.
    pub probabilities: Tensor,
    /// The most probable class of `probabilities`, `[1, ...]`.
    pub labels: Tensor,
}

impl Golden {
    fn tensors(&self) -> [(&'static str, &Tensor); 9] {
        [
            ("image", &self.image),
            ("labels_in", &self.labels_in),
            ("noise", &self.noise),
            ("z_i", &self.z_i),
            ("z_l0", &self.z_l0),
            ("prediction", &self.prediction),
            ("decoded", &self.decoded),
            ("probabilities", &self.probabilities),
            ("labels", &self.labels),
        ]
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where the tensors cannot be written, or a value is not finite.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        self.check_finite(ErrorKind::Format)?;
        let failed = |e| Error::with_source(ErrorKind::Format, "cannot write safetensors", e);
        let tensors = self.tensors().map(|(name, tensor)| {
            let bytes: Vec<u8> = tensor.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, tensor.shape().to_vec(), bytes)
        });
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?)))
            .collect::<Result<Vec<_>>>()?;
        safetensors::serialize(views, None).map_err(failed)
    }

    /// Reads what [`Self::to_safetensors`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] for a malformed file, for a missing, additional or not f32 tensor, and for a value that is not
    /// finite.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|e| Error::with_source(ErrorKind::Bundle, "expected a safetensors file", e))?;
        let read = |name: &str| read_f32(&file, name);
        let golden = Self {
            image: read("image")?,
            labels_in: read("labels_in")?,
            noise: read("noise")?,
            z_i: read("z_i")?,
            z_l0: read("z_l0")?,
            prediction: read("prediction")?,
            decoded: read("decoded")?,
            probabilities: read("probabilities")?,
            labels: read("labels")?,
        };
        let known = golden.tensors().map(|(name, _)| name);
        match file.names().into_iter().find(|name| !known.contains(name)) {
            Some(name) => Err(Error::new(ErrorKind::Bundle, format!("unknown tensor `{name}`"))),
            None => golden.check_finite(ErrorKind::Bundle).map(|()| golden),
        }
    }

    fn check_finite(&self, kind: ErrorKind) -> Result<()> {
        let finite = |tensor: &Tensor| tensor.iter().all(|value| value.is_finite());
        match self.tensors().into_iter().find(|(_, tensor)| !finite(tensor)) {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(kind, format!("tensor `{name}` holds values that are not finite"))),
        }
    }

    /// Checks every shape against the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`], naming the tensor.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        let size = manifest.input_size.as_slice();
        let grid = |channels: usize| [&[1, channels], size].concat();
        let latent = [&[1], manifest.latent_shape.as_slice()].concat();
        let classes = grid(manifest.classes.len());
        let mut z_i = manifest.networks.get(IMAGE_ENCODER).map_or(vec![], |spec| spec.outputs[0].shape.clone());
        if let Some(batch) = z_i.first_mut() {
            *batch = 1;
        }
        let expected = [
            grid(manifest.channels),
            grid(1),
            latent.clone(),
            z_i,
            latent.clone(),
            latent,
            classes.clone(),
            classes,
            [&[1], size].concat(),
        ];
        for ((name, tensor), expected) in self.tensors().into_iter().zip(expected) {
            if tensor.shape() != expected {
                let message = format!("`{name}` has shape {:?}, expected {expected:?}", tensor.shape());
                return Err(Error::new(ErrorKind::Bundle, message));
            }
        }
        Ok(())
    }
}

fn read_f32(file: &SafeTensors, name: &str) -> Result<Tensor> {
    let malformed = |e| Error::with_source(ErrorKind::Bundle, format!("tensor `{name}`"), e);
    let view = file.tensor(name).map_err(malformed)?;
    if view.dtype() != Dtype::F32 {
        let message = format!("tensor `{name}` holds {}, expected F32", view.dtype());
        return Err(Error::new(ErrorKind::Bundle, message));
    }
    let (chunks, _) = view.data().as_chunks::<4>();
    let values = chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Tensor::from_shape_vec(view.shape(), values)
        .map_err(|e| Error::with_source(ErrorKind::Bundle, format!("tensor `{name}`"), e))
}

#[cfg(test)]
mod tests {
    use super::super::test_support::manifest;
    use super::*;

    fn golden() -> Golden {
        let ramp = |shape: &[usize]| {
            let length = shape.iter().product::<usize>();
            Tensor::from_shape_vec(shape, (0..length).map(|i| i as f32 - 1.5).collect()).unwrap()
        };
        Golden {
            image: ramp(&[1, 1, 4, 6]),
            labels_in: ramp(&[1, 1, 4, 6]),
            noise: ramp(&[1, 1, 2, 3]),
            z_i: ramp(&[1, 1, 2, 3]),
            z_l0: ramp(&[1, 1, 2, 3]),
            prediction: ramp(&[1, 1, 2, 3]),
            decoded: ramp(&[1, 3, 4, 6]),
            probabilities: ramp(&[1, 3, 4, 6]),
            labels: ramp(&[1, 4, 6]),
        }
    }

    #[test]
    fn the_file_survives_a_round_trip() {
        let golden = golden();
        golden.check(&manifest()).unwrap();
        let bytes = golden.to_safetensors().unwrap();
        assert_eq!(bytes, golden.to_safetensors().unwrap());
        assert_eq!(Golden::from_safetensors(&bytes).unwrap(), golden);
    }

    #[test]
    fn values_that_are_not_finite_are_neither_written_nor_read() {
        let bytes = golden().to_safetensors().unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut spoilt = golden();
            spoilt.prediction[[0, 0, 1, 1]] = value;
            let error = spoilt.to_safetensors().unwrap_err();
            assert!(error.to_string().contains("tensor `prediction` holds values that are not finite"), "{error}");
            let mut spoilt = bytes.clone();
            let at = spoilt.len() - 4;
            spoilt[at..].copy_from_slice(&value.to_le_bytes());
            let error = Golden::from_safetensors(&spoilt).unwrap_err();
            assert!(error.kind() == ErrorKind::Bundle && error.to_string().contains("not finite"), "{error}");
        }
    }

    #[test]
    fn malformed_files_are_refused() {
        let bytes = golden().to_safetensors().unwrap();
        for wrong in [&b"text"[..], &bytes[..bytes.len() - 1]] {
            assert_eq!(Golden::from_safetensors(wrong).unwrap_err().kind(), ErrorKind::Bundle);
        }
        let wrong = Golden { noise: Tensor::zeros(vec![1, 1, 3, 2]), ..golden() };
        let error = wrong.check(&manifest()).unwrap_err();
        assert!(error.to_string().contains("`noise` has shape [1, 1, 3, 2], expected [1, 1, 2, 3]"), "{error}");
    }
}
