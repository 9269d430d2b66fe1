//! Segments medical images by diffusion in a latent space (LDSeg, Zaman et al. 2024, arXiv 2407.12952).
//!
//! A [`bundle`] holds four networks. To segment, the image encoder runs once, the denoiser refines a small noise
//! latent for a few steps ([`diffusion`]), and the label decoder turns the latent into class probabilities
//! ([`segmenter`]). The networks run on an [`engine`]: tract (feature `tract`) or ONNX Runtime (feature `ort`).
//!
//! Arrays are C-ordered with the slowest axis first: images `[C, H, W]` or `[C, D, H, W]`, batches with `N` in front.

pub mod bench;
pub mod bundle;
pub mod calibration;
pub mod components;
pub mod diffusion;
pub mod engine;
pub mod error;
pub mod files;
pub mod frames;
pub mod image;
pub mod metrics;
pub mod preprocess;
pub mod queue;
pub mod segmenter;
pub mod sum;
pub mod threads;
pub mod uncertainty;
pub mod verify;
pub mod windows;

pub use error::{Error, ErrorKind, Result};

/// A dense f32 array of any rank, C-ordered.
pub type Tensor = ndarray::ArrayD<f32>;
