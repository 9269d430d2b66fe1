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
use ldseg_recording::PreparedLabels;
use ldseg_recording::decide::Spacing;

/// Where the spacing comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpacingSource {
    /// The label map's file.
    Labels,
    /// The prediction's file, as the label map is a picture.
    Prediction,
    /// [`Settings::picture_spacing_mm`].
    Given,
    /// Nowhere: no measure in mm or ml is defined.
    Unknown,
}

/// What a map's objects were taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ObjectSource {
    /// Stored instance ids.
    Instances,
    /// Connected components.
    Components,
}

/// The scores of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CaseScores {
    /// Along the axes of the label map's array, slowest first, mm; `None` where it is not known.
    pub spacing_mm: Option<Vec<f64>>,
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
    /// What has to be known of the files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
/// Those of reading, naming the file; [`ErrorKind::ShapeMismatch`] where the two do not lie on one grid;
/// [`ErrorKind::Format`] for values that are of no class, and for objects in a volume.
pub(super) fn score(
    prediction: &Path,
    labels: &Path,
    classes: Option<&[ClassSpec]>,
    settings: &Settings,
) -> Result<CaseScores> {
    let (predicted_file, reference_file) = (PreparedLabels::open(prediction)?, PreparedLabels::open(labels)?);
    let notes = notes(&predicted_file, &reference_file);
    let (mut predicted, mut reference) = (predicted_file.labels(), reference_file.labels());
    let turn = predicted_file.image().turn_onto(reference_file.image()).map_err(|difference| {
        let message = difference.message(format_args!("its label map {}", labels.display()));
        Error::new(ErrorKind::ShapeMismatch, message).in_file(prediction)
    })?;
    predicted = turn.array(predicted);
    let predicted_image = turn.image(predicted_file.image().clone());
    let colours = (reference_file.palette().map(<[_]>::to_vec), reference.iter().copied().collect());
    let (spacing, spacing_from, note) = spacing(&predicted_image, reference_file.image(), settings.picture_spacing_mm)?;
    let notes = notes.into_iter().chain(note).collect();
    if let Some(classes) = classes {
        reference_to_classes(&mut reference, classes).map_err(|e| e.in_file(labels))?;
        check_indices(&predicted, classes.len()).map_err(|e| e.in_file(prediction))?;
    }
    if settings.objects.is_some() && predicted.ndim() != 2 {
        let message = "is a volume, expected a picture: objects are compared in 2-D";
        return Err(Error::new(ErrorKind::Format, message).in_file(prediction));
    }
    let mut scores = CaseScores {
        spacing_mm: spacing.clone(),
        spacing_from,
        objects: None,
        classes: BTreeMap::new(),
        sampling: None,
        notes,
        predicted: Vec::new(),
        referenced: Vec::new(),
        colours,
    };
    // Distances in voxels are thrown away where the spacing is not known.
    let spacing = spacing.unwrap_or_else(|| vec![1.0; reference.ndim()]);
    let instances = (settings.objects == Some(ObjectChoice::Instances)).then(|| {
        let both = [&predicted, &reference].map(instances);
        // For all else the instances are one class.
        for map in [&mut predicted, &mut reference] {
            map.mapv_inplace(|label| u8::from(label != 0));
        }
        both
    });
    scores.sampling = sampling::score(prediction, &reference, turn)?;
    let overlap = Overlap::between(&predicted, &reference);
    scores.predicted = (1..=255).filter(|class| overlap.in_prediction(*class) > 0).collect();
    scores.referenced = (1..=255).filter(|class| overlap.in_reference(*class) > 0).collect();
    let of_classes = match classes {
        Some(classes) => (1..classes.len()).map(|class| class as u8).collect(),
        None => [scores.predicted.as_slice(), &scores.referenced].concat(),
    };
    for class in of_classes {
        let mut values = measures(&predicted, &reference, &overlap, class, &spacing, settings);
        if let Some(choice) = settings.objects {
            let (objects, sources) = match (&instances, choice) {
                (Some([(p, from_p), (r, from_r)]), _) => ([p.clone(), r.clone()], [*from_p, *from_r]),
                _ => {
                    let components = [&predicted, &reference].map(|map| Objects::components(map, class));
                    (components, [ObjectSource::Components; 2])
                }
            };
            let found = compare_objects(&objects[0], &objects[1], &spacing);
            values.set(Measure::ObjectF1, found.f1);
            values.set(Measure::ObjectDice, found.dice);
            values.set(Measure::ObjectHausdorff, found.hausdorff);
            scores.objects = Some(sources);
        }
        if scores.spacing_mm.is_none() {
            values.forget_lengths();
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

/// What has to be known of how the two lie in space. Where neither has a place there, as pictures and frames over time,
/// nothing is missed.
fn notes(prediction: &PreparedLabels, reference: &PreparedLabels) -> Vec<String> {
    let [one, other] = [prediction, reference].map(PreparedLabels::is_placed);
    let mut notes = Vec::new();
    if one || other {
        notes.extend(prediction.notes().iter().map(|note| format!("the prediction: {note}")));
        notes.extend(reference.notes().iter().map(|note| format!("the label map: {note}")));
    }
    if one != other {
        let which = if one { "its label map" } else { "the prediction" };
        notes.push(format!("{which} has no place in space: the two are compared as they are stored"));
    }
    notes
}

/// What is known of the spacing of both, which lie on one grid, and where from; a note where the settings say something else
/// than the files.
fn spacing(
    prediction: &Image,
    reference: &Image,
    given: Option<[f64; 2]>,
) -> Result<(Option<Vec<f64>>, SpacingSource, Option<String>)> {
    let (file, source) = match (prediction.spacing(), reference.spacing()) {
        (_, Some(spacing)) => (Some(spacing), SpacingSource::Labels),
        (Some(spacing), None) => (Some(spacing), SpacingSource::Prediction),
        (None, None) => (None, SpacingSource::Unknown),
    };
    let given = given.filter(|_| reference.spatial_axes() == 2);
    let decided = Spacing::decide(file, given.as_ref().map(<[f64; 2]>::as_slice), reference.spatial_axes())?;
    let source = if given.is_some() { SpacingSource::Given } else { source };
    Ok((decided.known().map(<[f64]>::to_vec), source, decided.note()))
}
