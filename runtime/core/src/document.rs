//! JSON documents carry the version of their schema.

use serde::Serialize;

use crate::{Error, ErrorKind, Result};

/// The schema that documents follow. It grows when a key is renamed or removed, or means something else; added keys leave
/// it as it is.
pub const SCHEMA_VERSION: u64 = 1;

/// A document with the version of its schema in front.
#[derive(Debug, Serialize)]
pub struct Versioned<T> {
    schema_version: u64,
    #[serde(flatten)]
    document: T,
}

impl<T: Serialize> Versioned<T> {
    /// `document`, which is written as a map.
    pub fn new(document: T) -> Self {
        Self { schema_version: SCHEMA_VERSION, document }
    }
}

/// Whether a document that says `found` of its schema can be read.
///
/// # Errors
/// [`ErrorKind::Format`], telling both versions.
pub fn check_schema_version(found: Option<u64>) -> Result<()> {
    match found {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(other) => {
            let message = format!("has schema_version {other}, expected {SCHEMA_VERSION}");
            Err(Error::new(ErrorKind::Format, message))
        }
        None => Err(Error::new(ErrorKind::Format, format!("has no schema_version, expected {SCHEMA_VERSION}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_its_version_first() {
        let text = serde_json::to_string(&Versioned::new(serde_json::json!({ "a": 2.5, "b": [1] }))).unwrap();
        assert_eq!(text, r#"{"schema_version":1,"a":2.5,"b":[1]}"#);
        check_schema_version(Some(SCHEMA_VERSION)).unwrap();
        for other in [None, Some(0), Some(2)] {
            assert_eq!(check_schema_version(other).unwrap_err().kind(), ErrorKind::Format);
        }
    }
}
