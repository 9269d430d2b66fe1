//! Refuses ONNX files that refer to data outside themselves, and such whose weights are not finite.
//!
//! ONNX Runtime resolves such a reference from the current folder, so a bundle could read any file. Weights that are NaN do
//! not always show in what a network gives: activations and maxima may drop them. The walk below knows just enough of ONNX's
//! protobuf layout (onnx.proto) to visit every tensor, nested ones included.

use super::weights::Weights;
use crate::{Error, ErrorKind, Result};

/// A message type of onnx.proto, as far as it can lead to a tensor.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Training,
    SparseTensor,
    Tensor,
}

/// Deeper nesting of graphs than any exported network has.
const MAX_DEPTH: usize = 32;
/// `TensorProto.external_data` and `TensorProto.data_location`.
const EXTERNAL_DATA: u64 = 13;
const DATA_LOCATION: u64 = 14;

impl Message {
    /// The type of the message in field `field`, where it matters.
    fn child(self, field: u64) -> Option<Message> {
        match (self, field) {
            (Message::Model, 7) | (Message::Attribute, 6 | 11) | (Message::Training, 1 | 2) => Some(Message::Graph),
            (Message::Model, 20) => Some(Message::Training),
            (Message::Model, 25) => Some(Message::Function),
            (Message::Graph, 1) | (Message::Function, 7) => Some(Message::Node),
            (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => {
                Some(Message::Tensor)
            }
            (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Some(Message::SparseTensor),
            (Message::Node, 5) | (Message::Function, 11) => Some(Message::Attribute),
            _ => None,
        }
    }
}

/// Checks that `bytes` is a protobuf whose tensors all carry their own data, and finite ones.
///
/// # Errors
/// [`ErrorKind::Bundle`].
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    walk(bytes, Message::Model, 0)
}

fn walk(mut bytes: &[u8], message: Message, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::Bundle, "the ONNX file nests graphs too deeply"));
    }
    let mut weights = Weights::default();
    while !bytes.is_empty() {
        let (field, value) = next_field(&mut bytes).ok_or_else(|| {
            Error::new(ErrorKind::Bundle, "expected an ONNX file, found something that is not a protobuf")
        })?;
        if let Message::Tensor = message {
            let external = match value {
                Value::Number(location) => field == DATA_LOCATION && location != 0,
                Value::Bytes(_) => field == EXTERNAL_DATA,
                Value::Fixed(_) => false,
            };
            match value {
                Value::Number(number) => weights.number(field, number),
                Value::Bytes(bytes) => weights.bytes(field, bytes),
                Value::Fixed(bytes) => weights.bytes(field, bytes),
            }
            if external {
                return Err(Error::new(
                    ErrorKind::Bundle,
                    "the ONNX file refers to external data; a bundle's networks carry all their weights",
                ));
            }
        } else if let (Value::Bytes(inner), Some(child)) = (value, message.child(field)) {
            walk(inner, child, depth + 1)?;
        }
    }
    weights.check()
}

enum Value<'a> {
    Number(u64),
    /// Four or eight bytes.
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

/// Takes one field off the front of `bytes`; `None` where there is no valid one.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(bytes)?;
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
    Some((key >> 3, value))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    #[test]
    fn external_data_is_found_wherever_it_hides() {
        let location = field(13, &field(1, b"location"));
        let initializer = field(7, &field(5, &location));
        let constant = field(7, &field(1, &field(5, &field(5, &location))));
        let nested = field(7, &field(1, &field(5, &field(6, &field(5, &[14 << 3, 1])))));
        for model in [initializer, constant, nested] {
            let error = check(&model).unwrap_err();
            assert!(error.to_string().contains("external data"), "{error}");
        }
        // The same field numbers elsewhere, and a tensor with its own data, are fine.
        check(&field(7, &field(5, &field(9, &[1, 2, 3, 4])))).unwrap();
        check(&field(13, b"x")).unwrap();
    }

    #[test]
    fn weights_have_to_be_finite_wherever_they_are() {
        // dims 2, data_type, and the values in the field of that type.
        let tensor = |kind: u8, number: u8, values: &[u8]| {
            [&[1 << 3, 2, 2 << 3, kind], &field(number, values)[..], &field(8, b"conv.weight")].concat()
        };
        let floats = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
        let doubles = |values: [f64; 2]| values.map(f64::to_le_bytes).concat();
        let halves = |values: [u16; 2]| values.map(u16::to_le_bytes).concat();
        for (good, bad) in [
            (tensor(1, 9, &floats([1.0, -2.0])), tensor(1, 9, &floats([1.0, f32::NAN]))),
            (tensor(1, 4, &floats([1.0, -2.0])), tensor(1, 4, &floats([f32::INFINITY, 1.0]))),
            (tensor(11, 9, &doubles([1.0, -2.0])), tensor(11, 10, &doubles([1.0, f64::NEG_INFINITY]))),
            (tensor(10, 9, &halves([0x3C00, 0x7BFF])), tensor(10, 9, &halves([0x3C00, 0x7E00]))),
            (tensor(10, 9, &halves([0x3C00, 0xFBFF])), tensor(10, 5, &[0x01, 0x80, 0xF8, 0x01])),
            (tensor(16, 9, &halves([0x3F80, 0x7F7F])), tensor(16, 9, &halves([0x3F80, 0x7F80]))),
            // As integers, these bits are numbers like any other.
            (tensor(6, 9, &floats([f32::NAN, 1.0])), tensor(1, 9, &floats([f32::NAN, 1.0]))),
        ] {
            for wrap in [&|tensor: &[u8]| field(7, &field(5, tensor)), &|tensor: &[u8]| {
                field(7, &field(1, &field(5, &field(5, tensor))))
            }] as [&dyn Fn(&[u8]) -> Vec<u8>; 2]
            {
                check(&wrap(&good)).unwrap();
                let error = check(&wrap(&bad)).unwrap_err();
                let message = error.to_string();
                assert!(message.contains("`conv.weight` holds values that are not finite"), "{message}");
            }
        }
        // The bound of a Clip may be infinite, but is never NaN.
        let scalar = |value: f32| field(7, &field(5, &[&[2 << 3, 1], &field(9, &value.to_le_bytes())[..]].concat()));
        check(&scalar(f32::NEG_INFINITY)).unwrap();
        check(&scalar(f32::NAN)).unwrap_err();
    }

    #[test]
    fn text_is_not_onnx() {
        let error = check(b"<html>not found</html>").unwrap_err();
        assert!(error.to_string().contains("not a protobuf"), "{error}");
    }
}
