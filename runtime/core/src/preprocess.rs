//! From a file's grid and intensities to the network's input, and back.
//!
//! All grids are aligned by their outer edges: the centre of voxel i of n lies at (i + 0.5) / n of the axis.

mod spacing;

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn};
use serde::{Deserialize, Serialize};

pub use spacing::SpacingPolicy;

use crate::image::{Image, Labels};
use crate::{Error, ErrorKind, Result, Tensor};

/// Intensity normalisation, per image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Normalisation {
    /// To [0, 1] over all channels: (x - min) / (max - min); a constant image becomes 0.
    MinMax,
    /// To zero mean and unit variance over all channels; a constant image becomes 0.
    ZScore,
    /// [`Self::MinMax`] for each channel alone: for channels whose intensities have nothing to do with each other, such as
    /// sequences of MRI.
    MinMaxPerChannel,
    /// [`Self::ZScore`] for each channel alone.
    ZScorePerChannel,
}

impl Normalisation {
    /// Whether each channel is normalised alone.
    pub fn per_channel(self) -> bool {
        matches!(self, Self::MinMaxPerChannel | Self::ZScorePerChannel)
    }

    /// To [0, 1], over all channels or for each alone as this one does.
    pub fn to_unit(self) -> Self {
        if self.per_channel() { Self::MinMaxPerChannel } else { Self::MinMax }
    }
}

/// Interpolation of images and probabilities between grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resampling {
    /// Linear, with the kernel widened by the factor when shrinking (antialiased).
    Linear,
}

/// The network's input: [`image_to_grid`], then [`normalise`].
///
/// # Shapes
/// Returns `[channels, size...]`.
///
/// # Errors
/// As [`image_to_grid`].
pub fn image_to_input(
    image: &Image,
    channels: usize,
    size: &[usize],
    normalisation: Normalisation,
    resampling: Resampling,
) -> Result<Tensor> {
    let mut input = image_to_grid(image, channels, size, resampling)?;
    normalise(&mut input, normalisation);
    Ok(input)
}

/// The image resampled to the network's grid, intensities as in the file.
///
/// # Shapes
/// `size` has one positive number a spatial axis, slowest first. Returns `[channels, size...]`.
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] where the image has another number of spatial axes or channels.
pub fn image_to_grid(image: &Image, channels: usize, size: &[usize], resampling: Resampling) -> Result<Tensor> {
    check_axes(image, size.len())?;
    Ok(resample(image.with_channels(channels)?, size, resampling))
}

fn check_axes(image: &Image, axes: usize) -> Result<()> {
    if image.spatial_axes() == axes {
        return Ok(());
    }
    let name = |axes| {
        if axes == 2 { "2-D image".to_owned() } else { format!("{axes}-D volume") }
    };
    let message = format!("is a {}, the bundle expects {}s", name(image.spatial_axes()), name(axes));
    Err(Error::new(ErrorKind::ShapeMismatch, message))
}

/// Normalises the intensities `[C, ...]` in place: [`scales`], applied.
pub fn normalise(image: &mut Tensor, normalisation: Normalisation) {
    let scales = scales(image, normalisation);
    image.axis_iter_mut(Axis(0)).zip(scales).for_each(|(channel, scale)| scale.apply(channel));
}

/// What normalising the image `[C, ...]` does to each of its channels.
pub fn scales(image: &Tensor, normalisation: Normalisation) -> Vec<Scale> {
    if normalisation.per_channel() {
        return image.axis_iter(Axis(0)).map(|channel| Scale::of(channel, normalisation)).collect();
    }
    vec![Scale::of(image.view(), normalisation); image.shape()[0]]
}

/// (x - offset) / scale; with a scale of 0, of a constant image, everything becomes 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    offset: f64,
    scale: f64,
}

impl Scale {
    /// Over all that it is given.
    fn of(image: ArrayViewD<'_, f32>, normalisation: Normalisation) -> Self {
        // f64: a difference of f32 extremes would overflow, and a sum over a volume would lose digits.
        let (min, max) = extremes(image.view());
        if max <= min {
            return Self { offset: 0.0, scale: 0.0 };
        }
        match normalisation {
            Normalisation::MinMax | Normalisation::MinMaxPerChannel => Self { offset: min, scale: max - min },
            Normalisation::ZScore | Normalisation::ZScorePerChannel => {
                let count = image.len() as f64;
                let mean = image.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
                let variance = image.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
                Self { offset: mean, scale: variance.sqrt() }
            }
        }
    }

    /// Applies it in place.
    pub fn apply(self, mut channel: ArrayViewMutD<'_, f32>) {
        if self.scale == 0.0 {
            return channel.fill(0.0);
        }
        channel.mapv_inplace(|v| ((f64::from(v) - self.offset) / self.scale) as f32);
    }
}

/// The least intensity of each channel, or of all of them where they are normalised together: what lies around an image
/// that is smaller than the network's input.
pub fn least(image: &Tensor, normalisation: Normalisation) -> Vec<f32> {
    if normalisation.per_channel() {
        return image.axis_iter(Axis(0)).map(|channel| extremes(channel).0 as f32).collect();
    }
    vec![extremes(image.view()).0 as f32; image.shape()[0]]
}

fn extremes(image: ArrayViewD<'_, f32>) -> (f64, f64) {
    let (min, max) = image.iter().fold((f32::MAX, f32::MIN), |(min, max), &v| (min.min(v), max.max(v)));
    (min.into(), max.into())
}

/// Labels resampled by nearest neighbour: voxel i of `out` takes voxel floor((i + 0.5) * in / out) of `in`.
///
/// # Shapes
/// `labels` `[H, W]` or `[D, H, W]`, no axis empty; `size` has as many axes; returns `[size...]`.
pub fn labels_to_grid(labels: &Labels, size: &[usize]) -> Labels {
    debug_assert_eq!(labels.ndim(), size.len());
    let mut resampled = Cow::Borrowed(labels);
    for (axis, &out) in size.iter().enumerate() {
        let stored = labels.shape()[axis];
        if stored != out {
            let nearest: Vec<usize> = (0..out).map(|i| (2 * i + 1) * stored / (2 * out)).collect();
            resampled = Cow::Owned(resampled.select(Axis(axis), &nearest));
        }
    }
    resampled.into_owned()
}

/// Class probabilities resampled to another grid, usually the image's own. They still add up to 1.
///
/// # Shapes
/// `probabilities` `[K, H, W]` or `[K, D, H, W]`; `size` has one positive number a spatial axis; returns
/// `[K, size...]`.
pub fn probabilities_to_grid(probabilities: &Tensor, size: &[usize], resampling: Resampling) -> Tensor {
    resample(probabilities.view(), size, resampling)
}

/// Resamples all axes but the first, one after the other.
fn resample(image: ArrayViewD<'_, f32>, size: &[usize], resampling: Resampling) -> Tensor {
    debug_assert_eq!(image.ndim(), size.len() + 1);
    let mut shape = image.shape().to_vec();
    let mut data: Vec<f32> = image.iter().copied().collect();
    // Shrinking axes first leave the least to do for the others.
    let mut order: Vec<usize> = (0..size.len()).filter(|&axis| size[axis] != shape[axis + 1]).collect();
    order.sort_by(|&a, &b| (size[a] * shape[b + 1]).cmp(&(size[b] * shape[a + 1])));
    for axis in order {
        let taps = match resampling {
            Resampling::Linear => triangle_taps(shape[axis + 1], size[axis]),
        };
        data = resample_axis(&data, &shape, axis + 1, &taps);
        shape[axis + 1] = size[axis];
    }
    ArrayD::from_shape_vec(IxDyn(&shape), data).expect("the data are made to fit the shape")
}

/// What one output voxel is made of: `weights[k]` times input voxel `start + k`.
struct Tap {
    start: usize,
    weights: Vec<f64>,
}

/// A triangle kernel around each output voxel's centre, as wide as two voxels of the coarser grid; where it reaches
/// over the border it is cut off, and its weights always add up to 1.
fn triangle_taps(stored: usize, out: usize) -> Vec<Tap> {
    let scale = stored as f64 / out as f64;
    let radius = scale.max(1.0);
    let tap = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let start = (centre - radius).floor().max(0.0) as usize;
        let end = ((centre + radius).ceil() as usize).min(stored);
        let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - centre) / radius).abs()).max(0.0);
        let mut weights: Vec<f64> = (start..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        Tap { start, weights }
    };
    (0..out).map(tap).collect()
}

/// Sums are kept in f64, so that a constant stays exactly that constant.
fn resample_axis(data: &[f32], shape: &[usize], axis: usize, taps: &[Tap]) -> Vec<f32> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut resampled = vec![0.0_f32; outer * taps.len() * inner];
    let mut sums = vec![0.0_f64; inner];
    let blocks = data.chunks_exact(shape[axis] * inner).zip(resampled.chunks_exact_mut(taps.len() * inner));
    for (block, target) in blocks {
        for (tap, target) in taps.iter().zip(target.chunks_exact_mut(inner)) {
            let source = &block[tap.start * inner..];
            if inner == 1 {
                target[0] = tap.weights.iter().zip(source).map(|(w, &v)| w * f64::from(v)).sum::<f64>() as f32;
                continue;
            }
            sums.fill(0.0);
            for (weight, run) in tap.weights.iter().zip(source.chunks_exact(inner)) {
                sums.iter_mut().zip(run).for_each(|(sum, &v)| *sum += weight * f64::from(v));
            }
            target.iter_mut().zip(&sums).for_each(|(target, &sum)| *target = sum as f32);
        }
    }
    resampled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Geometry;
    use ndarray::Dimension;

    fn image(shape: &[usize], value: impl Fn(&[usize]) -> f32) -> Image {
        let data = Tensor::from_shape_fn(IxDyn(shape), |i| value(i.slice()));
        Image { data, geometry: Geometry::default() }
    }

    fn line(values: &[f32], out: usize) -> Vec<f32> {
        let data = Tensor::from_shape_vec(IxDyn(&[1, 1, values.len()]), values.to_vec()).unwrap();
        resample(data.view(), &[1, out], Resampling::Linear).iter().copied().collect()
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    }

    /// Expected values from Pillow 13, `Image.resize(.., BILINEAR)` of a float picture.
    #[test]
    fn agrees_with_pillow() {
        let values = [3.0, 1.0, 4.0, 1.0, 5.0];
        assert_close(&line(&values, 2), &[2.318_181_8, 2.954_545_5]);
        assert_close(&line(&values, 3), &[2.142_857, 2.666_666_7, 3.285_714_4]);
        assert_close(&line(&values, 8), &[3.0, 2.125, 1.1875, 3.0625, 3.0625, 1.1875, 3.25, 5.0]);
    }

    #[test]
    fn a_ramp_is_reproduced_inside_when_enlarged_and_averaged_when_halved() {
        let ramp: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let larger = line(&ramp, 24);
        let expected: Vec<f32> = (0..24).map(|i| (i as f32 + 0.5) / 3.0 - 0.5).collect();
        assert_close(&larger[1..23], &expected[1..23]);
        assert_close(&line(&ramp, 4)[1..3], &[2.5, 4.5]);
    }

    #[test]
    fn constants_and_equal_sizes_are_left_exactly_alone() {
        let constant = image(&[3, 5, 7, 6], |_| 0.1);
        let resampled = image_to_grid(&constant, 3, &[9, 4, 6], Resampling::Linear).unwrap();
        assert_eq!(resampled, Tensor::from_elem(IxDyn(&[3, 9, 4, 6]), 0.1));
        let input = image_to_input(&constant, 1, &[9, 4, 6], Normalisation::MinMax, Resampling::Linear).unwrap();
        assert_eq!(input, Tensor::zeros(IxDyn(&[1, 9, 4, 6])));
        let other = image(&[1, 3, 4], |i| (i[1] * 17 % 5 + i[2]) as f32);
        assert_eq!(image_to_grid(&other, 1, &[3, 4], Resampling::Linear).unwrap(), other.data);
    }

    #[test]
    fn axes_are_resampled_each_by_its_own_factor() {
        let plane = image(&[1, 4, 8], |i| (10 * i[1] + i[2]) as f32);
        let resampled = image_to_grid(&plane, 1, &[8, 4], Resampling::Linear).unwrap();
        assert_close(&[resampled[[0, 3, 1]], resampled[[0, 4, 2]]], &[12.5 + 2.5, 17.5 + 4.5]);
    }

    #[test]
    fn normalisations_reach_their_range() {
        let mut data = image(&[1, 2, 2], |i| (i[1] * 2 + i[2]) as f32 * 1e38).data;
        normalise(&mut data, Normalisation::MinMax);
        assert_close(data.as_slice().unwrap(), &[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
        normalise(&mut data, Normalisation::ZScore);
        assert!(data.sum().abs() < 1e-6 && (data.mapv(|v| v * v).sum() - 4.0).abs() < 1e-5);
        let mut constant = Tensor::from_elem(IxDyn(&[1, 3, 3]), 0.1);
        normalise(&mut constant, Normalisation::ZScore);
        assert_eq!(constant, Tensor::zeros(IxDyn(&[1, 3, 3])));
    }

    #[test]
    fn channels_are_normalised_together_or_each_alone() {
        let data = image(&[2, 2, 3], |i| ((1 + 100 * i[0]) * (i[1] * 3 + i[2])) as f32).data;
        let first = data.index_axis(Axis(0), 0).insert_axis(Axis(0)).to_owned();
        for (together, alone) in [
            (Normalisation::MinMax, Normalisation::MinMaxPerChannel),
            (Normalisation::ZScore, Normalisation::ZScorePerChannel),
        ] {
            let (mut all, mut each, mut only) = (data.clone(), data.clone(), first.clone());
            normalise(&mut all, together);
            normalise(&mut each, alone);
            normalise(&mut only, together);
            for channel in each.axis_iter(Axis(0)) {
                assert_close(&channel.iter().copied().collect::<Vec<_>>(), only.as_slice().unwrap());
            }
            assert!((all[[0, 1, 2]] - each[[0, 1, 2]]).abs() > 0.5, "{all}");
            normalise(&mut only.clone(), alone);
        }
    }

    #[test]
    fn labels_take_the_nearest_centre() {
        let labels = Labels::from_shape_vec(IxDyn(&[1, 5]), vec![0, 1, 2, 3, 4]).unwrap();
        let out = |size: usize| labels_to_grid(&labels, &[1, size]).iter().copied().collect::<Vec<_>>();
        assert_eq!(out(10), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(out(3), [0, 2, 4]);
        assert_eq!(labels_to_grid(&labels_to_grid(&labels, &[3, 15]), &[1, 5]), labels);
    }

    #[test]
    fn probabilities_still_add_up_to_one() {
        let probabilities = Tensor::from_shape_fn(IxDyn(&[2, 3, 3]), |i| {
            let p = (i[1] * 3 + i[2]) as f32 / 9.0;
            if i[0] == 0 { p } else { 1.0 - p }
        });
        let resampled = probabilities_to_grid(&probabilities, &[7, 2], Resampling::Linear);
        assert_eq!(resampled.shape(), [2, 7, 2]);
        assert!(resampled.sum_axis(Axis(0)).iter().all(|p| (p - 1.0).abs() < 1e-6));
    }

    #[test]
    fn wrong_axes_or_channels_are_errors() {
        let volume = image(&[1, 2, 2, 2], |_| 0.0);
        let error = image_to_grid(&volume, 1, &[4, 4], Resampling::Linear).unwrap_err();
        assert_eq!(error.to_string(), "is a 3-D volume, the bundle expects 2-D images");
        let error = image_to_grid(&volume, 3, &[4, 4, 4], Resampling::Linear).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    }
}
