//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Error, ErrorKind, Result};

/// Has `write` fill a temporary file in the folder of `path`, then renames it: whoever looks at `path` sees the old
/// file or the whole new one. The temporary file ends like `path` and is removed on failure.
///
/// # Errors
/// Those of `write`; [`ErrorKind::Io`] if the file cannot be flushed or renamed.
pub fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let Some(name) = path.file_name() else {
        return Err(Error::new(ErrorKind::Io, "is no file name"));
    };
    let mut unique = OsString::from(format!(".{}-{}.", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    unique.push(name);
    let temporary = path.with_file_name(unique);
    let finish = |()| {
        // Without this a power cut soon after the rename could leave an empty file under the final name.
        File::options().write(true).open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)
    };
    let written = write(&temporary)
        .and_then(|done| finish(done).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be written", e)));
    if written.is_err() {
        // The first error says more than a failure to tidy up after it.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes `bytes` as the whole content of `path`.
///
/// # Errors
/// [`ErrorKind::Io`], naming the file.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = |temporary: &Path| {
        fs::write(temporary, bytes).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be written", e))
    };
    write_atomically(path, write).map_err(|e| e.in_file(path))
}
