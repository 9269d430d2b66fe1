//! Loads cases onto the network's grid and keeps them in memory.

use std::path::{Path, PathBuf};

use ldseg::image::Labels;
use ldseg::preprocess::{Normalisation, Resampling, SpacingPolicy, image_to_grid, labels_to_grid};
use ldseg::threads::on_all_cores;
use ldseg::{Error, ErrorKind, Result, Tensor};
use ldseg_io::read_labels;
use ldseg_recording::{Prepared, Wish};
use ndarray::ArrayD;

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
    /// What was noted of images: the note, how many images it is about, and the first of them.
    pub notes: Vec<(String, usize, PathBuf)>,
}

impl Spec {
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

/// Loads one case: image and labels resampled to the network's grid, stored values mapped to class indices.
///
/// # Errors
/// Those of reading; [`ErrorKind::ShapeMismatch`] if image and labels have different grids, or another number of axes or
/// channels than the network; [`ErrorKind::Format`] for a stored value that is of no class; [`ErrorKind::Setting`] if the
/// classes contradict each other.
pub fn load_case(case: &Case, spec: &Spec) -> Result<(Sample, Vec<String>)> {
    let class_of_value = spec.class_of_value()?;
    let prepared = Prepared::open(&case.images, spec.channels, &Wish::default())?;
    let image = prepared.still()?;
    let mut labels = read_labels(&case.labels)?;
    let grid = &image.data.shape()[1..];
    if grid != labels.shape() {
        let message =
            format!("has size {grid:?}, but its label map {} has size {:?}", case.labels.display(), labels.shape());
        return Err(Error::new(ErrorKind::ShapeMismatch, message).in_file(case.image()));
    }
    to_classes(&mut labels, &class_of_value, &case.labels)?;
    let size = spec.spacing.grid(&image, &spec.size).map_err(|error| error.in_file(case.image()))?;
    let image =
        image_to_grid(&image, spec.channels, &size, spec.resampling).map_err(|error| error.in_file(case.image()))?;
    let (mut image, labels) = (c_ordered(image), c_ordered(labels_to_grid(&labels, &size)));
    let windows = spec.spacing != SpacingPolicy::Stretch;
    let patches = windows.then(|| Patches::new(&mut image, &labels, spec.normalisation));
    Ok((Sample { image, labels, patches }, prepared.decisions().notes()))
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
        spec.class_of_value()?;
        let loaded = on_all_cores(cases.iter().collect(), |case| load_case(case, spec));
        let (mut samples, mut errors) = (Vec::new(), Vec::new());
        let mut notes: Vec<(String, usize, PathBuf)> = Vec::new();
        for (case, result) in cases.iter().zip(loaded) {
            match result {
                Ok((sample, of_case)) => {
                    samples.push(sample);
                    for note in of_case {
                        match notes.iter_mut().find(|(text, ..)| *text == note) {
                            Some((_, count, _)) => *count += 1,
                            None => notes.push((note, 1, case.image().to_path_buf())),
                        }
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        match errors.first() {
            None => Ok(Self { cases, samples, notes }),
            Some(first) => {
                let problems: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let message =
                    format!("{} of {} cases can't be loaded: {}", errors.len(), cases.len(), first_few(&problems));
                Err(Error::new(first.kind(), message))
            }
        }
    }
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
        assert!(message.contains("a_gt.png has size [5, 8]"), "{message}");
    }
}
