//! Where a NIfTI lies and how large its voxels are: what is believed of its header, in one place. `docs/files.md` has the
//! same as a table.

use ::nifti::NiftiHeader;
use ldseg::image::{Affine, Geometry, Orientation};

/// Relative difference of two spacings that rounding explains.
const SPACING_TOLERANCE: f64 = 1e-3;
/// Difference of two offsets that rounding explains, in voxels, as the headers' numbers have 24 bits.
const OFFSET_TOLERANCE: f64 = 0.5;

/// The geometry of an image with so many spatial axes, and what is odd about the header.
pub(super) fn place(header: &NiftiHeader, axes: usize) -> (Geometry, Vec<String>) {
    let mut notes = Vec::new();
    let unit = unit_mm(header);
    let believed = affine(header, unit.unwrap_or(1.0), axes, &mut notes);
    let pixdim = pixdim(header, unit.unwrap_or(1.0), axes);
    let shown = |mm: &[f64; 3]| -> Vec<f64> { mm[..axes].iter().map(|mm| (mm * 1e4).round() / 1e4).collect() };
    let is_one = |mm: &[f64; 3]| mm[..axes].iter().all(|mm| *mm == 1.0);
    let same = |a: &[f64; 3], b: &[f64; 3]| {
        (0..axes).all(|axis| (a[axis] - b[axis]).abs() <= SPACING_TOLERANCE * b[axis].abs())
    };
    // Along the file's axes, fastest first.
    let known = match (&believed, pixdim) {
        (Some((name, affine)), found) => {
            let lengths = [0, 1, 2].map(|axis| column_length(affine, axis));
            match found {
                Some(pixdim) if !same(&pixdim, &lengths) => {
                    // Voxels of exactly 1 mm are what an affine has that nobody filled in.
                    let (winner, mm) = if is_one(&lengths) { ("pixdim", pixdim) } else { (*name, lengths) };
                    notes.push(format!(
                        "its pixdim says {:?} mm, its {name} {:?} mm: the {winner} is believed",
                        shown(&pixdim),
                        shown(&lengths)
                    ));
                    Some(mm)
                }
                _ => Some(lengths),
            }
        }
        (None, found) => found,
    };
    // Voxels of exactly 1 without a unit are what a header has that nobody filled in.
    let known = known.filter(|mm| unit.is_some() || !is_one(mm));
    let geometry = Geometry::default();
    let geometry = match believed {
        Some((_, affine)) => geometry.placed(array_order(&affine, axes)),
        None => geometry,
    };
    let in_array_order = |mm: [f64; 3]| mm[..axes].iter().rev().copied().collect();
    let geometry = match known {
        Some(mm) => geometry.respaced(in_array_order(mm)),
        None => geometry,
    };
    (geometry, notes)
}

/// The affine that is believed, columns in the file's order, in mm, with its name: the sform where its code is above 0 and it
/// spans space, else the qform where its code is above 0.
fn affine(header: &NiftiHeader, unit: f64, axes: usize, notes: &mut Vec<String>) -> Option<(&'static str, Affine)> {
    let scaled = |rows: Affine| rows.map(|row| row.map(|value| value * unit));
    let usable = |name: &str, code: i16, rows: Affine, notes: &mut Vec<String>| {
        let spans = Orientation::of(&rows).is_some();
        if code > 0 && !spans && axes == 3 {
            notes.push(format!("its {name} does not span space, and is not used"));
        }
        (code > 0 && spans).then(|| scaled(rows))
    };
    let rows = [header.srow_x, header.srow_y, header.srow_z].map(|row| row.map(f64::from));
    let sform = usable("sform", header.sform_code, rows, notes);
    let qform = usable("qform", header.qform_code, from_quaternion(header), notes);
    match (sform, qform) {
        (Some(sform), Some(qform)) => {
            if axes == 3
                && let Some(how) = disagreement(&sform, &qform)
            {
                notes.push(format!("its sform and qform disagree: {how}; the sform is believed"));
            }
            Some(("sform", sform))
        }
        (Some(sform), None) => Some(("sform", sform)),
        (None, Some(qform)) => Some(("qform", qform)),
        (None, None) => {
            if axes == 3 {
                notes.push(
                    "has no sform and no qform: how it lies in space is unknown, and it is taken as stored".into(),
                );
            }
            None
        }
    }
}

/// How two affines of one file differ in the way round, or in where the first voxel is.
fn disagreement(sform: &Affine, qform: &Affine) -> Option<String> {
    let [s, q] = [sform, qform].map(|affine| Orientation::of(&array_order(affine, 3)));
    let (s, q) = s.zip(q)?;
    if s != q {
        return Some(format!("they say {s} and {q}"));
    }
    let offset = |affine: &Affine| affine.map(|row| row[3]);
    let voxel = (0..3).map(|axis| column_length(sform, axis)).fold(f64::INFINITY, f64::min);
    let apart = offset(sform).iter().zip(offset(qform)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    (apart > OFFSET_TOLERANCE * voxel).then(|| format!("their first voxels are {apart:.1} mm apart"))
}

/// Columns in the file's order, as those of an array of so many axes; axes beyond them are left out.
fn array_order(affine: &Affine, axes: usize) -> Affine {
    affine.map(|row| {
        let mut ordered = [0.0, 0.0, 0.0, row[3]];
        (0..axes).for_each(|axis| ordered[axes - 1 - axis] = row[axis]);
        ordered
    })
}

fn column_length(affine: &Affine, axis: usize) -> f64 {
    affine.iter().map(|row| row[axis] * row[axis]).sum::<f64>().sqrt()
}

/// The header's unit of length in mm, where it has one.
fn unit_mm(header: &NiftiHeader) -> Option<f64> {
    match header.xyzt_units & 7 {
        1 => Some(1e3),
        2 => Some(1.0),
        3 => Some(1e-3),
        _ => None,
    }
}

/// Voxel sizes along the file's axes in mm; `None` unless those of the image's axes are positive numbers.
fn pixdim(header: &NiftiHeader, unit: f64, axes: usize) -> Option<[f64; 3]> {
    let sizes = [1, 2, 3].map(|axis| f64::from(header.pixdim[axis]).abs() * unit);
    sizes[..axes].iter().all(|size| size.is_finite() && *size > 0.0).then_some(sizes)
}

/// The qform (the NIfTI-1 standard's method 2): a rotation by a quaternion, spacings, and an offset.
fn from_quaternion(header: &NiftiHeader) -> Affine {
    let [b, c, d] = [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from);
    let a = (1.0 - b * b - c * c - d * d).max(0.0).sqrt();
    let rotation = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    let handed = if header.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let [i, j] = [1, 2].map(|axis| f64::from(header.pixdim[axis]));
    // Of pictures it may say nothing.
    let k = if header.pixdim[3] == 0.0 { 1.0 } else { f64::from(header.pixdim[3]) };
    let offset = [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from);
    std::array::from_fn(|world| {
        let [x, y, z] = rotation[world];
        [x * i, y * j, z * k * handed, offset[world]]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RAS by sform, with voxels of 0.5 mm; pixdim alike.
    fn header() -> NiftiHeader {
        NiftiHeader {
            dim: [3, 4, 3, 2, 1, 1, 1, 1],
            pixdim: [1.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0],
            sform_code: 1,
            qform_code: 0,
            srow_x: [0.5, 0.0, 0.0, 1.0],
            srow_y: [0.0, 0.5, 0.0, 2.0],
            srow_z: [0.0, 0.0, 0.5, 3.0],
            xyzt_units: 2,
            ..NiftiHeader::default()
        }
    }

    fn found(header: &NiftiHeader) -> (Option<Vec<f64>>, String, Vec<String>) {
        let (geometry, notes) = place(header, 3);
        let code = geometry.orientation().map_or("unknown".into(), |orientation| orientation.to_string());
        (geometry.spacing, code, notes)
    }

    const ONES: [f32; 8] = [1.0; 8];

    #[test]
    fn what_is_believed_of_spacing() {
        assert_eq!(found(&header()), (Some(vec![0.5; 3]), "RAS".into(), vec![]));
        // The affine alone knows.
        let (spacing, _, notes) = found(&NiftiHeader { pixdim: ONES, ..header() });
        assert_eq!(spacing, Some(vec![0.5; 3]));
        assert_eq!(notes, ["its pixdim says [1.0, 1.0, 1.0] mm, its sform [0.5, 0.5, 0.5] mm: the sform is believed"]);
        // pixdim alone knows.
        let unit = |header: NiftiHeader| NiftiHeader {
            srow_x: [1.0, 0.0, 0.0, 0.0],
            srow_y: [0.0, 1.0, 0.0, 0.0],
            srow_z: [0.0, 0.0, 1.0, 0.0],
            ..header
        };
        let (spacing, _, notes) = found(&unit(header()));
        assert_eq!(spacing, Some(vec![0.5; 3]));
        assert!(notes[0].ends_with("the pixdim is believed"), "{notes:?}");
        // Neither, with and without a unit.
        let ones = NiftiHeader { pixdim: ONES, ..unit(header()) };
        assert_eq!(found(&ones), (Some(vec![1.0; 3]), "RAS".into(), vec![]));
        assert_eq!(found(&NiftiHeader { xyzt_units: 0, ..ones }), (None, "RAS".into(), vec![]));
        assert_eq!(found(&NiftiHeader { xyzt_units: 3, ..header() }).0, Some(vec![0.5e-3; 3]));
    }

    #[test]
    fn what_is_believed_without_an_affine() {
        let none = NiftiHeader { sform_code: 0, ..header() };
        let (spacing, code, notes) = found(&none);
        assert_eq!((spacing, code.as_str(), notes.len()), (Some(vec![0.5; 3]), "unknown", 1));
        assert!(notes[0].contains("no sform and no qform"));
        assert_eq!(found(&NiftiHeader { pixdim: ONES, xyzt_units: 0, ..none.clone() }).0, None);
        assert_eq!(found(&NiftiHeader { pixdim: ONES, ..none.clone() }).0, Some(vec![1.0; 3]));
        let mut holes = none.pixdim;
        holes[2] = f32::NAN;
        assert_eq!(found(&NiftiHeader { pixdim: holes, ..none.clone() }).0, None);
        assert_eq!(place(&none, 2).1, Vec::<String>::new(), "a picture has no place to be missed");
    }

    #[test]
    fn what_is_believed_of_two_affines() {
        // A quaternion of a half turn around z: LPS.
        let both = NiftiHeader { qform_code: 1, quatern_d: 1.0, ..header() };
        let (_, code, notes) = found(&both);
        assert_eq!(code, "RAS");
        assert_eq!(notes, ["its sform and qform disagree: they say RAS and LPS; the sform is believed"]);
        let (_, code, _) = found(&NiftiHeader { sform_code: 0, ..both.clone() });
        assert_eq!(code, "LPS");
        let flat = NiftiHeader { srow_z: [0.0; 4], ..both };
        let (_, code, notes) = found(&flat);
        assert_eq!(
            (code.as_str(), notes.as_slice()),
            ("LPS", &["its sform does not span space, and is not used".into()][..])
        );
        let moved = NiftiHeader { quatern_x: 51.0, quatern_y: 2.0, quatern_z: 3.0, qform_code: 1, ..header() };
        assert!(found(&moved).2[0].contains("first voxels are 50.0 mm apart"), "{:?}", found(&moved).2);
    }

    /// The documentation's rows of cells below the table whose heading begins so.
    fn rows(heading: &str) -> Vec<Vec<String>> {
        let text = include_str!("../../../../docs/files.md");
        let table = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        table.take_while(|line| line.starts_with('|')).map(cells).collect()
    }

    #[test]
    fn the_documentation_s_table_is_true() {
        let rows = rows("| sform |");
        assert!(rows.len() >= 15, "{rows:?}");
        for row in rows {
            let [sform, qform, pixdim, unit, spacing, orientation, noted] = &row[..] else { panic!("{row:?}") };
            let length = |cell: &str| cell.split(' ').nth(1).map_or(1.0, |mm| mm.parse::<f32>().unwrap());
            let mut header = NiftiHeader {
                pixdim: [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0],
                sform_code: i16::from(sform != "none"),
                qform_code: i16::from(qform != "none"),
                xyzt_units: match unit.as_str() {
                    "none" => 0,
                    "mm" => 2,
                    "um" => 3,
                    other => panic!("{other}"),
                },
                ..header()
            };
            header.pixdim[1..4].fill(pixdim.parse().unwrap());
            let sign = if sform.starts_with("LPS") { -1.0 } else { 1.0 };
            header.srow_x = [sign * length(sform), 0.0, 0.0, 0.0];
            header.srow_y = [0.0, sign * length(sform), 0.0, 0.0];
            header.srow_z = [0.0, 0.0, if sform == "singular" { 0.0 } else { length(sform) }, 0.0];
            (header.quatern_b, header.quatern_c) = (0.0, 0.0);
            header.quatern_d = if qform.starts_with("LPS") { 1.0 } else { 0.0 };
            let (found, code, notes) = found(&header);
            let expected = (spacing != "unknown").then(|| spacing.parse::<f64>().unwrap());
            match (found, expected) {
                (Some(found), Some(expected)) => {
                    assert!(found.iter().all(|mm| (mm - expected).abs() < 1e-9), "{row:?}")
                }
                (found, expected) => assert!(found.is_none() && expected.is_none(), "{row:?}"),
            }
            assert_eq!(code, *orientation, "{row:?}");
            assert_eq!(notes.len(), usize::from(!noted.is_empty()), "{row:?}: {notes:?}");
            assert!(notes.iter().all(|note| note.contains(noted.as_str())), "{row:?}: {notes:?}");
        }
    }
}
