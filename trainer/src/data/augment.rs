//! Random changes to a training sample: one deformation and a few changes of intensity, in 2-D and 3-D alike.

use ldseg::image::Labels;
use ldseg::preprocess::{Normalisation, normalise};
use ldseg::{Error, ErrorKind, Result, Tensor};
use ndarray::{Axis, Slice};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::Sample;
use super::deformation::Deformation;
use super::filter::{smooth, smoothed_variance};

/// What is changed, how far, and how often. A `[low, high]` range is drawn from uniformly; every probability is per
/// sample and independent of the others. Intensities are changed on the scale on which the image spans [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Probability of mirroring along each spatial axis, slowest first. Empty: never, since anatomy has a left and a
    /// right; tissue under a microscope has not.
    pub flip: Vec<f64>,
    /// Probability of rotating, scaling and shifting (all three together).
    pub affine_probability: f64,
    /// Greatest rotation in degrees, either way, on the network's grid: in the plane for 2-D, around a random axis for
    /// 3-D.
    pub rotation: f64,
    /// Magnification; above 1 things grow.
    pub scale: [f64; 2],
    /// Greatest shift, either way, as a fraction of each axis.
    pub translation: f64,
    /// Probability of bending the image (Ronneberger et al. 2015): for soft tissue, and where training images are few.
    pub elastic_probability: f64,
    /// Standard deviation of the coefficients of the displacement, a cubic B-spline, as a fraction of each axis; it moves
    /// things by half as much. From half the distance of control points on, 0.125 for four intervals, folds are likely.
    pub elastic: [f64; 2],
    /// Intervals between control points along each axis, 1 to 16.
    pub elastic_intervals: usize,
    /// How else readers might have drawn the structures: standard deviation of the logarithm of a magnification of the label
    /// map alone, about the middle of what is not background. Of samples at timesteps below T-1, see [`redraw`]. 0: never.
    pub label_scale: f64,
    /// The same, for bending the label map alone: standard deviation of the coefficients of the displacement, a cubic
    /// B-spline, as a fraction of each axis.
    pub label_elastic: f64,
    /// Intervals between its control points along each axis, 1 to 16.
    pub label_elastic_intervals: usize,
    /// Probability of x_c -> x_c^k_c with a k of its own for each channel: stains that took more or less, as what a
    /// channel absorbs goes with its optical density -ln x_c (Beer-Lambert). For colour images.
    pub stain_probability: f64,
    /// Exponent k, drawn for each channel.
    pub stain: [f64; 2],
    /// Probability of x -> x^gamma.
    pub gamma_probability: f64,
    /// Exponent gamma.
    pub gamma: [f64; 2],
    /// Probability of x -> (1 - k) x + k f(x) with a curve f through five random values in [0, 1] at 0, 1/4, 1/2, 3/4 and
    /// 1: tissues change their order of brightness, outlines stay (after the non-linear transformation of Zhou et al.
    /// 2021, Models Genesis). For images whose contrast differs from scanner to scanner.
    pub curve_probability: f64,
    /// k, how far the curve is followed.
    pub curve: [f64; 2],
    /// Probability of x -> gain x + brightness, cut off at 0 and 1 as a device saturates.
    pub gain_probability: f64,
    /// Factor.
    pub gain: [f64; 2],
    /// Offset.
    pub brightness: [f64; 2],
    /// Probability of losing the signal in a few boxes, as behind a rib or where a probe has no contact (random erasing,
    /// Zhong et al. 2020).
    pub shadow_probability: f64,
    /// Greatest number of boxes, 1 to 16.
    pub shadows: usize,
    /// Side of a box as a fraction of each axis.
    pub shadow_size: [f64; 2],
    /// What is left of the signal in a box: x -> k x.
    pub shadow_signal: [f64; 2],
    /// Probability of multiplicative noise: x -> x max(0, 1 + sigma n), n of zero mean and unit variance.
    pub speckle_probability: f64,
    /// Sigma of the multiplicative noise.
    pub speckle: [f64; 2],
    /// Grain of the multiplicative noise: passes of a (1, 2, 1)/4 filter along each axis; 0 leaves it white.
    pub speckle_smoothing: u32,
    /// Probability of additive white Gaussian noise, which isn't cut off.
    pub noise_probability: f64,
    /// Sigma of the additive noise.
    pub noise: [f64; 2],
}

impl Default for Augmentation {
    /// Moderate changes that suit most medical images.
    fn default() -> Self {
        Self {
            flip: Vec::new(),
            affine_probability: 0.8,
            rotation: 15.0,
            scale: [0.85, 1.15],
            translation: 0.06,
            elastic_probability: 0.0,
            elastic: [0.0, 0.06],
            elastic_intervals: 4,
            label_scale: 0.0,
            label_elastic: 0.0,
            label_elastic_intervals: 4,
            stain_probability: 0.0,
            stain: [0.7, 1.4],
            gamma_probability: 0.3,
            gamma: [0.7, 1.5],
            curve_probability: 0.0,
            curve: [0.3, 1.0],
            gain_probability: 0.3,
            gain: [0.75, 1.25],
            brightness: [-0.1, 0.1],
            shadow_probability: 0.0,
            shadows: 4,
            shadow_size: [0.05, 0.3],
            shadow_signal: [0.0, 0.3],
            speckle_probability: 0.2,
            speckle: [0.0, 0.3],
            speckle_smoothing: 1,
            noise_probability: 0.2,
            noise: [0.0, 0.1],
        }
    }
}

impl Augmentation {
    /// No change at all.
    pub fn none() -> Self {
        Self {
            affine_probability: 0.0,
            stain_probability: 0.0,
            gamma_probability: 0.0,
            gain_probability: 0.0,
            speckle_probability: 0.0,
            noise_probability: 0.0,
            ..Self::default()
        }
    }

    /// Checks the settings for images with `axes` spatial axes.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`], naming the key and what was expected.
    pub fn validate(&self, axes: usize) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, format!("augmentation: {message}")));
        if !self.flip.is_empty() && self.flip.len() != axes {
            return fail(format!("flip has {} entries, expected none or {axes}", self.flip.len()));
        }
        let named = [
            ("affine_probability", self.affine_probability),
            ("elastic_probability", self.elastic_probability),
            ("stain_probability", self.stain_probability),
            ("gamma_probability", self.gamma_probability),
            ("curve_probability", self.curve_probability),
            ("gain_probability", self.gain_probability),
            ("shadow_probability", self.shadow_probability),
            ("speckle_probability", self.speckle_probability),
            ("noise_probability", self.noise_probability),
        ];
        for (key, probability) in named.into_iter().chain(self.flip.iter().map(|value| ("flip", *value))) {
            if !(0.0..=1.0).contains(&probability) {
                return fail(format!("{key} is {probability}, expected 0 to 1"));
            }
        }
        if !(1..=16).contains(&self.shadows) {
            return fail(format!("shadows is {}, expected 1 to 16", self.shadows));
        }
        for (key, intervals) in
            [("elastic_intervals", self.elastic_intervals), ("label_elastic_intervals", self.label_elastic_intervals)]
        {
            if !(1..=16).contains(&intervals) {
                return fail(format!("{key} is {intervals}, expected 1 to 16"));
            }
        }
        let ranges = [
            ("rotation", [0.0, self.rotation], 0.0, 180.0),
            ("scale", self.scale, 0.1, 10.0),
            ("translation", [0.0, self.translation], 0.0, 1.0),
            ("elastic", self.elastic, 0.0, 0.2),
            ("label_scale", [0.0, self.label_scale], 0.0, 0.5),
            ("label_elastic", [0.0, self.label_elastic], 0.0, 0.2),
            ("stain", self.stain, 0.1, 10.0),
            ("gamma", self.gamma, 0.1, 10.0),
            ("curve", self.curve, 0.0, 1.0),
            ("gain", self.gain, 0.0, 10.0),
            ("brightness", self.brightness, -1.0, 1.0),
            ("shadow_size", self.shadow_size, 0.0, 1.0),
            ("shadow_signal", self.shadow_signal, 0.0, 1.0),
            ("speckle", self.speckle, 0.0, 10.0),
            ("noise", self.noise, 0.0, 10.0),
        ];
        for (key, [low, high], least, most) in ranges {
            if !(least <= low && low <= high && high <= most) {
                return fail(format!("{key} goes from {low} to {high}, expected a range within {least} to {most}"));
            }
        }
        Ok(())
    }
}

/// A changed copy of `sample`, its image normalised as the network takes it. `rng` alone decides what happens: the same
/// generator state gives the same answer. What the deformation brings in from outside is the image's least intensity and
/// background. `settings` must have passed [`Augmentation::validate`].
pub fn augment(sample: &Sample, settings: &Augmentation, normalisation: Normalisation, rng: &mut ChaCha8Rng) -> Sample {
    let mut image = sample.image.clone();
    // On [0, 1], so that settings mean the same for every image.
    normalise(&mut image, normalisation.to_unit());
    let (mut image, labels) = match draw_deformation(settings, &sample.image.shape()[1..], rng) {
        Some(deformation) => deform(&deformation, sample.labels.shape(), &image, &sample.labels),
        None => (image, sample.labels.clone()),
    };
    change_intensities(&mut image, settings, rng);
    normalise(&mut image, normalisation);
    Sample { image, labels, patches: None }
}

/// The label map as another reader might have drawn it: magnified about the middle of what is not background, and bent,
/// as [`Augmentation::label_scale`] and [`Augmentation::label_elastic`] say. The image stays as it is, so that nothing in
/// it tells how the map was changed: what a denoiser learns of such maps is to leave open what readers leave open.
pub fn redraw(labels: Labels, settings: &Augmentation, rng: &mut ChaCha8Rng) -> Labels {
    if settings.label_scale == 0.0 && settings.label_elastic == 0.0 {
        return labels;
    }
    let size = labels.shape().to_vec();
    let mut deformation = Deformation::identity(&size);
    let n: f64 = StandardNormal.sample(rng);
    let scale = (settings.label_scale * n).exp();
    let middle = middle_of_foreground(&labels);
    deformation.magnify(scale);
    for (axis, length) in size.iter().enumerate() {
        // What grows by `scale` about the middle of the image stays in place at `middle`.
        let beside = middle[axis] - (*length as f64 - 1.0) / 2.0;
        deformation.shift(axis, beside * (1.0 - scale) / *length as f64);
    }
    if settings.label_elastic > 0.0 {
        deformation.bend(settings.label_elastic_intervals, || {
            let n: f64 = StandardNormal.sample(rng);
            settings.label_elastic * n
        });
    }
    deform(&deformation, &size, &Tensor::zeros([&[0], &size[..]].concat()), &labels).1
}

/// The mean place of all voxels that are not background, in voxels along each axis; the middle where there are none.
fn middle_of_foreground(labels: &Labels) -> Vec<f64> {
    let (mut sum, mut count) = (vec![0.0; labels.ndim()], 0.0);
    for (place, label) in labels.indexed_iter() {
        if *label != 0 {
            count += 1.0;
            sum.iter_mut().enumerate().for_each(|(axis, sum)| *sum += place[axis] as f64);
        }
    }
    if count == 0.0 {
        return labels.shape().iter().map(|length| (*length as f64 - 1.0) / 2.0).collect();
    }
    sum.into_iter().map(|sum| sum / count).collect()
}

fn happens(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f64>() < probability
}

fn draw([low, high]: [f64; 2], rng: &mut ChaCha8Rng) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// Draws flips, rotation, scale, shift and bending; `None` where nothing moves.
pub(super) fn draw_deformation(settings: &Augmentation, size: &[usize], rng: &mut ChaCha8Rng) -> Option<Deformation> {
    let mut deformation = Deformation::identity(size);
    let mut moves = false;
    for axis in 0..size.len() {
        if happens(settings.flip.get(axis).copied().unwrap_or(0.0), rng) {
            deformation.flip(axis);
            moves = true;
        }
    }
    if happens(settings.affine_probability, rng) {
        let angle = draw([-settings.rotation, settings.rotation], rng).to_radians();
        let axis: [f64; 3] = std::array::from_fn(|_| StandardNormal.sample(rng));
        deformation.rotate(axis, angle);
        deformation.magnify(draw(settings.scale, rng));
        for axis in 0..size.len() {
            deformation.shift(axis, draw([-settings.translation, settings.translation], rng));
        }
        moves = true;
    }
    if settings.elastic_probability > 0.0 && happens(settings.elastic_probability, rng) {
        let sigma = draw(settings.elastic, rng);
        deformation.bend(settings.elastic_intervals, || {
            let n: f64 = StandardNormal.sample(rng);
            sigma * n
        });
        moves = true;
    }
    moves.then_some(deformation)
}

/// Image and labels of `size` that the map makes of those given.
pub(super) fn deform(deformation: &Deformation, size: &[usize], image: &Tensor, labels: &Labels) -> (Tensor, Labels) {
    let mut moved_image = Tensor::zeros([&image.shape()[..1], size].concat());
    let mut moved_labels = Labels::zeros(size);
    let (image, labels) = (image.as_standard_layout(), labels.as_standard_layout());
    deformation.apply(
        image.as_slice().expect("standard layout"),
        labels.as_slice().expect("standard layout"),
        moved_image.as_slice_mut().expect("standard layout"),
        moved_labels.as_slice_mut().expect("standard layout"),
    );
    (moved_image, moved_labels)
}

/// Stain, gamma, curve, gain and brightness, shadows, speckle, additive noise, in the order in which a device would bring them about.
pub(super) fn change_intensities(image: &mut Tensor, settings: &Augmentation, rng: &mut ChaCha8Rng) {
    if settings.stain_probability > 0.0 && happens(settings.stain_probability, rng) {
        for mut channel in image.axis_iter_mut(Axis(0)) {
            let k = draw(settings.stain, rng) as f32;
            channel.mapv_inplace(|x| x.powf(k));
        }
    }
    if happens(settings.gamma_probability, rng) {
        let gamma = draw(settings.gamma, rng) as f32;
        image.mapv_inplace(|x| x.powf(gamma));
    }
    if settings.curve_probability > 0.0 && happens(settings.curve_probability, rng) {
        let k = draw(settings.curve, rng) as f32;
        let knots: [f32; 5] = std::array::from_fn(|_| rng.random());
        image.mapv_inplace(|x| (1.0 - k) * x + k * curve(&knots, x));
    }
    if happens(settings.gain_probability, rng) {
        let (gain, brightness) = (draw(settings.gain, rng) as f32, draw(settings.brightness, rng) as f32);
        image.mapv_inplace(|x| (gain * x + brightness).clamp(0.0, 1.0));
    }
    if settings.shadow_probability > 0.0 && happens(settings.shadow_probability, rng) {
        (0..rng.random_range(1..=settings.shadows)).for_each(|_| shadow(image, settings, rng));
    }
    if happens(settings.speckle_probability, rng) {
        let sigma = draw(settings.speckle, rng) as f32;
        let grain = grain(image.shape(), settings.speckle_smoothing, rng);
        image.zip_mut_with(&grain, |x, n| *x *= (1.0 + sigma * n).max(0.0));
    }
    if happens(settings.noise_probability, rng) {
        let sigma = draw(settings.noise, rng) as f32;
        image.mapv_inplace(|x| {
            let n: f32 = StandardNormal.sample(rng);
            x + sigma * n
        });
    }
}

/// The value at `x` in [0, 1] of the line through `knots`, which are evenly spaced from 0 to 1.
fn curve(knots: &[f32; 5], x: f32) -> f32 {
    let position = 4.0 * x.clamp(0.0, 1.0);
    let left = (position as usize).min(3);
    let part = position - left as f32;
    (1.0 - part) * knots[left] + part * knots[left + 1]
}

/// Weakens the signal in one box, the same in every channel. Its middle lies anywhere in the image.
fn shadow(image: &mut Tensor, settings: &Augmentation, rng: &mut ChaCha8Rng) {
    let signal = draw(settings.shadow_signal, rng) as f32;
    let mut inside = image.view_mut();
    for axis in 1..inside.ndim() {
        let size = inside.len_of(Axis(axis)) as f64;
        let (middle, half) = (draw([0.0, size], rng), 0.5 * size * draw(settings.shadow_size, rng));
        let bounds = [middle - half, middle + half].map(|at| at.round().clamp(0.0, size) as usize);
        inside.slice_axis_inplace(Axis(axis), Slice::from(bounds[0]..bounds[1]));
    }
    inside.mapv_inplace(|x| signal * x);
}

/// Gaussian noise of zero mean and unit variance, `[C, size...]`, smoothed along the spatial axes.
fn grain(shape: &[usize], passes: u32, rng: &mut ChaCha8Rng) -> Tensor {
    let mut noise = Tensor::from_shape_simple_fn(shape, || StandardNormal.sample(rng));
    let values = noise.as_slice_mut().expect("standard layout");
    for axis in 1..shape.len() {
        (0..passes).for_each(|_| smooth(values, shape, axis));
    }
    let deviation = smoothed_variance(passes).powi(shape.len() as i32 - 1).sqrt();
    noise.mapv_inplace(|n| n / deviation);
    noise
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{IxDyn, s};
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    /// A graded image with a labelled block in the middle.
    fn sample(channels: usize, size: &[usize]) -> Sample {
        let shape = [&[channels], size].concat();
        let image = Tensor::from_shape_fn(IxDyn(&shape), |index| (index[1] * 3 + index[2]) as f32);
        let middle = |index: &IxDyn| (0..size.len()).all(|axis| index[axis].abs_diff(size[axis] / 2) < size[axis] / 4);
        let labels = Labels::from_shape_fn(IxDyn(size), |index| if middle(&index) { 3 } else { 0 });
        Sample { image, labels, patches: None }
    }

    fn everything(axes: usize) -> Augmentation {
        let always = Augmentation {
            affine_probability: 1.0,
            elastic_probability: 1.0,
            stain_probability: 1.0,
            gamma_probability: 1.0,
            curve_probability: 1.0,
            gain_probability: 1.0,
            shadow_probability: 1.0,
            speckle_probability: 1.0,
            noise_probability: 1.0,
            ..Augmentation::default()
        };
        Augmentation { flip: vec![0.5; axes], ..always }
    }

    fn run(sample: &Sample, settings: &Augmentation, seed: u64) -> Sample {
        augment(sample, settings, Normalisation::MinMax, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn stains_change_each_channel_by_an_exponent_of_its_own() {
        let settings = Augmentation { stain_probability: 1.0, ..Augmentation::none() };
        let before = sample(3, &[8, 8]);
        let after = run(&before, &settings, 3).image;
        let plain = run(&before, &Augmentation::none(), 3).image;
        let exponent = |c: usize| after[[c, 4, 4]].ln() / plain[[c, 4, 4]].ln();
        let all: Vec<f32> = (0..3).map(exponent).collect();
        assert!(all.iter().all(|k| (0.69..1.41).contains(k)) && all[0] != all[1] && all[1] != all[2], "{all:?}");
    }

    #[test]
    fn a_curve_goes_through_its_knots_and_keeps_equal_values_equal() {
        let knots = [0.5, 0.0, 1.0, 0.25, 0.75];
        let at = |x| curve(&knots, x);
        assert_eq!([at(0.0), at(0.25), at(0.5), at(0.75), at(1.0)], knots);
        assert_eq!([at(0.125), at(0.875), at(-1.0), at(2.0)], [0.25, 0.5, 0.5, 0.75]);
        let settings = Augmentation { curve_probability: 1.0, curve: [1.0, 1.0], ..Augmentation::none() };
        let mut image = Tensor::from_shape_fn(IxDyn(&[1, 8, 8]), |index| if index[1] < 4 { 0.2 } else { 0.8 });
        change_intensities(&mut image, &settings, &mut ChaCha8Rng::seed_from_u64(5));
        let values: BTreeSet<u32> = image.iter().map(|x| x.to_bits()).collect();
        assert_eq!(values.len(), 2);
        assert!(image.iter().all(|x| (0.0..=1.0).contains(x)) && image[[0, 0, 0]] != 0.2);
    }

    #[test]
    fn shadows_are_boxes_of_the_size_asked_for() {
        let settings = Augmentation {
            shadow_probability: 1.0,
            shadows: 1,
            shadow_size: [0.2, 0.4],
            shadow_signal: [0.5, 0.5],
            ..Augmentation::none()
        };
        for (channels, size) in [(3, &[40, 60][..]), (1, &[40, 30, 20])] {
            let mut most = vec![0; size.len()];
            for seed in 0..60 {
                let mut image = Tensor::ones([&[channels], size].concat());
                change_intensities(&mut image, &settings, &mut ChaCha8Rng::seed_from_u64(seed));
                let dark: Vec<IxDyn> = image.indexed_iter().filter(|(_, x)| **x == 0.5).map(|(at, _)| at).collect();
                let sides: Vec<usize> = (0..=size.len())
                    .map(|axis| dark.iter().map(|at| at[axis]).collect::<BTreeSet<usize>>().len())
                    .collect();
                assert_eq!(dark.len(), sides.iter().product::<usize>(), "a full box, in every channel");
                assert_eq!(image.iter().filter(|x| **x == 1.0).count(), image.len() - dark.len());
                most.iter_mut().zip(&sides[1..]).for_each(|(most, side)| *most = (*most).max(*side));
            }
            for (most, size) in most.iter().zip(size) {
                let part = *most as f64 / *size as f64;
                assert!((0.3..=0.45).contains(&part), "{part}");
            }
        }
    }

    #[test]
    fn the_generator_alone_decides_and_labels_stay_labels() {
        for (channels, size) in [(1, &[20, 24][..]), (3, &[20, 24]), (1, &[12, 14, 10])] {
            let sample = sample(channels, size);
            let settings = everything(size.len());
            settings.validate(size.len()).unwrap();
            let changed = run(&sample, &settings, 5);
            let again = run(&sample, &settings, 5);
            assert_eq!((&changed.image, &changed.labels), (&again.image, &again.labels));
            assert_ne!(changed.image, run(&sample, &settings, 6).image);
            assert_eq!(changed.image.shape(), sample.image.shape());
            assert_eq!(changed.labels.iter().copied().collect::<BTreeSet<u8>>(), BTreeSet::from([0, 3]));
            let (low, high) = changed.image.iter().fold((1f32, 0f32), |(l, h), x| (l.min(*x), h.max(*x)));
            assert_eq!((low, high), (0.0, 1.0));
        }
    }

    #[test]
    fn nothing_happens_when_nothing_is_asked() {
        let sample = sample(1, &[16, 16]);
        let mut expected = sample.image.clone();
        normalise(&mut expected, Normalisation::MinMax);
        let same = run(&sample, &Augmentation::none(), 1);
        assert_eq!((same.image, same.labels), (expected, sample.labels));
    }

    #[test]
    fn image_and_labels_move_together() {
        // An image that equals its labels must still do so, but for the block's corners, after any deformation.
        let mut sample = sample(1, &[40, 40]);
        sample.image.slice_mut(s![0, .., ..]).assign(&sample.labels.mapv(f32::from));
        let affine = Augmentation { flip: vec![0.5, 0.5], affine_probability: 1.0, ..Augmentation::none() };
        for settings in [Augmentation { elastic_probability: 1.0, ..Augmentation::none() }, affine] {
            let moved = run(&sample, &settings, 3);
            assert_ne!(moved.labels, sample.labels);
            let differ = |(x, label): &(&f32, &u8)| **x != 0.5 && (**x > 0.5) != (**label == 3);
            assert!(moved.image.iter().zip(&moved.labels).filter(differ).count() <= 4);
        }
    }

    #[test]
    fn grain_has_unit_variance() {
        for passes in [0, 1, 3] {
            let noise = grain(&[1, 128, 128], passes, &mut ChaCha8Rng::seed_from_u64(2));
            let variance = noise.iter().map(|n| n * n).sum::<f32>() / noise.len() as f32;
            assert!((variance - 1.0).abs() < 0.1, "{passes} passes: {variance}");
        }
    }

    #[test]
    fn another_reader_draws_the_same_place_larger_or_smaller() {
        // Off the middle of the image: what grows must stay where it is.
        let labels = Labels::from_shape_fn(IxDyn(&[96, 80]), |index| {
            let [y, x] = [index[0] as f64 - 30.0, index[1] as f64 - 50.0];
            u8::from(y * y / 400.0 + x * x / 225.0 < 1.0)
        });
        let area = |labels: &Labels| labels.iter().filter(|label| **label == 1).count() as f64;
        let redrawn =
            |settings: &Augmentation, seed| redraw(labels.clone(), settings, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(redrawn(&Augmentation::default(), 1), labels);
        let settings = Augmentation { label_scale: 0.05, ..Augmentation::none() };
        let (mut sum, mut squares) = (0.0, 0.0);
        for seed in 0..400 {
            let other = redrawn(&settings, seed);
            let middle = middle_of_foreground(&other);
            assert!((middle[0] - 30.0).abs() < 0.6 && (middle[1] - 50.0).abs() < 0.6, "{middle:?}");
            let change = (area(&other) / area(&labels)).ln();
            (sum, squares) = (sum + change, squares + change * change);
        }
        // An area goes with the square of the magnification, in 2-D.
        let (mean, deviation) = (sum / 400.0, (squares / 400.0).sqrt());
        assert!(mean.abs() < 0.02 && (deviation - 0.1).abs() < 0.015, "{mean} {deviation}");
        let bent = redrawn(&Augmentation { label_elastic: 0.03, ..Augmentation::none() }, 5);
        assert!(bent != labels && (area(&bent) / area(&labels) - 1.0).abs() < 0.3);
        let empty = redraw(Labels::zeros(IxDyn(&[4, 6, 8])), &settings, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(empty, Labels::zeros(IxDyn(&[4, 6, 8])));
    }

    #[test]
    fn refuses_settings_out_of_range() {
        for text in [
            "flip: [0.5]",
            "noise_probability: 1.1",
            "scale: [0, 1]",
            "gamma: [2, 1]",
            "noise: [0, .nan]",
            "shadows: 0",
            "elastic_intervals: 0",
            "label_elastic_intervals: 17",
            "label_scale: -0.1",
            "label_elastic: .nan",
        ] {
            let settings: Augmentation = yaml_serde::from_str(text).unwrap();
            assert_eq!(settings.validate(2).unwrap_err().kind(), ErrorKind::Setting, "{text}");
        }
        assert!(yaml_serde::from_str::<Augmentation>("rotate: 3").is_err());
        Augmentation::default().validate(3).unwrap();
    }
}
