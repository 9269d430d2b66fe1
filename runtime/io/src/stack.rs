//! Several maps of one image in one file: samples, or the probabilities of classes, along the file's last axis.

use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::nifti::{self, Voxel, encode};
use super::write::stack_header;
use super::{Format, OutputForm, split_name};
use ldseg::files::write_atomically;
use ldseg::image::Labels;
use ldseg::{Error, ErrorKind, Result, Tensor};

/// What names of files with an image's samples add to that of its label map.
pub const SAMPLES: &str = "_samples";
/// What those of files with the probabilities of its classes add.
pub const PROBABILITIES: &str = "_probabilities";

/// Writes label maps `[N, H, W]` or `[N, D, H, W]` on the image's grid as one NIfTI with the image's affine, N along the
/// last axis of the file. The file, whose name has to end in `.nii.gz`, appears whole or not at all.
///
/// # Errors
/// [`ErrorKind::Setting`] for another ending, [`ErrorKind::ShapeMismatch`] where the grid is not the image's or is too
/// large for NIfTI, [`ErrorKind::Io`] where the file cannot be written.
pub fn write_label_stack(path: &Path, maps: &Labels, form: &OutputForm) -> Result<()> {
    write(path, maps.view(), form)
}

/// Writes maps of numbers `[N, H, W]` or `[N, D, H, W]` as f32, else as [`write_label_stack`].
///
/// # Errors
/// As [`write_label_stack`].
pub fn write_scalar_stack(path: &Path, maps: &Tensor, form: &OutputForm) -> Result<()> {
    write(path, maps.view(), form)
}

fn write<A: Voxel>(path: &Path, maps: ArrayViewD<'_, A>, form: &OutputForm) -> Result<()> {
    let written = || {
        if !matches!(split_name(path), Some((_, Format::Nifti { compressed: true }))) {
            return Err(Error::new(ErrorKind::Setting, "is no name for several maps, expected one ending in .nii.gz"));
        }
        let header = stack_header(form, maps.shape())?;
        write_atomically(path, |out| encode(&header, maps, out))
    };
    written().map_err(|e| e.in_file(path))
}

/// Reads the maps `[N, ...]` of an image of size `[...]`, as [`write_scalar_stack`] writes them.
///
/// # Errors
/// [`ErrorKind::Io`] and [`ErrorKind::Format`] as for [`super::read_image`]; [`ErrorKind::ShapeMismatch`] for maps of
/// another size.
pub fn read_stack(path: &Path, size: &[usize]) -> Result<Tensor> {
    let read = || {
        let Some((_, Format::Nifti { compressed })) = split_name(path) else {
            return Err(Error::new(ErrorKind::Format, "is no NIfTI file, expected several maps in one"));
        };
        let (dims, voxels) = nifti::read_stack(path, compressed)?;
        let mut shape: Vec<usize> = dims.into_iter().rev().collect();
        // A file may leave out that there is but one map.
        if shape.len() == size.len() {
            shape.insert(0, 1);
        }
        if shape.len() != size.len() + 1 || shape[1..] != *size {
            let message = format!("has size {shape:?}, expected several maps of size {size:?}");
            return Err(Error::new(ErrorKind::ShapeMismatch, message));
        }
        ArrayD::from_shape_vec(IxDyn(&shape), voxels)
            .map_err(|e| Error::with_source(ErrorKind::Format, "has another number of voxels than its header says", e))
    };
    read().map_err(|e| e.in_file(path))
}

/// Reads label maps, as [`write_label_stack`] writes them.
///
/// # Errors
/// As [`read_stack`], and [`ErrorKind::Format`] for values other than whole numbers from 0 to 255.
pub fn read_label_stack(path: &Path, size: &[usize]) -> Result<Labels> {
    let maps = read_stack(path, size)?;
    super::labels::whole_numbers(maps.view()).map_err(|e| e.in_file(path))
}

#[cfg(test)]
mod tests {
    use ndarray::Dimension;

    use super::super::{read_image, read_recording};
    use super::*;

    #[test]
    fn maps_come_back_in_2_d_and_3_d() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a_samples.nii.gz");
        let at = |i: &IxDyn| i.slice().iter().fold(0, |sum, v| sum * 5 + v);
        for count in [1, 3] {
            let labels = Labels::from_shape_fn(IxDyn(&[count, 4, 5]), |i| at(&i) as u8);
            write_label_stack(&path, &labels, &OutputForm::picture()).unwrap();
            assert_eq!(read_label_stack(&path, &[4, 5]).unwrap(), labels);
        }
        let directions = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let form = OutputForm::placed([1.0, 2.0, 3.0], directions, [0.5, 0.6, 0.7]);
        let maps = Tensor::from_shape_fn(IxDyn(&[3, 2, 4, 5]), |i| at(&i) as f32 / 7.0);
        write_scalar_stack(&path, &maps, &form).unwrap();
        assert_eq!(read_stack(&path, &[2, 4, 5]).unwrap(), maps);
        assert_eq!(read_stack(&path, &[2, 5, 4]).unwrap_err().kind(), ErrorKind::ShapeMismatch);
        assert_eq!(read_label_stack(&path, &[2, 4, 5]).unwrap_err().kind(), ErrorKind::Format);
        assert_eq!(read_image(&path).unwrap_err().kind(), ErrorKind::Format, "it is no single volume");
        let error = write_scalar_stack(&dir.path().join("a.png"), &maps, &form).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Setting);
    }

    #[test]
    fn maps_of_a_nifti_have_its_affine() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, path) = (dir.path().join("v.nii.gz"), dir.path().join("v_probabilities.nii.gz"));
        let cine = OutputForm::cine(Some([0.3, 0.4]));
        super::super::write_labels(&volume, &Labels::zeros(IxDyn(&[2, 3, 4])), &cine).unwrap();
        let form = read_recording(&volume).unwrap().form().clone();
        write_scalar_stack(&path, &Tensor::zeros(IxDyn(&[5, 2, 3, 4])), &form).unwrap();
        let header = |path: &Path| ::nifti::NiftiHeader::from_file(path).unwrap();
        let (old, new) = (header(&volume), header(&path));
        assert_eq!((new.srow_x, new.srow_y, new.srow_z), (old.srow_x, old.srow_y, old.srow_z));
        assert_eq!((&new.dim[..5], &new.pixdim[1..4]), ([4, 4, 3, 2, 5].as_slice(), &old.pixdim[1..4]));
        let error = write_scalar_stack(&path, &Tensor::zeros(IxDyn(&[5, 3, 3, 4])), &form).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    }
}
