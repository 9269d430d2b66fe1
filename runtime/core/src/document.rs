//! JSON documents carry the version of their schema; YAML from files is read within bounds.

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};

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

/// How deep lists and maps in brackets may lie in one another. A manifest or recipe has three or four levels.
const MOST_BRACKETS: usize = 64;

/// Reads YAML that may come from anywhere. The parser takes a time that grows with the square of how deep brackets lie in one
/// another: half a minute for a file of 400,000.
///
/// # Errors
/// Those of the parser, and for brackets that lie too deep.
pub fn parse_yaml<T: DeserializeOwned>(text: &[u8]) -> std::result::Result<T, yaml_serde::Error> {
    let mut depth = 0_usize;
    for byte in text {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MOST_BRACKETS {
            let message = format!("its brackets lie more than {MOST_BRACKETS} deep in one another");
            return Err(yaml_serde::Error::custom(message));
        }
    }
    yaml_serde::from_slice(text)
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

    #[test]
    fn brackets_have_a_depth() {
        let read = |text: &str| parse_yaml::<yaml_serde::Value>(text.as_bytes());
        read(&("[".repeat(60) + &"]".repeat(60))).unwrap();
        read(&"- [1, {a: 2}]\n".repeat(500)).unwrap();
        for text in ["[".repeat(400_000), "{a: ".repeat(400_000), "[]".to_owned() + &"[".repeat(65)] {
            assert!(read(&text).unwrap_err().to_string().contains("more than 64 deep"));
        }
    }
}
