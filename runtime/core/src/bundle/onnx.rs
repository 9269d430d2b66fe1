//! Refuses ONNX files that refer to data outside themselves.
//!
//! ONNX Runtime resolves such a reference from the current folder, so a bundle could read any file. The walk below
//! knows just enough of ONNX's protobuf layout (onnx.proto) to visit every tensor, nested ones included.

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

/// Checks that `bytes` is a protobuf whose tensors all carry their own data.
///
/// # Errors
/// [`ErrorKind::Bundle`].
pub(super) fn check_self_contained(bytes: &[u8]) -> Result<()> {
    walk(bytes, Message::Model, 0)
}

fn walk(mut bytes: &[u8], message: Message, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::Bundle, "the ONNX file nests graphs too deeply"));
    }
    while !bytes.is_empty() {
        let (field, value) = next_field(&mut bytes).ok_or_else(|| {
            Error::new(ErrorKind::Bundle, "expected an ONNX file, found something that is not a protobuf")
        })?;
        if let Message::Tensor = message {
            let external = match value {
                Value::Number(location) => field == DATA_LOCATION && location != 0,
                Value::Bytes(_) => field == EXTERNAL_DATA,
                Value::Fixed => false,
            };
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
    Ok(())
}

enum Value<'a> {
    Number(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// Takes one field off the front of `bytes`; `None` where there is no valid one.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(bytes)?;
    let value = match key & 7 {
        0 => Value::Number(varint(bytes)?),
        1 => take(bytes, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = varint(bytes)?;
            Value::Bytes(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(|_| Value::Fixed)?,
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
            let error = check_self_contained(&model).unwrap_err();
            assert!(error.to_string().contains("external data"), "{error}");
        }
        // The same field numbers elsewhere, and a tensor with its own data, are fine.
        check_self_contained(&field(7, &field(5, &field(9, &[1, 2, 3, 4])))).unwrap();
        check_self_contained(&field(13, b"x")).unwrap();
    }

    #[test]
    fn text_is_not_onnx() {
        let error = check_self_contained(b"<html>not found</html>").unwrap_err();
        assert!(error.to_string().contains("not a protobuf"), "{error}");
    }
}
