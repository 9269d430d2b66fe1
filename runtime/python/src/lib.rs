//! The Python interface: the module `ldseg._native`, which `python/ldseg/_native.pyi` describes to users.

mod array;
mod segmentation;
mod segmenter;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use ldseg::{Error, ErrorKind};

create_exception!(ldseg, BundleError, PyException, "The bundle is incomplete, altered or of an unknown version.");
create_exception!(
    ldseg,
    EngineError,
    PyRuntimeError,
    "The engine could not load or run a network, or the device is not there."
);

/// The exception that a user expects for an error.
fn exception(error: Error) -> PyErr {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Io => PyOSError::new_err(message),
        ErrorKind::Bundle => BundleError::new_err(message),
        ErrorKind::Engine => EngineError::new_err(message),
        _ => PyValueError::new_err(message),
    }
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::segmentation::{Class, Segmentation};
    #[pymodule_export]
    use super::segmenter::Segmenter;
    #[pymodule_export]
    use super::{BundleError, EngineError};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
