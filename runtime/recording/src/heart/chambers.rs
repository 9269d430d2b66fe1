//! Measurements of the left ventricle and the left atrium in apical echocardiograms, from label maps.
//!
//! Volumes follow the modified Simpson's rule, the method of discs (Lang et al., Recommendations for Cardiac Chamber
//! Quantification by Echocardiography in Adults, J Am Soc Echocardiogr 28, 2015): the ventricle is cut into 20 discs of
//! equal height along its long axis, which runs from the middle of the mitral plane to the apex. The atrium's runs from
//! there to the opposite wall.

use std::f64::consts::PI;

use ndarray::{ArrayView2, Ix2};
use serde::Serialize;

use ldseg::components::{largest_component, neighbours};
use ldseg::image::Labels;
use ldseg::{Error, ErrorKind, Result};

/// Discs along the long axis.
pub const DISCS: usize = 20;

/// The classes that measuring the ventricle needs, by their indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartClasses {
    /// The cavity of the left ventricle.
    pub ventricle: u8,
    /// Its wall.
    pub myocardium: u8,
}

/// The classes that measuring the atrium needs, by their indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtriumClasses {
    /// The left atrium.
    pub atrium: u8,
    /// The cavity of the left ventricle, on which it borders in the mitral plane.
    pub ventricle: u8,
}

/// The left ventricle in one frame.
pub type Ventricle = Chamber;

/// The left atrium in one frame.
pub type Atrium = Chamber;

/// A chamber in one frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Chamber {
    /// Area of the cavity, cm^2.
    pub area_cm2: f64,
    /// From the middle of the mitral plane to the apex, or to the atrium's opposite wall, mm.
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
    let labels = plane(labels)?;
    let cavity = part(labels, classes.ventricle);
    let closed = [classes.ventricle, classes.myocardium];
    let mitral = mitral_middle(labels, &cavity, |label| !closed.contains(&label), spacing);
    Ok(mitral.and_then(|mitral| chamber(&cavity, mitral, spacing)))
}

/// Measures the largest connected part of the left atrium. `None` where there is none, or where it does not border on the
/// cavity of the left ventricle, so that it has no mitral plane.
///
/// # Shapes
/// labels `[H, W]`; `spacing` in mm along (y, x).
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] for labels of other than two axes.
pub fn atrium(labels: &Labels, classes: AtriumClasses, spacing: [f64; 2]) -> Result<Option<Atrium>> {
    let labels = plane(labels)?;
    let cavity = part(labels, classes.atrium);
    let mitral = mitral_middle(labels, &cavity, |label| label == classes.ventricle, spacing);
    Ok(mitral.and_then(|mitral| chamber(&cavity, mitral, spacing)))
}

fn plane(labels: &Labels) -> Result<ArrayView2<'_, u8>> {
    labels.view().into_dimensionality::<Ix2>().map_err(|e| {
        Error::with_source(ErrorKind::ShapeMismatch, "measuring a chamber needs a label map of two axes", e)
    })
}

/// Discs across the long axis, which runs from the middle of the mitral plane to the pixel farthest from it.
fn chamber(cavity: &[[usize; 2]], mitral: [f64; 2], spacing: [f64; 2]) -> Option<Chamber> {
    let points: Vec<[f64; 2]> = cavity.iter().map(|pixel| place(*pixel, spacing)).collect();
    let length = |point: &[f64; 2]| (point[0] - mitral[0]).hypot(point[1] - mitral[1]);
    let apex = points.iter().copied().max_by(|a, b| length(a).total_cmp(&length(b))).unwrap_or(mitral);
    let long_axis_mm = length(&apex);
    if long_axis_mm <= 0.0 {
        return None;
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
    Some(Chamber { area_cm2, long_axis_mm, diameters_mm, volume_ml })
}

/// Biplane volume of a chamber in ml from a two- and a four-chamber view. Each of the [`DISCS`] discs is an ellipse with one
/// diameter from each view. Its height is the longer view's long axis over [`DISCS`].
pub fn biplane_ml(a: &Chamber, b: &Chamber) -> f64 {
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

/// The largest connected part of a class.
fn part(labels: ArrayView2<'_, u8>, class: u8) -> Vec<[usize; 2]> {
    largest_component(labels.mapv(|label| label == class).view())
}

/// The middle between the two ends of the mitral plane: of all pixels of the cavity that border on what is `open`, the two
/// that lie farthest apart. A ventricle is open where there is neither cavity nor wall, an atrium where the ventricle is.
fn mitral_middle(
    labels: ArrayView2<'_, u8>,
    cavity: &[[usize; 2]],
    open: impl Fn(u8) -> bool,
    spacing: [f64; 2],
) -> Option<[f64; 2]> {
    let open = |pixel: &[usize; 2]| neighbours(*pixel, labels.dim()).any(|[y, x]| open(labels[(y, x)]));
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

    const ATRIUM: AtriumClasses = AtriumClasses { atrium: 3, ventricle: 1 };

    /// A ventricle on a spheroid of semi-axes 40 and 25 pixels, cut off 30 pixels above its centre by the mitral plane; all
    /// turned by an angle.
    fn heart(angle: f64) -> Labels {
        Labels::from_shape_fn(vec![240, 240], |i| {
            let (dy, dx) = (i[0] as f64 - 120.0, i[1] as f64 - 120.0);
            let (down, across) = (dy * angle.cos() + dx * angle.sin(), dx * angle.cos() - dy * angle.sin());
            let inside = |along: f64, long: f64| (along / long).powi(2) + (across / 25.0).powi(2) < 1.0;
            match down < 0.0 {
                true => u8::from(inside(down, 80.0)),
                false => u8::from(inside(down - 30.0, 40.0)) * 3,
            }
        })
    }

    #[test]
    fn an_atrium_that_is_part_of_an_ellipsoid_has_its_volume() {
        // pi 25^2 (1 - u^2 / 40^2), integrated over u from -30 to 40.
        let exact = PI * 625.0 * ((40.0 - 40.0 / 3.0) + (30.0 - 27_000.0 / 4800.0)) / 1000.0;
        for (angle, [y, x]) in [(0.0, [0.5, 0.5]), (0.6, [0.5, 0.5]), (-2.0, [1.0, 1.0]), (0.0, [0.4, 0.8])] {
            let labels = heart(angle);
            let measured = atrium(&labels, ATRIUM, [y, x]).unwrap().unwrap();
            let ratio = measured.volume_ml / (exact * y * x * x);
            assert!((ratio - 1.0).abs() < 0.03, "{} ml, {ratio} of the spheroid's", measured.volume_ml);
            assert!((measured.long_axis_mm / (70.0 * y) - 1.0).abs() < 0.02, "{}", measured.long_axis_mm);
            assert!((biplane_ml(&measured, &measured) - measured.volume_ml).abs() < 1e-9);
        }
    }

    #[test]
    fn two_planes_make_an_atrium_of_three_axes() {
        // The same spheroid, in one plane a third narrower.
        let (wide, narrow) = (heart(0.0), heart(0.0));
        let measure = |labels: &Labels, x: f64| atrium(labels, ATRIUM, [0.6, x]).unwrap().unwrap();
        let (wide, narrow) = (measure(&wide, 0.6), measure(&narrow, 0.4));
        let between = (wide.volume_ml * narrow.volume_ml).sqrt();
        assert!((biplane_ml(&wide, &narrow) / between - 1.0).abs() < 0.01);
    }

    #[test]
    fn an_atrium_apart_from_the_ventricle_is_not_measured() {
        let mut labels = heart(0.0);
        labels.slice_mut(ndarray::s![118..123, ..]).fill(0);
        assert_eq!(atrium(&labels, ATRIUM, [1.0; 2]).unwrap(), None);
        assert_eq!(atrium(&Labels::zeros(vec![8, 8]), ATRIUM, [1.0; 2]).unwrap(), None);
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
    fn an_ejection_fraction_is_the_part_that_leaves() {
        assert!((ejection_fraction(100.0, 40.0) - 0.6).abs() < 1e-12);
    }
}
