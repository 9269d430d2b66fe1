//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Error, ErrorKind, Result};

/// Bytes that are collected before a file is written to.
const BUFFER: usize = 1 << 16;

/// Has `write` fill a temporary file in the folder of `path`, then renames it: whoever looks at `path` sees the old
/// file or the whole new one. The temporary file ends like `path` and is removed on failure.
///
/// # Errors
/// Those of `write`; [`ErrorKind::Io`] if any byte cannot be written, or the file cannot be renamed.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let Some(name) = path.file_name() else {
        return Err(Error::new(ErrorKind::Io, "is no file name"));
    };
    let mut unique = OsString::from(format!(".{}-{}.", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    unique.push(name);
    let temporary = path.with_file_name(unique);
    let file = File::create(&temporary).map_err(unwritable)?;
    let finish = |file: File| {
        // Without this a power cut soon after the rename could leave an empty file under the final name.
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    let written = write_checked(file, write).and_then(|file| finish(file).map_err(unwritable));
    if written.is_err() {
        // The first error says more than a failure to tidy up after it.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Has `write` write into `inner`, buffered, and hands it back once every byte is through.
///
/// # Errors
/// Those of `write`; [`ErrorKind::Io`] if `inner` failed at any time, whether or not `write` heard of it: encoders write their
/// last bytes when they are dropped, where nobody does.
pub fn write_checked<W: Write>(inner: W, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<W> {
    let mut out = BufWriter::with_capacity(BUFFER, Remembering { inner, failed: None });
    let written = write(&mut out);
    let flushed = out.flush();
    let (remembering, _) = out.into_parts();
    if let Some(error) = remembering.failed {
        return Err(unwritable(error));
    }
    written?;
    flushed.map_err(unwritable)?;
    Ok(remembering.inner)
}

/// A writer that keeps its first failure, and fails from there on.
struct Remembering<W> {
    inner: W,
    failed: Option<io::Error>,
}

impl<W: Write> Remembering<W> {
    fn attempt<T>(&mut self, action: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if let Some(error) = &self.failed {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        action(&mut self.inner).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let copy = error.raw_os_error().map(io::Error::from_raw_os_error);
                self.failed = copy.or_else(|| Some(io::Error::new(error.kind(), error.to_string())));
            }
        })
    }
}

impl<W: Write> Write for Remembering<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|inner| match inner.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(W::flush)
    }
}

fn unwritable(error: io::Error) -> Error {
    Error::with_source(ErrorKind::Io, "cannot be written", error)
}

/// Writes `bytes` as the whole content of `path`.
///
/// # Errors
/// [`ErrorKind::Io`], naming the file.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |out| out.write_all(bytes).map_err(unwritable)).map_err(|e| e.in_file(path))
}

/// A disk that is full after so many bytes, for tests.
#[doc(hidden)]
#[derive(Debug)]
pub struct FullAfter(pub usize);

impl Write for FullAfter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let room = bytes.len().min(self.0);
        self.0 -= room;
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_nobody_heard_of_is_one() {
        for room in 0..8 {
            let deaf = |out: &mut dyn Write| {
                let _ = out.write_all(b"12345678");
                let _ = out.flush();
                Ok(())
            };
            let error = write_checked(FullAfter(room), deaf).unwrap_err();
            assert!(error.kind() == ErrorKind::Io && error.to_string().contains("cannot be written"), "{error}");
        }
        let all = |out: &mut dyn Write| out.write_all(b"12345678").map_err(unwritable);
        assert_eq!(write_checked(FullAfter(9), all).unwrap().0, 1);
        assert_eq!(write_checked(Vec::new(), all).unwrap(), b"12345678");
    }

    #[test]
    fn failures_leave_nothing_behind_and_spare_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        fs::write(&path, "old").unwrap();
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half").unwrap();
            Err(Error::new(ErrorKind::Io, "disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_bytes(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
