//! How the latent is refined, as the command line has it.

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use ldseg::Result;
use ldseg::bundle::Manifest;
use ldseg::diffusion::{MAX_TIMESTEPS, Sampler};
use ldseg::segmenter::SegmentOptions;

/// Steps of a sampler that is not the bundle's default, where that is `direct` and says nothing about steps.
const FALLBACK_STEPS: usize = 10;

/// How the latent is refined.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct SamplingArgs {
    /// How the latent is refined [default: the bundle's]
    #[arg(long, value_parser = samplers())]
    sampler: Option<Sampler>,
    /// Denoiser calls [default: the bundle's; 1 with sampler direct]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_TIMESTEPS as u64))]
    steps: Option<usize>,
    /// Samples whose probabilities are averaged
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000), default_value = "1")]
    samples: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// What was asked for, completed with the bundle's defaults.
    pub(in crate::cli) fn options(&self, manifest: &Manifest) -> Result<SegmentOptions> {
        options(manifest, self.sampler, self.steps, self.samples, self.seed)
    }
}

fn samplers() -> impl TypedValueParser<Value = Sampler> {
    PossibleValuesParser::new(Sampler::ALL.map(Sampler::name)).try_map(|name| name.parse::<Sampler>())
}

/// What was asked for, completed with the bundle's defaults.
fn options(
    manifest: &Manifest,
    sampler: Option<Sampler>,
    steps: Option<usize>,
    samples: usize,
    seed: u64,
) -> Result<SegmentOptions> {
    let sampler = sampler.unwrap_or(manifest.default_sampler);
    let default_steps = match (sampler, manifest.default_sampler) {
        (Sampler::Direct, _) => 1,
        (_, Sampler::Direct) => FALLBACK_STEPS.min(manifest.timesteps - 1),
        _ => manifest.default_steps,
    };
    let steps = steps.unwrap_or(default_steps);
    let options = SegmentOptions { sampler, steps, samples, seed, frame: 0, keep_samples: false };
    options.check(manifest.timesteps)?;
    Ok(options)
}
