//! What a cine tells of the left ventricle: end-diastole, end-systole, volumes and ejection fraction.

use serde::Serialize;

use crate::heart::{Atrium, Ventricle, biplane_ml, ejection_fraction};
use crate::trust::Intervals;

/// Part of the samples' values that is told.
const INTERVAL: f64 = 0.95;

/// One frame's left ventricle.
#[derive(Debug, Clone, Default)]
pub struct FrameVentricle {
    /// From the label map; `None` where it cannot be measured.
    pub ventricle: Option<Ventricle>,
    /// From each sample's own label map, where there are several.
    pub samples: Vec<Option<Ventricle>>,
}

/// Volumes of one cine by the method of discs in its one plane, as a single plane gives them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Heartbeat {
    /// Index of the frame with the largest area.
    pub end_diastole_frame: usize,
    /// Index of the frame with the smallest area.
    pub end_systole_frame: usize,
    /// Volume at end-diastole, ml; absent where the pixel spacing is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_diastolic_volume_ml: Option<f64>,
    /// Volume at end-systole, ml; absent where the pixel spacing is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_systolic_volume_ml: Option<f64>,
    /// Volume of the left atrium in the frame of end-systole, when it is full, ml; absent where it cannot be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_atrium_end_systolic_volume_ml: Option<f64>,
    /// (EDV - ESV) / EDV, 0 to 1.
    pub ejection_fraction: f64,
    /// Where the true ejection fraction lies, at the level of the bundle's calibration; as in `intervals`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection_fraction_interval: Option<[f64; 2]>,
    /// The middle 95 % of the samples' ejection fractions between the same two frames, where there are several samples:
    /// how far they differ, not how far they may all be off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection_fraction_of_samples: Option<[f64; 2]>,
    /// Where the true values lie, at the level of the bundle's calibration.
    #[serde(skip_serializing_if = "Intervals::is_empty")]
    pub intervals: Intervals,
}

impl Heartbeat {
    /// The same with the left atrium, which was measured in each frame, in mm; `atria` is as long as there are frames.
    pub fn with_atrium(self, atria: &[Option<Atrium>]) -> Self {
        let full = atria.get(self.end_systole_frame).and_then(Option::as_ref);
        Self { left_atrium_end_systolic_volume_ml: full.map(|atrium| atrium.volume_ml), ..self }
    }
}

/// Finds end-diastole and end-systole on the area curve and measures between them; `None` where no frame can be measured.
///
/// A frame's area is the median of its own and its two neighbours' where all three are measured, so that one bad frame
/// is taken for neither. `in_ml` says whether spacings were known; the ejection fraction needs none.
pub fn heartbeat(frames: &[FrameVentricle], in_ml: bool) -> Option<Heartbeat> {
    let areas: Vec<Option<f64>> =
        frames.iter().map(|frame| frame.ventricle.as_ref().map(|ventricle| ventricle.area_cm2)).collect();
    // Of frames with the same smoothed area, their own decides.
    let curve: Vec<(usize, [f64; 2])> =
        (0..areas.len()).filter_map(|index| Some((index, [smoothed(&areas, index)?, areas[index]?]))).collect();
    let by_area =
        |a: &&(usize, [f64; 2]), b: &&(usize, [f64; 2])| a.1[0].total_cmp(&b.1[0]).then(a.1[1].total_cmp(&b.1[1]));
    let end_diastole_frame = curve.iter().rev().max_by(by_area)?.0;
    let end_systole_frame = curve.iter().min_by(by_area)?.0;
    let (diastole, systole) = (&frames[end_diastole_frame], &frames[end_systole_frame]);
    let volume = |frame: &FrameVentricle| frame.ventricle.as_ref().map(|ventricle| ventricle.volume_ml);
    let (edv, esv) = (volume(diastole)?, volume(systole)?);
    let pairs = diastole.samples.iter().zip(&systole.samples);
    let fractions = pairs.filter_map(|(diastole, systole)| {
        Some(ejection_fraction(diastole.as_ref()?.volume_ml, systole.as_ref()?.volume_ml))
    });
    Some(Heartbeat {
        end_diastole_frame,
        end_systole_frame,
        end_diastolic_volume_ml: in_ml.then_some(edv),
        end_systolic_volume_ml: in_ml.then_some(esv),
        left_atrium_end_systolic_volume_ml: None,
        ejection_fraction: ejection_fraction(edv, esv),
        ejection_fraction_interval: None,
        ejection_fraction_of_samples: middle(fractions.collect()),
        intervals: Intervals::new(),
    })
}

/// Volumes of the ventricle from two views, each at its own end-diastole and end-systole.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Biplane {
    /// Volume at end-diastole, ml; absent where the pixel spacing is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_diastolic_volume_ml: Option<f64>,
    /// Volume at end-systole, ml; absent where the pixel spacing is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_systolic_volume_ml: Option<f64>,
    /// (EDV - ESV) / EDV, 0 to 1.
    pub ejection_fraction: f64,
    /// The difference of the two long axes at end-diastole, as a part of the longer one.
    pub long_axis_difference: f64,
}

/// Measures by the biplane method of discs ([`biplane_ml`]) between the phases that [`heartbeat`] finds in each view; `None`
/// where it finds none. `in_ml` says whether spacings were known; without, pixels have to be equally large in both views.
pub fn biplane(four_chamber: &[FrameVentricle], two_chamber: &[FrameVentricle], in_ml: bool) -> Option<Biplane> {
    let phases = |frames| {
        let found = heartbeat(frames, in_ml)?;
        let at = |index: usize| frames[index].ventricle.as_ref();
        Some([at(found.end_diastole_frame)?, at(found.end_systole_frame)?])
    };
    let (four, two) = (phases(four_chamber)?, phases(two_chamber)?);
    let [edv, esv] = [biplane_ml(four[0], two[0]), biplane_ml(four[1], two[1])];
    let axes = [four[0].long_axis_mm, two[0].long_axis_mm];
    Some(Biplane {
        end_diastolic_volume_ml: in_ml.then_some(edv),
        end_systolic_volume_ml: in_ml.then_some(esv),
        ejection_fraction: ejection_fraction(edv, esv),
        long_axis_difference: 1.0 - axes[0].min(axes[1]) / axes[0].max(axes[1]),
    })
}

fn smoothed(areas: &[Option<f64>], index: usize) -> Option<f64> {
    let own = areas[index]?;
    let at = |index: usize| areas.get(index).copied().flatten();
    let Some((before, after)) = index.checked_sub(1).and_then(at).zip(at(index + 1)) else {
        return Some(own);
    };
    let mut three = [before, own, after];
    three.sort_by(f64::total_cmp);
    Some(three[1])
}

/// The middle part of at least two values, between them by linear interpolation.
fn middle(mut values: Vec<f64>) -> Option<[f64; 2]> {
    if values.len() < 2 {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let quantile = |part: f64| {
        let place = part * (values.len() - 1) as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        values[low] + (values[high] - values[low]) * place.fract()
    };
    Some([(1.0 - INTERVAL) / 2.0, (1.0 + INTERVAL) / 2.0].map(quantile))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ventricle(area_cm2: f64) -> Option<Ventricle> {
        Some(Ventricle { area_cm2, long_axis_mm: 80.0, diameters_mm: Vec::new(), volume_ml: area_cm2 * 3.0 })
    }

    fn frames(areas: &[f64]) -> Vec<FrameVentricle> {
        areas.iter().map(|area| FrameVentricle { ventricle: ventricle(*area), samples: Vec::new() }).collect()
    }

    #[test]
    fn the_phases_are_the_extremes_of_the_area() {
        let found = heartbeat(&frames(&[30.0, 28.0, 20.0, 16.0, 15.0, 22.0, 29.0]), true).unwrap();
        assert_eq!((found.end_diastole_frame, found.end_systole_frame), (0, 4), "{found:?}");
        let two = heartbeat(&frames(&[30.0, 15.0]), true).unwrap();
        assert_eq!((two.end_diastole_frame, two.end_systole_frame), (0, 1));
        assert_eq!((two.end_diastolic_volume_ml, two.end_systolic_volume_ml), (Some(90.0), Some(45.0)));
        assert!((two.ejection_fraction - 0.5).abs() < 1e-12);
        assert_eq!(heartbeat(&frames(&[30.0, 15.0]), false).unwrap().end_diastolic_volume_ml, None);
    }

    #[test]
    fn the_atrium_is_told_of_the_frame_of_end_systole() {
        let found = heartbeat(&frames(&[30.0, 15.0, 29.0]), true).unwrap();
        assert_eq!(found.left_atrium_end_systolic_volume_ml, None);
        let atria = [ventricle(8.0), ventricle(20.0), None];
        assert_eq!(found.clone().with_atrium(&atria).left_atrium_end_systolic_volume_ml, Some(60.0));
        assert_eq!(found.clone().with_atrium(&[]).left_atrium_end_systolic_volume_ml, None);
        assert_eq!(found.with_atrium(&[ventricle(8.0), None, None]).left_atrium_end_systolic_volume_ml, None);
    }

    #[test]
    fn one_bad_frame_is_no_phase() {
        let mut beat = frames(&[30.0, 29.0, 3.0, 20.0, 16.0, 15.5, 16.0, 22.0]);
        let found = heartbeat(&beat, true).unwrap();
        assert_eq!(found.end_systole_frame, 5, "{found:?}");
        beat[5].ventricle = None;
        assert!(heartbeat(&beat, true).is_some());
        assert_eq!(heartbeat(&[FrameVentricle::default()], true), None);
        assert_eq!(heartbeat(&[], true), None);
    }

    #[test]
    fn two_views_are_discs_with_a_diameter_from_each() {
        let view = |diameter: f64, long_axis_mm: f64| {
            [1.0, 0.5].map(|part| {
                let diameters_mm = vec![diameter * part; crate::heart::DISCS];
                let ventricle = Ventricle { area_cm2: part, long_axis_mm, diameters_mm, volume_ml: 0.0 };
                FrameVentricle { ventricle: Some(ventricle), samples: Vec::new() }
            })
        };
        // Elliptic cylinders of 50 x 40 x 90 mm and of half the width.
        let found = biplane(&view(50.0, 90.0), &view(40.0, 72.0), true).unwrap();
        let edv = std::f64::consts::PI / 4.0 * 50.0 * 40.0 * 90.0 / 1000.0;
        assert!((found.end_diastolic_volume_ml.unwrap() / edv - 1.0).abs() < 1e-12, "{found:?}");
        assert!((found.ejection_fraction - 0.75).abs() < 1e-12 && (found.long_axis_difference - 0.2).abs() < 1e-12);
        assert_eq!(biplane(&view(50.0, 90.0), &[], true), None);
    }

    #[test]
    fn samples_differ_by_so_much() {
        let mut beat = frames(&[30.0, 15.0]);
        assert_eq!(heartbeat(&beat, true).unwrap().ejection_fraction_of_samples, None);
        beat[0].samples = vec![ventricle(30.0); 41];
        // Ejection fractions 0.40, 0.41 .. 0.80: a fortieth of the way in from either end.
        beat[1].samples = (0..=40).map(|i| ventricle(30.0 * (0.6 - 0.01 * f64::from(i)))).collect();
        let [low, high] = heartbeat(&beat, true).unwrap().ejection_fraction_of_samples.unwrap();
        assert!((low - 0.41).abs() < 1e-9 && (high - 0.79).abs() < 1e-9, "{low} {high}");
    }
}
