//! The segmenter with networks made of plain arithmetic.

use std::sync::{Arc, Mutex};

use ndarray::{ArrayD, s};

use super::*;
use crate::bundle::test_support::manifest;
use crate::diffusion::{add_noise, normal_latent};
use crate::image::{Geometry, Orientation, OrientationPolicy};
use crate::preprocess::SpacingPolicy;

/// A network that is a function, and the shapes of the first input of every call.
struct Fake {
    calls: Calls,
    f: fn(&[&Tensor]) -> Tensor,
}

type Calls = Arc<Mutex<Vec<Vec<usize>>>>;

impl Network for Fake {
    fn run(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        self.calls.lock().unwrap().push(inputs[0].shape().to_vec());
        Ok(vec![(self.f)(inputs)])
    }
}

/// `[N, 1, 4, 6]` -> `[N, 1, 2, 3]`: every other pixel.
fn encode(inputs: &[&Tensor]) -> Tensor {
    inputs[0].slice(s![.., .., ..;2, ..;2]).to_owned().into_dyn()
}

/// Predicts z_0 = 6 z_i - 3 with a trace of the noise.
fn denoise(inputs: &[&Tensor]) -> Tensor {
    let (z_t, z_i, t) = (inputs[0], inputs[1], inputs[2]);
    assert_eq!((z_t.shape(), t.shape()), (z_i.shape(), &z_t.shape()[..1]));
    z_i * 6.0 - 3.0 + z_t * 0.1
}

/// `[N, 1, 2, 3]` -> `[N, 3, 4, 6]`: class 1 where z is high, a little of class 2 everywhere.
fn decode(inputs: &[&Tensor]) -> Tensor {
    let z = inputs[0];
    ArrayD::from_shape_fn(vec![z.shape()[0], 3, 4, 6], |i| {
        let cavity = 0.9 / (1.0 + (-z[[i[0], 0, i[2] / 2, i[3] / 2]]).exp());
        [0.9 - cavity, cavity, 0.1][i[1]]
    })
}

fn segmenter() -> (Segmenter, [Calls; 3]) {
    let calls: [Calls; 3] = Default::default();
    let fake = |i: usize, f| Box::new(Fake { calls: calls[i].clone(), f });
    let segmenter = Segmenter::from_networks(manifest(), fake(0, encode), fake(1, denoise), fake(2, decode)).unwrap();
    (segmenter, calls)
}

/// 8 x 12 pixels, the right half bright.
fn image() -> Image {
    let data = ArrayD::from_shape_fn(vec![1, 8, 12], |i| if i[2] < 6 { 10.0 } else { 200.0 });
    Image { data, geometry: Geometry::with_spacing(vec![1.0, 1.0]) }
}

#[test]
fn what_is_no_probability_is_an_error() {
    for (f, expected) in [
        ((|_| Tensor::from_elem(vec![1, 3, 4, 6], -0.1)) as fn(&[&Tensor]) -> Tensor, "gives -0.1"),
        (|_| Tensor::from_elem(vec![1, 3, 4, 6], 1e30), "gives 1000000000000000000000000000000"),
        (|_| Tensor::zeros(vec![1, 3, 4, 6]), "gives classes of sum 0"),
        (|_| Tensor::from_elem(vec![1, 3, 4, 6], 0.4), "gives classes of sum 1.2"),
        (|_| Tensor::from_elem(vec![1, 3, 4, 6], f32::NAN), "gives NaN"),
    ] {
        let fake = |f| Box::new(Fake { calls: Calls::default(), f });
        let mut segmenter = Segmenter::from_networks(manifest(), fake(encode), fake(denoise), fake(f)).unwrap();
        let error = segmenter.segment(&image(), &SegmentOptions::defaults(&manifest())).unwrap_err();
        assert!(error.kind() == ErrorKind::Engine && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn segments_in_the_images_own_grid() {
    let (mut segmenter, calls) = segmenter();
    let options = SegmentOptions { samples: 3, steps: 2, ..SegmentOptions::defaults(&manifest()) };
    let result = segmenter.segment(&image(), &options).unwrap();

    assert_eq!(result.labels.shape(), [8, 12]);
    assert_eq!(result.probabilities.shape(), [3, 8, 12]);
    assert_eq!((result.labels[[4, 1]], result.labels[[4, 10]]), (0, 1));
    assert!(result.probabilities.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    assert!(result.uncertainty.iter().all(|u| (0.0..=1.0).contains(u)));
    assert!(result.uncertainty[[4, 6]] > result.uncertainty[[4, 11]], "less sure at the edge");

    let calls = calls.map(|calls| calls.lock().unwrap().clone());
    assert_eq!(calls[0], [[1, 1, 4, 6]], "the image is encoded once");
    assert_eq!(calls[1], [[3, 1, 2, 3], [3, 1, 2, 3]], "the samples are one batch, a call a step");
    assert_eq!(calls[2], [[3, 1, 2, 3]]);
}

#[test]
fn samples_are_averaged_and_do_not_depend_on_the_batch() {
    let (mut segmenter, _) = segmenter();
    for sampler in [Sampler::Ddim, Sampler::Ddpm] {
        // More than one group of samples.
        let options = SegmentOptions { samples: 18, seed: 5, sampler, ..SegmentOptions::defaults(&manifest()) };
        let input = segmenter.input(&image()).unwrap().insert_axis(Axis(0));
        let noise: Vec<_> =
            noise_keys(&options).map(|key| normal_latent(key, &[1, 2, 3]).insert_axis(Axis(0))).collect();
        let mut steps = Vec::new();
        let all = segmenter
            .run_latent(&input, join(noise.clone()).unwrap(), &options, &mut |step, z| steps.push((step, z.shape()[0])))
            .unwrap();
        let expected = [16, 2].iter().flat_map(|&group| (1..=4).map(move |step| (step, group)));
        assert_eq!(steps, expected.collect::<Vec<_>>());

        let alone = segmenter.run_latent(&input, noise[0].clone(), &options, &mut |_, _| {}).unwrap();
        assert_eq!(all.slice(s![..1, .., .., ..]), alone.slice(s![.., .., .., ..]));
        assert_ne!(all.slice(s![1..2, .., .., ..]), alone.slice(s![.., .., .., ..]), "every sample has its own noise");

        let mean = probabilities_to_grid(&(all.sum_axis(Axis(0)) / 18.0), &[8, 12], manifest().resampling);
        let result = segmenter.segment(&image(), &options).unwrap();
        assert!((mean - &result.probabilities).iter().all(|d| d.abs() < 1e-6));
        assert_eq!(result.probabilities, segmenter.segment(&image(), &options).unwrap().probabilities);
    }
}

/// The fake denoiser leaves a tenth of z_t in its estimate of z_0.
#[test]
fn a_warm_start_refines_the_given_latents_noised_anew() {
    let (mut segmenter, _) = segmenter();
    let options = SegmentOptions {
        samples: 2,
        steps: 1,
        sampler: Sampler::Direct,
        keep_samples: true,
        ..SegmentOptions::defaults(&manifest())
    };
    let cold = segmenter.segment(&image(), &options).unwrap();
    assert_eq!((cold.samples.len(), cold.latents.shape()), (2, &[2, 1, 2, 3][..]));
    let next = SegmentOptions { frame: 1, ..options.clone() };
    let warm = WarmStart { latents: &cold.latents, timestep: 400 };
    let found = segmenter.segment_from(&image(), &next, Some(warm)).unwrap();

    let noise: Vec<_> = noise_keys(&next).map(|key| normal_latent(key, &[1, 2, 3]).insert_axis(Axis(0))).collect();
    let z_t = add_noise(&cold.latents, &join(noise).unwrap(), segmenter.schedule.alpha_bar(400));
    let z_i = encode(&[&segmenter.input(&image()).unwrap().insert_axis(Axis(0))]);
    let expected = z_t * 0.1 + &(z_i * 6.0 - 3.0);
    assert!((expected - &found.latents).iter().all(|d| d.abs() < 1e-6));

    let wrong = WarmStart { latents: &cold.latents, timestep: 1000 };
    assert_eq!(segmenter.segment_from(&image(), &next, Some(wrong)).unwrap_err().kind(), ErrorKind::Setting);
    let one = SegmentOptions { samples: 1, ..next };
    assert_eq!(segmenter.segment_from(&image(), &one, Some(warm)).unwrap_err().kind(), ErrorKind::ShapeMismatch);
}

/// The same networks for images resampled to pixels of 1 mm, in windows of 4 x 6.
fn windowed() -> (Segmenter, [Calls; 3]) {
    let (mut segmenter, calls) = segmenter();
    segmenter.manifest.spacing = SpacingPolicy::Resample(vec![1.0, 1.0]);
    (segmenter, calls)
}

#[test]
fn one_window_answers_as_a_stretched_image_does() {
    let ((mut whole, _), (mut windows, _)) = (segmenter(), windowed());
    // 8 x 12 pixels of 0.5 mm are one window.
    let image = Image { geometry: Geometry::with_spacing(vec![0.5, 0.5]), ..image() };
    for sampler in Sampler::ALL {
        let steps = if sampler == Sampler::Direct { 1 } else { 3 };
        let options = SegmentOptions { samples: 3, seed: 2, sampler, steps, ..SegmentOptions::defaults(&manifest()) };
        let [a, b] = [&mut whole, &mut windows].map(|segmenter| segmenter.segment(&image, &options).unwrap());
        assert_eq!((a.labels, a.probabilities, a.uncertainty), (b.labels, b.probabilities, b.uncertainty), "{sampler}");
    }
}

#[test]
fn a_larger_image_is_segmented_in_windows_with_noise_of_their_own() {
    let (mut segmenter, calls) = windowed();
    let options = SegmentOptions { samples: 2, ..SegmentOptions::defaults(&manifest()) };
    let result = segmenter.segment(&image(), &options).unwrap();
    assert_eq!(result.probabilities.shape(), [3, 8, 12]);
    assert!(result.probabilities.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    let encoded = calls[0].lock().unwrap().len();
    assert_eq!(encoded, 9, "3 x 3 windows of 4 x 6 over 8 x 12");
    assert_eq!(calls[1].lock().unwrap().len(), 9 * options.steps);
    assert_eq!(result.probabilities, segmenter.segment(&image(), &options).unwrap().probabilities);

    // Each window goes on from latents of its own.
    assert_eq!(result.latents.shape(), [18, 1, 2, 3]);
    let warm = WarmStart { latents: &result.latents, timestep: 400 };
    assert_eq!(segmenter.segment_from(&image(), &options, Some(warm)).unwrap().latents.shape(), [18, 1, 2, 3]);
    let one = result.latents.slice(s![..2, .., .., ..]).to_owned().into_dyn();
    let warm = WarmStart { latents: &one, timestep: 400 };
    let error = segmenter.segment_from(&image(), &options, Some(warm)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    // The samples' own maps are blended too, and leave the average alone.
    let kept = segmenter.segment(&image(), &SegmentOptions { keep_samples: true, ..options.clone() }).unwrap();
    assert_eq!(kept.probabilities, result.probabilities);
    assert_eq!(kept.samples.iter().map(|own| own.shape()).collect::<Vec<_>>(), [[8, 12]; 2]);

    // On an image that is the same everywhere only noise tells windows apart.
    let flat = Image { data: ArrayD::zeros(vec![1, 8, 12]), ..image() };
    let answer = segmenter.segment(&flat, &options).unwrap().probabilities;
    assert_ne!(answer[[1, 0, 0]], answer[[1, 0, 11]]);
    assert_ne!(answer[[1, 0, 0]], answer[[1, 7, 0]]);
}

#[test]
fn a_smaller_image_is_surrounded_by_its_least_intensity() {
    let (mut segmenter, _) = windowed();
    let data = ArrayD::from_shape_fn(vec![1, 2, 6], |i| i[2] as f32);
    let small = Image { data, ..image() };
    let padded = ArrayD::from_shape_fn(vec![1, 4, 6], |i| if (1..3).contains(&i[1]) { i[2] as f32 } else { 0.0 });
    let padded = Image { data: padded, ..image() };
    let options = SegmentOptions::defaults(&manifest());
    let [small, padded] = [small, padded].map(|image| segmenter.segment(&image, &options).unwrap().probabilities);
    assert_eq!(small, padded.slice(s![.., 1..3, ..]).into_dyn());
}

#[test]
fn what_the_model_cannot_take_is_refused() {
    let (mut segmenter, _) = segmenter();
    let defaults = SegmentOptions::defaults(&manifest());
    let volume = Image { data: ArrayD::zeros(vec![1, 3, 8, 12]), geometry: Geometry::default() };
    let error = segmenter.segment(&volume, &defaults).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    assert!(error.to_string().contains("is a 3-D volume, the bundle expects 2-D images"), "{error}");

    for shape in [&[1, 8][..], &[2, 4, 6], &[1, 0, 6], &[1, 4, 6, 2]] {
        let error = segmenter.segment_grid(&ArrayD::zeros(shape), &defaults).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch, "{shape:?}");
    }
    for wrong in [
        SegmentOptions { steps: 0, ..defaults.clone() },
        SegmentOptions { steps: 1000, ..defaults.clone() },
        SegmentOptions { samples: 0, ..defaults.clone() },
        SegmentOptions { sampler: Sampler::Direct, ..defaults.clone() },
    ] {
        assert_eq!(segmenter.segment(&image(), &wrong).unwrap_err().kind(), ErrorKind::Setting, "{wrong:?}");
    }
}

#[test]
fn argmax_takes_the_lowest_of_equals() {
    let probabilities = ndarray::array![[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]].into_dyn();
    assert_eq!(argmax(&probabilities).as_slice().unwrap(), [0, 0, 1]);
}

#[test]
fn what_was_cut_out_comes_back_in_its_place() {
    let part = Region { top: 1, left: 2, height: 2, width: 3 };
    let data = Tensor::from_shape_fn(ndarray::IxDyn(&[1, 4, 6]), |i| (i[1] * 6 + i[2]) as f32);
    let image = Image { data, geometry: Geometry::default() };
    let cut = part.crop(&image).unwrap();
    assert_eq!(cut.data.iter().copied().collect::<Vec<_>>(), [8.0, 9.0, 10.0, 14.0, 15.0, 16.0]);
    let probabilities = Tensor::from_shape_fn(ndarray::IxDyn(&[2, 2, 3]), |i| if i[0] == 0 { 0.25 } else { 0.75 });
    let segmentation = Segmentation {
        labels: crate::image::Labels::ones(ndarray::IxDyn(&[2, 3])),
        probabilities,
        uncertainty: Tensor::ones(ndarray::IxDyn(&[2, 3])),
        samples: vec![crate::image::Labels::ones(ndarray::IxDyn(&[2, 3]))],
        latents: Tensor::zeros(ndarray::IxDyn(&[1, 1])),
        statistics: Vec::new(),
        steps: 1,
        timings: Default::default(),
    };
    let whole = segmentation.within(part, [4, 6]).unwrap();
    assert_eq!((whole.labels.sum(), whole.labels[[1, 2]], whole.labels[[2, 4]]), (6, 1, 1));
    assert_eq!((whole.uncertainty.sum(), whole.samples[0].sum()), (6.0, 6));
    assert!(whole.probabilities.sum_axis(Axis(0)).iter().all(|&p| p == 1.0));
    assert_eq!((whole.probabilities[[1, 0, 0]], whole.probabilities[[1, 1, 2]]), (0.0, 0.75));
    let beyond = Region { width: 5, ..part };
    assert_eq!(beyond.crop(&image).unwrap_err().kind(), ErrorKind::ShapeMismatch);
}

/// A segmenter of volumes whose answer depends on where a voxel lies: the further along the first axis, the more is class 1.
fn volumes(orientation: Option<OrientationPolicy>) -> Segmenter {
    fn encode(inputs: &[&Tensor]) -> Tensor {
        inputs[0].slice(s![.., .., ..;2, ..;2, ..;2]).to_owned().into_dyn()
    }
    fn decode(inputs: &[&Tensor]) -> Tensor {
        let z = inputs[0];
        ArrayD::from_shape_fn(vec![z.shape()[0], 3, 4, 6, 2], |i| {
            let high = z[[i[0], 0, i[2] / 2, i[3] / 2, i[4] / 2]] + i[2] as f32 - 2.0 + 0.3 * i[3] as f32;
            let cavity = 0.9 / (1.0 + (-high).exp());
            [0.9 - cavity, cavity, 0.1][i[1]]
        })
    }
    let manifest = Manifest {
        spatial_axes: 3,
        input_size: vec![4, 6, 2],
        latent_shape: vec![1, 2, 3, 1],
        orientation,
        ..manifest()
    };
    manifest.validate().unwrap();
    let fake = |f| Box::new(Fake { calls: Calls::default(), f });
    Segmenter::from_networks(manifest, fake(encode), fake(denoise), fake(decode)).unwrap()
}

#[test]
fn however_a_volume_is_stored_its_segmentation_is_the_same() {
    let affine = [[0.1, 0.0, 0.7, 10.0], [-0.2, 2.0, 0.1, -20.0], [4.0, 0.3, 0.0, 30.0]];
    let data = ArrayD::from_shape_fn(vec![1, 5, 7, 6], |i| ((i[1] * 31 + i[2] * 17 + i[3] * 7) % 23) as f32);
    let image = Image { data, geometry: Geometry::with_spacing(vec![4.0, 2.0, 0.7]).placed(affine) };
    assert_eq!(image.geometry.orientation(), Some(Orientation::RAS));
    let options = SegmentOptions { samples: 2, keep_samples: true, ..SegmentOptions::defaults(&manifest()) };
    let mut segmenter = volumes(None);
    let expected = segmenter.segment(&image, &options).unwrap();
    assert!((0..2).all(|label| expected.labels.iter().any(|found| *found == label)), "{:?}", expected.labels);
    let traced = segmenter.trace(&image, &SegmentOptions { samples: 1, ..options.clone() }).unwrap();
    let mut stored = volumes(Some(OrientationPolicy::Stored));
    assert_eq!(stored.segment(&image, &options).unwrap().labels, expected.labels);
    let mut differ = 0;
    for orientation in Orientation::all() {
        let turn = Orientation::RAS.turn_to(orientation);
        let turned = turn.image(image.clone());
        let found = segmenter.segment(&turned, &options).unwrap();
        let back = turn.inverse();
        assert_eq!(back.array(found.labels.clone()), expected.labels, "{orientation}");
        assert_eq!(back.array(found.probabilities.clone()), expected.probabilities, "{orientation}");
        assert_eq!(back.array(found.uncertainty), expected.uncertainty, "{orientation}");
        assert_eq!(found.samples.into_iter().map(|map| back.array(map)).collect::<Vec<_>>(), expected.samples);
        let last = segmenter.trace(&turned, &SegmentOptions { samples: 1, ..options.clone() }).unwrap().pop().unwrap();
        assert_eq!(back.array(last.1), traced.last().unwrap().1, "{orientation}");
        // A bundle that takes volumes as they are stored answers otherwise, as does one without the affine.
        differ += usize::from(back.array(stored.segment(&turned, &options).unwrap().labels) != expected.labels);
        let unplaced = Image { geometry: Geometry { affine: None, ..turned.geometry }, ..turned };
        let unplaced = segmenter.segment(&unplaced, &options).unwrap().labels;
        assert_eq!(unplaced, stored.segment(&turn.image(image.clone()), &options).unwrap().labels);
    }
    assert_eq!(differ, 47);
    let mut lps = volumes(Some(OrientationPolicy::Turned("LPS".parse().unwrap())));
    let turn = Orientation::RAS.turn_to("LPS".parse().unwrap());
    let direct = stored.segment(&turn.image(image.clone()), &options).unwrap();
    assert_eq!(lps.segment(&image, &options).unwrap().labels, turn.inverse().array(direct.labels));
}
