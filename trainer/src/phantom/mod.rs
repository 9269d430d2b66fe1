//! Synthetic labelled images that look enough like the real thing to train and test on where no data may be had.
//! Everything is drawn from (seed, index): image 7 is the same whether 10 or 1000 are made.

mod echo;
mod glands;
mod knee;

use std::fs;
use std::path::Path;

use ldseg::{Error, ErrorKind, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::data::filter::smooth;

/// What is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Apical echocardiography, grey 224 x 224: `phantom0001_ED.png`, `phantom0001_ED_gt.png`, and the same for `ES`.
    /// Labels: 0 background, 1 left ventricle, 2 myocardium, 3 left atrium.
    Echo,
    /// One heartbeat of apical echocardiography, 24 frames of 224 x 224: `phantom0001.gif`, `phantom0001_gt.nii.gz` with
    /// the labels of [`Kind::Echo`], frames along the third axis, and `phantom0001.json` with the volumes. To segment
    /// and measure; training takes single images.
    EchoCine,
    /// Gland histology, RGB 192 x 192, in `images/` and `labels/`. Labels: 0 tissue, 255 gland. Some glands touch:
    /// `instances/` has their numbers, to evaluate single glands by.
    Glands,
    /// Knee MRI, volumes of 48 x 40 x 56 voxels, NIfTI in `images/` and `labels/`. Labels: 1 femur, 2 tibia.
    Knee,
    /// The same knees, with the cartilage of both bones as label 3.
    KneeCartilage,
}

/// Writes `count` phantoms of a kind into `dir`, which is created if needed; files of the same names are replaced.
///
/// # Errors
/// [`ErrorKind::Setting`] if `count` is not 1 to 9999; [`ErrorKind::Io`] if a file can't be written.
pub fn write(kind: Kind, count: usize, seed: u64, dir: &Path) -> Result<()> {
    if !(1..=9999).contains(&count) {
        return Err(Error::new(ErrorKind::Setting, format!("count is {count}, expected 1 to 9999")));
    }
    create_folder(dir)?;
    let folders: &[&str] = match kind {
        Kind::Echo | Kind::EchoCine => &[],
        Kind::Glands => &["images", "labels", "instances"],
        Kind::Knee | Kind::KneeCartilage => &["images", "labels"],
    };
    folders.iter().try_for_each(|folder| create_folder(&dir.join(folder)))?;
    for number in 1..=count {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        let name = format!("phantom{number:04}");
        match kind {
            Kind::Echo => echo::write(&name, &mut rng, dir)?,
            Kind::EchoCine => echo::write_beat(&name, &mut rng, dir)?,
            Kind::Glands => glands::write(&name, &mut rng, dir)?,
            Kind::Knee => knee::write(&name, false, &mut rng, dir)?,
            Kind::KneeCartilage => knee::write(&name, true, &mut rng, dir)?,
        }
    }
    Ok(())
}

fn create_folder(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)
        .map_err(|error| Error::with_source(ErrorKind::Io, "can't create this folder", error).in_file(dir))
}

/// Writes an 8-bit picture as PNG.
fn save_png(path: &Path, pixels: &[u8], size: [usize; 2], colour: image::ExtendedColorType) -> Result<()> {
    let [height, width] = size.map(|length| length as u32);
    image::save_buffer(path, pixels, width, height, colour)
        .map_err(|error| Error::with_source(ErrorKind::Io, "can't write this picture", error).in_file(path))
}

/// Uniform in `[low, high)`.
fn draw(low: f32, high: f32, rng: &mut ChaCha8Rng) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// White Gaussian noise of unit variance.
fn white(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| StandardNormal.sample(rng)).collect()
}

/// Slow random variation of unit variance and zero mean over an array of `shape`, about `period` voxels a wave: smoothed
/// white noise on a coarse lattice, interpolated linearly.
fn clouds(shape: [usize; 3], period: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let coarse = shape.map(|length| length / period + 2);
    let mut lattice = white(coarse.iter().product(), rng);
    (0..3).for_each(|axis| smooth(&mut lattice, &coarse, axis));
    let mut values = Vec::with_capacity(shape.iter().product());
    for index in 0..shape.iter().product() {
        let at = [index / (shape[1] * shape[2]), index / shape[2] % shape[1], index % shape[2]];
        let mut sum = 0.0;
        for corner in 0..8 {
            let (mut weight, mut position) = (1.0, 0);
            for axis in 0..3 {
                let far = corner >> axis & 1;
                let fraction = (at[axis] % period) as f32 / period as f32;
                weight *= if far == 1 { fraction } else { 1.0 - fraction };
                position = position * coarse[axis] + at[axis] / period + far;
            }
            sum += weight * lattice[position];
        }
        values.push(sum);
    }
    standardise(&mut values);
    values
}

/// To zero mean and unit variance.
fn standardise(values: &mut [f32]) {
    let count = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
    values.iter_mut().for_each(|value| *value = (*value - mean) / variance.sqrt().max(1e-6));
}

/// A soft step from 0 to 1 around `x = 0`, `width` wide.
fn soft_step(x: f32, width: f32) -> f32 {
    let s = (x / width + 0.5).clamp(0.0, 1.0);
    s * s * (3.0 - 2.0 * s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::discover;
    use ldseg_io::{read_image, read_labels, read_recording};
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_is_deterministic_complete_and_found() {
        let kinds = [
            (Kind::Echo, 2, &[0, 1, 2, 3][..]),
            (Kind::Glands, 1, &[0, 255]),
            (Kind::Knee, 1, &[0, 1, 2]),
            (Kind::KneeCartilage, 1, &[0, 1, 2, 3]),
        ];
        for (kind, per_phantom, values) in kinds {
            let (one, more, other) =
                (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            write(kind, 1, 4, one.path()).unwrap();
            write(kind, 2, 4, more.path()).unwrap();
            write(kind, 1, 5, other.path()).unwrap();
            let cases = discover(more.path()).unwrap();
            assert_eq!(cases.len(), 2 * per_phantom);
            assert_eq!(cases.iter().map(|case| &case.patient).collect::<BTreeSet<_>>().len(), 2);
            for case in &cases {
                let labels = read_labels(&case.labels).unwrap();
                assert_eq!(labels.iter().copied().collect::<BTreeSet<u8>>(), values.iter().copied().collect());
                assert_eq!(read_image(case.image()).unwrap().data.shape()[1..], *labels.shape());
            }
            let name = cases[0].image().strip_prefix(more.path()).unwrap();
            let [a, b, c] = [&one, &more, &other].map(|dir| fs::read(dir.path().join(name)).unwrap());
            assert_eq!(a, b);
            assert_ne!(a, c);
        }
        assert_eq!(write(Kind::Echo, 0, 4, Path::new("never")).unwrap_err().kind(), ErrorKind::Setting);
    }

    #[test]
    fn a_beat_has_a_frame_for_each_label_map_and_volume() {
        let dir = tempfile::tempdir().unwrap();
        write(Kind::EchoCine, 1, 4, dir.path()).unwrap();
        let cine = read_recording(&dir.path().join("phantom0001.gif")).unwrap();
        let labels = read_labels(&dir.path().join("phantom0001_gt.nii.gz")).unwrap();
        let truth = fs::read(dir.path().join("phantom0001.json")).unwrap();
        let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
        assert_eq!(truth["schema_version"], ldseg::document::SCHEMA_VERSION);
        assert_eq!(truth["left_ventricle_volume_ml"].as_array().unwrap().len(), cine.frame_count());
        assert_eq!(labels.shape(), [cine.frame_count(), 224, 224]);
        assert!((0.3..0.8).contains(&truth["ejection_fraction"].as_f64().unwrap()), "{truth}");
        // Systole is in the labels too.
        let ventricle = |frame: usize| labels.index_axis(ndarray::Axis(0), frame).iter().filter(|v| **v == 1).count();
        assert!(ventricle(8) < ventricle(0) * 9 / 10 && ventricle(23) > ventricle(8));
    }

    #[test]
    fn clouds_are_standardised_and_slow() {
        let values = clouds([1, 64, 64], 16, &mut ChaCha8Rng::seed_from_u64(1));
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!((variance - 1.0).abs() < 1e-3);
        assert!(values.windows(2).step_by(64).all(|pair| (pair[0] - pair[1]).abs() < 0.5));
    }
}
