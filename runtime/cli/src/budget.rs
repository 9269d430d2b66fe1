//! What one input may ask for, as the command line has it.

use clap::builder::RangedU64ValueParser;
use ldseg::budget::Budget;
use ldseg::bundle::Manifest;
use ldseg::segmenter::SegmentOptions;
use ldseg_io::Limits;

/// What a file may ask for.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Limits on one input")]
pub(crate) struct LimitArgs {
    /// Samples (pixels or voxels times channels) of a picture, frame or volume
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value_t = Limits::default().frame_samples)]
    max_pixels: usize,
    /// Frames of a cine
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value_t = Limits::default().frames)]
    max_frames: usize,
    /// Memory in MiB for what is read, segmented and written of it
    #[arg(long, value_name = "MIB", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 40), default_value_t = Budget::default().bytes >> 20)]
    max_mib: usize,
}

/// What segmenting an image may ask for.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Limits on one input")]
pub(crate) struct BudgetArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// Windows that an image is cut into
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value_t = Budget::default().windows)]
    max_windows: usize,
    /// How many times as many voxels as it has an image may be resampled to
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value_t = Budget::default().enlargement)]
    max_enlargement: usize,
}

impl LimitArgs {
    /// Half of the memory is for what is read: more than one form of it is in memory at a time.
    pub(crate) fn limits(self) -> Limits {
        let mut limits = Limits::default();
        (limits.frame_samples, limits.frame_pixels, limits.frames) =
            (self.max_pixels, self.max_pixels, self.max_frames);
        limits.decoded_bytes = self.bytes() / 2;
        limits
    }

    fn bytes(self) -> usize {
        self.max_mib.saturating_mul(1 << 20)
    }
}

impl BudgetArgs {
    /// What could not be segmented is not read.
    pub(crate) fn limits(self, manifest: &Manifest, options: &SegmentOptions) -> Limits {
        let mut limits = self.limits.limits();
        limits.frame_pixels = limits.frame_pixels.min(self.budget().voxels(manifest, options.kept_samples()));
        limits
    }

    pub(crate) fn budget(self) -> Budget {
        Budget { bytes: self.limits.bytes(), windows: self.max_windows, enlargement: self.max_enlargement }
    }
}
