//! A tensor of an ONNX file: weights, or numbers that an operator is told.

use std::borrow::Cow;

use super::wire::{Message, Value, fields, not_onnx};
use super::{fail, once};
use crate::Result;

/// `TensorProto.data_type` of the types that are read, with their size in bytes.
const TYPES: [(u64, usize); 13] =
    [(1, 4), (2, 1), (3, 1), (4, 2), (5, 2), (6, 4), (7, 8), (9, 1), (10, 2), (11, 8), (12, 4), (13, 8), (16, 2)];
pub(super) const FLOAT: u64 = 1;
const INT32: u64 = 6;
const INT64: u64 = 7;
const FLOAT16: u64 = 10;
const DOUBLE: u64 = 11;
const BFLOAT16: u64 = 16;

/// Its values are all there, as many as its shape says.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Vec<usize>,
    pub(super) kind: u64,
    /// Little-endian.
    data: Cow<'a, [u8]>,
}

impl<'a> Tensor<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let (mut name, mut kind, mut dims) = ("", 0, Vec::new());
        let (mut raw, mut narrow, mut wide) = (None, Vec::new(), Vec::new());
        let (mut floats, mut doubles) = (Cow::default(), Cow::default());
        fields(bytes, |field, value| match field {
            1 => value.ints_to(&mut dims),
            2 => value.number().map(|number| kind = number),
            4 => value.fixed_to(4, &mut floats),
            5 => value.ints_to(&mut narrow),
            7 | 11 => value.ints_to(&mut wide),
            8 => value.text().map(|text| name = text),
            9 => once(&mut raw, value.bytes()?),
            10 => value.fixed_to(8, &mut doubles),
            // Where the values are: 0 is here.
            14 if matches!(value, Value::Number(0)) => Ok(()),
            13 | 14 => Err(fail("the ONNX file refers to external data; a bundle's networks carry all their weights")),
            // Words for people.
            12 | 16 => value.bytes().map(drop),
            _ => Err(fail(format!("a tensor has the field {field}, which is not known"))),
        })?;
        let Some(&(_, size)) = TYPES.iter().find(|(known, _)| *known == kind) else {
            return Err(fail(format!("the tensor `{}` is of type {kind}, which is not known", name.escape_debug())));
        };
        let shape: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let count = |shape: &[usize]| shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim));
        let (Some(shape), true) = (shape, dims.len() <= super::MAX_AXES) else {
            return Err(fail(format!("the tensor `{}` has no shape: {dims:?}", name.escape_debug())));
        };
        let data = match (raw, kind) {
            (Some(raw), _) => Cow::Borrowed(raw),
            (None, FLOAT) => floats,
            (None, DOUBLE) => doubles,
            (None, INT64 | 12 | 13) => little_endian(&wide, size)?,
            (None, _) => little_endian(&narrow, size)?,
        };
        if count(&shape) != Some(data.len()) {
            let message = format!("the tensor `{}` of shape {shape:?} has {} bytes", name.escape_debug(), data.len());
            return Err(fail(message));
        }
        Ok(Self { name, shape, kind, data })
    }

    pub(super) fn write(&self) -> Message<'_> {
        let mut message = Message::default();
        self.shape.iter().for_each(|&size| message.number(1, size as u64));
        message.number(2, self.kind);
        message.text(8, self.name);
        message.bytes(9, Cow::Borrowed(&self.data));
        message
    }

    /// Its values as integers, where it has some few of them.
    pub(super) fn ints(&self) -> Option<Vec<i64>> {
        match self.kind {
            INT64 if self.data.len() <= 8 * super::MAX_KNOWN => {
                Some(self.data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
            }
            INT32 if self.data.len() <= 4 * super::MAX_KNOWN => {
                Some(self.data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect())
            }
            _ => None,
        }
    }

    /// Its values as floats, where it has some few of them.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        (self.kind == FLOAT && self.data.len() <= 4 * super::MAX_KNOWN)
            .then(|| self.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// # Errors
    /// [`crate::ErrorKind::Bundle`] for NaN, and for an infinite value among others: NaN does not always show in what a
    /// network gives, as activations and maxima may drop it. One infinite value that is alone may be the bound of a Clip.
    pub(super) fn check_finite(&self) -> Result<()> {
        let (mut nan, mut infinite) = (false, false);
        let mut see = |value: f64| {
            nan |= value.is_nan();
            infinite |= value.is_infinite();
        };
        match self.kind {
            FLOAT => self.data.as_chunks::<4>().0.iter().for_each(|b| see(f32::from_le_bytes(*b).into())),
            DOUBLE => self.data.as_chunks::<8>().0.iter().for_each(|b| see(f64::from_le_bytes(*b))),
            FLOAT16 | BFLOAT16 => {
                let exponent = if self.kind == FLOAT16 { 0x7C00 } else { 0x7F80 };
                self.data.as_chunks::<2>().0.iter().for_each(|b| {
                    match (u16::from_le_bytes(*b) & 0x7FFF).cmp(&exponent) {
                        std::cmp::Ordering::Less => {}
                        std::cmp::Ordering::Equal => see(f64::INFINITY),
                        std::cmp::Ordering::Greater => see(f64::NAN),
                    }
                });
            }
            _ => {}
        }
        if nan || infinite && self.shape.iter().product::<usize>() > 1 {
            let name = self.name.escape_debug();
            let message =
                format!("the tensor `{name}` holds values that are not finite: such a network computes nothing");
            return Err(fail(message));
        }
        Ok(())
    }
}

/// Integers in `size` bytes each; as few as hold the value's bits, signed or not.
fn little_endian(values: &[i64], size: usize) -> Result<Cow<'static, [u8]>> {
    let mut bytes = Vec::with_capacity(values.len() * size);
    for value in values {
        let bits = 8 * size as u32;
        if bits < 64 && !(-(1_i64 << (bits - 1))..1_i64 << bits).contains(value) {
            return Err(not_onnx());
        }
        bytes.extend(&value.to_le_bytes()[..size]);
    }
    Ok(Cow::Owned(bytes))
}
