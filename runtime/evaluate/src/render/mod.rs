//! Figures of what a bundle does with an image: the latent on its way from noise to a segmentation, and the segmentation
//! under growing noise, as in the paper (Zaman et al. 2024).
//!
//! A [`Figure`] is a table of panels. As PNG it is one sheet with a column a moment, as GIF one frame a moment.

mod comparison;
mod diffusion;
mod figure;
mod panels;
mod robustness;
mod text;

pub use comparison::{Comparison, comparison};
pub use diffusion::diffusion;
pub use figure::{Column, Figure, Panel};
pub use panels::{Cut, View};
pub use robustness::{Level, Study, robustness};
