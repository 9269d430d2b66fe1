//! Surface elements ("surfels") with their areas, as marching cubes draws them (Lorensen and Cline 1987; used for the
//! surface Dice by Nikolov et al., Clinically applicable segmentation of head and neck anatomy, JMIR 23(7), 2021).
//!
//! Around every point where eight voxels meet (four in 2-D) these are the corners of a cube. Where some are set and some
//! are not, the surface passes between them through the middles of the cube's edges, and the point stands for that piece.
//! The piece falls apart into one for each group of corners that edges connect, of the set corners or, where those are
//! more than half, of the others. There are six groups of up to four corners, whatever their orientation, and each has
//! its triangles.

use super::mask::Mask;

/// The cubes that a surface passes through.
pub(super) struct Surfels {
    /// A cube is a voxel here, set where the surface passes. One longer than the voxels' mask along every real axis: cube
    /// i lies between voxels i - 1 and i.
    pub(super) cubes: Mask,
    /// Area of the surface in each cube in mm^2 (length in mm in 2-D), in the order of the cubes; 0 where it doesn't pass.
    pub(super) areas: Vec<f64>,
}

/// The surface of a mask with voxels of `spacing` mm.
pub(super) fn surfels(mask: &Mask, spacing: [f64; 3]) -> Surfels {
    let table = area_table(mask.axes, spacing);
    let mut size = mask.size;
    mask.used_axes().for_each(|axis| size[axis] += 1);
    let mut codes = vec![0_usize; size.iter().product()];
    let strides = [size[1] * size[2], size[2], 1];
    let rows = mask.voxels.chunks_exact(mask.size[2].max(1)).enumerate();
    for (row, voxels) in rows {
        let first = row / mask.size[1] * strides[0] + row % mask.size[1] * strides[1];
        for x in (0..voxels.len()).filter(|&x| voxels[x]) {
            // The voxel is a corner of the cube before it and of the one after it along each axis, on opposite sides.
            for corner in 0..1 << mask.axes {
                let cube = first + x + offset(corner, mask.axes, strides);
                codes[cube] |= 1 << corner;
            }
        }
    }
    let passes = |code: &usize| *code != 0 && *code + 1 != 1 << (1 << mask.axes);
    Surfels {
        cubes: Mask { size, axes: mask.axes, voxels: codes.iter().map(passes).collect() },
        areas: codes.iter().map(|code| table[*code]).collect(),
    }
}

/// A voxel is a corner of several cubes. How far in memory the one that has it as `corner` lies behind the one that has
/// it as corner 0.
fn offset(corner: usize, axes: usize, strides: [usize; 3]) -> usize {
    (0..axes).map(|axis| (corner >> axis & 1) * strides[3 - axes + axis]).sum()
}

/// The surface's area in a cube for each set of its corners. Bit `axis` of a corner's number is its side along that axis.
fn area_table(axes: usize, spacing: [f64; 3]) -> Vec<f64> {
    let corners = 1_usize << axes;
    let of_groups = |code: usize| {
        let set: Vec<usize> = (0..corners).filter(|corner| code >> corner & 1 == 1).collect();
        let groups = groups(set);
        groups.iter().map(|group| if axes == 2 { length(group, spacing) } else { area(group, spacing) }).sum::<f64>()
    };
    let table = |code: usize| {
        let others = !code & ((1 << corners) - 1);
        let fewer = if code.count_ones() as usize > corners / 2 { others } else { code };
        // With no corner at all there is no surface: not -0.0, the sum of nothing.
        if fewer == 0 { 0.0 } else { of_groups(fewer) }
    };
    (0..1 << corners).map(table).collect()
}

/// The corners, in groups that edges connect.
fn groups(mut corners: Vec<usize>) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    while let Some(corner) = corners.pop() {
        let mut group = vec![corner];
        let mut next = 0;
        while let Some(&corner) = group.get(next) {
            let (near, rest) = corners.into_iter().partition(|other| edge_axis(corner, *other).is_some());
            group.extend::<Vec<usize>>(near);
            corners = rest;
            next += 1;
        }
        groups.push(group);
    }
    groups
}

/// The axis of the edge between two corners, if there is one.
fn edge_axis(a: usize, b: usize) -> Option<usize> {
    let difference = a ^ b;
    difference.is_power_of_two().then(|| difference.trailing_zeros() as usize)
}

/// Length of the contour around one group of one or two corners of a square.
fn length(group: &[usize], spacing: [f64; 3]) -> f64 {
    let sides = [spacing[1], spacing[2]];
    match group {
        [a, b] => edge_axis(*a, *b).map_or(0.0, |axis| sides[axis]),
        _ => 0.5 * sides[0].hypot(sides[1]),
    }
}

/// Area of the surface around one group of up to four corners of a cube.
fn area(group: &[usize], spacing: [f64; 3]) -> f64 {
    let [z, y, x] = spacing;
    let faces = [y * x, z * x, z * y];
    // A triangle by its area vector in units of the cube's faces: its shadow on each of them.
    let triangle =
        |shadows: [f64; 3]| -> f64 { (0..3).map(|axis| (shadows[axis] * faces[axis]).powi(2)).sum::<f64>().sqrt() };
    let slanted = |shadow: f64| triangle([shadow; 3]);
    let along = |axis: usize| triangle(std::array::from_fn(|other| if other == axis { 0.0 } else { 0.25 }));
    let upright = |axis: usize| triangle(std::array::from_fn(|other| if other == axis { 0.5 } else { 0.0 }));

    let pairs = group.iter().enumerate().flat_map(|(i, a)| group[i + 1..].iter().map(move |b| (*a, *b)));
    let edges: Vec<_> = pairs.filter_map(|(a, b)| edge_axis(a, b).map(|axis| (a, b, axis))).collect();
    let degree = |corner: usize| edges.iter().filter(|(a, b, _)| *a == corner || *b == corner).count();
    match edges.as_slice() {
        [] => slanted(0.125),
        [(_, _, axis)] => 2.0 * along(*axis),
        // Three corners of one face.
        [(_, _, a), (_, _, b)] => upright(3 - a - b) + slanted(0.25) + slanted(0.125),
        // One corner and its three neighbours.
        [_, _, _] if group.iter().any(|corner| degree(*corner) == 3) => 2.0 * (slanted(0.125) + slanted(0.25)),
        // A path along all three axes; its first and last edge.
        [_, _, _] => {
            let ends = edges.iter().filter(|(a, b, _)| degree(*a) == 1 || degree(*b) == 1);
            slanted(0.125) + slanted(0.375) + ends.map(|(_, _, axis)| along(*axis)).sum::<f64>()
        }
        // A whole face: its normal is the axis of none of its edges.
        _ => 2.0 * upright((0..3).find(|axis| edges.iter().all(|edge| edge.2 != *axis)).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn box_of(size: [usize; 3], axes: usize) -> Mask {
        Mask { size, axes, voxels: vec![true; size.iter().product()] }
    }

    #[test]
    fn a_box_has_its_faces_with_bevelled_edges() {
        // 2 x 3 voxels: straight pieces of (n - 1) voxels and four corners cut by the diagonal.
        let spacing = [1.0, 2.0, 5.0];
        let found: f64 = surfels(&box_of([1, 2, 3], 2), spacing).areas.iter().sum();
        assert!((found - (2.0 * (2.0 + 2.0 * 5.0) + 4.0 * 0.5 * 2.0_f64.hypot(5.0))).abs() < 1e-12);

        let [z, y, x] = spacing;
        let found: f64 = surfels(&box_of([3, 2, 4], 3), spacing).areas.iter().sum();
        let faces = 2.0 * (3.0 * y * x + 6.0 * z * x + 2.0 * z * y);
        let edges = 4.0
            * (2.0 * z * (y / 2.0).hypot(x / 2.0) + y * (z / 2.0).hypot(x / 2.0) + 3.0 * x * (z / 2.0).hypot(y / 2.0));
        let corners = 8.0 * 0.125 * ((y * x).powi(2) + (z * x).powi(2) + (z * y).powi(2)).sqrt();
        assert!((found - faces - edges - corners).abs() < 1e-9, "{found}");
    }

    #[test]
    fn inside_out_is_the_same_surface() {
        let table = area_table(3, [0.7, 1.1, 2.3]);
        assert!((0..256).all(|code| (table[code] - table[255 - code]).abs() < 1e-12));
        assert!((1..255).all(|code| table[code] > 0.0) && table[0] == 0.0);
    }
}
