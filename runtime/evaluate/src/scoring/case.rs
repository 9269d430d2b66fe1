//! Scores one prediction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::classes::{check_indices, reference_to_classes};
use super::report::{Measure, Values};
use super::{ClassSpec, ObjectChoice, SamplingScores, Settings, SurfaceChoice, sampling};
use crate::metrics::objects::{Objects, compare_objects};
use crate::metrics::surface::{SurfaceDistances, SurfaceKind};
use ldseg::image::{Image, Labels};
use ldseg::metrics::Overlap;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::read_label_file;

/// Greatest relative difference of the spacings of a prediction and its label map.
const SPACING_TOLERANCE: f64 = 0.01;

/// Where the spacing comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpacingSource {
    /// The label map's file.
    Labels,
    /// The prediction's file, as the label map is a picture.
    Prediction,
    /// [`Settings::picture_spacing_mm`].
    Given,
    /// Nowhere: pixels of 1 mm are assumed.
    Assumed,
}

/// What a map's objects were taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectSource {
    /// Stored instance ids.
    Instances,
    /// Connected components.
    Components,
}

/// The scores of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseScores {
    /// Along the array's axes, slowest first, mm.
    pub spacing_mm: Vec<f64>,
    /// Where that comes from.
    pub spacing_from: SpacingSource,
    /// What the prediction's and the reference's objects are, where they were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<[ObjectSource; 2]>,
    /// The measures by class index, without the background.
    pub classes: BTreeMap<u8, Values>,
    /// Of the samples and probabilities, where they lie beside the prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingScores>,
    /// Class indices above 0 that the prediction holds.
    #[serde(skip)]
    pub predicted: Vec<u8>,
    /// Class indices above 0 that the reference holds.
    #[serde(skip)]
    pub referenced: Vec<u8>,
    /// The palette of the label map's file, if it has one, and the values that it holds.
    #[serde(skip)]
    pub(super) colours: (Option<Vec<[u8; 3]>>, BTreeSet<u8>),
}

/// Reads and scores one prediction.
///
/// # Errors
/// Those of reading, naming the file; [`ErrorKind::ShapeMismatch`] where sizes or spacings differ;
/// [`ErrorKind::Format`] for values that are of no class, and for objects in a volume.
pub(super) fn score(
    prediction: &Path,
    labels: &Path,
    classes: Option<&[ClassSpec]>,
    settings: &Settings,
) -> Result<CaseScores> {
    let (predicted_file, reference_file) = (read_label_file(prediction)?, read_label_file(labels)?);
    let (mut predicted, mut reference) = (predicted_file.labels(), reference_file.labels());
    let (predicted_image, reference_image) = (predicted_file.image, reference_file.image);
    let colours = (reference_file.palette, reference.iter().copied().collect());
    let (spacing, spacing_from) = spacing(&predicted_image, &reference_image, labels, settings.picture_spacing_mm)
        .map_err(|e| e.in_file(prediction))?;
    if let Some(classes) = classes {
        reference_to_classes(&mut reference, classes).map_err(|e| e.in_file(labels))?;
        check_indices(&predicted, classes.len()).map_err(|e| e.in_file(prediction))?;
    }
    if settings.objects.is_some() && predicted.ndim() != 2 {
        let message = "is a volume, expected a picture: objects are compared in 2-D";
        return Err(Error::new(ErrorKind::Format, message).in_file(prediction));
    }
    let mut scores = CaseScores {
        spacing_mm: spacing,
        spacing_from,
        objects: None,
        classes: BTreeMap::new(),
        sampling: None,
        predicted: Vec::new(),
        referenced: Vec::new(),
        colours,
    };
    let instances = (settings.objects == Some(ObjectChoice::Instances)).then(|| {
        let both = [&predicted, &reference].map(instances);
        // For all else the instances are one class.
        for map in [&mut predicted, &mut reference] {
            map.mapv_inplace(|label| u8::from(label != 0));
        }
        both
    });
    scores.sampling = sampling::score(prediction, &reference)?;
    let overlap = Overlap::between(&predicted, &reference);
    scores.predicted = (1..=255).filter(|class| overlap.in_prediction(*class) > 0).collect();
    scores.referenced = (1..=255).filter(|class| overlap.in_reference(*class) > 0).collect();
    let of_classes = match classes {
        Some(classes) => (1..classes.len()).map(|class| class as u8).collect(),
        None => [scores.predicted.as_slice(), &scores.referenced].concat(),
    };
    for class in of_classes {
        let mut values = measures(&predicted, &reference, &overlap, class, &scores.spacing_mm, settings);
        if let Some(choice) = settings.objects {
            let (objects, sources) = match (&instances, choice) {
                (Some([(p, from_p), (r, from_r)]), _) => ([p.clone(), r.clone()], [*from_p, *from_r]),
                _ => {
                    let components = [&predicted, &reference].map(|map| Objects::components(map, class));
                    (components, [ObjectSource::Components; 2])
                }
            };
            let found = compare_objects(&objects[0], &objects[1], &scores.spacing_mm);
            values.set(Measure::ObjectF1, found.f1);
            values.set(Measure::ObjectDice, found.dice);
            values.set(Measure::ObjectHausdorff, found.hausdorff);
            scores.objects = Some(sources);
        }
        scores.classes.insert(class, values);
    }
    Ok(scores)
}

/// Stored ids, unless there is one value alone: that is a binary mask.
fn instances(labels: &Labels) -> (Objects, ObjectSource) {
    let objects = Objects::instances(labels);
    match labels.iter().find(|label| **label != 0) {
        Some(value) if objects.count() == 1 => (Objects::components(labels, *value), ObjectSource::Components),
        _ => (objects, ObjectSource::Instances),
    }
}

fn measures(
    predicted: &Labels,
    reference: &Labels,
    overlap: &Overlap,
    class: u8,
    spacing: &[f64],
    settings: &Settings,
) -> Values {
    let mut values = Values::default();
    values.set(Measure::Dice, overlap.dice(class));
    values.set(Measure::Iou, overlap.iou(class));
    let surface = |kind| SurfaceDistances::between(predicted, reference, class, spacing, kind);
    let surfel = surface(SurfaceKind::Surfel);
    let mut distances = |names: [Measure; 3], surface: &SurfaceDistances| {
        let found = [surface.hausdorff(), surface.hd95(), surface.assd()];
        names.into_iter().zip(found).for_each(|(name, value)| values.set(name, value));
    };
    let plain = [Measure::Hausdorff, Measure::Hd95, Measure::Assd];
    match settings.surface {
        SurfaceChoice::Surfel => distances(plain, &surfel),
        SurfaceChoice::Voxel => distances(plain, &surface(SurfaceKind::Voxel)),
        SurfaceChoice::Both => {
            distances(plain, &surface(SurfaceKind::Voxel));
            distances([Measure::HausdorffSurfel, Measure::Hd95Surfel, Measure::AssdSurfel], &surfel);
        }
    }
    values.set(Measure::Nsd, surfel.nsd(settings.tolerance_mm));
    let more = overlap.in_prediction(class) as f64 - overlap.in_reference(class) as f64;
    let size: f64 = spacing.iter().product();
    let (volume, area) = if spacing.len() == 3 { (more * size / 1000.0, f64::NAN) } else { (f64::NAN, more * size) };
    values.set(Measure::VolumeDifference, volume);
    values.set(Measure::AreaDifference, area);
    values
}

/// The spacing of both, after making sure that they have the same grid.
fn spacing(
    prediction: &Image,
    reference: &Image,
    labels: &Path,
    given: Option<[f64; 2]>,
) -> Result<(Vec<f64>, SpacingSource)> {
    let fail = |what: &str, found: String, expected: String| {
        let message = format!("has {what} {found}, but its label map {} has {expected}", labels.display());
        Err(Error::new(ErrorKind::ShapeMismatch, message))
    };
    let (size, expected) = (&prediction.data.shape()[1..], &reference.data.shape()[1..]);
    if size != expected {
        return fail("size", format!("{size:?}"), format!("{expected:?}"));
    }
    let differ = |(a, b): (&f64, &f64)| (a - b).abs() > SPACING_TOLERANCE * b;
    match (prediction.spacing(), reference.spacing()) {
        (Some(found), Some(expected)) if found.iter().zip(expected).any(differ) => {
            fail("spacing", format!("{found:?} mm"), format!("{expected:?} mm"))
        }
        (_, Some(spacing)) => Ok((spacing.to_vec(), SpacingSource::Labels)),
        (Some(spacing), None) => Ok((spacing.to_vec(), SpacingSource::Prediction)),
        (None, None) => Ok(match given {
            Some(given) => (given.to_vec(), SpacingSource::Given),
            None => (reference.spacing_or_ones(), SpacingSource::Assumed),
        }),
    }
}
