//! What a bundle answers on patients whose truth is known: all that calibration is fitted to.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;

use ldseg::Result;
use ldseg::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER, Manifest};
use ldseg::calibration::{Quantity, Voxels};
use ldseg::engine::EngineOptions;
use ldseg::image::{Image, Labels};
use ldseg::metrics::dice_per_class;
use ldseg::segmenter::{SegmentOptions, Segmentation, Segmenter};
use ldseg::uncertainty::expected_dice;
use ldseg_evaluate::metrics::sampling::{Reliability, foreground_box, reliability};
use ldseg_evaluate::scoring::{ClassSpec, labels_of};
use ldseg_recording::heart::{FrameVentricle, LeftHeart, Measured, heartbeat};
use ldseg_recording::{Prepared, Wish};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::data::{Augmentation, Case, Spec, augment, load_case};

/// Most voxels of one image that a temperature is fitted to.
const VOXELS: usize = 20_000;
/// Of so many training images one is also seen changed as in training: what the networks were taught to bear is of the
/// right kind, but the less usual part of it.
const CHANGED_EVERY: usize = 3;

/// The answer about one image, beside the truth.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The case's name.
    pub name: String,
    /// Whose image it is.
    pub patient: String,
    /// [`ldseg::calibration::statistics`].
    pub statistics: Vec<f64>,
    /// For each class, as the probabilities have it.
    pub expected_dice: Vec<Option<f64>>,
    /// For each class against the truth; NaN where neither has it.
    pub dice: Vec<f64>,
    /// Near the foreground.
    pub reliability: Reliability,
    /// The heart, where the bundle measures it.
    pub measured: Vec<Pair>,
    /// The ventricle as it was found, in each sample, and in truth.
    ventricle: [FrameVentricle; 2],
}

impl Record {
    /// The samples of another answer about the same image.
    pub(super) fn take_samples(&mut self, other: Self) {
        self.ventricle[0].samples.clone_from(&other.ventricle[0].samples);
        for (own, other) in self.measured.iter_mut().zip(other.measured) {
            own.samples = other.samples;
        }
    }
}

/// A measure as it was found and as it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    /// What is measured.
    pub quantity: Quantity,
    /// `None` where it could not be measured.
    pub found: Option<f64>,
    /// In the reference.
    pub truth: f64,
    /// In each sample's label map.
    pub samples: Vec<f64>,
}

/// What answers: a bundle, at some temperature, with some number of samples.
pub(super) struct Asked<'a> {
    /// The networks.
    pub bundle: &'a Bundle,
    /// Its manifest, or that with a temperature.
    pub manifest: Manifest,
    /// Settings.
    pub options: SegmentOptions,
    /// Height and width in mm of pixels of files that don't tell it.
    pub spacing: Option<[f64; 2]>,
}

/// One case's image with its segmentation.
struct Answer {
    found: Segmentation,
    image: Image,
    /// Of its pixels.
    spacing: [f64; 2],
}

impl Asked<'_> {
    /// Does `work` on every item, a segmenter a core.
    fn on_all_cores<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&mut Segmenter, &T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let engine = EngineOptions { threads: 1, ..EngineOptions::default() };
        let one = |items: &[T]| -> Result<Vec<R>> {
            let load = |name: &str| self.bundle.load_network(name, &engine);
            let (encoder, denoiser, decoder) = (load(IMAGE_ENCODER)?, load(DENOISER)?, load(LABEL_DECODER)?);
            let mut segmenter = Segmenter::from_networks(self.manifest.clone(), encoder, denoiser, decoder)?;
            items.iter().map(|item| work(&mut segmenter, item)).collect()
        };
        let chunks = items.chunks(items.len().div_ceil(cores).max(1));
        let done: Vec<Result<Vec<R>>> = thread::scope(|scope| {
            let workers: Vec<_> = chunks.map(|chunk| scope.spawn(|| one(chunk))).collect();
            let results = workers.into_iter().map(|worker| worker.join());
            results.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        done.into_iter().try_fold(Vec::new(), |mut all, done| {
            all.extend(done?);
            Ok(all)
        })
    }

    fn segment(&self, segmenter: &mut Segmenter, case: &Case) -> Result<Answer> {
        let prepared = Prepared::open(&case.images, self.manifest.channels, &Wish::default())?;
        let image = prepared.still()?;
        let respaced = match (image.spacing(), self.spacing, image.spatial_axes()) {
            (None, Some(given), 2) => {
                Some(Image { data: image.data.clone(), geometry: image.geometry.clone().respaced(given.to_vec()) })
            }
            _ => None,
        };
        let seen = respaced.as_ref().unwrap_or(&image);
        let found = segmenter.segment(seen, &self.options).map_err(|e| e.in_file(case.image()))?;
        // Where nobody tells the spacing, only the ratio of what is measured to its error counts.
        let spacing = seen.spacing().and_then(|known| known.try_into().ok()).unwrap_or([1.0; 2]);
        Ok(Answer { found, image, spacing })
    }

    /// The truth, as the image is stored.
    fn reference(&self, case: &Case, classes: &[ClassSpec], image: &Image) -> Result<Labels> {
        labels_of(image, case.image(), &case.labels, Some(classes), self.manifest.classes.len())
    }

    /// Voxels near the foreground, to fit a temperature to.
    ///
    /// # Errors
    /// Those of reading and segmenting.
    pub(super) fn voxels(&self, cases: &[Case], classes: &[ClassSpec]) -> Result<Vec<Voxels>> {
        self.on_all_cores(cases, |segmenter, case| {
            let Answer { found, image, .. } = self.segment(segmenter, case)?;
            let reference = self.reference(case, classes, &image)?;
            let mut voxels = Voxels::default();
            if let Some(bounds) = foreground_box(&found.labels, &reference) {
                let inside = |at: &[usize]| at.iter().zip(&bounds).all(|(i, [first, end])| (*first..*end).contains(i));
                voxels.add(&found.probabilities, &reference, &inside, VOXELS);
            }
            Ok(voxels)
        })
    }

    /// One record a case.
    ///
    /// # Errors
    /// Those of reading, segmenting and measuring.
    pub(super) fn records(&self, cases: &[Case], classes: &[ClassSpec]) -> Result<Vec<Record>> {
        let heart = LeftHeart::of(&self.manifest);
        self.on_all_cores(cases, |segmenter, case| {
            let Answer { found, image, spacing } = self.segment(segmenter, case)?;
            let reference = self.reference(case, classes, &image)?;
            let (mut measured, mut ventricle) = (Vec::new(), Default::default());
            if let Some(heart) = heart.filter(|_| reference.ndim() == 2) {
                let of = |labels: &Labels| heart.measure(labels, Some(spacing));
                let (own, truth) = (of(&found.labels)?, of(&reference)?);
                let samples = found.samples.iter().map(of).collect::<Result<Vec<_>>>()?;
                measured = pairs(&own, &truth, &samples);
                let samples = samples.into_iter().map(|own| own.left_ventricle).collect();
                ventricle = [
                    FrameVentricle { ventricle: own.left_ventricle, samples },
                    FrameVentricle { ventricle: truth.left_ventricle, samples: Vec::new() },
                ];
            }
            let [_, near] = reliability(&found.probabilities, &found.labels, &reference);
            Ok(Record {
                name: case.name.clone(),
                patient: case.patient.clone(),
                expected_dice: expected_dice(&found.probabilities, &found.labels)?,
                dice: dice_per_class(&found.labels, &reference, self.manifest.classes.len()),
                reliability: near,
                statistics: found.statistics,
                measured,
                ventricle,
            })
        })
    }

    /// The statistics of training images: of each as it is, and of some also as augmentation changes them.
    ///
    /// # Errors
    /// Those of reading and segmenting.
    pub(super) fn training_statistics(
        &self,
        cases: &[Case],
        spec: &Spec,
        augmentation: &Augmentation,
        seed: u64,
    ) -> Result<Vec<Vec<f64>>> {
        let items: Vec<(usize, &Case)> = cases.iter().enumerate().collect();
        let found = self.on_all_cores(&items, |segmenter, (index, case)| {
            let found = self.segment(segmenter, case)?.found;
            let mut own = vec![found.statistics];
            // Of an image that is seen in windows, training sees patches: nothing to compare a whole image with.
            if index % CHANGED_EVERY == 0
                && let (sample, _) = load_case(case, spec)?
                && sample.patches.is_none()
            {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(*index as u64);
                let changed = augment(&sample, augmentation, spec.normalisation, &mut rng).image;
                let image = Image::from_array(changed, None)?;
                own.push(segmenter.segment(&image, &self.options)?.statistics);
            }
            Ok(own)
        })?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// What can be measured in the reference, beside what was found.
fn pairs(own: &Measured, truth: &Measured, samples: &[Measured]) -> Vec<Pair> {
    use Quantity::*;
    type Value = fn(&Measured) -> Option<f64>;
    let values: [(Quantity, Value); 6] = [
        (LeftVentricleArea, |found| found.left_ventricle.as_ref().map(|own| own.area_cm2)),
        (LeftVentricleLongAxis, |found| found.left_ventricle.as_ref().map(|own| own.long_axis_mm)),
        (LeftVentricleVolume, |found| found.left_ventricle.as_ref().map(|own| own.volume_ml)),
        (LeftAtriumArea, |found| found.left_atrium.as_ref().map(|own| own.area_cm2)),
        (LeftAtriumLongAxis, |found| found.left_atrium.as_ref().map(|own| own.long_axis_mm)),
        (LeftAtriumVolume, |found| found.left_atrium.as_ref().map(|own| own.volume_ml)),
    ];
    let pair = |(quantity, value): (Quantity, Value)| {
        let samples = samples.iter().filter_map(value).collect();
        Some(Pair { quantity, found: value(own), truth: value(truth)?, samples })
    };
    values.into_iter().filter_map(pair).collect()
}

/// Everything that was measured, by patient: each image's, and end-diastole with end-systole where two cases are called
/// alike but for `_ED` and `_ES` at the end, as in CAMUS.
pub(super) fn by_patient(records: &[Record]) -> BTreeMap<String, Vec<Pair>> {
    let mut all: BTreeMap<String, Vec<Pair>> = BTreeMap::new();
    for record in records {
        let own = all.entry(record.patient.clone()).or_default();
        own.extend(record.measured.iter().cloned());
        let systole = record.name.strip_suffix("_ED").map(|stem| format!("{stem}_ES"));
        if let Some(systole) = systole.and_then(|name| records.iter().find(|other| other.name == name)) {
            own.extend(beat(record, systole));
        }
    }
    all
}

fn beat(diastole: &Record, systole: &Record) -> Vec<Pair> {
    use Quantity::*;
    let both = |side: usize| heartbeat(&[diastole.ventricle[side].clone(), systole.ventricle[side].clone()], true);
    let found = both(0);
    let Some(truth) = both(1) else { return Vec::new() };
    let of_samples: Vec<_> = diastole.ventricle[0]
        .samples
        .iter()
        .zip(&systole.ventricle[0].samples)
        .filter_map(|(diastole, systole)| {
            let alone = |ventricle: &Option<_>| FrameVentricle { ventricle: ventricle.clone(), samples: Vec::new() };
            heartbeat(&[alone(diastole), alone(systole)], true)
        })
        .collect();
    #[expect(clippy::type_complexity, reason = "each quantity with where it is found")]
    let values: [(Quantity, fn(&ldseg_recording::heart::Heartbeat) -> Option<f64>); 3] = [
        (EndDiastolicVolume, |beat| beat.end_diastolic_volume_ml),
        (EndSystolicVolume, |beat| beat.end_systolic_volume_ml),
        (EjectionFraction, |beat| Some(beat.ejection_fraction)),
    ];
    values
        .into_iter()
        .filter_map(|(quantity, value)| {
            let samples = of_samples.iter().filter_map(value).collect();
            Some(Pair { quantity, found: found.as_ref().and_then(value), truth: value(&truth)?, samples })
        })
        .collect()
}
