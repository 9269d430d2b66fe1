//! The loop over an image's windows; an image that the network sees as a whole is one window.

use ndarray::{Axis, Slice, concatenate};

use super::{SegmentOptions, Segmenter, Timings, WarmStart, argmax, join, no_samples, noise_keys, shapes};
use crate::calibration::Pooled;
use crate::diffusion::{NoiseKey, add_noise, normal_latent};
use crate::image::{Image, Labels};
use crate::preprocess::{least, probabilities_to_grid};
use crate::windows::Windows;
use crate::{Error, ErrorKind, Result, Tensor};

/// What came of all windows, on the grid that they were cut from.
pub(super) struct Blended {
    /// `[K, ...]`: class probabilities, averaged over the samples.
    pub(super) mean: Tensor,
    /// `[K, ...]` of each sample, where it was asked for.
    pub(super) samples: Vec<Tensor>,
    /// The latents that were decoded, one window's samples after the other's.
    pub(super) latents: Tensor,
    /// Of z_i, over all windows.
    pub(super) embedding: Pooled,
}

impl Segmenter {
    /// As [`Self::segment`], for an image that is resampled and normalised already, and on its grid: how training
    /// validates.
    ///
    /// # Shapes
    /// `input` `[C, ...]`: of the input size, or of any where the manifest's spacing asks for windows. Returns the class
    /// probabilities, averaged over the samples, `[K, ...]`.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn segment_grid(&mut self, input: &Tensor, options: &SegmentOptions) -> Result<Tensor> {
        options.check(self.manifest.timesteps)?;
        let manifest = &self.manifest;
        if input.ndim() != manifest.spatial_axes + 1 || input.shape()[0] != manifest.channels || input.is_empty() {
            let (found, channels, axes) = (input.shape(), manifest.channels, manifest.spatial_axes);
            let message = format!("has shape {found:?}, the bundle expects {channels} channels on {axes} axes");
            return Err(Error::new(ErrorKind::ShapeMismatch, message));
        }
        Ok(self.segment_windows(input, options, None, &mut Timings::default())?.mean)
    }

    /// The latents `[1, C, ...]` that [`Self::segment`] goes through with one sample, from the noise to the result, each
    /// with the label map that it decodes to, in the image's own grid; the latents are turned as the networks take them.
    ///
    /// # Errors
    /// As [`Self::segment`]; [`ErrorKind::Setting`] for more than one sample, or an image of several windows.
    pub fn trace(&mut self, image: &Image, options: &SegmentOptions) -> Result<Vec<(Tensor, Labels)>> {
        options.check(self.manifest.timesteps)?;
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
        if options.samples != 1 {
            return fail(format!("{} samples are asked for, expected 1: one latent is followed", options.samples));
        }
        let (image, back) = self.turned(image);
        let input = self.input(&image)?;
        let windows = Windows::new(&input.shape()[1..], &self.manifest.input_size);
        if windows.count() != 1 {
            return fail(format!("is seen in {} windows, expected 1: one latent is followed", windows.count()));
        }
        let window = windows.cut(input.view(), 0, &least(&input, self.manifest.normalisation)).insert_axis(Axis(0));
        let keys: Vec<_> = noise_keys(options).collect();
        let (noise, first) = self.start(&keys, None)?;
        let (mut latents, mut timings) = (vec![noise.clone()], Timings::default());
        let observe = &mut |_: usize, z: &Tensor| latents.push(z.clone());
        self.refine(&window, noise, first, &keys, options, observe, &mut timings)?;
        let grid = &image.data.shape()[1..];
        let traced = latents.into_iter().map(|z| {
            let own = windows.blend(&mut |_| Ok(self.decode(&z)?.index_axis_move(Axis(0), 0)))?;
            Ok((z, back.array(argmax(&probabilities_to_grid(&own, grid, self.manifest.resampling)))))
        });
        traced.collect()
    }

    /// Segments an input `[C, ...]` window by window; each window has noise of its own.
    pub(super) fn segment_windows(
        &mut self,
        input: &Tensor,
        options: &SegmentOptions,
        warm_start: Option<WarmStart<'_>>,
        timings: &mut Timings,
    ) -> Result<Blended> {
        let windows = Windows::new(&input.shape()[1..], &self.manifest.input_size);
        if let Some(warm_start) = warm_start {
            self.check_warm_start(warm_start, options, windows.count())?;
        }
        let around = least(input, self.manifest.normalisation);
        let (mut latents, mut embedding) = (Vec::with_capacity(windows.count()), Pooled::default());
        let blended = windows.blend(&mut |index| {
            let window = windows.cut(input.view(), index, &around).insert_axis(Axis(0));
            let keys: Vec<_> = noise_keys(options).map(|key| NoiseKey { window: index as u64, ..key }).collect();
            let (z_t, first) = self.start(&keys, warm_start)?;
            let (z, z_i) = self.refine(&window, z_t, first, &keys, options, &mut |_, _| {}, timings)?;
            embedding.add(&z_i);
            let probabilities = self.probabilities(&z, options, timings)?;
            latents.push(z);
            Ok(probabilities)
        })?;
        let classes = self.manifest.classes.len();
        let part =
            |from: usize| blended.slice_axis(Axis(0), Slice::from(from * classes..(from + 1) * classes)).to_owned();
        let samples = (1..blended.shape()[0] / classes).map(part).collect();
        let mean = if blended.shape()[0] == classes { blended } else { part(0) };
        Ok(Blended { mean, samples, latents: join(latents)?, embedding })
    }

    fn check_warm_start(&self, warm_start: WarmStart<'_>, options: &SegmentOptions, windows: usize) -> Result<()> {
        let WarmStart { latents, timestep } = warm_start;
        let expected = [&[windows * options.samples], self.manifest.latent_shape.as_slice()].concat();
        if latents.shape() != expected {
            let message = format!("a warm start from latents of shape {:?}, expected {expected:?}", latents.shape());
            return Err(Error::new(ErrorKind::ShapeMismatch, message));
        }
        let last = self.manifest.timesteps - 1;
        if !(options.steps..=last).contains(&timestep) {
            let message = format!("a warm start at timestep {timestep}, expected {} to {last}", options.steps);
            return Err(Error::new(ErrorKind::Setting, message));
        }
        Ok(())
    }

    /// A window's noisy latents `[samples, C, ...]` to refine, and their timestep.
    fn start(&self, keys: &[NoiseKey], warm_start: Option<WarmStart<'_>>) -> Result<(Tensor, usize)> {
        let shape = &self.manifest.latent_shape;
        let noise: Vec<_> = keys.iter().map(|key| normal_latent(*key, shape).insert_axis(Axis(0))).collect();
        let noise = join(noise)?;
        let Some(WarmStart { latents, timestep }) = warm_start else {
            return Ok((noise, self.manifest.timesteps - 1));
        };
        let before = keys[0].window as usize * keys.len();
        let latents = latents.slice_axis(Axis(0), Slice::from(before..before + keys.len())).to_owned();
        Ok((add_noise(&latents, &noise, self.schedule.alpha_bar(timestep)), timestep))
    }

    /// A window's probabilities: averaged over the samples `[K, ...]`, followed where asked for by each sample's own.
    fn probabilities(&mut self, z: &Tensor, options: &SegmentOptions, timings: &mut Timings) -> Result<Tensor> {
        let mut samples = Vec::new();
        let mut sum: Option<Tensor> = None;
        self.decode_in_groups(z, timings, &mut |probabilities| {
            if options.keep_samples {
                samples.extend(probabilities.axis_iter(Axis(0)).map(|own| own.to_owned()));
            }
            let one = probabilities.shape()[0] == 1;
            let group = if one { probabilities.index_axis_move(Axis(0), 0) } else { probabilities.sum_axis(Axis(0)) };
            sum = Some(match sum.take() {
                Some(sum) => sum + group,
                None => group,
            });
        })?;
        let mut mean = sum.ok_or_else(no_samples)?;
        if options.samples > 1 {
            mean /= options.samples as f32;
        }
        if samples.is_empty() {
            return Ok(mean);
        }
        let all: Vec<_> = std::iter::once(&mean).chain(&samples).map(|own| own.view()).collect();
        concatenate(Axis(0), &all).map_err(shapes)
    }
}
