//! Frames that lie in space and not in time: slices of a volume, and tiles of a slide.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::layout::Layout;
use super::pixels::fail;
use super::spacing::{first, groups};
use super::{number, numbers, text};
use ldseg::Result;

/// Difference of two positions in mm, or of two directions, that rounding explains.
const TOLERANCE: f64 = 1e-3;

/// Where a frame's functional groups say that it lies: position and orientation, in the patient and in a volume of ultrasound.
const PLACES: [[Tag; 2]; 4] = [
    [tags::PLANE_POSITION_SEQUENCE, tags::IMAGE_POSITION_PATIENT],
    [tags::PLANE_ORIENTATION_SEQUENCE, tags::IMAGE_ORIENTATION_PATIENT],
    [tags::PLANE_POSITION_VOLUME_SEQUENCE, tags::IMAGE_POSITION_VOLUME],
    [tags::PLANE_ORIENTATION_VOLUME_SEQUENCE, tags::IMAGE_ORIENTATION_VOLUME],
];
/// One number a frame, which says where it lies.
const VECTORS: [Tag; 3] = [tags::SLICE_VECTOR, tags::GRID_FRAME_OFFSET_VECTOR, tags::SLICE_LOCATION_VECTOR];

/// Refuses frames that are no pictures over time.
///
/// # Errors
/// [`ldseg::ErrorKind::Format`] where the file says that its frames are slices of a volume, or tiles of one image.
pub(super) fn refuse(object: &InMemDicomObject, layout: &Layout) -> Result<()> {
    if layout.frames < 2 {
        return Ok(());
    }
    let organised = text(object, tags::DIMENSION_ORGANIZATION_TYPE).unwrap_or_default();
    let whole = [tags::TOTAL_PIXEL_MATRIX_ROWS, tags::TOTAL_PIXEL_MATRIX_COLUMNS].map(|tag| number(object, tag));
    let larger = whole.iter().zip([layout.rows, layout.columns]).any(|(all, own)| all.is_some_and(|n| n > own as f64));
    if organised.starts_with("TILED") || larger {
        return Err(fail(format!(
            "has {} frames that are tiles of one image, which is not supported: expected a picture, or frames over time",
            layout.frames
        )));
    }
    if organised.starts_with("3D") || PLACES.iter().any(|place| differ(object, *place)) || stacked(object) {
        return Err(fail(format!(
            "has {} frames that are slices of a volume, which is not supported: expected a picture, or frames over time; \
             volumes are read as NIfTI or MetaImage",
            layout.frames
        )));
    }
    Ok(())
}

/// Whether two frames lie in different places.
fn differ(object: &InMemDicomObject, [sequence, tag]: [Tag; 2]) -> bool {
    let mut places = groups(object).filter_map(|group| Some(numbers(first(group, sequence)?, tag)));
    let Some(one) = places.next() else { return false };
    places.any(|other| one.len() != other.len() || one.iter().zip(&other).any(|(a, b)| (a - b).abs() > TOLERANCE))
}

/// Whether the file numbers its frames along an axis of space.
fn stacked(object: &InMemDicomObject) -> bool {
    let in_stack = groups(object)
        .filter_map(|group| number(first(group, tags::FRAME_CONTENT_SEQUENCE)?, tags::IN_STACK_POSITION_NUMBER));
    let mut all: Vec<Vec<f64>> = VECTORS.iter().map(|tag| numbers(object, *tag)).collect();
    all.push(in_stack.collect());
    all.iter().any(|values| values.iter().any(|value| *value != values[0]))
}
