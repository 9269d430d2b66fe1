//! NIfTI-1 as bytes: little-endian, header and voxels in one file, compressed.

use std::io::{self, Write};

use ::nifti::{NiftiHeader, NiftiType};
use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::ArrayViewD;

use super::HEADER_BYTES;
use ldseg::{Error, ErrorKind, Result};

/// Where voxels begin: after the header and four bytes that say that nothing extends it.
const VOXELS_AT: f32 = 352.0;
/// Bytes of the header's description.
const DESCRIPTION: usize = 80;

/// A number that can be stored as a voxel.
pub(crate) trait Voxel: Copy {
    const TYPE: NiftiType;
    fn append(self, bytes: &mut Vec<u8>);
}

impl Voxel for u8 {
    const TYPE: NiftiType = NiftiType::Uint8;
    fn append(self, bytes: &mut Vec<u8>) {
        bytes.push(self);
    }
}

impl Voxel for f32 {
    const TYPE: NiftiType = NiftiType::Float32;
    fn append(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

/// Writes voxels, slowest axis first, under a header whose `dim` has their sizes.
///
/// # Errors
/// [`ErrorKind::Io`] where a byte cannot be written.
pub(crate) fn encode<A: Voxel>(header: &NiftiHeader, voxels: ArrayViewD<'_, A>, out: &mut dyn Write) -> Result<()> {
    let written = || {
        let mut out = GzEncoder::new(out, Compression::fast());
        out.write_all(&header_bytes::<A>(header))?;
        out.write_all(&[0; 4])?;
        let mut bytes = Vec::with_capacity(1 << 16);
        for voxel in voxels {
            voxel.append(&mut bytes);
            if bytes.len() >= 1 << 16 {
                out.write_all(&bytes)?;
                bytes.clear();
            }
        }
        out.write_all(&bytes)?;
        out.finish()?.flush()
    };
    written().map_err(|e: io::Error| Error::with_source(ErrorKind::Io, "cannot be written", e))
}

fn header_bytes<A: Voxel>(header: &NiftiHeader) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    let h = header;
    bytes.extend((HEADER_BYTES as i32).to_le_bytes());
    bytes.extend(h.data_type);
    bytes.extend(h.db_name);
    bytes.extend(h.extents.to_le_bytes());
    bytes.extend(h.session_error.to_le_bytes());
    bytes.extend([h.regular, h.dim_info]);
    // Axes beyond the last one have a size of 1.
    let rank = usize::from(h.dim[0]);
    let sizes = h.dim.iter().enumerate().map(|(axis, &size)| if axis > rank { 1 } else { size });
    sizes.for_each(|size| bytes.extend(size.to_le_bytes()));
    [h.intent_p1, h.intent_p2, h.intent_p3].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    let bits = (size_of::<A>() * 8) as i16;
    [h.intent_code, A::TYPE as i16, bits, h.slice_start].iter().for_each(|code| bytes.extend(code.to_le_bytes()));
    h.pixdim.iter().for_each(|mm| bytes.extend(mm.to_le_bytes()));
    // A slope of 1 and an intercept of 0: voxels are stored as they are.
    [VOXELS_AT, 1.0, 0.0].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    bytes.extend(h.slice_end.to_le_bytes());
    bytes.extend([h.slice_code, h.xyzt_units]);
    [h.cal_max, h.cal_min, h.slice_duration, h.toffset].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    [h.glmax, h.glmin].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    let mut description = h.descrip.clone();
    description.resize(DESCRIPTION, 0);
    bytes.extend(description);
    bytes.extend(h.aux_file);
    [h.qform_code, h.sform_code].iter().for_each(|code| bytes.extend(code.to_le_bytes()));
    let quaternion = [h.quatern_b, h.quatern_c, h.quatern_d, h.quatern_x, h.quatern_y, h.quatern_z];
    let rows = h.srow_x.iter().chain(&h.srow_y).chain(&h.srow_z);
    quaternion.iter().chain(rows).for_each(|number| bytes.extend(number.to_le_bytes()));
    bytes.extend(h.intent_name);
    bytes.extend(b"n+1\0");
    bytes
}
