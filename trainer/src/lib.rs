//! Trains the four networks of latent diffusion segmentation end to end and exports them as a bundle.

pub mod calibrate;
pub mod cpu;
pub mod data;
pub mod engine;
pub mod export;
pub mod keras;
pub mod model;
pub mod phantom;
pub mod recipe;
pub mod tfevents;
pub mod train;
