//! What the user says of recordings, as the command line has it.

use std::collections::BTreeSet;

use ldseg::bundle::Manifest;
use ldseg::preprocess::SpacingPolicy;
use ldseg_recording::{Decisions, Wish};

use super::note;

/// What the user says of a recording, beside what its file says.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct WishArgs {
    /// Find the ultrasound sector, and segment the part of each frame that shows it
    #[arg(long)]
    crop_sector: bool,
    /// Spacing in mm of pixels and voxels, of files that do not tell it or are wrong: one number where it is the same along
    /// all axes, else one for each, slowest first (the height of a pixel, then its width)
    #[arg(long, value_name = "MM", value_parser = millimetres, value_delimiter = ',', num_args = 1)]
    pixel_spacing: Vec<f64>,
}

impl WishArgs {
    pub(super) fn wish(self) -> Wish {
        let spacing = (!self.pixel_spacing.is_empty()).then_some(self.pixel_spacing);
        Wish { spacing, crop_sector: self.crop_sector }
    }
}

pub(super) fn millimetres(text: &str) -> std::result::Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("expected a positive number".into()) }
}

/// Options that would have helped. The libraries say what is missing, the command how it is given; once, at the end.
#[derive(Debug, Default)]
pub(super) struct Hints(BTreeSet<&'static str>);

impl Hints {
    /// Of a recording that is to be segmented, and measured where `measuring` is set.
    pub(super) fn about_spacing(&mut self, decisions: &Decisions, manifest: &Manifest, measuring: bool) {
        let needed = measuring || matches!(manifest.spacing, SpacingPolicy::Resample(_));
        if needed && decisions.spacing.known().is_none() {
            self.0.insert("--pixel-spacing tells the spacing of files that do not");
        }
    }

    /// Of one that was not measured, as it is of another kind.
    pub(super) fn about_kind(&mut self) {
        self.0.insert("--measure-anyway measures what is of another kind, too");
    }

    pub(super) fn tell(&self) {
        self.0.iter().for_each(|hint| note(hint));
    }
}
