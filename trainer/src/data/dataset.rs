//! Loads cases onto the network's grid and keeps them in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ldseg::image::{Image, Labels, OrientationPolicy, Turn};
use ldseg::preprocess::{Normalisation, Resampling, SpacingPolicy, image_to_grid, labels_to_grid};
use ldseg::threads::on_all_cores;
use ldseg::{Error, ErrorKind, Result, Tensor};
use ldseg_io::Palettes;
use ldseg_recording::{Prepared, PreparedLabels, Wish};
use ndarray::ArrayD;
use sha2::{Digest, Sha256};

use super::labels::{StoredTwice, Vanished, vanished};
use super::{Case, Patches, first_few};

/// What the network takes: how a case becomes a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Image channels, e.g. 1 for grey, 3 for RGB.
    pub channels: usize,
    /// The network's grid, slowest axis first: `[H, W]` or `[D, H, W]`.
    pub size: Vec<usize>,
    /// Whether images are stretched to that grid, or resampled to a spacing and seen in windows of that size.
    pub spacing: SpacingPolicy,
    /// The way round in which the network takes volumes.
    pub orientation: OrientationPolicy,
    /// How images get onto that grid; labels take the nearest neighbour.
    pub resampling: Resampling,
    /// How intensities are normalised later.
    pub normalisation: Normalisation,
    /// For each class in index order, the values that stand for it in the label files, e.g. `[[0], [255]]`.
    pub class_values: Vec<Vec<u8>>,
}

/// A labelled image on the network's grid, or on a grid of its own that the network sees in windows. Both arrays are
/// contiguous in C order.
#[derive(Debug, Clone)]
pub struct Sample {
    /// `[C, size...]`. As loaded: intensities as in the file, not yet normalised; of an image seen in windows on [0, 1].
    pub image: Tensor,
    /// `[size...]`, class indices.
    pub labels: Labels,
    /// What drawing patches takes, of an image that is seen in windows.
    pub patches: Option<Patches>,
}

/// Cases in memory.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The cases, as given.
    pub cases: Vec<Case>,
    /// The sample of each case, in the same order.
    pub samples: Vec<Sample>,
    /// The digest of each case, in the same order: SHA-256, in hexadecimal, of the image's and the label map's values as they
    /// are stored.
    pub digests: Vec<String>,
    /// For each case, in the same order, whether its image tells its spacing.
    pub spacing_known: Vec<bool>,
    /// What was noted of files: the note, how many files it is about, and the first of them.
    pub notes: Vec<(String, usize, PathBuf)>,
}

/// A loaded case.
struct Loaded {
    sample: Sample,
    spacing_known: bool,
    digest: String,
    notes: Vec<String>,
    /// The values that its label map holds, and the palette of that file.
    values: BTreeSet<u8>,
    palette: Option<Vec<[u8; 3]>>,
    /// Classes that the label map has and the sample has not.
    vanished: Vec<Vanished>,
}

impl Spec {
    /// The way round in which the network takes images: of pictures as they are stored.
    fn orientation(&self) -> OrientationPolicy {
        if self.size.len() == 3 { self.orientation } else { OrientationPolicy::Stored }
    }

    /// The class that each stored value stands for.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] if a class has no value, a value stands for two classes or there are more than 256 classes.
    fn class_of_value(&self) -> Result<[Option<u8>; 256]> {
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
        let mut class_of_value = [None; 256];
        for (class, values) in self.class_values.iter().enumerate() {
            let Ok(index) = u8::try_from(class) else {
                return fail(format!("{} classes, expected 256 at most", self.class_values.len()));
            };
            if values.is_empty() {
                return fail(format!("class {class} has no values, expected at least one"));
            }
            for value in values {
                if let Some(other) = class_of_value[usize::from(*value)].replace(index) {
                    return fail(format!("value {value} is given to class {other} and to class {class}"));
                }
            }
        }
        Ok(class_of_value)
    }
}

/// Loads one case: image and labels turned to the recipe's orientation and resampled to the network's grid, stored values
/// mapped to class indices. Also what was noted of the image.
///
/// # Errors
/// Those of reading; [`ErrorKind::ShapeMismatch`] if image and labels have different grids, or another number of axes or
/// channels than the network; [`ErrorKind::Format`] for a stored value that is of no class; [`ErrorKind::Setting`] if the
/// classes contradict each other.
pub fn load_case(case: &Case, spec: &Spec) -> Result<(Sample, Vec<String>)> {
    load(case, spec).map(|loaded| (loaded.sample, loaded.notes))
}

fn load(case: &Case, spec: &Spec) -> Result<Loaded> {
    let class_of_value = spec.class_of_value()?;
    let prepared = Prepared::open(&case.images, spec.channels, &Wish::default())?;
    let image = prepared.still()?;
    let opened = PreparedLabels::open(&case.labels)?;
    let said = prepared.decisions().notes();
    let said_of_labels: Vec<_> = opened
        .notes()
        .iter()
        .filter(|note| !said.contains(note))
        .map(|note| format!("its label map: {note}"))
        .collect();
    // Each is turned by its own affine: the labels onto the image, then both to the recipe's orientation.
    let onto = onto_image(opened.image(), &image, case)?;
    let turn = spec.orientation().turn(&image.geometry);
    let mut labels = turn.array(onto.array(opened.labels()));
    let image = turn.image(image);
    let digest = digest(&image.data, &labels);
    let values = labels.iter().copied().collect();
    to_classes(&mut labels, &class_of_value, &case.labels)?;
    let spacing_known = image.spacing().is_some();
    // Where no case tells it, voxels are what counts; where some do, training is refused.
    let policy = if spacing_known { spec.spacing.clone() } else { spec.spacing.clone().in_voxels() };
    let size = policy.grid(&image, &spec.size).map_err(|error| error.in_file(case.image()))?;
    let image =
        image_to_grid(&image, spec.channels, &size, spec.resampling).map_err(|error| error.in_file(case.image()))?;
    let shrunk = labels_to_grid(&labels, &size);
    let vanished = vanished(&labels, &shrunk);
    let (mut image, labels) = (c_ordered(image), c_ordered(shrunk));
    let windows = spec.spacing != SpacingPolicy::Stretch;
    let patches = windows.then(|| Patches::new(&mut image, &labels, spec.normalisation));
    let sample = Sample { image, labels, patches };
    let mut notes = [said, said_of_labels].concat();
    if !onto.is_none() {
        notes.push("its label map is stored the other way round, and was turned by its affine".into());
    }
    Ok(Loaded { sample, spacing_known, digest, notes, values, palette: opened.palette().map(<[_]>::to_vec), vanished })
}

fn digest(image: &Tensor, labels: &Labels) -> String {
    let mut hash = Sha256::new();
    for size in image.shape() {
        hash.update((*size as u64).to_le_bytes());
    }
    let values: Vec<f32> = image.iter().copied().collect();
    for values in values.chunks(1024) {
        hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    }
    hash.update(labels.iter().copied().collect::<Vec<_>>());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The turn that brings a case's label map onto its image.
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`], naming both, where they do not lie on one grid.
pub(super) fn onto_image(labels: &Image, image: &Image, case: &Case) -> Result<Turn> {
    // Said of the image, as its label map is what is more easily exchanged.
    let turn = image.turn_onto(labels).map_err(|difference| {
        let message = difference.message(format_args!("its label map {}", case.labels.display()));
        Error::new(ErrorKind::ShapeMismatch, message).in_file(case.image())
    })?;
    Ok(turn.inverse())
}

/// The same array, C-ordered in memory too.
fn c_ordered<A: Clone>(array: ArrayD<A>) -> ArrayD<A> {
    if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() }
}

/// Maps stored values to class indices in place.
fn to_classes(labels: &mut Labels, class_of_value: &[Option<u8>; 256], path: &Path) -> Result<()> {
    let mut unknown = None;
    labels.mapv_inplace(|value| {
        class_of_value[usize::from(value)].unwrap_or_else(|| {
            unknown = Some(value);
            0
        })
    });
    let Some(value) = unknown else { return Ok(()) };
    let known: Vec<usize> = (0..256).filter(|value| class_of_value[*value].is_some()).collect();
    let message = format!("holds the label value {value}, expected one of {known:?} as the recipe's classes list them");
    Err(Error::new(ErrorKind::Format, message).in_file(path))
}

impl Dataset {
    /// Loads all `cases`, one thread a core.
    ///
    /// # Errors
    /// If any case can't be loaded: the kind of the first such error, the first few spelt out and their number.
    pub fn load(cases: Vec<Case>, spec: &Spec) -> Result<Self> {
        let class_of_value = spec.class_of_value()?;
        let results = on_all_cores(cases.iter().collect(), |case| load(case, spec));
        let mut palettes = Palettes::default();
        let (mut loaded, mut errors) = (Vec::new(), Vec::new());
        for (case, result) in cases.iter().zip(results) {
            let checked = result.and_then(|loaded| {
                palettes.add(&case.labels, loaded.palette.as_deref(), loaded.values.iter().copied())?;
                Ok(loaded)
            });
            match checked {
                Ok(case) => loaded.push(case),
                Err(error) => errors.push(error),
            }
        }
        if let Some(first) = errors.first() {
            let problems: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let message =
                format!("{} of {} cases can't be loaded: {}", errors.len(), cases.len(), first_few(&problems));
            return Err(Error::new(first.kind(), message));
        }
        let notes = notes(&cases, &loaded, &class_of_value);
        let digests = loaded.iter().map(|case| case.digest.clone()).collect();
        let spacing_known = loaded.iter().map(|case| case.spacing_known).collect();
        let samples = loaded.into_iter().map(|case| case.sample).collect();
        Ok(Self { cases, samples, digests, spacing_known, notes })
    }

    /// For each class whether some sample holds it.
    pub fn classes_present(&self, classes: usize) -> Vec<bool> {
        let mut present = vec![false; classes];
        for label in self.samples.iter().flat_map(|sample| &sample.labels) {
            if let Some(present) = present.get_mut(usize::from(*label)) {
                *present = true;
            }
        }
        present
    }
}

/// What there is to note of cases, each note with how many files it is about and the first of them.
fn notes(cases: &[Case], loaded: &[Loaded], class_of_value: &[Option<u8>; 256]) -> Vec<(String, usize, PathBuf)> {
    let mut notes: Vec<(String, usize, PathBuf)> = Vec::new();
    let mut vanished = BTreeMap::<u8, (String, usize, PathBuf)>::new();
    for (case, loaded) in cases.iter().zip(loaded) {
        for note in &loaded.notes {
            match notes.iter_mut().find(|(text, ..)| text == note) {
                Some((_, count, _)) => *count += 1,
                None => notes.push((note.clone(), 1, case.image().to_path_buf())),
            }
        }
        for gone in &loaded.vanished {
            let told = || (format!("class {} vanishes: {}", gone.label, gone.how()), 0, case.labels.clone());
            vanished.entry(gone.label).or_insert_with(told).1 += 1;
        }
    }
    notes.extend(vanished.into_values());
    let values = cases.iter().zip(loaded).map(|(case, loaded)| (case.name.as_str(), loaded.values.clone()));
    if let Some(twice) = StoredTwice::find(values)
        && class_of_value[usize::from(twice.value)] != class_of_value[255]
    {
        let first = cases.iter().find(|case| case.name == twice.with_255.1).map(|case| case.labels.clone());
        notes.push((twice.finding(), 1, first.unwrap_or_default()));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::discover;
    use image::GrayImage;

    fn spec() -> Spec {
        let class_values = vec![vec![0], vec![255, 7]];
        Spec {
            channels: 1,
            size: vec![2, 4],
            spacing: SpacingPolicy::Stretch,
            orientation: OrientationPolicy::Stored,
            resampling: Resampling::Linear,
            normalisation: Normalisation::MinMax,
            class_values,
        }
    }

    /// Two cases of 4 x 8 pixels, the left half labelled 7 and 255.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in [("a", 7), ("b", 255)] {
            let picture = GrayImage::from_fn(8, 4, |x, _| image::Luma([10 * x as u8]));
            let labels = GrayImage::from_fn(8, 4, |x, _| image::Luma([if x < 4 { value } else { 0 }]));
            picture.save(dir.path().join(format!("{name}.png"))).unwrap();
            labels.save(dir.path().join(format!("{name}_gt.png"))).unwrap();
        }
        dir
    }

    #[test]
    fn loads_in_order_onto_the_grid() {
        let dir = folder();
        let data = Dataset::load(discover(dir.path()).unwrap(), &spec()).unwrap();
        assert_eq!(data.cases[1].name, "b");
        for sample in &data.samples {
            assert_eq!(sample.image.shape(), [1, 2, 4]);
            assert_eq!(sample.labels.as_slice().unwrap(), [1, 1, 0, 0, 1, 1, 0, 0]);
            // In the middle, shrinking by two weighs neighbours evenly: intensities stay those of the file.
            assert!((sample.image[[0, 0, 1]] - 25.0).abs() < 1e-3);
        }
    }

    #[test]
    fn what_vanishes_and_what_is_stored_twice_is_noted() {
        let dir = folder();
        let mut labels = GrayImage::new(8, 4);
        labels.put_pixel(3, 0, image::Luma([7]));
        labels.save(dir.path().join("a_gt.png")).unwrap();
        let load =
            |class_values| Dataset::load(discover(dir.path()).unwrap(), &Spec { class_values, ..spec() }).unwrap();
        let data = load(vec![vec![0], vec![7], vec![255]]);
        let notes: Vec<_> =
            data.notes.iter().map(|(note, count, file)| (note.as_str(), *count, file.clone())).collect();
        let expected = "class 1 vanishes: 1 of 4 x 8 voxels, none on the network's grid of 2 x 4";
        assert_eq!(notes[0], (expected, 1, dir.path().join("a_gt.png")));
        assert!(
            notes.len() == 2 && notes[1].0.contains("7 (1 cases, such as a) and 255 (1 cases, such as b)"),
            "{notes:?}"
        );
        assert_eq!(load(vec![vec![0], vec![7, 255]]).notes.len(), 1);
        assert_eq!(data.classes_present(4), [true, false, true, false]);

        let digests = data.digests;
        labels.put_pixel(7, 3, image::Luma([7]));
        labels.save(dir.path().join("a_gt.png")).unwrap();
        let changed = load(vec![vec![0], vec![7], vec![255]]).digests;
        assert!(changed[0] != digests[0] && changed[1] == digests[1]);
    }

    #[test]
    fn palettes_that_contradict_each_other_are_refused() {
        let dir = folder();
        let save = |name: &str, colours: [u8; 6]| {
            let mut encoder = png::Encoder::new(std::fs::File::create(dir.path().join(name)).unwrap(), 8, 4);
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(colours.to_vec());
            encoder.write_header().unwrap().write_image_data(&[[0, 1]; 16].concat()).unwrap();
        };
        let load = || {
            let spec = Spec { class_values: vec![vec![0], vec![1]], ..spec() };
            Dataset::load(discover(dir.path()).unwrap(), &spec)
        };
        save("a_gt.png", [0, 0, 0, 255, 0, 0]);
        save("b_gt.png", [0, 0, 0, 255, 0, 0]);
        assert!(load().unwrap().samples[0].labels.iter().all(|label| *label < 2));
        save("b_gt.png", [0, 0, 0, 0, 255, 0]);
        let message = load().unwrap_err().to_string();
        assert!(message.contains("b_gt.png: shows the label 1 in the colour [0, 255, 0]"), "{message}");
    }

    #[test]
    fn a_spacing_gives_each_case_a_grid_of_its_own() {
        let dir = folder();
        // Pixels count as 1 mm: of 4 x 8 pixels half as many remain, whatever the network's size.
        let spec = Spec { spacing: SpacingPolicy::Resample(vec![2.0, 2.0]), size: vec![64, 64], ..spec() };
        let data = Dataset::load(discover(dir.path()).unwrap(), &spec).unwrap();
        let sample = &data.samples[0];
        assert_eq!(sample.labels.as_slice().unwrap(), [1, 1, 0, 0, 1, 1, 0, 0]);
        let range = sample.image.iter().fold([1.0_f32, 0.0], |[low, high], v| [low.min(*v), high.max(*v)]);
        assert!(range == [0.0, 1.0] && sample.patches.is_some());
    }

    #[test]
    fn names_the_files_that_dont_fit() {
        let dir = folder();
        let load = |spec: &Spec| Dataset::load(discover(dir.path()).unwrap(), spec).unwrap_err();
        let unknown = load(&Spec { class_values: vec![vec![0], vec![7]], ..spec() });
        assert_eq!(unknown.kind(), ErrorKind::Format);
        let message = unknown.to_string();
        assert!(message.contains("1 of 2") && message.contains("b_gt.png: holds the label value 255"), "{message}");
        assert_eq!(load(&Spec { channels: 3, ..spec() }).kind(), ErrorKind::ShapeMismatch);
        assert_eq!(load(&Spec { size: vec![2, 2, 2], ..spec() }).kind(), ErrorKind::ShapeMismatch);
        for class_values in [vec![vec![0], vec![0]], vec![vec![0], vec![]]] {
            assert_eq!(load(&Spec { class_values, ..spec() }).kind(), ErrorKind::Setting);
        }
        GrayImage::new(8, 5).save(dir.path().join("a_gt.png")).unwrap();
        let message = load(&spec()).to_string();
        assert!(message.contains("a.png: has size [4, 8], but its label map"), "{message}");
        assert!(message.contains("a_gt.png has [5, 8]"), "{message}");
    }
}
