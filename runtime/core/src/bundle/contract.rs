//! The names and shapes that every bundle's networks have.

use super::{DENOISER, IMAGE_ENCODER, LABEL_DECODER, LABEL_ENCODER, Manifest, NETWORKS};
use crate::engine::{NetworkSpec, TensorSpec};
use crate::{Error, ErrorKind, Result};

/// Checks that `networks` holds the four networks with the tensors that the sampler loop feeds and reads.
pub(super) fn check_networks(manifest: &Manifest) -> Result<()> {
    for name in manifest.networks.keys() {
        if !NETWORKS.contains(&name.as_str()) {
            return Err(error(format!("networks has an unknown entry `{name}`, expected {}", NETWORKS.join(", "))));
        }
    }
    let grid = |channels: usize| with_batch(&[&[channels], manifest.input_size.as_slice()].concat());
    let latent = with_batch(&manifest.latent_shape);
    let z_i = image_latent(manifest)?;

    check(manifest, IMAGE_ENCODER, &[("image", &grid(manifest.channels))], ("z_i", &z_i))?;
    check(manifest, DENOISER, &[("z_t", &latent), ("z_i", &z_i), ("t", &[0])], ("prediction", &latent))?;
    check(manifest, LABEL_DECODER, &[("z", &latent)], ("probabilities", &grid(manifest.classes.len())))?;
    check(manifest, LABEL_ENCODER, &[("labels", &grid(1))], ("z_l0", &latent))
}

/// The one shape that nothing else fixes: what the image encoder gives, the denoiser takes.
fn image_latent(manifest: &Manifest) -> Result<Vec<usize>> {
    match network(manifest, IMAGE_ENCODER)?.outputs.as_slice() {
        [TensorSpec { shape, .. }]
            if shape.len() == manifest.spatial_axes + 2 && shape[0] == 0 && !shape[1..].contains(&0) =>
        {
            Ok(shape.clone())
        }
        outputs => Err(error(format!(
            "networks: {IMAGE_ENCODER} gives {}, expected one output `z_i` of shape [0, C, ...]",
            describe(outputs)
        ))),
    }
}

fn check(manifest: &Manifest, name: &str, inputs: &[(&str, &[usize])], output: (&str, &[usize])) -> Result<()> {
    let spec = network(manifest, name)?;
    for (side, found, expected) in [("takes", &spec.inputs, inputs), ("gives", &spec.outputs, &[output])] {
        let expected: Vec<_> =
            expected.iter().map(|(name, shape)| TensorSpec { name: (*name).into(), shape: shape.to_vec() }).collect();
        if *found != expected {
            return Err(error(format!(
                "networks: {name} {side} {}, expected {}",
                describe(found),
                describe(&expected)
            )));
        }
    }
    Ok(())
}

fn network<'a>(manifest: &'a Manifest, name: &str) -> Result<&'a NetworkSpec> {
    manifest.networks.get(name).ok_or_else(|| error(format!("networks has no entry `{name}`")))
}

fn with_batch(shape: &[usize]) -> Vec<usize> {
    [&[0], shape].concat()
}

fn describe(tensors: &[TensorSpec]) -> String {
    let tensors: Vec<_> = tensors.iter().map(|tensor| format!("`{}` {:?}", tensor.name, tensor.shape)).collect();
    if tensors.is_empty() { "nothing".into() } else { tensors.join(", ") }
}

fn error(message: String) -> Error {
    Error::new(ErrorKind::Bundle, message)
}

#[cfg(test)]
mod tests {
    use super::super::test_support::manifest;
    use super::*;

    #[test]
    fn the_contract_names_what_differs() {
        check_networks(&manifest()).unwrap();

        let mut wrong = manifest();
        wrong.networks.get_mut(LABEL_DECODER).unwrap().outputs[0].shape = vec![0, 2, 4, 6];
        let message = check_networks(&wrong).unwrap_err().to_string();
        assert!(message.contains("label_decoder gives `probabilities` [0, 2, 4, 6]"), "{message}");
        assert!(message.contains("expected `probabilities` [0, 3, 4, 6]"), "{message}");

        let mut missing = manifest();
        missing.networks.remove(DENOISER);
        assert!(check_networks(&missing).unwrap_err().to_string().contains("no entry `denoiser`"));
    }
}
