//! Status codes, the message of the last error, and the border that no panic crosses.
#![deny(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ldseg::{Error, ErrorKind};

/// How a call ended.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LdsegStatus {
    /// All went well.
    Ok = 0,
    /// A file or folder could not be read.
    Io = 1,
    /// A file's content, or a pixel's value, is not what is asked for.
    Format = 2,
    /// The frame has other axes or channels than the bundle's images.
    ShapeMismatch = 3,
    /// The bundle is incomplete, altered or of an unknown version.
    Bundle = 4,
    /// The engine could not load or run a network, or the device is not there.
    Engine = 5,
    /// A setting is out of its range.
    Setting = 6,
    /// A pointer is NULL that must not be.
    NullPointer = 7,
    /// An argument makes no sense: a frame's size, stride or format, an index, a string that is not UTF-8.
    BadArgument = 8,
    /// A fault of this library. The segmenter it happened to answers every further call with this; others are not
    /// concerned.
    Panic = 9,
    /// None of the above.
    Other = 10,
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: LdsegStatus,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn null(name: &str) -> Self {
        Self { status: LdsegStatus::NullPointer, message: format!("{name} is NULL") }
    }

    pub(crate) fn argument(message: String) -> Self {
        Self { status: LdsegStatus::BadArgument, message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Io => LdsegStatus::Io,
            ErrorKind::Format => LdsegStatus::Format,
            ErrorKind::ShapeMismatch => LdsegStatus::ShapeMismatch,
            ErrorKind::Bundle => LdsegStatus::Bundle,
            ErrorKind::Engine => LdsegStatus::Engine,
            ErrorKind::Setting => LdsegStatus::Setting,
            _ => LdsegStatus::Other,
        };
        Self { status, message: error.to_string() }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The message of this thread's last failure.
pub(crate) fn last_error() -> *const c_char {
    // Where the thread is ending and its message is gone, there is none.
    LAST_ERROR.try_with(|message| message.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs the body of a C function: keeps the message of its failure, and turns a panic into one.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> LdsegStatus {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return LdsegStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let message = format!("ldseg panicked: {}", panic_message(&*panic));
            // A payload may panic once more when it is dropped.
            std::mem::forget(panic);
            Failure { status: LdsegStatus::Panic, message }
        }
    };
    let message = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    let _ = LAST_ERROR.try_with(|last| last.replace(message));
    failure.status
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status() {
        let message = || LAST_ERROR.with_borrow(|message| message.to_str().unwrap().to_owned());
        assert_eq!(guard(|| panic!("of {}", "a test")), LdsegStatus::Panic);
        assert_eq!(message(), "ldseg panicked: of a test");
        assert_eq!(guard(|| std::panic::panic_any(7)), LdsegStatus::Panic);
        assert_eq!(message(), "ldseg panicked: no message");
        assert_eq!(guard(|| Err(Failure::argument("a zero \0 inside".into()))), LdsegStatus::BadArgument);
        assert_eq!(message(), "a zero   inside");
        assert_eq!(guard(|| Ok(())), LdsegStatus::Ok);
        assert_eq!(message(), "a zero   inside", "success leaves the message alone");
    }
}
