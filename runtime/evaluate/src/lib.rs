//! What segmentations are worth: metrics, scores of folders, robustness, figures and reports.

pub mod metrics;
#[cfg(feature = "report")]
pub mod render;
#[cfg(feature = "report")]
pub mod report;
pub mod robustness;
pub mod scoring;
