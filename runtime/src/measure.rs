//! Measurements of the left ventricle in apical echocardiograms, from label maps.
//!
//! Volumes follow the modified Simpson's rule, the method of discs (Lang et al., Recommendations for Cardiac Chamber
//! Quantification by Echocardiography in Adults, J Am Soc Echocardiogr 28, 2015): the ventricle is cut into 20 discs of
//! equal height along its long axis, which runs from the middle of the mitral plane to the apex.

use std::f64::consts::PI;

use ndarray::{ArrayView2, Ix2};
use serde::Serialize;

use crate::image::Labels;
use crate::{Error, ErrorKind, Result};

/// Discs along the long axis.
pub const DISCS: usize = 20;

/// The classes that measuring needs, by their names in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartClasses {
    /// The cavity of the left ventricle.
    pub ventricle: u8,
    /// Its wall.
    pub myocardium: u8,
}

impl HeartClasses {
    /// Finds `left ventricle` and `myocardium` among class names, in the order of their indices.
    pub fn find<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let names: Vec<&str> = names.into_iter().collect();
        let index = |wanted: &str| u8::try_from(names.iter().position(|name| *name == wanted)?).ok();
        Some(Self { ventricle: index("left ventricle")?, myocardium: index("myocardium")? })
    }
}

/// The left ventricle in one frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ventricle {
    /// Area of the cavity, cm^2.
    pub area_cm2: f64,
    /// From the middle of the mitral plane to the apex, mm.
    pub long_axis_mm: f64,
    /// Mean width of the cavity in each of the [`DISCS`] slabs across the long axis, from base to apex, mm.
    #[serde(skip)]
    pub diameters_mm: Vec<f64>,
    /// By the method of discs in this plane alone, ml.
    pub volume_ml: f64,
}

/// Measures the largest connected part of the cavity. `None` where there is none, or where the wall closes around it, so
/// that it has no mitral plane.
///
/// # Shapes
/// labels `[H, W]`; `spacing` in mm along (y, x).
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] for labels of other than two axes.
pub fn ventricle(labels: &Labels, classes: HeartClasses, spacing: [f64; 2]) -> Result<Option<Ventricle>> {
    let labels = labels.view().into_dimensionality::<Ix2>().map_err(|e| {
        Error::with_source(ErrorKind::ShapeMismatch, "measuring a ventricle needs a label map of two axes", e)
    })?;
    let cavity = largest_part(labels, classes.ventricle);
    let Some(mitral) = mitral_middle(labels, &cavity, classes, spacing) else {
        return Ok(None);
    };
    let points: Vec<[f64; 2]> = cavity.iter().map(|pixel| place(*pixel, spacing)).collect();
    let length = |point: &[f64; 2]| (point[0] - mitral[0]).hypot(point[1] - mitral[1]);
    let apex = points.iter().copied().max_by(|a, b| length(a).total_cmp(&length(b))).unwrap_or(mitral);
    let long_axis_mm = length(&apex);
    if long_axis_mm <= 0.0 {
        return Ok(None);
    }
    let axis = [(apex[0] - mitral[0]) / long_axis_mm, (apex[1] - mitral[1]) / long_axis_mm];
    let pixel_mm2 = spacing[0] * spacing[1];
    let height = long_axis_mm / DISCS as f64;
    let mut diameters_mm = vec![0.0; DISCS];
    for point in &points {
        // What hangs below an oblique mitral plane belongs to the first disc.
        let along = (point[0] - mitral[0]) * axis[0] + (point[1] - mitral[1]) * axis[1];
        diameters_mm[((along / height).max(0.0) as usize).min(DISCS - 1)] += pixel_mm2 / height;
    }
    let area_cm2 = points.len() as f64 * pixel_mm2 / 100.0;
    let volume_ml = discs_ml(&diameters_mm, &diameters_mm, long_axis_mm);
    Ok(Some(Ventricle { area_cm2, long_axis_mm, diameters_mm, volume_ml }))
}

/// Biplane volume in ml from a two- and a four-chamber view: discs that are ellipses with a diameter from each, as high as
/// a twentieth of the longer axis.
pub fn biplane_ml(a: &Ventricle, b: &Ventricle) -> f64 {
    discs_ml(&a.diameters_mm, &b.diameters_mm, a.long_axis_mm.max(b.long_axis_mm))
}

/// Ejection fraction (EDV - ESV) / EDV, 0 to 1 for a ventricle that contracts.
pub fn ejection_fraction(diastolic_ml: f64, systolic_ml: f64) -> f64 {
    (diastolic_ml - systolic_ml) / diastolic_ml
}

/// pi / 4 sum a_i b_i L / n.
fn discs_ml(a: &[f64], b: &[f64], long_axis_mm: f64) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    PI / 4.0 * squares * long_axis_mm / DISCS as f64 / 1000.0
}

fn place([y, x]: [usize; 2], spacing: [f64; 2]) -> [f64; 2] {
    [y as f64 * spacing[0], x as f64 * spacing[1]]
}

/// The four neighbours of a pixel that lie in the picture.
fn neighbours([y, x]: [usize; 2], (h, w): (usize, usize)) -> impl Iterator<Item = [usize; 2]> {
    let all = [[y.wrapping_sub(1), x], [y + 1, x], [y, x.wrapping_sub(1)], [y, x + 1]];
    all.into_iter().filter(move |[y, x]| *y < h && *x < w)
}

/// Pixels of the largest 4-connected part of a class; of equals, the first.
fn largest_part(labels: ArrayView2<'_, u8>, class: u8) -> Vec<[usize; 2]> {
    let mut unseen = labels.mapv(|label| label == class);
    let mut largest = Vec::new();
    for (y, x) in ndarray::indices(labels.dim()) {
        if !std::mem::take(&mut unseen[(y, x)]) {
            continue;
        }
        let mut part = vec![[y, x]];
        let mut next = 0;
        while next < part.len() {
            for [y, x] in neighbours(part[next], labels.dim()) {
                if std::mem::take(&mut unseen[(y, x)]) {
                    part.push([y, x]);
                }
            }
            next += 1;
        }
        if part.len() > largest.len() {
            largest = part;
        }
    }
    largest
}

/// The middle between the two ends of the mitral plane: of all pixels of the cavity that border neither on the cavity nor
/// on the wall, the two that lie farthest apart.
fn mitral_middle(
    labels: ArrayView2<'_, u8>,
    cavity: &[[usize; 2]],
    classes: HeartClasses,
    spacing: [f64; 2],
) -> Option<[f64; 2]> {
    let closed = |[y, x]: [usize; 2]| [classes.ventricle, classes.myocardium].contains(&labels[(y, x)]);
    let open = |pixel: &[usize; 2]| neighbours(*pixel, labels.dim()).any(|other| !closed(other));
    let base: Vec<[f64; 2]> = cavity.iter().filter(|pixel| open(pixel)).map(|pixel| place(*pixel, spacing)).collect();
    let mut farthest = (-1.0, [0.0; 2]);
    for (index, a) in base.iter().enumerate() {
        for b in &base[index..] {
            let distance = (a[0] - b[0]).hypot(a[1] - b[1]);
            if distance > farthest.0 {
                farthest = (distance, [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]);
            }
        }
    }
    (farthest.0 >= 0.0).then_some(farthest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: HeartClasses = HeartClasses { ventricle: 1, myocardium: 2 };

    /// Half an ellipse, its flat side down and open, in a wall; `turned` swaps the axes.
    fn bullet(turned: bool) -> Labels {
        Labels::from_shape_fn(vec![120, 120], |i| {
            let (y, x) = if turned { (i[1], i[0]) } else { (i[0], i[1]) };
            let (up, across) = (100.0 - y as f64, x as f64 - 60.0);
            let inside = |grow: f64| up >= 0.0 && (up / (80.0 + grow)).powi(2) + (across / (25.0 + grow)).powi(2) < 1.0;
            if inside(0.0) { 1 } else { u8::from(inside(8.0)) * 2 }
        })
    }

    #[test]
    fn half_an_ellipsoid_has_its_volume() {
        for (turned, spacing) in [(false, [0.5, 0.5]), (true, [0.5, 0.5]), (false, [0.4, 0.8])] {
            let measured = ventricle(&bullet(turned), CLASSES, spacing).unwrap().unwrap();
            let [long, wide] = if turned { [spacing[1], spacing[0]] } else { spacing };
            let exact = 2.0 / 3.0 * PI * (25.0 * wide).powi(2) * 80.0 * long / 1000.0;
            assert!((measured.volume_ml / exact - 1.0).abs() < 0.03, "{} ml, expected {exact}", measured.volume_ml);
            assert!((measured.long_axis_mm / (80.0 * long) - 1.0).abs() < 0.02, "{}", measured.long_axis_mm);
            let area = PI / 2.0 * 25.0 * wide * 80.0 * long / 100.0;
            assert!((measured.area_cm2 / area - 1.0).abs() < 0.03);
            assert!((biplane_ml(&measured, &measured) - measured.volume_ml).abs() < 1e-12);
        }
    }

    #[test]
    fn an_island_is_no_apex() {
        let mut labels = bullet(false);
        let alone = ventricle(&labels, CLASSES, [1.0; 2]).unwrap();
        labels[[2, 2]] = 1;
        assert_eq!(ventricle(&labels, CLASSES, [1.0; 2]).unwrap(), alone);
    }

    #[test]
    fn what_has_no_mitral_plane_is_not_measured() {
        let measure = |labels: &Labels| ventricle(labels, CLASSES, [1.0; 2]);
        assert_eq!(measure(&Labels::zeros(vec![8, 8])).unwrap(), None);
        let mut closed = Labels::from_elem(vec![8, 8], 2);
        closed[[4, 4]] = 1;
        assert_eq!(measure(&closed).unwrap(), None);
        assert_eq!(measure(&Labels::zeros(vec![2, 8, 8])).unwrap_err().kind(), ErrorKind::ShapeMismatch);
    }

    #[test]
    fn classes_are_found_by_name() {
        let names = ["background", "left ventricle", "myocardium", "left atrium"];
        assert_eq!(HeartClasses::find(names), Some(CLASSES));
        assert_eq!(HeartClasses::find(["background", "gland"]), None);
        assert!((ejection_fraction(100.0, 40.0) - 0.6).abs() < 1e-12);
    }
}
