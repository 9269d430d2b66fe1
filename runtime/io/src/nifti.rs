//! NIfTI-1, plain (`.nii`) or compressed (`.nii.gz`).

mod encode;
mod place;

use std::io::{self, BufReader, Read};
use std::path::Path;

use ::nifti::{Endianness, NiftiHeader, NiftiType};
use flate2::bufread::MultiGzDecoder;
use ndarray::{ArrayD, IxDyn};

pub(super) use self::encode::{Voxel, encode};
use self::place::place;
use super::form::{Form, OutputForm};
use super::limits::Limits;
use super::recording::Recording;
use super::voxels::{Element, Encoding, check_length, decode, voxel_count};
use ldseg::image::Image;
use ldseg::{Error, ErrorKind, Result};

const HEADER_BYTES: usize = 348;
const NIFTI_2_HEADER_BYTES: i32 = 540;

/// Reads a NIfTI-1 image as `[1, J, I]` or `[1, K, J, I]`, slope and intercept applied.
pub(super) fn read(path: &Path, compressed: bool, limits: &Limits) -> Result<Recording> {
    let dims = |header: &NiftiHeader| {
        let dims = spatial_dims(header)?;
        limits.check_still(&dims, 1, 0).map(|()| dims)
    };
    let (header, dims, voxels) = decode_file(path, compressed, dims)?;
    let (geometry, notes) = place(&header, dims.len());
    let shape: Vec<usize> = std::iter::once(1).chain(dims.iter().rev().copied()).collect();
    let data = ArrayD::from_shape_vec(IxDyn(&shape), voxels)
        .map_err(|e| Error::with_source(ErrorKind::Format, "has another number of voxels than its header says", e))?;
    Ok(Recording::still(Image { data, geometry }, OutputForm(Form::Nifti(Box::new(header)))).noted(notes))
}

/// Reads a file of up to four axes: its sizes, the fastest axis first, and its voxels.
pub(super) fn read_stack(path: &Path, compressed: bool) -> Result<(Vec<usize>, Vec<f32>)> {
    let (_, dims, voxels) = decode_file(path, compressed, |header| stored_dims(header, 4))?;
    Ok((dims, voxels))
}

/// A file's header, the sizes that `dims` finds in it, and its voxels, slope and intercept applied.
fn decode_file(
    path: &Path,
    compressed: bool,
    dims: impl Fn(&NiftiHeader) -> Result<Vec<usize>>,
) -> Result<(NiftiHeader, Vec<usize>, Vec<f32>)> {
    let unreadable = |e| Error::with_source(ErrorKind::Io, "cannot be read", e);
    let file = super::content::open(path).map_err(unreadable)?;
    let stored = file.metadata().map_err(unreadable)?.len();
    let file = BufReader::new(file);
    let mut reader: Box<dyn Read> = if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };

    let header = read_header(&mut reader)?;
    let dims = dims(&header)?;
    let count = voxel_count(&dims)?;
    let encoding = encoding(&header)?;
    let offset = data_offset(&header)?;
    check_length(offset + (count * encoding.element.size()) as u64, stored, compressed)?;

    let gap = offset - HEADER_BYTES as u64;
    let damaged = |e| Error::with_source(ErrorKind::Format, "is truncated or damaged", e);
    io::copy(&mut (&mut reader).take(gap), &mut io::sink()).map_err(damaged)?;
    let voxels = decode(&mut reader, count, encoding)?;
    // gzip's checksum comes after the data: reading on to the end, within reason, compares it.
    io::copy(&mut reader.take(1 << 20), &mut io::sink()).map_err(damaged)?;
    Ok((header, dims, voxels))
}

fn read_header(reader: &mut dyn Read) -> Result<NiftiHeader> {
    let fail = |message: String| Error::new(ErrorKind::Format, format!("is not a readable NIfTI: {message}"));
    let mut bytes = [0_u8; HEADER_BYTES];
    reader.read_exact(&mut bytes).map_err(|e| fail(format!("no header of {HEADER_BYTES} bytes: {e}")))?;
    let size = [bytes[0], bytes[1], bytes[2], bytes[3]];
    let sizes = [i32::from_le_bytes(size), i32::from_be_bytes(size)];
    if sizes.contains(&NIFTI_2_HEADER_BYTES) {
        return Err(fail("it is NIfTI-2, expected NIfTI-1".into()));
    }
    if !sizes.contains(&(HEADER_BYTES as i32)) {
        return Err(fail(format!("its header size is {}, expected {HEADER_BYTES}", sizes[0])));
    }
    let header = NiftiHeader::from_reader(bytes.as_slice()).map_err(|e| fail(e.to_string()))?;
    if &header.magic != b"n+1\0" {
        return Err(fail("its voxels lie in a separate file, expected header and voxels in one".into()));
    }
    Ok(header)
}

/// Sizes along the first two or three axes of the file (i, j, k), i fastest.
fn spatial_dims(header: &NiftiHeader) -> Result<Vec<usize>> {
    let dims = stored_dims(header, 3)?;
    let rank = if dims.len() == 2 || dims[2] == 1 { 2 } else { 3 };
    Ok(dims[..rank].to_vec())
}

/// Sizes along the axes of the file, two at least; there are no more than `most`, but for axes of size 1.
fn stored_dims(header: &NiftiHeader, most: usize) -> Result<Vec<usize>> {
    let fail = |message: String| Err(Error::new(ErrorKind::Format, message));
    let rank = usize::from(header.dim[0]);
    if !(2..=7).contains(&rank) {
        return fail(format!("has {rank} axes, expected 2 or 3"));
    }
    let dims: Vec<usize> = header.dim[1..=rank].iter().map(|&dim| usize::from(dim)).collect();
    // NIfTI-1 stores signed 16-bit sizes.
    if let Some(&dim) = dims.iter().find(|&&dim| dim > i16::MAX as usize) {
        return fail(format!("has a size of {} along an axis, expected 1 or more", dim as u16 as i16));
    }
    if dims[2.min(rank)..].contains(&0) || dims.iter().skip(most).any(|&dim| dim != 1) {
        let what = if most == 3 { "one volume: sizes of 1 after the third axis" } else { "four axes at most" };
        return fail(format!("has size {dims:?}, expected {what}"));
    }
    Ok(dims[..rank.min(most)].to_vec())
}

fn encoding(header: &NiftiHeader) -> Result<Encoding> {
    let element = match header.data_type() {
        Ok(NiftiType::Uint8) => Element::U8,
        Ok(NiftiType::Int8) => Element::I8,
        Ok(NiftiType::Uint16) => Element::U16,
        Ok(NiftiType::Int16) => Element::I16,
        Ok(NiftiType::Uint32) => Element::U32,
        Ok(NiftiType::Int32) => Element::I32,
        Ok(NiftiType::Uint64) => Element::U64,
        Ok(NiftiType::Int64) => Element::I64,
        Ok(NiftiType::Float32) => Element::F32,
        Ok(NiftiType::Float64) => Element::F64,
        _ => {
            let message = format!("has NIfTI datatype {}, expected one real number a voxel", header.datatype);
            return Err(Error::new(ErrorKind::Format, message));
        }
    };
    let big_endian = header.endianness == Endianness::Big;
    // The standard: a slope of 0 means that there is no scaling; nibabel treats one that isn't finite alike.
    if header.scl_slope == 0.0 || !header.scl_slope.is_finite() {
        return Ok(Encoding { element, big_endian, slope: 1.0, inter: 0.0 });
    }
    if !header.scl_inter.is_finite() {
        let message = format!("has scl_inter {}, expected a finite number", header.scl_inter);
        return Err(Error::new(ErrorKind::Format, message));
    }
    Ok(Encoding { element, big_endian, slope: header.scl_slope.into(), inter: header.scl_inter.into() })
}

fn data_offset(header: &NiftiHeader) -> Result<u64> {
    let offset = header.vox_offset;
    if offset >= HEADER_BYTES as f32 && offset <= i32::MAX as f32 {
        return Ok(offset as u64);
    }
    let message = format!("has vox_offset {offset}, expected {HEADER_BYTES} or more");
    Err(Error::new(ErrorKind::Format, message))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::super::{Labels, output_extension, read_image, read_labels, read_recording, write_labels, write_scalar};
    use super::*;

    /// A header built by hand, byte for byte as the standard lays it out.
    fn file(big_endian: bool, dim: [i16; 8], datatype: i16, slope: f32, voxels: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 352];
        let mut put = |at: usize, mut number: Vec<u8>| {
            if big_endian {
                number.reverse();
            }
            bytes[at..at + number.len()].copy_from_slice(&number);
        };
        put(0, 348_i32.to_le_bytes().into());
        (0..8).for_each(|i| put(40 + 2 * i, dim[i].to_le_bytes().into()));
        put(70, datatype.to_le_bytes().into());
        let floats = |from: usize, values: &[f32], put: &mut dyn FnMut(usize, Vec<u8>)| {
            values.iter().enumerate().for_each(|(i, v)| put(from + 4 * i, v.to_le_bytes().into()));
        };
        floats(76, &[-1.0, 0.5, 0.75, 2.0, 1.0, 1.0, 1.0, 1.0], &mut put); // pixdim, qfac -1
        floats(108, &[352.0, slope, 3.0], &mut put); // vox_offset, scl_slope, scl_inter
        put(123, vec![2]); // mm
        put(252, 1_i16.to_le_bytes().into()); // qform_code
        put(254, 2_i16.to_le_bytes().into()); // sform_code
        floats(256, &[0.1, -0.2, 0.3, -90.0, 126.0, -72.0], &mut put); // quaternion and its shift
        floats(280, &[0.4, -0.1, 0.2, 11.0, 0.1, 0.7, 0.3, -12.0, -0.2, 0.1, 1.9, 13.0], &mut put); // sform
        bytes[344..348].copy_from_slice(b"n+1\0");
        bytes.extend_from_slice(voxels);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// The image, its header, and what outputs need of it.
    fn read_still(path: &Path) -> (Image, Box<NiftiHeader>, OutputForm) {
        let recording = read_recording(path).unwrap();
        let form = recording.form().clone();
        (recording.into_still(path).unwrap(), header_of(&form), form)
    }

    fn header_of(form: &OutputForm) -> Box<NiftiHeader> {
        match &form.0 {
            Form::Nifti(header) => header.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn axes_slope_and_spacing_follow_the_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nii");
        let voxels: Vec<u8> = (0..24_i16).flat_map(i16::to_be_bytes).collect();
        fs::write(&path, file(true, [3, 4, 3, 2, 1, 1, 1, 1], 4, 2.0, &voxels)).unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!(image.data.shape(), [1, 2, 3, 4]);
        // nibabel's voxel_sizes of the sform's affine, which is not what its pixdim says.
        let expected = [1.933_907_9, 0.714_142_9, 0.458_257_6];
        assert!(image.spacing().unwrap().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{image:?}");
        assert_eq!(image.data[[0, 0, 0, 1]], 2.0 + 3.0);
        assert_eq!(image.data[[0, 1, 2, 3]], 46.0 + 3.0);
    }

    #[test]
    fn labels_keep_the_affine_of_a_header_with_rotated_sform_and_qform() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("case.1.nii.gz");
        for (big_endian, dim) in [(false, [4, 4, 3, 2, 1, 1, 1, 1]), (true, [3, 4, 3, 2, 0, 0, 0, 0])] {
            fs::write(&path, gzip(&file(big_endian, dim, 2, 0.0, &[9; 24]))).unwrap();
            let (image, old, form) = read_still(&path);
            // nibabel's affine of these headers, the slowest axis first.
            let affine = image.geometry.affine.unwrap();
            let stored = [[0.2, -0.1, 0.4, 11.0], [0.3, 0.7, 0.1, -12.0], [1.9, 0.1, -0.2, 13.0]];
            assert!(
                affine.iter().flatten().zip(stored.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-6),
                "{affine:?}"
            );
            assert_eq!(output_extension(&form, 3), "nii.gz");
            let labels = Labels::from_shape_fn(IxDyn(&[2, 3, 4]), |i| (i[0] * 12 + i[1] * 4 + i[2]) as u8);
            let output = dir.path().join("out.1.nii.gz");
            write_labels(&output, &labels, &form).unwrap();
            assert_eq!(read_labels(&output).unwrap(), labels);
            let (_, new, _) = read_still(&output);
            assert_eq!((new.sform_code, new.qform_code, new.xyzt_units), (2, 1, 2));
            assert_eq!((new.srow_x, new.srow_y, new.srow_z), (old.srow_x, old.srow_y, old.srow_z));
            assert_eq!([new.quatern_b, new.quatern_c, new.quatern_d], [0.1, -0.2, 0.3]);
            assert_eq!([new.quatern_x, new.quatern_y, new.quatern_z], [-90.0, 126.0, -72.0]);
            assert_eq!(new.pixdim, old.pixdim);
            assert_eq!((&new.dim[..4], new.datatype), ([3, 4, 3, 2].as_slice(), 2));
            assert_eq!((new.scl_slope, new.scl_inter), (1.0, 0.0));
        }
    }

    #[test]
    fn a_flat_volume_is_two_dimensional_and_keeps_its_rank() {
        let dir = tempfile::tempdir().unwrap();
        let (path, output) = (dir.path().join("a.nii"), dir.path().join("b.nii.gz"));
        for dim in [[2, 4, 3, 0, 0, 0, 0, 0], [3, 4, 3, 1, 0, 0, 0, 0]] {
            fs::write(&path, file(false, dim, 2, 0.0, &[1; 12])).unwrap();
            let (image, _, form) = read_still(&path);
            assert_eq!(image.data.shape(), [1, 3, 4]);
            assert_eq!(output_extension(&form, 2), "nii.gz");
            let map = ldseg::Tensor::from_shape_fn(IxDyn(&[3, 4]), |i| (i[0] * 4 + i[1]) as f32 / 16.0);
            write_scalar(&output, &map, &form).unwrap();
            let (written, header, _) = read_still(&output);
            assert_eq!(header.dim[0], dim[0] as u16);
            assert_eq!(written.data.index_axis(ndarray::Axis(0), 0), map);
            assert!(write_labels(&output, &Labels::zeros(IxDyn(&[4, 3])), &form).is_err());
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let good = file(false, [3, 4, 3, 2, 0, 0, 0, 0], 2, 0.0, &[9; 24]);
        let message = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = read_image(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            error.to_string()
        };
        for length in [0, 3, 347, 350, good.len() - 1] {
            message("a.nii", &good[..length]);
            message("a.nii.gz", &gzip(&good[..length]));
        }
        let packed = gzip(&good);
        for length in 0..packed.len() {
            message("a.nii.gz", &packed[..length]);
        }
        assert!(message("a.nii", b"text").contains("a.nii: is not a readable NIfTI"));
        // A name may say that it is compressed, or not.
        for (name, bytes) in [("a.nii.gz", &good), ("a.nii", &packed)] {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let read = read_recording(&path).unwrap();
            let told = read.notes().iter().filter(|note| note.contains("though its name says")).count();
            assert_eq!((read.spatial_axes(), told), (3, 1), "{:?}", read.notes());
        }
        assert!(message("a.nii", &file(false, [4, 2, 2, 2, 2, 0, 0, 0], 2, 0.0, &[9; 16])).contains("one volume"));
        assert!(message("a.nii", &file(false, [3, 2, 0, 2, 0, 0, 0, 0], 2, 0.0, &[])).contains("is empty"));
        assert!(message("a.nii", &file(false, [3, 2, 2, 0, 0, 0, 0, 0], 2, 0.0, &[])).contains("[2, 2, 0]"));
        let most = i16::MAX;
        let absurd = file(false, [3, most, most, most, 0, 0, 0, 0], 2, 0.0, &[]);
        assert!(message("a.nii", &absurd).contains("at most 268435456 pixels or voxels"));
        let bomb = file(false, [3, 600, 600, 600, 0, 0, 0, 0], 64, 0.0, &[]);
        assert!(message("a.nii.gz", &gzip(&bomb)).contains("truncated"));
        assert!(message("a.nii", &file(false, [3, 2, -2, 2, 0, 0, 0, 0], 2, 0.0, &[])).contains("-2"));
        assert!(message("a.nii", &file(false, [3, 1, 1, 2, 0, 0, 0, 0], 32, 0.0, &[0; 16])).contains("datatype 32"));
    }
}
