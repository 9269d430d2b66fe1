//! Segments medical images by diffusion in a latent space (LDSeg, Zaman et al. 2024, arXiv 2407.12952).
//!
#![cfg_attr(feature = "tract", doc = "```")]
#![cfg_attr(not(feature = "tract"), doc = "```ignore")]
//! use ldseg::{EngineOptions, Image, SegmentOptions, Segmenter, Tensor};
//!
//! # fn main() -> ldseg::Result<()> {
//! # let bundle = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/echo"));
//! // A bundle is a folder with four networks and a manifest.
//! let mut segmenter = Segmenter::load(bundle, &EngineOptions::default())?;
//!
//! // Grey values of any range, [C, H, W], and how large a pixel is in mm.
//! let pixels = Tensor::from_shape_fn(vec![1, 300, 400], |i| ((i[1] * i[2]) % 255) as f32);
//! let image = Image::from_array(pixels, Some(&[0.4, 0.4]))?;
//!
//! let options = SegmentOptions::defaults(segmenter.manifest());
//! let found = segmenter.segment(&image, &options)?;
//! assert_eq!(found.labels.shape(), [300, 400]);
//! assert_eq!(found.probabilities.shape(), [4, 300, 400]);
//! for (index, class) in segmenter.manifest().classes.iter().enumerate() {
//!     let count = found.labels.iter().filter(|&&label| usize::from(label) == index).count();
//!     println!("{}: {count} pixels", class.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The image encoder runs once, the denoiser refines a small noise latent for a few steps, and the label decoder turns the
//! latent into class probabilities. The networks run on an engine: tract (feature `tract`) or ONNX Runtime (feature `ort`).
//!
//! This crate knows pixels with geometry, and no file format: `ldseg-io` reads files, and `ldseg-recording` goes the whole
//! way from a file to labels, measurements and outputs.
//!
//! Arrays are C-ordered with the slowest axis first: images `[C, H, W]` or `[C, D, H, W]`, batches with `N` in front.
//!
//! What is listed below is the public interface. Modules that the documentation does not list are for the other crates of
//! this workspace, and change without notice.

#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod budget;
pub mod bundle;
#[doc(hidden)]
pub mod calibration;
#[doc(hidden)]
pub mod components;
#[doc(hidden)]
pub mod diffusion;
#[doc(hidden)]
pub mod document;
pub mod engine;
mod error;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod frames;
#[doc(hidden)]
pub mod image;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod names;
mod onnx;
#[doc(hidden)]
pub mod preprocess;
#[doc(hidden)]
pub mod queue;
#[doc(hidden)]
pub mod segmenter;
mod spec;
#[doc(hidden)]
pub mod sum;
#[doc(hidden)]
pub mod threads;
#[doc(hidden)]
pub mod uncertainty;
#[doc(hidden)]
pub mod verify;
#[doc(hidden)]
pub mod windows;

#[doc(inline)]
pub use bundle::{Bundle, Manifest};
#[doc(inline)]
pub use diffusion::Sampler;
#[doc(inline)]
pub use engine::{Device, EngineKind, EngineOptions};
#[doc(hidden)]
pub use error::catch_panic;
pub use error::{Error, ErrorKind, Result};
#[doc(inline)]
pub use frames::{Frame, FrameOptions, Frames};
#[doc(inline)]
pub use image::{Geometry, Image, Labels};
#[doc(inline)]
pub use segmenter::{SegmentOptions, Segmentation, Segmenter};

/// A dense f32 array of any rank, C-ordered.
pub type Tensor = ndarray::ArrayD<f32>;
