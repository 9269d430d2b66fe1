//! How volumes lie in space: orientations, and the turns that bring one grid onto another without resampling.
//!
//! World coordinates are mm towards the patient's right, front and head (RAS), as in NIfTI. An orientation is written as three
//! letters, the direction in which each axis of the *file* runs, its fastest axis first (`RAS`, as nibabel and SimpleITK write
//! it); arrays have the same axes in reverse, the slowest first. An oblique grid has the orientation of the nearest axes.

use std::fmt;
use std::str::FromStr;

use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};

use super::{Geometry, Image};
use crate::{Error, ErrorKind, Result};

/// From voxel indices, those of the slowest axis first, and a 1 to mm (RAS), one row each.
pub type Affine = [[f64; 4]; 3];

/// Letters for the positive and the negative direction of each world axis.
const LETTERS: [[char; 2]; 3] = [['R', 'L'], ['A', 'P'], ['S', 'I']];
/// Volume that three unit vectors must span at least: of less, one is nearly a combination of the others.
const LEAST_DETERMINANT: f64 = 1e-3;
/// Part of a voxel by which two grids in the same place may be off.
const PLACE_TOLERANCE: f64 = 0.5;
/// Relative difference of two spacings that rounding explains.
const SPACING_TOLERANCE: f64 = 0.01;
/// Angle between two axes that rounding explains, degrees.
const ANGLE_TOLERANCE: f64 = 0.5;

/// The direction in which each axis of a volume runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Orientation {
    /// World axis of each array axis, slowest first.
    world: [usize; 3],
    /// Whether the array axis runs against it.
    negative: [bool; 3],
}

impl Orientation {
    /// Fastest axis to the right, then to the front, slowest to the head.
    pub const RAS: Self = Self { world: [2, 1, 0], negative: [false; 3] };

    /// That of the axes that are nearest to an affine's; `None` where it is not finite, or does not span space.
    pub fn of(affine: &Affine) -> Option<Self> {
        let axes = unit_axes(affine)?;
        let world = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let (world, negative) = nearest(&axes, &world);
        Some(Self { world, negative })
    }

    /// All 48 of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ORDERS.into_iter().flat_map(|world| {
            (0..8).map(move |bits| Self { world, negative: [0, 1, 2].map(|axis| bits >> axis & 1 == 1) })
        })
    }

    /// Whether the file's axes x, y and z form a left hand, as a mirror shows it.
    pub fn is_left_handed(self) -> bool {
        // Of array axes, which are the file's in reverse: an odd permutation of three.
        let [a, b, c] = self.world;
        let even = [(0, 1, 2), (1, 2, 0), (2, 0, 1)].contains(&(a, b, c));
        let mirrored = self.negative.iter().filter(|negative| **negative).count() % 2 == 1;
        even != mirrored
    }

    /// The turn that brings an array of this orientation to `target`.
    pub fn turn_to(self, target: Self) -> Turn {
        let source = target.world.map(|world| {
            if self.world[0] == world {
                0
            } else if self.world[1] == world {
                1
            } else {
                2
            }
        });
        let flip = [0, 1, 2].map(|axis| self.negative[source[axis]] != target.negative[axis]);
        Turn { source, flip, axes: 3 }
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |axis: usize| LETTERS[self.world[axis]][usize::from(self.negative[axis])];
        [2, 1, 0].into_iter().try_for_each(|axis| write!(f, "{}", letter(axis)))
    }
}

impl FromStr for Orientation {
    type Err = Error;

    fn from_str(code: &str) -> Result<Self> {
        let fail = || {
            let message =
                format!("the orientation is `{code}`, expected one letter each of R or L, A or P, S or I, such as RAS");
            Error::new(ErrorKind::Setting, message)
        };
        let (mut world, mut negative) = ([3; 3], [false; 3]);
        if code.chars().count() != 3 {
            return Err(fail());
        }
        for (letter, axis) in code.chars().zip([2, 1, 0]) {
            let found = LETTERS.iter().position(|pair| pair.contains(&letter)).ok_or_else(fail)?;
            if world.contains(&found) {
                return Err(fail());
            }
            (world[axis], negative[axis]) = (found, LETTERS[found][1] == letter);
        }
        Ok(Self { world, negative })
    }
}

impl TryFrom<String> for Orientation {
    type Error = Error;

    fn try_from(code: String) -> Result<Self> {
        code.parse()
    }
}

impl From<Orientation> for String {
    fn from(orientation: Orientation) -> Self {
        orientation.to_string()
    }
}

/// Exchanges and reverses the axes of volumes, or of pictures; every voxel is kept as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// For each axis of the result, the axis that it was. A picture counts as a volume of one slice.
    source: [usize; 3],
    /// Whether each axis of the result is reversed.
    flip: [bool; 3],
    /// Spatial axes of what is turned, 2 or 3.
    axes: usize,
}

impl Turn {
    /// Nothing is turned.
    pub const NONE: Self = Self { source: [0, 1, 2], flip: [false; 3], axes: 3 };

    /// Whether it leaves everything as it is.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The turn back.
    pub fn inverse(self) -> Self {
        let mut back = Self { axes: self.axes, ..Self::NONE };
        for (axis, &source) in self.source.iter().enumerate() {
            back.source[source] = axis;
            back.flip[source] = self.flip[axis];
        }
        back
    }

    /// An array `[..., D, H, W]`, of pictures `[..., H, W]`, turned, C-ordered. Arrays of fewer axes are left alone.
    pub fn array<A: Clone>(self, array: ArrayD<A>) -> ArrayD<A> {
        let Some(leading) = array.ndim().checked_sub(self.axes).filter(|_| !self.is_none()) else { return array };
        // Of a picture the first of the three axes is not there.
        let own = 3 - self.axes;
        let order: Vec<usize> =
            (0..leading).chain(self.source[own..].iter().map(|axis| leading + axis - own)).collect();
        let mut turned = array.permuted_axes(order);
        for (axis, _) in self.flip[own..].iter().enumerate().filter(|(_, flip)| **flip) {
            turned.invert_axis(Axis(leading + axis));
        }
        turned.as_standard_layout().into_owned()
    }

    /// The affine of an array of this `size`, after the turn.
    pub fn affine(self, affine: &Affine, size: [usize; 3]) -> Affine {
        affine.map(|row| {
            let mut turned = [0.0, 0.0, 0.0, row[3]];
            for axis in 0..3 {
                let source = self.source[axis];
                turned[axis] = row[source];
                if self.flip[axis] {
                    turned[axis] = 0.0 - row[source];
                    turned[3] += row[source] * (size[source] as f64 - 1.0);
                }
            }
            turned
        })
    }

    /// An image, turned, with the geometry that goes with it. One with another number of spatial axes is left alone.
    pub fn image(self, image: Image) -> Image {
        if self.is_none() || image.spatial_axes() != self.axes {
            return image;
        }
        let Image { data, geometry } = image;
        let size = as_volume(&data.shape()[1..]);
        let spacing = geometry.spacing.map(|mm| self.sizes(&mm));
        let affine = geometry.affine.map(|affine| match self.axes {
            3 => self.affine(&affine, size),
            _ => in_plane(&self.affine(&one_slice(&affine), size)),
        });
        Image { data: self.array(data), geometry: Geometry { spacing, affine } }
    }
}

/// Which way round a bundle takes volumes. In a manifest or recipe: `stored`, or an orientation such as `RAS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum OrientationPolicy {
    /// As they are stored.
    Stored,
    /// Turned to this orientation, by the file's affine; without one, as they are stored.
    Turned(Orientation),
}

impl OrientationPolicy {
    /// What a volume takes to be as the policy says.
    pub fn turn(self, geometry: &Geometry) -> Turn {
        match (self, geometry.orientation()) {
            (Self::Turned(target), Some(found)) => found.turn_to(target),
            _ => Turn::NONE,
        }
    }
}

impl Default for OrientationPolicy {
    fn default() -> Self {
        Self::Turned(Orientation::RAS)
    }
}

impl TryFrom<String> for OrientationPolicy {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        if text == "stored" { Ok(Self::Stored) } else { text.parse().map(Self::Turned) }
    }
}

impl From<OrientationPolicy> for String {
    fn from(policy: OrientationPolicy) -> Self {
        match policy {
            OrientationPolicy::Stored => "stored".to_owned(),
            OrientationPolicy::Turned(orientation) => orientation.to_string(),
        }
    }
}

/// How two grids differ that should be one.
#[derive(Debug, Clone, PartialEq)]
pub struct GridDifference {
    found: String,
    expected: String,
}

impl GridDifference {
    /// `has size [2, 3], but REFERENCE has [3, 3]`.
    pub fn message(&self, reference: impl fmt::Display) -> String {
        format!("{}, but {reference} {}", self.found, self.expected)
    }
}

impl Geometry {
    /// The orientation of a volume with a place in space.
    pub fn orientation(&self) -> Option<Orientation> {
        self.affine.as_ref().and_then(Orientation::of)
    }

    /// The same directions and first voxel, with another spacing in mm along each axis, slowest first.
    pub fn respaced(self, spacing: Vec<f64>) -> Self {
        let affine = self.affine.map(|affine| {
            let mut scaled = affine;
            for (axis, mm) in spacing.iter().enumerate().take(3) {
                let length = affine.iter().map(|row| row[axis] * row[axis]).sum::<f64>().sqrt();
                if length > 0.0 {
                    scaled.iter_mut().for_each(|row| row[axis] *= mm / length);
                }
            }
            scaled
        });
        Self { spacing: Some(spacing), affine }
    }
}

impl Image {
    /// The turn that brings this image onto the grid of `reference`, by the affines of both: where they lie in the same
    /// place, voxel lies on voxel then. Where one of them has no place in space, what is stored is compared as it is stored.
    ///
    /// # Errors
    /// How the grids differ: in size, in spacing (by more than 1 %), in the directions of their axes (by more than half a
    /// degree), or in place (by more than half a voxel).
    pub fn turn_onto(&self, reference: &Self) -> std::result::Result<Turn, GridDifference> {
        let (size, expected) = (&self.data.shape()[1..], &reference.data.shape()[1..]);
        // Pictures count as volumes of one slice.
        let placed = match (self.geometry.affine, reference.geometry.affine) {
            (Some(own), Some(other)) if size.len() == 3 && expected.len() == 3 => Some((own, other)),
            (Some(own), Some(other)) if size.len() == 2 && expected.len() == 2 => {
                Some((one_slice(&own), one_slice(&other)))
            }
            _ => None,
        };
        let in_space = placed.and_then(|(own, other)| Turn::onto(&own, &other)).unwrap_or(Turn::NONE);
        let turn = match size {
            [_, _] if in_space.source[0] != 0 => {
                return Err(GridDifference::new("a picture in one plane".into(), "one in another".into()));
            }
            [_, _] => in_space.of_pictures(),
            _ => in_space,
        };
        let turned = turn.sizes(size);
        if turned != expected {
            let how = if turn.is_none() { "" } else { " when turned alike" };
            return Err(GridDifference::new(format!("size {turned:?}{how}"), format!("{expected:?}")));
        }
        if let (Some(found), Some(expected)) = (self.spacing(), reference.spacing()) {
            let found = turn.sizes(found);
            if found.iter().zip(expected).any(|(a, b)| (a - b).abs() > SPACING_TOLERANCE * b) {
                let rounded = |mm: &[f64]| mm.iter().map(|mm| (mm * 1e5).round() / 1e5).collect::<Vec<_>>();
                let [found, expected] = [&found, expected].map(|mm| format!("{:?} mm", rounded(mm)));
                return Err(GridDifference::new(format!("spacing {found}"), expected));
            }
        }
        let Some((own, other)) = placed else { return Ok(turn) };
        match place_difference(&in_space.affine(&own, as_volume(size)), &other, &as_volume(expected)) {
            Some(difference) => Err(difference),
            None => Ok(turn),
        }
    }
}

/// Two or three sizes as those of a volume.
fn as_volume(size: &[usize]) -> [usize; 3] {
    match *size {
        [height, width] => [1, height, width],
        [depth, height, width] => [depth, height, width],
        _ => [1; 3],
    }
}

/// The affine of a picture, whose columns are y, x and nothing, as that of a volume of one slice.
fn one_slice(affine: &Affine) -> Affine {
    let [y, x] = [0, 1].map(|axis| [0, 1, 2].map(|world: usize| affine[world][axis]));
    let normal = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    // As thick as its pixels are wide, whose area is the normal's length.
    let root = dot(&normal, &normal).sqrt().sqrt();
    [0, 1, 2].map(|world| [normal[world] / root, y[world], x[world], affine[world][3]])
}

/// The reverse of [`one_slice`].
fn in_plane(affine: &Affine) -> Affine {
    affine.map(|[_, y, x, offset]| [y, x, 0.0, offset])
}

impl Turn {
    /// That which brings arrays of affine `own` to the axes of `reference`; `None` where one of them does not span space.
    fn onto(own: &Affine, reference: &Affine) -> Option<Self> {
        // Along which axis of the reference each of its axes runs, and which way.
        let (along, negative) = nearest(&unit_axes(own)?, &unit_axes(reference)?);
        let mut turn = Self::NONE;
        for axis in 0..3 {
            (turn.source[along[axis]], turn.flip[along[axis]]) = (axis, negative[axis]);
        }
        Some(turn)
    }

    /// The same of pictures that are volumes of one slice. Which way round that one runs plays no part.
    fn of_pictures(self) -> Self {
        let turn = Self { flip: [false, self.flip[1], self.flip[2]], ..self };
        if turn.is_none() { Self::NONE } else { Self { axes: 2, ..turn } }
    }

    /// One number an axis, turned.
    fn sizes<T: Copy>(self, of_axes: &[T]) -> Vec<T> {
        match *of_axes {
            [a, b, c] => self.source.map(|axis| [a, b, c][axis]).to_vec(),
            [b, c] if self.axes == 2 => self.source[1..].iter().map(|axis| [b, c][axis - 1]).collect(),
            _ => of_axes.to_vec(),
        }
    }
}

impl GridDifference {
    fn new(found: String, expected: String) -> Self {
        Self { found: format!("has {found}"), expected: format!("has {expected}") }
    }
}

/// How two grids of one size differ in the directions of their axes, or in place.
fn place_difference(own: &Affine, reference: &Affine, size: &[usize]) -> Option<GridDifference> {
    let (found, expected) = (unit_axes(own)?, unit_axes(reference)?);
    let cosine = found.iter().zip(&expected).map(|(a, b)| dot(a, b)).fold(1.0, f64::min);
    let degrees = cosine.clamp(-1.0, 1.0).acos().to_degrees();
    if degrees > ANGLE_TOLERANCE {
        let found = format!("axes that are oblique by {degrees:.1} degrees to those of its counterpart");
        return Some(GridDifference::new(found, "others".to_owned()));
    }
    // Rounded spacings let the corners drift apart with their distance: those that are nearest count.
    let corners =
        (0..8).map(|bits| [0, 1, 2].map(|axis| if bits >> axis & 1 == 1 { size[axis] as f64 - 1.0 } else { 0.0 }));
    let away = |index: [f64; 3]| {
        let (a, b) = (position(own, index), position(reference, index));
        let apart = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
        let voxels = (0..3).map(|axis| dot(&apart, &expected[axis]).abs() / column_length(reference, axis));
        (voxels.fold(0.0, f64::max), dot(&apart, &apart).sqrt())
    };
    let (voxels, mm) = corners.map(away).min_by(|a, b| a.0.total_cmp(&b.0))?;
    (voxels > PLACE_TOLERANCE).then(|| {
        let [a, b] = [own, reference].map(|affine| position(affine, [0.0; 3]).map(|mm| (mm * 1e3).round() / 1e3));
        GridDifference::new(
            format!("its first voxel at {a:?} mm (right, front, head)"),
            format!("it at {b:?} mm, {mm:.1} mm away"),
        )
    })
}

/// All orders of three axes.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// For each of the `axes` the one of `others` that is nearest, each given once, and whether it runs against it. Of equal
/// choices the first counts.
fn nearest(axes: &[[f64; 3]; 3], others: &[[f64; 3]; 3]) -> ([usize; 3], [bool; 3]) {
    let cosines = axes.map(|axis| others.map(|other| dot(&axis, &other)));
    let likeness = |order: &[usize; 3]| (0..3).map(|axis| cosines[axis][order[axis]].powi(2)).sum::<f64>();
    let best =
        ORDERS.iter().fold(ORDERS[0], |best, order| if likeness(order) > likeness(&best) { *order } else { best });
    (best, [0, 1, 2].map(|axis| cosines[axis][best[axis]] < 0.0))
}

/// Unit vectors along the axes of an affine; `None` where it is not finite, or does not span space.
fn unit_axes(affine: &Affine) -> Option<[[f64; 3]; 3]> {
    if !affine.iter().flatten().all(|value| value.is_finite()) {
        return None;
    }
    let axes = [0, 1, 2].map(|axis| {
        let length = column_length(affine, axis);
        [0, 1, 2].map(|world| affine[world][axis] / length)
    });
    let [a, b, c] = axes;
    let cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    // Of an axis without a length this is no number, and not enough either.
    (dot(&a, &cross).abs() >= LEAST_DETERMINANT).then_some(axes)
}

fn column_length(affine: &Affine, axis: usize) -> f64 {
    affine.iter().map(|row| row[axis] * row[axis]).sum::<f64>().sqrt()
}

fn position(affine: &Affine, index: [f64; 3]) -> [f64; 3] {
    affine.map(|row| row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3])
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;
    use crate::Tensor;

    fn orientation(code: &str) -> Orientation {
        code.parse().unwrap()
    }

    /// 2 x 3 x 4 voxels of 4, 2 and 1 mm, each with a value of its own, oblique by some degrees.
    fn volume() -> Image {
        let data = Tensor::from_shape_fn(IxDyn(&[1, 2, 3, 4]), |i| (i[1] * 12 + i[2] * 4 + i[3]) as f32);
        let (sin, cos) = 0.2_f64.sin_cos();
        let affine = [[0.0, -2.0 * sin, cos, 10.0], [0.0, 2.0 * cos, sin, -20.0], [4.0, 0.0, 0.0, 30.0]];
        Image { data, geometry: Geometry::with_spacing(vec![4.0, 2.0, 1.0]).placed(affine) }
    }

    #[test]
    fn codes_name_the_file_s_axes_fastest_first() {
        assert_eq!(Orientation::RAS.to_string(), "RAS");
        assert_eq!(volume().geometry.orientation().unwrap().to_string(), "RAS");
        // x runs to the back, y to the feet, z to the left: as nibabel's aff2axcodes has it.
        let affine = [[-3.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, -2.0, 0.0, 0.0]];
        assert_eq!(Orientation::of(&affine).unwrap().to_string(), "PIL");
        assert_eq!(
            Orientation::all().map(|found| found.to_string()).collect::<std::collections::BTreeSet<_>>().len(),
            48
        );
        for found in Orientation::all() {
            assert_eq!(orientation(&found.to_string()), found);
        }
        for wrong in ["", "RA", "RASS", "RAL", "ras", "RAX", "RRS", "R\u{e4}S"] {
            assert!(wrong.parse::<Orientation>().is_err(), "{wrong}");
        }
        assert!(["RAS", "LPS", "ASR", "PIR"].iter().all(|code| !orientation(code).is_left_handed()));
        assert!(["LAS", "ARS", "RAI"].iter().all(|code| orientation(code).is_left_handed()));
    }

    #[test]
    fn affines_that_span_no_space_have_no_orientation() {
        let flat = [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0]];
        assert_eq!(Orientation::of(&flat), None);
        assert_eq!(Orientation::of(&[[0.0; 4]; 3]), None);
        let mut endless = volume().geometry.affine.unwrap();
        endless[1][3] = f64::NAN;
        assert_eq!(Orientation::of(&endless), None);
    }

    #[test]
    fn every_turn_keeps_each_voxel_in_its_place_and_turns_back() {
        let image = volume();
        let (from, affine) = (image.geometry.orientation().unwrap(), image.geometry.affine.unwrap());
        for target in Orientation::all() {
            let turn = from.turn_to(target);
            let turned = turn.image(image.clone());
            assert_eq!(turned.geometry.orientation(), Some(target));
            assert_eq!(turned.turn_onto(&image).unwrap(), turn.inverse(), "{target}");
            for (index, value) in turned.data.indexed_iter() {
                let place = position(&turned.geometry.affine.unwrap(), [1, 2, 3].map(|axis| index[axis] as f64));
                let stored = *value as usize;
                let expected = position(&affine, [stored / 12, stored / 4 % 3, stored % 4].map(|i| i as f64));
                assert!(place.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{target}");
            }
            let back = turn.inverse().image(turned);
            assert_eq!((&back.data, back.spacing()), (&image.data, image.spacing()));
        }
    }

    #[test]
    fn grids_that_differ_are_told_how() {
        let image = volume();
        let message = |change: &dyn Fn(&mut Image)| {
            let mut other = orientation("RAS").turn_to(orientation("PIR")).image(volume());
            change(&mut other);
            other.turn_onto(&image).unwrap_err().message("its image")
        };
        let moved = message(&|other| other.geometry.affine.as_mut().unwrap()[1][3] += 50.0);
        assert!(moved.ends_with("but its image has it at [10.0, -20.0, 30.0] mm, 50.0 mm away"), "{moved}");
        let shorter = message(&|other| other.data = other.data.slice_axis(Axis(1), (0..2).into()).to_owned());
        assert_eq!(shorter, "has size [2, 3, 2] when turned alike, but its image has [2, 3, 4]");
        let coarser = message(&|other| other.geometry.spacing = Some(vec![1.1, 4.0, 2.0]));
        assert_eq!(coarser, "has spacing [4.0, 2.0, 1.1] mm, but its image has [4.0, 2.0, 1.0] mm");
        let (sin, cos) = 0.3_f64.sin_cos();
        let turned = message(&|other| {
            let [x, y, z] = other.geometry.affine.unwrap();
            let mix = |a: f64, b: f64| [0, 1, 2, 3].map(|i| a * x[i] + b * y[i]);
            other.geometry.affine = Some([mix(cos, -sin), mix(sin, cos), z]);
        });
        assert!(turned.starts_with("has axes that are oblique by 17.2 degrees"), "{turned}");
        // A third of a voxel along the slowest axis, of 4 mm, is none.
        let mut near = image.clone();
        near.geometry.affine.as_mut().unwrap()[2][3] += 1.3;
        assert_eq!(near.turn_onto(&image), Ok(Turn::NONE));
        near.geometry.affine = None;
        assert_eq!(near.turn_onto(&image), Ok(Turn::NONE));
    }

    #[test]
    fn pictures_are_turned_in_their_plane() {
        // 2 x 3 pixels of 0.5 and 0.3 mm; x runs to the left, y to the back.
        let data = Tensor::from_shape_fn(IxDyn(&[1, 2, 3]), |i| (i[1] * 3 + i[2]) as f32);
        let affine = [[0.0, -0.3, 0.0, 10.0], [-0.5, 0.0, 0.0, 20.0], [0.0, 0.0, 0.0, 30.0]];
        let image = Image { data, geometry: Geometry::with_spacing(vec![0.5, 0.3]).placed(affine) };
        let stored = |rows: &[[f32; 3]; 2], affine| {
            let data = Tensor::from_shape_fn(IxDyn(&[1, 2, 3]), |i| rows[i[1]][i[2]]);
            Image { data, geometry: Geometry::with_spacing(vec![0.5, 0.3]).placed(affine) }
        };
        let mirrored = [[0.0, 0.3, 0.0, 9.4], [-0.5, 0.0, 0.0, 20.0], [0.0, 0.0, 0.0, 30.0]];
        let mirrored = stored(&[[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]], mirrored);
        let around = [[0.0, 0.3, 0.0, 9.4], [0.5, 0.0, 0.0, 19.5], [0.0, 0.0, 0.0, 30.0]];
        let around = stored(&[[5.0, 4.0, 3.0], [2.0, 1.0, 0.0]], around);
        let columns = [[-0.3, 0.0, 0.0, 10.0], [0.0, -0.5, 0.0, 20.0], [0.0, 0.0, 0.0, 30.0]];
        let columns = Image {
            data: image.data.clone().permuted_axes(vec![0, 2, 1]),
            geometry: Geometry::with_spacing(vec![0.3, 0.5]).placed(columns),
        };
        for other in [&mirrored, &around, &columns] {
            let turn = other.turn_onto(&image).unwrap();
            let turned = turn.image(other.clone());
            assert_eq!((&turned.data, turned.spacing()), (&image.data, image.spacing()));
            let apart = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-12;
            assert!(!turned.geometry.affine.unwrap().iter().flatten().zip(affine.iter().flatten()).any(apart));
            assert_eq!(image.turn_onto(other), Ok(turn.inverse()));
            let labels = other.data.index_axis(Axis(0), 0).to_owned();
            assert_eq!(turn.array(labels), image.data.index_axis(Axis(0), 0));
        }
        assert_eq!(image.turn_onto(&image), Ok(Turn::NONE));
        let message = |affine| stored(&[[0.0; 3]; 2], affine).turn_onto(&image).unwrap_err().message("its image");
        let moved = message([[0.0, 0.3, 0.0, 10.0], [-0.5, 0.0, 0.0, 20.0], [0.0, 0.0, 0.0, 30.0]]);
        assert!(moved.ends_with("0.6 mm away"), "{moved}");
        let other = message([[0.0, -0.3, 0.0, 10.0], [0.0, 0.0, 0.0, 20.0], [0.5, 0.0, 0.0, 30.0]]);
        assert_eq!(other, "has a picture in one plane, but its image has one in another");
        let nowhere = stored(&[[0.0; 3]; 2], [[0.0; 4]; 3]);
        assert_eq!(nowhere.turn_onto(&image), Ok(Turn::NONE));
    }

    #[test]
    fn another_spacing_keeps_directions() {
        let found = volume().geometry.respaced(vec![2.0, 2.0, 2.0]);
        let affine = found.affine.unwrap();
        assert!((0..3).all(|axis| (column_length(&affine, axis) - 2.0).abs() < 1e-12));
        assert_eq!(found.orientation(), Some(Orientation::RAS));
    }
}
