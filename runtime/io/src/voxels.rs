//! Raw voxels of the volume formats: number types, byte order and the checks made before memory is asked for.

use std::io::Read;

use ldseg::{Error, ErrorKind, Result};

/// Most voxels (all channels and maps) of one file, whatever the limits: 2 GiB as f32. A header that asks for more is taken for
/// damaged.
const MAX_VOXELS: usize = 1 << 29;

/// Deflate never shrinks by more than this factor, so a compressed file bounds what can come out of it.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// The number type of one stored voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Element {
    /// Bytes per voxel.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// How stored bytes become intensities: `slope * stored + inter`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding {
    pub(super) element: Element,
    pub(super) big_endian: bool,
    pub(super) slope: f64,
    pub(super) inter: f64,
}

/// Number of voxels of a grid.
///
/// # Errors
/// [`ErrorKind::Format`] where an axis is empty or the product is absurd.
pub(super) fn voxel_count(dims: &[usize]) -> Result<usize> {
    if dims.contains(&0) {
        return Err(Error::new(ErrorKind::Format, format!("is empty: its size is {dims:?}, expected 1 or more each")));
    }
    dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim)).filter(|&count| count <= MAX_VOXELS).ok_or_else(
        || Error::new(ErrorKind::Format, format!("has an absurd size {dims:?}, expected at most {MAX_VOXELS} voxels")),
    )
}

/// Compares the bytes a header promises with the bytes that are stored, before any memory is asked for.
///
/// # Errors
/// [`ErrorKind::Format`] where `stored` bytes cannot hold `promised` ones.
pub(super) fn check_length(promised: u64, stored: u64, compressed: bool) -> Result<()> {
    let most = if compressed { stored.saturating_mul(MAX_DEFLATE_RATIO) } else { stored };
    if promised <= most {
        return Ok(());
    }
    let how = if compressed { " compressed" } else { "" };
    Err(Error::new(
        ErrorKind::Format,
        format!("is truncated: its header promises {promised} bytes, but only {stored}{how} bytes are stored"),
    ))
}

/// Reads `count` voxels.
///
/// # Errors
/// [`ErrorKind::Format`] where the data end early, cannot be decompressed, or hold a value that is no finite f32.
pub(super) fn decode(reader: &mut dyn Read, count: usize, encoding: Encoding) -> Result<Vec<f32>> {
    let size = encoding.element.size();
    let mut voxels = Vec::with_capacity(count);
    let mut buffer = vec![0_u8; (1 << 16).min(count * size)];
    while voxels.len() < count {
        let length = buffer.len().min((count - voxels.len()) * size);
        let chunk = &mut buffer[..length];
        reader.read_exact(chunk).map_err(|e| {
            let message = format!("is truncated or damaged: {} of {count} voxels could be read", voxels.len());
            Error::with_source(ErrorKind::Format, message, e)
        })?;
        append(chunk, encoding, &mut voxels);
    }
    match voxels.iter().position(|v| !v.is_finite()) {
        Some(index) => {
            let message = format!("voxel {index} is {}, expected a finite number", voxels[index]);
            Err(Error::new(ErrorKind::Format, message))
        }
        None => Ok(voxels),
    }
}

fn append(bytes: &[u8], encoding: Encoding, voxels: &mut Vec<f32>) {
    match encoding.element {
        Element::U8 => append_as(bytes, encoding, voxels, |b| u8::from_le_bytes(b).into()),
        Element::I8 => append_as(bytes, encoding, voxels, |b| i8::from_le_bytes(b).into()),
        Element::U16 => append_as(bytes, encoding, voxels, |b| u16::from_le_bytes(b).into()),
        Element::I16 => append_as(bytes, encoding, voxels, |b| i16::from_le_bytes(b).into()),
        Element::U32 => append_as(bytes, encoding, voxels, |b| u32::from_le_bytes(b).into()),
        Element::I32 => append_as(bytes, encoding, voxels, |b| i32::from_le_bytes(b).into()),
        Element::U64 => append_as(bytes, encoding, voxels, |b| u64::from_le_bytes(b) as f64),
        Element::I64 => append_as(bytes, encoding, voxels, |b| i64::from_le_bytes(b) as f64),
        Element::F32 => append_as(bytes, encoding, voxels, |b| f32::from_le_bytes(b).into()),
        Element::F64 => append_as(bytes, encoding, voxels, f64::from_le_bytes),
    }
}

fn append_as<const N: usize>(bytes: &[u8], encoding: Encoding, voxels: &mut Vec<f32>, value: impl Fn([u8; N]) -> f64) {
    voxels.extend(bytes.as_chunks::<N>().0.iter().map(|&(mut stored)| {
        if encoding.big_endian {
            stored.reverse();
        }
        (encoding.slope * value(stored) + encoding.inter) as f32
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_sizes_are_refused_before_memory_is_asked_for() {
        assert!(voxel_count(&[usize::MAX, 2]).is_err());
        assert!(voxel_count(&[30_000, 30_000, 30_000]).is_err());
        assert!(voxel_count(&[4, 0]).is_err());
        assert_eq!(voxel_count(&[4, 3, 2]).unwrap(), 24);
        assert!(check_length(2_000_000, 1_000, true).is_err());
        assert!(check_length(1_000_000, 1_000, true).is_ok());
        assert!(check_length(1_001, 1_000, false).is_err());
    }

    #[test]
    fn slope_and_byte_order_are_applied() {
        let encoding = Encoding { element: Element::I16, big_endian: true, slope: 0.5, inter: 10.0 };
        let voxels = decode(&mut [0xFF, 0xFE, 0x01, 0x00].as_slice(), 2, encoding).unwrap();
        assert_eq!(voxels, [9.0, 138.0]);
    }

    #[test]
    fn values_that_are_no_finite_f32_are_refused() {
        let encoding = Encoding { element: Element::F64, big_endian: false, slope: 1.0, inter: 0.0 };
        for value in [f64::NAN, f64::INFINITY, 1e300] {
            assert!(decode(&mut value.to_le_bytes().as_slice(), 1, encoding).is_err());
        }
    }
}
