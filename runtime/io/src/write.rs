//! Label maps and scalar maps out, in the geometry of the image they belong to.

use std::path::Path;

use ::nifti::{Endianness, NiftiHeader};
use ndarray::ArrayViewD;

use super::form::{Form, OutputForm};
use super::nifti::{Voxel, encode};
use super::picture;
use ldseg::files::write_atomically;
use ldseg::image::Labels;
use ldseg::{Error, ErrorKind, Result, Tensor};

/// Extension of the outputs for an image with outputs of this form and number of spatial axes: `png`, or `nii.gz` for volumes,
/// cines and all that came from a NIfTI.
pub fn output_extension(form: &OutputForm, spatial_axes: usize) -> &'static str {
    match form.0 {
        Form::Nifti(_) | Form::Cine { .. } => "nii.gz",
        Form::Picture | Form::Placed { .. } if spatial_axes == 2 => "png",
        Form::Picture | Form::Placed { .. } => "nii.gz",
    }
}

/// Writes a label map `[H, W]` or `[D, H, W]` whose grid is that of the image: an 8-bit grey PNG with the class index
/// as grey value, or a NIfTI of 8-bit numbers with the image's affine. The file appears whole or not at all.
///
/// # Errors
/// [`ErrorKind::Setting`] where the path doesn't end as [`output_extension`] says, [`ErrorKind::ShapeMismatch`] where
/// the grid is not the image's, [`ErrorKind::Io`] where the file cannot be written.
pub fn write_labels(path: &Path, labels: &Labels, form: &OutputForm) -> Result<()> {
    let written = check_extension(path, form, labels.ndim()).and_then(|extension| match extension {
        "png" => picture::write_grey(path, labels.view()),
        _ => write_nifti(path, labels.view(), form),
    });
    written.map_err(|e| e.in_file(path))
}

/// Writes a map of values from 0 to 1, `[H, W]` or `[D, H, W]`, on the image's grid: an 8-bit grey PNG with 1 as 255
/// (and values outside [0, 1] cut off), or a NIfTI of f32 with the image's affine. The file appears whole or not at
/// all.
///
/// # Errors
/// As [`write_labels`].
pub fn write_scalar(path: &Path, values: &Tensor, form: &OutputForm) -> Result<()> {
    let written = check_extension(path, form, values.ndim()).and_then(|extension| match extension {
        "png" => {
            let grey = values.mapv(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8);
            picture::write_grey(path, grey.view())
        }
        _ => write_nifti(path, values.view(), form),
    });
    written.map_err(|e| e.in_file(path))
}

fn check_extension(path: &Path, form: &OutputForm, spatial_axes: usize) -> Result<&'static str> {
    if !matches!(spatial_axes, 2 | 3) {
        let message = format!("cannot hold an array of {spatial_axes} axes, expected 2 or 3");
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    }
    let extension = output_extension(form, spatial_axes);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.ends_with(&format!(".{extension}")) {
        return Ok(extension);
    }
    Err(Error::new(ErrorKind::Setting, format!("is no name for this output, expected one ending in .{extension}")))
}

fn write_nifti<A: Voxel>(path: &Path, voxels: ArrayViewD<'_, A>, form: &OutputForm) -> Result<()> {
    let header = output_header(form, voxels.shape())?;
    write_atomically(path, |out| encode(&header, voxels, out))
}

/// The header of several maps `[N, ...]` on the image's grid, N along the file's last axis.
pub(super) fn stack_header(form: &OutputForm, shape: &[usize]) -> Result<NiftiHeader> {
    let Some((&count, grid)) = shape.split_first().filter(|(_, grid)| matches!(grid.len(), 2 | 3)) else {
        let message = format!("cannot hold an array of {} axes, expected 3 or 4", shape.len());
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    };
    let mut header = match &form.0 {
        Form::Nifti(_) => output_header(form, grid)?,
        Form::Placed { .. } => placed_header(form, grid)?,
        Form::Cine { spacing } => unplaced_header(spacing.map(frame_spacing), grid)?,
        Form::Picture => unplaced_header(None, grid)?,
    };
    header.dim = [1; 8];
    header.dim[0] = shape.len() as u16;
    for (to, &size) in header.dim[1..].iter_mut().zip(grid.iter().rev().chain([&count])) {
        *to = u16::try_from(size)
            .ok()
            .filter(|&size| size <= i16::MAX as u16)
            .ok_or_else(|| Error::new(ErrorKind::ShapeMismatch, format!("{shape:?} is too large for NIfTI")))?;
    }
    header.pixdim[shape.len()] = 1.0;
    Ok(header)
}

/// The input's header without what speaks of its intensities; `dim` has the rank and sizes of the output.
fn output_header(form: &OutputForm, shape: &[usize]) -> Result<NiftiHeader> {
    let input = match &form.0 {
        Form::Nifti(header) => (**header).clone(),
        Form::Placed { .. } => placed_header(form, shape)?,
        Form::Cine { spacing } => unplaced_header(spacing.map(frame_spacing), shape)?,
        Form::Picture => {
            return Err(Error::new(ErrorKind::ShapeMismatch, "a picture has no third axis"));
        }
    };
    let mut dim = [0; 8];
    dim[0] = input.dim[0].min(3);
    dim[1..=3].copy_from_slice(&input.dim[1..=3]);
    let sizes = dim[1..=usize::from(dim[0])].iter().map(|&size| usize::from(size));
    let flat = if shape.len() == 2 && dim[0] == 3 { Some(1) } else { None };
    if !sizes.clone().eq(shape.iter().rev().copied().chain(flat)) {
        let expected: Vec<usize> = sizes.rev().collect();
        let message = format!("the output has size {shape:?}, expected the image's {expected:?}");
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    }
    Ok(NiftiHeader {
        dim,
        endianness: Endianness::Little,
        intent_p1: 0.0,
        intent_p2: 0.0,
        intent_p3: 0.0,
        intent_code: 0,
        intent_name: [0; 16],
        aux_file: [0; 24],
        cal_min: 0.0,
        cal_max: 0.0,
        ..input
    })
}

/// Along x, y and from frame to frame.
fn frame_spacing([y, x]: [f64; 2]) -> [f64; 3] {
    [x, y, 1.0]
}

/// The header of a form that is [`Form::Placed`], of which it says what is known, and nothing else.
fn placed_header(form: &OutputForm, shape: &[usize]) -> Result<NiftiHeader> {
    let Form::Placed { offset, direction, spacing, placed } = &form.0 else { return unplaced_header(None, shape) };
    if !placed {
        return unplaced_header(*spacing, shape);
    }
    let header = header_from_lps(offset, direction, &spacing.unwrap_or([1.0; 3]), shape)?;
    Ok(if spacing.is_some() { header } else { NiftiHeader { xyzt_units: 0, ..header } })
}

/// A header without a place in space: no sform and no qform; without a unit where the spacing is not known.
fn unplaced_header(spacing: Option<[f64; 3]>, shape: &[usize]) -> Result<NiftiHeader> {
    // Towards the right of a picture and down, as viewers show it that look at the sform whatever its code is.
    let directions = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let header = header_from_lps(&[0.0; 3], &directions, &spacing.unwrap_or([1.0; 3]), shape)?;
    let xyzt_units = if spacing.is_some() { header.xyzt_units } else { 0 };
    Ok(NiftiHeader { sform_code: 0, xyzt_units, ..header })
}

/// A NIfTI header for a grid given as MetaImage does: x towards the patient's left, y to the back (LPS), where NIfTI
/// counts towards the right and the front (RAS), so the first two rows change sign.
fn header_from_lps(
    offset: &[f64; 3],
    direction: &[[f64; 3]; 3],
    spacing: &[f64; 3],
    shape: &[usize],
) -> Result<NiftiHeader> {
    const MILLIMETRE: u8 = 2;
    let mut header = NiftiHeader { qform_code: 0, sform_code: 1, xyzt_units: MILLIMETRE, ..NiftiHeader::default() };
    header.dim[0] = 3;
    for (to, &size) in header.dim[1..].iter_mut().zip(shape.iter().rev()) {
        *to = u16::try_from(size)
            .ok()
            .filter(|&size| size <= i16::MAX as u16)
            .ok_or_else(|| Error::new(ErrorKind::ShapeMismatch, format!("{shape:?} is too large for NIfTI")))?;
    }
    for (to, &size) in header.pixdim[1..].iter_mut().zip(spacing) {
        *to = size as f32;
    }
    let row = |world: usize, sign: f64| {
        let step = |axis: usize| (sign * direction[axis][world] * spacing[axis]) as f32;
        // Adding zero turns -0 into 0.
        [step(0), step(1), step(2), (sign * offset[world]) as f32].map(|v| v + 0.0)
    };
    (header.srow_x, header.srow_y, header.srow_z) = (row(0, -1.0), row(1, -1.0), row(2, 1.0));
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use ::image::{Rgb, RgbImage};
    use ldseg::files::{FullAfter, write_checked};
    use ndarray::IxDyn;

    use super::super::{read_image, read_labels};
    use super::*;

    #[test]
    fn a_picture_s_labels_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let labels = Labels::from_shape_fn(IxDyn(&[3, 5]), |i| (i[0] * 50 + i[1]) as u8);
        write_labels(&path, &labels, &OutputForm::picture()).unwrap();
        assert_eq!(read_labels(&path).unwrap(), labels);
        write_scalar(&path, &Tensor::from_elem(IxDyn(&[2, 2]), 0.2), &OutputForm::picture()).unwrap();
        assert_eq!(read_image(&path).unwrap().data, Tensor::from_elem(IxDyn(&[1, 2, 2]), 51.0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let labels = Labels::zeros(IxDyn(&[2, 2]));
        let error = write_labels(&dir.path().join("none/a.png"), &labels, &OutputForm::picture()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("a.png: cannot be written"), "{error}");
        let error = write_labels(&dir.path().join("a.nii.gz"), &labels, &OutputForm::picture()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Setting);
    }
    /// Every encoder, on a disk that is full after each of its bytes.
    #[test]
    fn a_full_disk_is_an_error_at_every_byte() {
        let picture = |n: u8| RgbImage::from_fn(9, 7, |x, y| Rgb([n, (x * 20) as u8, (y * 30) as u8]));
        let labels = Labels::from_shape_fn(IxDyn(&[2, 3, 4]), |i| (i[0] * 7 + i[1] * 5 + i[2]) as u8);
        let values = labels.mapv(|v| f32::from(v) / 3.0);
        let header = output_header(&OutputForm::cine(None), labels.shape()).unwrap();
        type Encoder<'a> = Box<dyn Fn(&mut dyn Write) -> Result<()> + 'a>;
        let encoders: [(&str, Encoder<'_>); 4] = [
            ("PNG", Box::new(|out| picture::encode_png(&picture(1).into(), out))),
            ("GIF", Box::new(|out| crate::gif::encode(vec![picture(1), picture(2)], &[0.1, 0.1], out))),
            ("NIfTI of labels", Box::new(|out| encode(&header, labels.view(), out))),
            ("NIfTI of numbers", Box::new(|out| encode(&header, values.view(), out))),
        ];
        for (name, encoder) in encoders {
            let whole = write_checked(Vec::new(), |out| encoder(out)).unwrap();
            for room in 0..whole.len() {
                let error = write_checked(FullAfter(room), |out| encoder(out)).map(drop).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io, "{name}, {room} of {}: {error}", whole.len());
            }
            write_checked(FullAfter(whole.len()), |out| encoder(out)).map(drop).unwrap();
        }
    }

    #[test]
    fn an_output_that_is_not_whole_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let labels = Labels::from_shape_fn(IxDyn(&[2, 3, 4]), |i| (i[0] * 7 + i[1] * 5 + i[2]) as u8);
        write_labels(&path("a.png"), &labels.index_axis(ndarray::Axis(0), 0).to_owned(), &OutputForm::picture())
            .unwrap();
        write_labels(&path("a.nii.gz"), &labels, &OutputForm::cine(None)).unwrap();
        crate::write_label_stack(&path("a_samples.nii.gz"), &labels, &OutputForm::picture()).unwrap();
        crate::write_cine(&path("a_overlay.gif"), vec![RgbImage::new(3, 2); 2], &[0.1; 2]).unwrap();
        for name in ["a.png", "a.nii.gz", "a_samples.nii.gz", "a_overlay.gif"] {
            crate::check_whole(&path(name)).unwrap();
            let bytes = fs::read(path(name)).unwrap();
            for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                fs::write(path(name), &bytes[..length]).unwrap();
                let error = crate::check_whole(&path(name)).unwrap_err().to_string();
                assert!(error.contains(name), "{length}: {error}");
            }
        }
        fs::rename(path("a.png"), path("b.png")).unwrap();
        write_labels(&path("a.nii.gz"), &labels, &OutputForm::cine(None)).unwrap();
        fs::rename(path("a.nii.gz"), path("b.png")).unwrap();
        let error = crate::check_whole(&path("b.png")).unwrap_err().to_string();
        assert!(error.contains("though its name says PNG"), "{error}");
    }
}
