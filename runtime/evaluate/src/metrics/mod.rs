//! What a segmentation is worth beyond its overlap: distances between surfaces, objects, samples and calibration, averages.

mod distance;
mod mask;
pub mod objects;
pub mod sampling;
pub mod summary;
pub mod surface;
mod surfels;
