//! Random patches of cases that the network sees in windows: where they lie, and how they are cut and changed.

use ldseg::Tensor;
use ldseg::image::Labels;
use ldseg::preprocess::{Normalisation, Scale, normalise, scales};
use ldseg::windows::{cut, padded_start};
use ndarray::Axis;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::augment::{change_intensities, deform, draw_deformation};
use super::{Augmentation, Sample};

/// Most voxels of a class whose places are kept, as in nnU-Net.
const PLACES: usize = 10_000;

/// What has to be known of a whole case to draw patches from it.
#[derive(Debug, Clone)]
pub struct Patches {
    /// From [0, 1] to what the network takes, for each channel. Over the whole case, as when it is segmented.
    scales: Vec<Scale>,
    /// For each class but background that the case holds, C-order indices of its voxels, evenly thinned out.
    foreground: Vec<Vec<u32>>,
}

/// How patches are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchSpec {
    /// The network's input size.
    pub size: Vec<usize>,
    /// Part of the patches that are centred on a voxel of the foreground.
    pub foreground: f64,
}

impl Patches {
    /// Looks at a case, whose intensities `[C, size...]` are brought to [0, 1] over the case.
    pub fn new(image: &mut Tensor, labels: &Labels, normalisation: Normalisation) -> Self {
        normalise(image, normalisation.to_unit());
        let mut counts = [0_usize; 256];
        labels.iter().for_each(|label| counts[usize::from(*label)] += 1);
        let mut foreground = vec![Vec::new(); 256];
        let mut seen = [0_usize; 256];
        for (index, class) in labels.iter().map(|label| usize::from(*label)).enumerate().filter(|(_, class)| *class > 0)
        {
            if seen[class].is_multiple_of(counts[class].div_ceil(PLACES)) {
                foreground[class].push(index as u32);
            }
            seen[class] += 1;
        }
        foreground.retain(|places| !places.is_empty());
        Self { scales: scales(image, normalisation), foreground }
    }

    /// Where a patch begins along each axis of the `grid`. One in the foreground is centred on a voxel, as far as the
    /// border lets it, of a class drawn evenly of those that the case holds (Isensee et al. 2021). A shorter axis lies in
    /// the middle of the patch.
    fn start(&self, grid: &[usize], spec: &PatchSpec, rng: &mut ChaCha8Rng) -> Vec<isize> {
        let mut centre = None;
        if rng.random::<f64>() < spec.foreground && !self.foreground.is_empty() {
            let places = &self.foreground[rng.random_range(0..self.foreground.len())];
            centre = Some(places[rng.random_range(0..places.len())] as usize);
        }
        let mut start = vec![0; grid.len()];
        for axis in (0..grid.len()).rev() {
            let (length, size) = (grid[axis], spec.size[axis]);
            let at = centre.as_mut().map(|index| {
                let at = *index % length;
                *index /= length;
                at
            });
            start[axis] = match (length.checked_sub(size), at) {
                (None, _) => padded_start(length, size),
                (Some(span), None) => rng.random_range(0..=span) as isize,
                (Some(span), Some(at)) => at.saturating_sub(size / 2).min(span) as isize,
            };
        }
        start
    }
}

/// A random patch of `sample`, changed, as the network takes it. `rng` alone decides what happens.
///
/// The deformation reads the whole case, so the corners of a turned patch hold what lies there. Outside of the case are
/// its least intensity and background. Intensities are normalised over the case before they are changed, and not anew:
/// a patch alone does not know the case's extremes.
pub fn augment_patch(
    sample: &Sample,
    patches: &Patches,
    spec: &PatchSpec,
    settings: &Augmentation,
    rng: &mut ChaCha8Rng,
) -> Sample {
    let start = patches.start(sample.labels.shape(), spec, rng);
    let (mut image, labels) = match draw_deformation(settings, &spec.size, rng) {
        Some(deformation) => {
            let deformation = deformation.of_part(sample.labels.shape(), &start);
            deform(&deformation, &spec.size, &sample.image, &sample.labels)
        }
        None => {
            let labels = cut(sample.labels.view().insert_axis(Axis(0)), &start, &spec.size, &[0]);
            let outside = vec![0.0; sample.image.shape()[0]];
            (cut(sample.image.view(), &start, &spec.size, &outside), labels.index_axis_move(Axis(0), 0))
        }
    };
    change_intensities(&mut image, settings, rng);
    image.axis_iter_mut(Axis(0)).zip(&patches.scales).for_each(|(channel, scale)| scale.apply(channel));
    Sample { image, labels, patches: None }
}

#[cfg(test)]
mod tests {
    use ndarray::{IxDyn, s};
    use rand::SeedableRng;

    use super::*;

    /// A case of two channels with a rare class 1 and a common class 2.
    fn case(grid: &[usize], normalisation: Normalisation) -> Sample {
        let mut value = 0.3_f32;
        let mut image = Tensor::from_shape_simple_fn([&[2], grid].concat(), || {
            value = (value * 1.9 + 0.41) % 1.0;
            50.0 + 100.0 * value
        });
        let corner = |index: &IxDyn| (0..grid.len()).all(|axis| index[axis] < 2);
        let labels = Labels::from_shape_fn(grid, |index| if corner(&index) { 1 } else { 2 * u8::from(index[0] > 20) });
        let patches = Patches::new(&mut image, &labels, normalisation);
        Sample { image, labels, patches: Some(patches) }
    }

    fn draw(sample: &Sample, spec: &PatchSpec, settings: &Augmentation, seed: u64) -> Sample {
        let patches = sample.patches.as_ref().unwrap();
        augment_patch(sample, patches, spec, settings, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn the_stated_part_of_patches_is_centred_on_an_evenly_drawn_class() {
        let sample = case(&[40, 60], Normalisation::MinMax);
        let share = |foreground: f64| {
            let spec = PatchSpec { size: vec![8, 8], foreground };
            let rare = |seed| draw(&sample, &spec, &Augmentation::none(), seed).labels.iter().any(|label| *label == 1);
            (0..2000).filter(|seed| rare(*seed)).count() as f64 / 2000.0
        };
        // By chance 3 of 33 x 53 places; of the patches in the foreground half.
        assert!(share(0.0) < 0.01);
        assert!((share(1.0) - 0.5).abs() < 0.05, "{}", share(1.0));
        assert!((share(1.0 / 3.0) - 1.0 / 6.0).abs() < 0.04, "{}", share(1.0 / 3.0));
        let none = Patches::new(&mut Tensor::zeros(vec![1, 9, 9]), &Labels::zeros(vec![9, 9]), Normalisation::MinMax);
        assert!(none.foreground.is_empty());
    }

    #[test]
    fn patches_lie_inside_and_shorter_axes_in_the_middle() {
        let sample = case(&[40, 5, 30], Normalisation::MinMax);
        let spec = PatchSpec { size: vec![16, 8, 16], foreground: 0.5 };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..200 {
            let start = sample.patches.as_ref().unwrap().start(&[40, 5, 30], &spec, &mut rng);
            assert!((0..=24).contains(&start[0]) && start[1] == -1 && (0..=14).contains(&start[2]), "{start:?}");
        }
        let patch = draw(&sample, &spec, &Augmentation::none(), 3);
        assert_eq!((patch.image.shape(), patch.labels.shape()), (&[2, 16, 8, 16][..], &[16, 8, 16][..]));
        assert!(patch.image.slice(s![.., .., 0, ..]).iter().all(|value| *value == 0.0));
    }

    #[test]
    fn patches_hold_what_the_normalised_case_holds() {
        for normalisation in [Normalisation::MinMax, Normalisation::ZScore, Normalisation::ZScorePerChannel] {
            let sample = case(&[40, 60], normalisation);
            let mut whole = sample.image.clone();
            normalise(&mut whole, normalisation);
            let spec = PatchSpec { size: vec![16, 24], foreground: 0.5 };
            for seed in 0..20 {
                let patch = draw(&sample, &spec, &Augmentation::none(), seed);
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let start = sample.patches.as_ref().unwrap().start(&[40, 60], &spec, &mut rng);
                assert_eq!(patch.image, cut(whole.view(), &start, &[16, 24], &[0.0; 2]));
            }
        }
    }

    #[test]
    fn a_deformation_reads_beyond_the_patch() {
        // All of the case is bright: so must be all of a turned patch far from the case's border.
        let mut image = Tensor::from_elem(vec![1, 200, 200], 5.0);
        image[[0, 0, 0]] = 1.0;
        let labels = Labels::from_shape_fn(vec![200, 200], |index| u8::from((80..120).contains(&index[0])));
        let patches = Patches::new(&mut image, &labels, Normalisation::MinMax);
        let sample = Sample { image, labels, patches: Some(patches) };
        let settings = Augmentation { affine_probability: 1.0, rotation: 45.0, ..Augmentation::none() };
        let spec = PatchSpec { size: vec![32, 32], foreground: 1.0 };
        let mut turned = 0;
        for seed in 0..20 {
            let patch = draw(&sample, &spec, &settings, seed);
            // Foreground columns may be anywhere, so a patch may touch the border.
            turned += usize::from(patch.image.iter().all(|value| (*value - 1.0).abs() < 1e-5));
            assert_eq!(patch.image, draw(&sample, &spec, &settings, seed).image);
        }
        assert!(turned > 10, "{turned} of 20");
    }
}
