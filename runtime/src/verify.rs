//! Replays a bundle's reference tensors: does this machine's engine compute what the trainer computed?

use ndarray::Axis;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;

use crate::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER, LABEL_ENCODER, Manifest, Tolerances};
use crate::engine::EngineOptions;
use crate::segmenter::{SegmentOptions, Segmenter, argmax};
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
    /// [`ErrorKind::Format`] where the tensors cannot be written.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
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
    /// [`ErrorKind::Bundle`] for a malformed file, and for a missing, additional or not f32 tensor.
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
            None => Ok(golden),
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

/// One comparison with the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// A network's name, `probabilities` or `labels`.
    pub name: &'static str,
    /// What is compared, e.g. `max |difference| / std`.
    pub measure: &'static str,
    /// Its value.
    pub value: f64,
    /// What the value may be: at most this, for `labels` at least.
    pub tolerance: f64,
    /// Whether it is within the tolerance.
    pub passed: bool,
}

/// The outcome for one bundle, engine and device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The bundle's name.
    pub bundle: String,
    /// The engine, e.g. `tract`.
    pub engine: String,
    /// The device, e.g. `cpu`.
    pub device: String,
    /// The four networks, then the whole loop's probabilities and labels.
    pub checks: Vec<Check>,
    /// Whether all checks passed.
    pub passed: bool,
}

/// Runs every network, and the whole loop, on the golden inputs.
///
/// # Errors
/// Where the bundle's golden tensors are malformed, or a network cannot be loaded or run. A difference out of
/// tolerance is not an error but a failed [`Check`].
pub fn verify(bundle: &Bundle, options: &EngineOptions) -> Result<Report> {
    let golden = bundle.golden()?;
    let manifest = bundle.manifest();
    let mut segmenter = Segmenter::from_bundle(bundle, options)?;
    let mut label_encoder = bundle.load_network(LABEL_ENCODER, options)?;

    let z_i = segmenter.encode_image(&golden.image)?;
    let prediction = segmenter.denoise(&golden.noise, &golden.z_i, manifest.timesteps - 1)?;
    let decoded = segmenter.decode(&golden.z_l0)?;
    let z_l0 = label_encoder.run(&[&golden.labels_in])?.swap_remove(0);
    let defaults = SegmentOptions::defaults(manifest);
    let probabilities = segmenter.run_latent(&golden.image, golden.noise.clone(), &defaults, &mut |_, _| {})?;

    let allowed = manifest.tolerances.unwrap_or_default();
    let checks = vec![
        compare_network(IMAGE_ENCODER, &z_i, &golden.z_i, allowed),
        compare_network(DENOISER, &prediction, &golden.prediction, allowed),
        compare_network(LABEL_DECODER, &decoded, &golden.decoded, allowed),
        compare_network(LABEL_ENCODER, &z_l0, &golden.z_l0, allowed),
        compare_probabilities(&probabilities, &golden.probabilities, allowed),
        compare_labels(&probabilities, &golden.labels, allowed),
    ];
    Ok(Report {
        bundle: manifest.name.clone(),
        engine: options.engine.to_string(),
        device: options.device.to_string(),
        passed: checks.iter().all(|check| check.passed),
        checks,
    })
}

fn compare_network(name: &'static str, output: &Tensor, reference: &Tensor, allowed: Tolerances) -> Check {
    let std = reference.mapv(f64::from).std(0.0);
    let difference = max_difference(output, reference);
    // A constant reference has no scale of its own.
    let value = if std > 0.0 { difference / std } else { difference };
    at_most(name, "max |difference| / std", value, allowed.network)
}

fn compare_probabilities(output: &Tensor, reference: &Tensor, allowed: Tolerances) -> Check {
    at_most("probabilities", "max |difference|", max_difference(output, reference), allowed.probability)
}

fn compare_labels(probabilities: &Tensor, reference: &Tensor, allowed: Tolerances) -> Check {
    let labels = argmax(&probabilities.index_axis(Axis(0), 0).to_owned());
    let equal = labels.iter().zip(reference).filter(|&(&label, &reference)| f32::from(label) == reference).count();
    let value = equal as f64 / labels.len() as f64;
    let passed = value >= allowed.label_agreement;
    Check { name: "labels", measure: "part equal", value, tolerance: allowed.label_agreement, passed }
}

fn at_most(name: &'static str, measure: &'static str, value: f64, tolerance: f64) -> Check {
    Check { name, measure, value, tolerance, passed: value <= tolerance }
}

fn max_difference(output: &Tensor, reference: &Tensor) -> f64 {
    output.iter().zip(reference).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::test_support::manifest;

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
    fn malformed_files_are_refused() {
        let bytes = golden().to_safetensors().unwrap();
        for wrong in [&b"text"[..], &bytes[..bytes.len() - 1]] {
            assert_eq!(Golden::from_safetensors(wrong).unwrap_err().kind(), ErrorKind::Bundle);
        }
        let wrong = Golden { noise: Tensor::zeros(vec![1, 1, 3, 2]), ..golden() };
        let error = wrong.check(&manifest()).unwrap_err();
        assert!(error.to_string().contains("`noise` has shape [1, 1, 3, 2], expected [1, 1, 2, 3]"), "{error}");
    }

    #[test]
    fn tolerances_are_relative_to_the_reference() {
        let reference = golden().z_i;
        let std = f64::from(reference.std(0.0));
        let near = reference.mapv(|x| x + 0.9e-4 * std as f32);
        let far = reference.mapv(|x| x - 1.2e-4 * std as f32);
        let exact = Tolerances::default();
        assert!(compare_network(DENOISER, &near, &reference, exact).passed);
        assert!(!compare_network(DENOISER, &far, &reference, exact).passed);
        assert!(compare_network(DENOISER, &far, &reference, Tolerances { network: 2e-4, ..exact }).passed);
        assert!(!compare_network(DENOISER, &reference.mapv(|_| f32::INFINITY), &reference, exact).passed);
    }
}
