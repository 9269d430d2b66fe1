//! Whether the values of one tensor of an ONNX file are finite.

use crate::{Error, ErrorKind, Result};

/// `TensorProto.data_type` of the types that can be other than finite.
const FLOAT: u64 = 1;
const FLOAT16: u64 = 10;
const DOUBLE: u64 = 11;
const BFLOAT16: u64 = 16;

/// Fields of `TensorProto`.
const DATA_TYPE: u64 = 2;
const FLOAT_DATA: u64 = 4;
/// Halves, a number each.
const INT32_DATA: u64 = 5;
const NAME: u64 = 8;
const RAW_DATA: u64 = 9;
const DOUBLE_DATA: u64 = 10;

/// What was seen of one tensor; its type may come after its values.
#[derive(Default)]
pub(super) struct Weights<'a> {
    kind: u64,
    name: &'a [u8],
    raw: Vec<&'a [u8]>,
    floats: Vec<&'a [u8]>,
    doubles: Vec<&'a [u8]>,
    halves: Vec<u16>,
}

/// What there is among values.
#[derive(Default)]
struct Seen {
    count: usize,
    nan: bool,
    infinite: bool,
}

impl Seen {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.nan |= value.is_nan();
        self.infinite |= value.is_infinite();
    }
}

impl<'a> Weights<'a> {
    pub(super) fn number(&mut self, field: u64, number: u64) {
        match field {
            DATA_TYPE => self.kind = number,
            INT32_DATA => self.halves.push(number as u16),
            _ => {}
        }
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &'a [u8]) {
        match field {
            NAME => self.name = bytes,
            RAW_DATA => self.raw.push(bytes),
            FLOAT_DATA => self.floats.push(bytes),
            DOUBLE_DATA => self.doubles.push(bytes),
            INT32_DATA => self.halves.extend(packed(bytes)),
            _ => {}
        }
    }

    /// # Errors
    /// [`ErrorKind::Bundle`] for NaN, and for an infinite value among others. One that is alone may be the bound of a Clip.
    pub(super) fn check(&self) -> Result<()> {
        let mut seen = Seen::default();
        let floats =
            |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
        let doubles = |bytes: &[u8]| bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        let halves = |bytes: &[u8]| -> Vec<f64> {
            bytes.as_chunks::<2>().0.iter().filter_map(|b| half(self.kind, u16::from_le_bytes(*b))).collect()
        };
        for raw in &self.raw {
            let values: Vec<f64> = match self.kind {
                FLOAT => floats(raw),
                DOUBLE => doubles(raw),
                _ => halves(raw),
            };
            values.into_iter().for_each(|value| seen.add(value));
        }
        self.floats.iter().flat_map(|bytes| -> Vec<f64> { floats(bytes) }).for_each(|value| seen.add(value));
        self.doubles.iter().flat_map(|bytes| -> Vec<f64> { doubles(bytes) }).for_each(|value| seen.add(value));
        self.halves.iter().filter_map(|bits| half(self.kind, *bits)).for_each(|value| seen.add(value));
        if seen.nan || seen.infinite && seen.count > 1 {
            let message = format!(
                "the tensor `{}` holds values that are not finite: such a network computes nothing",
                String::from_utf8_lossy(self.name).escape_debug()
            );
            return Err(Error::new(ErrorKind::Bundle, message));
        }
        Ok(())
    }
}

/// What the bits of a half say of being finite: 0, infinity or NaN. `None` for types that are no halves.
fn half(kind: u64, bits: u16) -> Option<f64> {
    let exponent = match kind {
        FLOAT16 => 0x7C00,
        BFLOAT16 => 0x7F80,
        _ => return None,
    };
    let magnitude = bits & 0x7FFF;
    Some(match magnitude.cmp(&exponent) {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => f64::INFINITY,
        std::cmp::Ordering::Greater => f64::NAN,
    })
}

/// The low 16 bits of packed varints.
fn packed(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let (mut value, mut shift) = (0_u64, 0);
    bytes.iter().filter_map(move |byte| {
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        shift += 7;
        (byte & 0x80 == 0).then(|| {
            shift = 0;
            std::mem::take(&mut value) as u16
        })
    })
}
