//! Writing a bundle.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use super::{FILES, FileEntry, MANIFEST_FILE, Manifest, SEAL_FILE, contract, seal, sha256_hex};
use crate::onnx::Model;
use crate::{Error, ErrorKind, Result};

/// Writes a bundle to the folder `dir`: `files` are the contents of all of [`FILES`], whose sizes and hashes replace
/// `manifest.files`. The folder appears complete or not at all, in place of an older bundle of the same name.
///
/// # Errors
/// [`ErrorKind::Bundle`] where the manifest or the files are not a bundle's, or `dir` exists and holds something else;
/// [`ErrorKind::Io`] where it cannot be written.
pub fn write_bundle(dir: &Path, mut manifest: Manifest, files: &[(&str, &[u8])]) -> Result<()> {
    manifest.files = entries(files)?;
    manifest.validate()?;
    contract::check_networks(&manifest)?;
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".onnx")) {
        Model::read(bytes).map_err(|e| e.in_file(Path::new(name)))?;
    }
    let yaml = yaml_serde::to_string(&manifest)
        .map_err(|e| Error::with_source(ErrorKind::Bundle, "the manifest cannot be written as YAML", e))?;
    if dir.exists() && !may_replace(dir) {
        return Err(Error::new(ErrorKind::Bundle, "exists and is not a bundle, so it is not replaced").in_file(dir));
    }

    let staging = sibling(dir, "new")?;
    let written = stage(&staging, files, yaml.as_bytes()).and_then(|()| replace(dir, &staging));
    if written.is_err() {
        // Best effort: the error that led here matters more.
        let _ = fs::remove_dir_all(&staging);
    }
    written.map_err(|e| e.in_file(dir))
}

fn entries(files: &[(&str, &[u8])]) -> Result<std::collections::BTreeMap<String, FileEntry>> {
    let entries: std::collections::BTreeMap<_, _> = files
        .iter()
        .map(|(name, bytes)| (name.to_string(), FileEntry { sha256: sha256_hex(bytes), size: bytes.len() as u64 }))
        .collect();
    if entries.len() == FILES.len()
        && files.len() == FILES.len()
        && FILES.iter().all(|&name| entries.contains_key(name))
    {
        return Ok(entries);
    }
    let found: Vec<_> = files.iter().map(|(name, _)| *name).collect();
    Err(Error::new(ErrorKind::Bundle, format!("a bundle's files are {}, found {}", FILES.join(", "), found.join(", "))))
}

/// An earlier bundle or an empty folder.
fn may_replace(dir: &Path) -> bool {
    dir.join(MANIFEST_FILE).is_file() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// A name beside `dir`, on the same file system, that no other process uses.
fn sibling(dir: &Path, suffix: &str) -> Result<PathBuf> {
    let name =
        dir.file_name().ok_or_else(|| Error::new(ErrorKind::Setting, "is not a name for a folder").in_file(dir))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{suffix}-{}", std::process::id()));
    Ok(dir.with_file_name(hidden))
}

fn stage(staging: &Path, files: &[(&str, &[u8])], manifest: &[u8]) -> Result<()> {
    let failed = |e| Error::with_source(ErrorKind::Io, "cannot write the bundle", e);
    fs::create_dir_all(staging).map_err(failed)?;
    let hash = seal::line(manifest);
    for (name, bytes) in files.iter().copied().chain([(MANIFEST_FILE, manifest), (SEAL_FILE, hash.as_bytes())]) {
        File::create(staging.join(name))
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .map_err(failed)?;
    }
    Ok(())
}

fn replace(dir: &Path, staging: &Path) -> Result<()> {
    let failed = |e| Error::with_source(ErrorKind::Io, "cannot put the bundle in place", e);
    if !dir.exists() {
        return fs::rename(staging, dir).map_err(failed);
    }
    let old = sibling(dir, "old")?;
    fs::rename(dir, &old).map_err(failed)?;
    if let Err(e) = fs::rename(staging, dir) {
        // Put the older bundle back; if even that fails, it is still there under its hidden name.
        let _ = fs::rename(&old, dir);
        return Err(failed(e));
    }
    fs::remove_dir_all(&old).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::{Bundle, test_support};
    use super::*;

    #[test]
    fn replaces_a_bundle_but_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        write_bundle(&dir, test_support::manifest(), &test_support::files()).unwrap();
        let renamed = Manifest { name: "second".into(), ..test_support::manifest() };
        write_bundle(&dir, renamed, &test_support::files()).unwrap();
        assert_eq!(Bundle::load(&dir).unwrap().manifest().name, "second");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left beside it");

        let other = temp.path().join("thesis");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("chapter.txt"), "1").unwrap();
        let error = write_bundle(&other, test_support::manifest(), &test_support::files()).unwrap_err();
        assert!(error.to_string().contains("not a bundle"), "{error}");
        assert!(other.join("chapter.txt").exists());
    }

    #[test]
    fn incomplete_files_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        let error = write_bundle(&dir, test_support::manifest(), &test_support::files()[1..]).unwrap_err();
        assert!(error.to_string().contains("image_encoder.onnx"), "{error}");
        assert!(!dir.exists());
    }
}
