//! The one error type: an opaque struct with a stable kind, a message and, where there is one, a source.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{
    error::Error as StdError,
    fmt::{self, Write},
    path::Path,
};

/// What went wrong, for a caller that wants to react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read or written.
    Io,
    /// A file's content is not what its format asks for.
    Format,
    /// An array, image or tensor has another shape than expected.
    ShapeMismatch,
    /// The bundle is incomplete, altered or of an unknown version.
    Bundle,
    /// The engine could not load or run a network, or the device is not there.
    Engine,
    /// A setting is out of its range.
    Setting,
}

/// An error with a [kind](ErrorKind) and a message that names the file and what was expected.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without an underlying cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error caused by another one.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error, its message preceded by the file it concerns unless it is already.
    pub fn in_file(mut self, path: &Path) -> Self {
        let file = format!("{}: ", path.display());
        if !self.message.starts_with(&file) {
            self.message.insert_str(0, &file);
        }
        self
    }
}

/// Runs `body`, and makes a panic in it an error of `kind`: one bad input must not take the others with it. Where the program
/// is built to abort, a panic ends it all the same.
///
/// # Errors
/// Those of `body`, and the panic's message.
#[doc(hidden)]
pub fn catch_panic<T>(kind: ErrorKind, what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let error = Error::new(kind, format!("{what}: {text}"));
        // A payload may panic once more when it is dropped.
        std::mem::forget(panic);
        Err(error)
    })
}

/// Shows the message and, after a colon, the chain of causes. Control characters, which may come from a file, are escaped; line
/// ends and tabs are not.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        for character in text.chars() {
            if character.is_control() && !matches!(character, '\n' | '\t') {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let caught = |body: fn() -> Result<u8>| catch_panic(ErrorKind::Format, "its decoder failed", body);
        let error = caught(|| panic!("index {}", 7)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Format, "its decoder failed: index 7"));
        assert!(caught(|| std::panic::panic_any(1)).unwrap_err().to_string().ends_with("no message"));
        assert_eq!(caught(|| Err(Error::new(ErrorKind::Io, "own"))).unwrap_err().to_string(), "own");
        assert_eq!(caught(|| Ok(3)).unwrap(), 3);
    }
}
