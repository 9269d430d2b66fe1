//! Which of the tags that tell the size of a pixel is believed, and where an ultrasound file says that its images lie.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::{number, numbers};
use crate::regions::{RegionKind, UltrasoundRegion, order};
use ldseg::image::Region;

/// Min X0, min Y0, max X1, max Y1, in pixels.
const CORNERS: [Tag; 4] = [
    tags::REGION_LOCATION_MIN_X0,
    tags::REGION_LOCATION_MIN_Y0,
    tags::REGION_LOCATION_MAX_X1,
    tags::REGION_LOCATION_MAX_Y1,
];
/// Region Spatial Format of an image in two dimensions; others are M-mode, spectra, curves and graphics.
const TWO_DIMENSIONAL: f64 = 1.0;
/// Region Data Type of tissue.
const TISSUE: f64 = 1.0;
/// Physical Units of lengths.
const CENTIMETRES: f64 = 3.0;
/// Relative difference of two spacings that rounding explains.
const TOLERANCE: f64 = 1e-3;

/// What a file says of its pixels' size and of its ultrasound regions.
#[derive(Debug, Default)]
pub(super) struct Scale {
    /// Along (y, x), mm.
    pub(super) spacing: Option<[f64; 2]>,
    /// Those in two dimensions that lie inside the frame, the one that decides first.
    pub(super) regions: Vec<UltrasoundRegion>,
    /// How many of them lie side by side as views of their own.
    pub(super) views: usize,
}

/// The first of these that is there: the scale of the ultrasound region that decides ([`order`]), the functional groups of
/// the frames and those that all share, Pixel Spacing, Imager Pixel Spacing, Nominal Scanned Pixel Spacing. What contradicts
/// it, and what stands for something else than the patient, is noted.
pub(super) fn scale(object: &InMemDicomObject, [rows, columns]: [usize; 2], notes: &mut Vec<String>) -> Scale {
    let (regions, views) = regions(object, [rows, columns], notes);
    let of_region = regions.first().and_then(|region| region.spacing);
    let scales: Vec<[f64; 2]> = regions.iter().filter_map(|region| region.spacing).collect();
    if let (Some(taken), Some(other)) = (of_region, scales.iter().find(|scale| !same(**scale, scales[0]))) {
        let area = regions[0].area;
        notes.push(format!(
            "its ultrasound regions have different scales: that of the region of {} x {} pixels from ({}, {}) is taken, \
             {taken:?} mm, another has {other:?} mm",
            area.width, area.height, area.left, area.top
        ));
    }
    let spacing = match (of_region, plain(object, notes)) {
        (Some(region), Some(plain)) if !same(region, plain) => {
            notes.push(format!(
                "its ultrasound region says {region:?} mm a pixel, which is taken, and its pixel spacing {plain:?}"
            ));
            Some(region)
        }
        (region, plain) => region.or(plain),
    };
    if spacing.is_none() {
        notes.push("its pixel spacing is unknown".into());
    }
    Scale { spacing, regions, views }
}

fn same(a: [f64; 2], b: [f64; 2]) -> bool {
    a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= TOLERANCE * b.abs())
}

/// What is said apart from regions.
fn plain(object: &InMemDicomObject, notes: &mut Vec<String>) -> Option<[f64; 2]> {
    let pair = |object: &InMemDicomObject, tag| match numbers(object, tag)[..] {
        [y, x] if usable(y) && usable(x) => Some([y, x]),
        _ => None,
    };
    let measures = |groups: &InMemDicomObject| {
        first(groups, tags::PIXEL_MEASURES_SEQUENCE).and_then(|measures| pair(measures, tags::PIXEL_SPACING))
    };
    let frames: Vec<_> = groups(object).map(measures).collect();
    if let Some(Some(taken)) = frames.first() {
        if frames.iter().all(|frame| frame.is_some_and(|frame| same(frame, *taken))) {
            return Some(*taken);
        }
        notes.push("its frames differ in their pixel spacing, and none is taken".into());
        return None;
    }
    let shared = first(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).and_then(measures);
    if let Some(known) = shared.or_else(|| pair(object, tags::PIXEL_SPACING)) {
        return Some(known);
    }
    if let Some([y, x]) = pair(object, tags::IMAGER_PIXEL_SPACING) {
        let magnified =
            number(object, tags::ESTIMATED_RADIOGRAPHIC_MAGNIFICATION_FACTOR).filter(|factor| usable(*factor));
        notes.push(match magnified {
            Some(factor) => {
                format!("its pixel spacing is the detector's, divided by the magnification {factor} that it tells")
            }
            None => "its pixel spacing is the detector's, on which the patient is shown magnified".into(),
        });
        return Some([y, x].map(|mm| mm / magnified.unwrap_or(1.0)));
    }
    let scanned = pair(object, tags::NOMINAL_SCANNED_PIXEL_SPACING)?;
    notes.push("its pixel spacing is that of a scanned film or page".into());
    Some(scanned)
}

fn usable(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// The functional groups of each frame.
pub(super) fn groups(object: &InMemDicomObject) -> impl Iterator<Item = &InMemDicomObject> {
    object
        .get(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
        .and_then(|element| element.items())
        .unwrap_or_default()
        .iter()
}

/// The first item of a sequence.
pub(super) fn first(object: &InMemDicomObject, sequence: Tag) -> Option<&InMemDicomObject> {
    object.get(sequence)?.items()?.first()
}

/// The regions in two dimensions that lie inside the frame, in the order of [`order`], and its number of views.
fn regions(
    object: &InMemDicomObject,
    [rows, columns]: [usize; 2],
    notes: &mut Vec<String>,
) -> (Vec<UltrasoundRegion>, usize) {
    let all = object.get(tags::SEQUENCE_OF_ULTRASOUND_REGIONS).and_then(|element| element.items()).unwrap_or_default();
    let mut regions = Vec::new();
    let mut flat = false;
    for region in all.iter().filter(|region| number(region, tags::REGION_SPATIAL_FORMAT) == Some(TWO_DIMENSIONAL)) {
        flat = true;
        let corners: Vec<f64> = CORNERS.iter().filter_map(|tag| number(region, *tag)).collect();
        let &[x0, y0, x1, y1] = &corners[..] else { continue };
        let inside = 0.0 <= x0 && x0 <= x1 && x1 < columns as f64 && 0.0 <= y0 && y0 <= y1 && y1 < rows as f64;
        if !inside {
            notes.push(format!(
                "its ultrasound region reaches from ({x0}, {y0}) to ({x1}, {y1}), but the stored frame has {columns} x \
                 {rows} pixels: the region and its pixel spacing are not used"
            ));
            continue;
        }
        // Both corners belong to it.
        let pixels = |from: f64, to: f64| (to - from) as usize + 1;
        let area = Region { top: y0 as usize, left: x0 as usize, height: pixels(y0, y1), width: pixels(x0, x1) };
        let kind = match number(region, tags::REGION_DATA_TYPE) {
            Some(TISSUE) => RegionKind::Tissue,
            _ => RegionKind::Other,
        };
        let units = [tags::PHYSICAL_UNITS_X_DIRECTION, tags::PHYSICAL_UNITS_Y_DIRECTION];
        let lengths = units.iter().all(|tag| number(region, *tag) == Some(CENTIMETRES));
        let delta = |tag| number(region, tag).map(|delta| 10.0 * delta.abs()).filter(|delta| lengths && usable(*delta));
        let spacing = delta(tags::PHYSICAL_DELTA_Y).zip(delta(tags::PHYSICAL_DELTA_X)).map(|(y, x)| [y, x]);
        regions.push(UltrasoundRegion { area, kind, spacing });
    }
    if !all.is_empty() && !flat {
        notes.push(
            "its ultrasound regions show M-mode, spectra or graphics, and none an image in two dimensions".into(),
        );
    }
    let views = order(&mut regions);
    (regions, views)
}
