//! Times a bundle on this machine.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER};
use crate::diffusion::{NoiseKey, normal_latent};
use crate::engine::EngineOptions;
use crate::segmenter::{SegmentOptions, Segmenter};
use crate::{Error, ErrorKind, Result, Tensor};

/// Times of one stage in seconds, over the runs after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stage {
    /// A network's name, or `whole_loop`.
    pub name: &'static str,
    /// The middle time.
    pub median_seconds: f64,
    /// The shortest time.
    pub min_seconds: f64,
    /// The longest time.
    pub max_seconds: f64,
}

/// The outcome for one bundle, engine and device, at a batch of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Benchmark {
    /// The bundle's name.
    pub bundle: String,
    /// The engine, e.g. `tract`.
    pub engine: String,
    /// The device, e.g. `cpu`.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// Sampler steps of the whole loop: the bundle's default.
    pub steps: usize,
    /// Timed runs of each stage.
    pub runs: usize,
    /// From the bundle's folder to networks ready to run.
    pub load_seconds: f64,
    /// One call of each network, then the whole loop from the network's input to probabilities.
    pub stages: Vec<Stage>,
    /// The largest memory that the process has held, where the system tells (Linux).
    pub peak_memory_bytes: Option<u64>,
}

/// Loads the networks in folder `dir` and times them `runs` times after one untimed run.
///
/// # Errors
/// Those of loading and running; [`ErrorKind::Setting`] where `runs` is 0.
pub fn bench(dir: &std::path::Path, options: &EngineOptions, runs: usize) -> Result<Benchmark> {
    if runs == 0 {
        return Err(Error::new(ErrorKind::Setting, "runs is 0, expected 1 or more"));
    }
    let start = Instant::now();
    let bundle = Bundle::load(dir)?;
    let mut segmenter = Segmenter::from_bundle(&bundle, options)?;
    let load_seconds = start.elapsed().as_secs_f64();

    let manifest = bundle.manifest();
    let defaults = SegmentOptions::defaults(manifest);
    // Speed doesn't depend on the values, but constant ones might be treated specially.
    let random =
        |sample: u64, shape: &[usize]| normal_latent(NoiseKey { seed: 0, sample, frame: 0, window: 0, step: 0 }, shape);
    let image = random(0, &[&[1, manifest.channels], manifest.input_size.as_slice()].concat());
    let noise = random(1, &[&[1], manifest.latent_shape.as_slice()].concat());
    let z_i = segmenter.encode_image(&image)?;

    let last = manifest.timesteps - 1;
    let stages = vec![
        time(IMAGE_ENCODER, runs, || segmenter.encode_image(&image))?,
        time(DENOISER, runs, || segmenter.denoise(&noise, &z_i, last))?,
        time(LABEL_DECODER, runs, || segmenter.decode(&noise))?,
        time("whole_loop", runs, || segmenter.run_latent(&image, noise.clone(), &defaults, &mut |_, _| {}))?,
    ];
    Ok(Benchmark {
        bundle: manifest.name.clone(),
        engine: options.engine.to_string(),
        device: options.device.to_string(),
        threads: options.threads,
        steps: defaults.steps,
        runs,
        load_seconds,
        stages,
        peak_memory_bytes: peak_memory_bytes(),
    })
}

fn time(name: &'static str, runs: usize, mut f: impl FnMut() -> Result<Tensor>) -> Result<Stage> {
    f()?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        f()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(Stage {
        name,
        median_seconds: median(&times),
        min_seconds: times[0].as_secs_f64(),
        max_seconds: times[runs - 1].as_secs_f64(),
    })
}

/// Of sorted, at least one.
fn median(times: &[Duration]) -> f64 {
    let middle = times.len() / 2;
    let lower = if times.len().is_multiple_of(2) { times[middle - 1] } else { times[middle] };
    (lower + times[middle]).as_secs_f64() / 2.0
}

fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        let seconds = |times: &[u64]| times.iter().map(|&s| Duration::from_secs(s)).collect::<Vec<_>>();
        assert_eq!(median(&seconds(&[1, 2, 9])), 2.0);
        assert_eq!(median(&seconds(&[1, 2, 4, 9])), 3.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_the_peak_memory() {
        assert!(peak_memory_bytes().unwrap() > 1 << 20);
    }
}
