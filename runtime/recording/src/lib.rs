//! One way through a recording, for every entry point: open, decide, segment, measure, outputs.
//!
//! A recording is one file with its frames ([`ldseg_io::Recording`]). [`Prepared`] has opened it and decided
//! ([`decide`]) which channels, which part of a frame and which spacing count; each decision is a value that can be read
//! and printed. [`Runner`] segments its frames and measures ([`heart`]), and [`outputs`] writes what was asked for.
//! [`segment_image`] goes the same way with an image in memory, and needs no file format: feature `files` is off then.

pub mod decide;
#[cfg(feature = "dicom")]
pub mod dicom;
pub mod heart;
#[cfg(feature = "files")]
mod labels;
#[cfg(feature = "files")]
pub mod outputs;
#[cfg(feature = "files")]
mod prepared;
pub mod results;
mod run;
pub mod trust;

pub use decide::{Decisions, Wish};
#[cfg(feature = "files")]
pub use labels::PreparedLabels;
#[cfg(feature = "files")]
pub use prepared::Prepared;
#[cfg(feature = "files")]
pub use run::left_heart;
pub use run::{Answer, Runner, answer, segment_image, segment_part};
pub use trust::{ImageKind, Trust};
