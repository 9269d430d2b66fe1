//! How the latent is refined, as the command line has it.

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use ldseg::Result;
use ldseg::bundle::Manifest;
use ldseg::diffusion::{MAX_TIMESTEPS, Sampler};
use ldseg::segmenter::SegmentOptions;

const MAX_SAMPLES: u64 = SegmentOptions::MAX_SAMPLES as u64;

/// How the latent is refined.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SamplingArgs {
    /// How the latent is refined [default: the bundle's]
    #[arg(long, value_parser = samplers())]
    sampler: Option<Sampler>,
    /// Denoiser calls [default: the bundle's; 1 with sampler direct]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_TIMESTEPS as u64))]
    steps: Option<usize>,
    /// Samples whose probabilities are averaged
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_SAMPLES), default_value = "1")]
    samples: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// What was asked for, completed with the bundle's defaults.
    pub(crate) fn options(&self, manifest: &Manifest) -> Result<SegmentOptions> {
        let options = SegmentOptions::completed(manifest, self.sampler, self.steps)?;
        Ok(SegmentOptions { samples: self.samples, seed: self.seed, ..options })
    }
}

fn samplers() -> impl TypedValueParser<Value = Sampler> {
    PossibleValuesParser::new(Sampler::ALL.map(Sampler::name)).try_map(|name| name.parse::<Sampler>())
}
