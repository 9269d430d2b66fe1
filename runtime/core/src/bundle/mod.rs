//! The bundle: a folder with `manifest.yaml`, four ONNX files, `golden.safetensors` and `MODEL_CARD.md`.
//!
//! A bundle is checked before it is used: only the files named here are read, from inside the folder, and nothing is
//! parsed whose size and SHA-256 differ from the manifest's, nor a manifest whose SHA-256 differs from `manifest.sha256`. Loading tells apart damage and mix-ups; it does not
//! prove who made a bundle, as the hashes travel with the files.

mod contract;
mod golden;
mod load;
mod manifest;
mod seal;
mod write;

pub use golden::Golden;
pub use load::Bundle;
pub use manifest::{Class, FORMAT_VERSION, FileEntry, MAX_CHANNELS, Manifest, Measure, Provenance, Tolerances};
pub use seal::seal;
pub use write::write_bundle;

/// `image` `[N, C, ...]` -> `z_i`.
pub const IMAGE_ENCODER: &str = "image_encoder";
/// `z_t`, `z_i` and the raw timesteps `t` `[N]` -> `prediction`.
pub const DENOISER: &str = "denoiser";
/// `z` -> `probabilities` `[N, K, ...]`.
pub const LABEL_DECODER: &str = "label_decoder";
/// `labels` `[N, 1, ...]`, the class index as f32 -> `z_l0`. Not needed to segment.
pub const LABEL_ENCODER: &str = "label_encoder";
/// The four networks; each is the file `NAME.onnx`.
pub const NETWORKS: [&str; 4] = [IMAGE_ENCODER, DENOISER, LABEL_DECODER, LABEL_ENCODER];

/// The description of a bundle.
pub const MANIFEST_FILE: &str = "manifest.yaml";
/// The SHA-256 of the manifest, as `sha256sum manifest.yaml` writes it.
pub const SEAL_FILE: &str = "manifest.sha256";
/// Reference tensors, see [`crate::bundle::Golden`].
pub const GOLDEN_FILE: &str = "golden.safetensors";
/// The model card.
pub const CARD_FILE: &str = "MODEL_CARD.md";

/// Every file that the manifest lists: the four networks, the golden tensors and the model card.
pub const FILES: [&str; 6] =
    ["image_encoder.onnx", "denoiser.onnx", "label_decoder.onnx", "label_encoder.onnx", GOLDEN_FILE, CARD_FILE];

/// Lower-case hexadecimal SHA-256.
fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod test_support {
    //! A bundle whose files are placeholders: good for everything but running it.

    use std::collections::BTreeMap;

    use super::*;
    use crate::diffusion::{LatentStandardisation, Prediction, Sampler, ScheduleKind};
    use crate::engine::{NetworkSpec, TensorSpec};
    use crate::preprocess::{Normalisation, Resampling, SpacingPolicy};

    /// A 2-D model: input 1 x 4 x 6, latent 1 x 2 x 3, three classes.
    pub(crate) fn manifest() -> Manifest {
        let tensor = |name: &str, shape: &[usize]| TensorSpec { name: name.into(), shape: shape.into() };
        let latent = [0, 1, 2, 3];
        let network = |inputs: Vec<TensorSpec>, output: TensorSpec| NetworkSpec { inputs, outputs: vec![output] };
        let networks = [
            (IMAGE_ENCODER, network(vec![tensor("image", &[0, 1, 4, 6])], tensor("z_i", &latent))),
            (
                DENOISER,
                network(
                    vec![tensor("z_t", &latent), tensor("z_i", &latent), tensor("t", &[0])],
                    tensor("prediction", &latent),
                ),
            ),
            (LABEL_DECODER, network(vec![tensor("z", &latent)], tensor("probabilities", &[0, 3, 4, 6]))),
            (LABEL_ENCODER, network(vec![tensor("labels", &[0, 1, 4, 6])], tensor("z_l0", &latent))),
        ];
        let class = |name: &str, colour| Class { name: name.into(), colour, unsure_below: None };
        Manifest {
            format_version: FORMAT_VERSION,
            name: "test".into(),
            spatial_axes: 2,
            input_size: vec![4, 6],
            spacing: SpacingPolicy::Stretch,
            orientation: None,
            channels: 1,
            normalisation: Normalisation::MinMax,
            resampling: Resampling::Linear,
            classes: vec![class("background", [0, 0, 0]), class("cavity", [255, 0, 0]), class("wall", [0, 255, 0])],
            measures: Vec::new(),
            latent_shape: vec![1, 2, 3],
            timesteps: 1000,
            schedule: ScheduleKind::Cosine,
            log_snr_shift: 0.0,
            prediction: Prediction::X0,
            latent_standardisation: LatentStandardisation::None,
            default_sampler: Sampler::Ddim,
            default_steps: 4,
            onnx_opset: 18,
            networks: networks.into_iter().map(|(name, spec)| (name.to_string(), spec)).collect(),
            tolerances: None,
            files: BTreeMap::new(),
            calibration: None,
            provenance: Provenance {
                recipe: "test".into(),
                seed: 1,
                code_version: "0.1.0".into(),
                date: "2026-01-01".into(),
            },
        }
    }

    /// Empty ONNX models (no graph), placeholder golden tensors and card.
    pub(crate) fn files() -> Vec<(&'static str, &'static [u8])> {
        FILES
            .iter()
            .map(|&name| (name, if name.ends_with(".onnx") { &b"\x08\x08"[..] } else { &b"text"[..] }))
            .collect()
    }
}
