//! Labelled images: finding them, splitting them by patient, loading them onto the network's grid, augmenting them.

pub mod augment;
mod dataset;
mod dataset_json;
mod deformation;
mod discover;
pub(crate) mod filter;
pub mod inspect;
mod labels;
mod patches;
pub(crate) mod series;
mod split;

pub use augment::{Augmentation, augment, redraw};
pub use dataset::{Dataset, Sample, Spec, load_case};
pub use dataset_json::Declared;
pub use discover::{Case, Found, Layout, discover, find_all};
pub use patches::{PatchSpec, Patches, augment_patch};
pub use split::{Fold, Split, Validation, split};

/// How many of a long list of problems a message spells out.
const SHOWN: usize = 5;

/// The first few of `problems`, and how many more there are.
pub(crate) fn first_few(problems: &[String]) -> String {
    let shown = problems[..problems.len().min(SHOWN)].join("; ");
    match problems.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
