//! Protobuf's wire format, as far as ONNX files use it, read strictly and written anew.

use std::borrow::Cow;

use super::fail;
use crate::Result;

/// One field's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    /// Four or eight bytes.
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

/// Every field of the message `bytes`, in order, handed to `take` with its number.
///
/// # Errors
/// [`crate::ErrorKind::Bundle`] where `bytes` is no message: what readers of protobuf take differently from each other is none.
pub(super) fn fields<'a>(mut bytes: &'a [u8], mut take: impl FnMut(u32, Value<'a>) -> Result<()>) -> Result<()> {
    while !bytes.is_empty() {
        let (field, value) = next_field(&mut bytes).ok_or_else(not_onnx)?;
        take(field, value)?;
    }
    Ok(())
}

pub(super) fn not_onnx() -> crate::Error {
    fail("expected an ONNX file, found something that is not a protobuf")
}

/// Takes one field off the front of `bytes`; `None` where there is no valid one.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    // A key has 32 bits. Some readers drop what is beyond, and so read another field.
    let key = u32::try_from(varint(bytes)?).ok()?;
    let value = match key & 7 {
        0 => Value::Number(varint(bytes)?),
        1 => take(bytes, 8).map(Value::Fixed)?,
        2 => {
            let length = varint(bytes)?;
            Value::Bytes(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(Value::Fixed)?,
        _ => return None,
    };
    (key >> 3 != 0).then_some((key >> 3, value))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = tail;
    Some(head)
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Result<u64> {
        match self {
            Value::Number(number) => Ok(number),
            _ => Err(not_onnx()),
        }
    }

    pub(super) fn int(self) -> Result<i64> {
        self.number().map(u64::cast_signed)
    }

    pub(super) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(not_onnx()),
        }
    }

    pub(super) fn text(self) -> Result<&'a str> {
        str::from_utf8(self.bytes()?).map_err(|_| fail("expected an ONNX file, found text that is not UTF-8"))
    }

    pub(super) fn float(self) -> Result<f32> {
        match self {
            Value::Fixed(&[a, b, c, d]) => Ok(f32::from_le_bytes([a, b, c, d])),
            _ => Err(not_onnx()),
        }
    }

    /// Adds a repeated number, or a packed list of them.
    pub(super) fn ints_to(self, list: &mut Vec<i64>) -> Result<()> {
        let mut packed = match self {
            Value::Number(number) => {
                list.push(number.cast_signed());
                return Ok(());
            }
            Value::Bytes(packed) => packed,
            Value::Fixed(_) => return Err(not_onnx()),
        };
        while !packed.is_empty() {
            list.push(varint(&mut packed).ok_or_else(not_onnx)?.cast_signed());
        }
        Ok(())
    }

    /// Adds a repeated number of `width` bytes, or a packed list of them, as little-endian bytes.
    pub(super) fn fixed_to(self, width: usize, list: &mut Cow<'a, [u8]>) -> Result<()> {
        let (Value::Fixed(bytes) | Value::Bytes(bytes)) = self else { return Err(not_onnx()) };
        if !bytes.len().is_multiple_of(width) || matches!(self, Value::Fixed(_)) && bytes.len() != width {
            return Err(not_onnx());
        }
        if list.is_empty() {
            *list = Cow::Borrowed(bytes);
        } else {
            list.to_mut().extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// A message that is being written. What is borrowed is copied once, at the end.
#[derive(Default)]
pub(super) struct Message<'a> {
    parts: Vec<Cow<'a, [u8]>>,
    length: usize,
}

impl<'a> Message<'a> {
    pub(super) fn number(&mut self, field: u32, number: u64) {
        self.header(u64::from(field) << 3, number);
    }

    pub(super) fn int(&mut self, field: u32, number: i64) {
        self.number(field, number.cast_unsigned());
    }

    pub(super) fn float(&mut self, field: u32, value: f32) {
        let mut bytes = Vec::with_capacity(9);
        push_varint(&mut bytes, u64::from(field) << 3 | 5);
        bytes.extend(value.to_le_bytes());
        self.push(Cow::Owned(bytes));
    }

    pub(super) fn bytes(&mut self, field: u32, bytes: Cow<'a, [u8]>) {
        self.header(u64::from(field) << 3 | 2, bytes.len() as u64);
        self.push(bytes);
    }

    pub(super) fn text(&mut self, field: u32, text: &'a str) {
        if !text.is_empty() {
            self.bytes(field, Cow::Borrowed(text.as_bytes()));
        }
    }

    pub(super) fn message(&mut self, field: u32, inner: Message<'a>) {
        self.header(u64::from(field) << 3 | 2, inner.length as u64);
        self.length += inner.length;
        self.parts.extend(inner.parts);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length);
        self.parts.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }

    fn header(&mut self, key: u64, number: u64) {
        let mut bytes = Vec::with_capacity(12);
        push_varint(&mut bytes, key);
        push_varint(&mut bytes, number);
        self.push(Cow::Owned(bytes));
    }

    fn push(&mut self, part: Cow<'a, [u8]>) {
        self.length += part.len();
        self.parts.push(part);
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
