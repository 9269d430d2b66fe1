//! Reading a bundle.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    CARD_FILE, FILES, FORMAT_VERSION, GOLDEN_FILE, MANIFEST_FILE, Manifest, SEAL_FILE, contract, seal, sha256_hex,
};
use crate::bundle::Golden;
use crate::engine::{EngineOptions, Network, NetworkSpec};
use crate::onnx::Model;
use crate::{Error, ErrorKind, Result};

/// Largest manifest that is read, in bytes.
const MAX_MANIFEST_SIZE: u64 = 1 << 20;
/// Largest other file: what ONNX's protobuf encoding can hold.
const MAX_FILE_SIZE: u64 = (1 << 31) - 1;

/// A bundle whose files are all there, unaltered, and consistent with its manifest.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
    files: BTreeMap<&'static str, Vec<u8>>,
}

/// Read before the rest, so that a newer format is called that and not 'unknown key'.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl Bundle {
    /// Reads and checks the bundle in folder `dir`.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`], naming the file: it is missing, the manifest differs from its SHA-256 in [`SEAL_FILE`], a file lies outside the folder, differs from its size or
    /// SHA-256 in the manifest, or refers to data outside itself; the manifest has an unknown key, version or file, or
    /// contradicts itself. [`ErrorKind::Io`] where a file cannot be read.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::open(dir, true).map(|(bundle, _)| bundle)
    }

    /// As [`Self::load`], with the manifest's bytes; whether it is `sealed` is checked if asked for.
    pub(super) fn open(dir: &Path, sealed: bool) -> Result<(Self, Vec<u8>)> {
        let root = dir
            .canonicalize()
            .map_err(|e| Error::with_source(ErrorKind::Io, "cannot open the bundle folder", e).in_file(dir))?;
        let path = dir.join(MANIFEST_FILE);
        let written = read_inside(&root, MANIFEST_FILE, MAX_MANIFEST_SIZE).map_err(|e| e.in_file(&path))?;
        if sealed {
            let hash = read_inside(&root, SEAL_FILE, MAX_MANIFEST_SIZE).map_err(|e| {
                let message = format!("{e}: `ldseg-train seal` makes it for a bundle that is trusted");
                Error::new(e.kind(), message).in_file(&dir.join(SEAL_FILE))
            })?;
            seal::check(&written, &hash).map_err(|e| e.in_file(&path))?;
        }
        let manifest = parse_manifest(&written).map_err(|e| e.in_file(&path))?;

        let mut files = BTreeMap::new();
        for name in FILES {
            let bytes = read_checked(&root, name, &manifest).map_err(|e| e.in_file(&dir.join(name)))?;
            files.insert(name, bytes);
        }
        Ok((Self { dir: dir.to_path_buf(), manifest, files }, written))
    }

    /// The folder it was read from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The ONNX file and the tensors of the network `name`, e.g. [`super::DENOISER`].
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] for a name that is not one of [`super::NETWORKS`].
    pub fn network(&self, name: &str) -> Result<(&[u8], &NetworkSpec)> {
        let file = self.files.get(format!("{name}.onnx").as_str());
        match (file, self.manifest.networks.get(name)) {
            (Some(onnx), Some(spec)) => Ok((onnx, spec)),
            _ => Err(Error::new(ErrorKind::Setting, format!("a bundle has no network `{name}`"))),
        }
    }

    /// Loads the network `name`, e.g. [`super::DENOISER`], on an engine.
    ///
    /// # Errors
    /// Those of [`Self::network`] and [`crate::engine::load_network`].
    pub fn load_network(&self, name: &str, options: &EngineOptions) -> Result<Box<dyn Network>> {
        let (onnx, spec) = self.network(name)?;
        let path = self.dir.join(format!("{name}.onnx"));
        crate::engine::load_network(&path.display().to_string(), onnx, spec, options)
    }

    /// The reference tensors, checked against the manifest's shapes.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] where the file is not as [`Golden`] describes it.
    pub fn golden(&self) -> Result<Golden> {
        Golden::from_safetensors(&self.files[GOLDEN_FILE])
            .and_then(|golden| golden.check(&self.manifest).map(|()| golden))
            .map_err(|e| e.in_file(&self.dir.join(GOLDEN_FILE)))
    }

    /// Every file but the manifest, by its name.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (*name, bytes.as_slice()))
    }

    /// The model card, Markdown.
    pub fn model_card(&self) -> String {
        String::from_utf8_lossy(&self.files[CARD_FILE]).into_owned()
    }
}

fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    let malformed = |e| Error::with_source(ErrorKind::Bundle, "the manifest is malformed", e);
    let version: Version = crate::document::parse_yaml(bytes).map_err(malformed)?;
    if version.format_version != FORMAT_VERSION {
        return Err(Error::new(
            ErrorKind::Bundle,
            format!("format_version is {}, this version reads {FORMAT_VERSION} only", version.format_version),
        ));
    }
    let manifest: Manifest = crate::document::parse_yaml(bytes).map_err(malformed)?;
    manifest.validate()?;
    contract::check_networks(&manifest)?;
    if let Some(name) = manifest.files.keys().find(|name| !FILES.contains(&name.as_str())) {
        return Err(Error::new(
            ErrorKind::Bundle,
            format!("files lists `{name}`, expected exactly {}", FILES.join(", ")),
        ));
    }
    Ok(manifest)
}

/// The bytes of `root/name` if they are the ones that the manifest describes.
fn read_checked(root: &Path, name: &str, manifest: &Manifest) -> Result<Vec<u8>> {
    let mismatch = |message: String| Error::new(ErrorKind::Bundle, message);
    let entry =
        manifest.files.get(name).ok_or_else(|| mismatch(format!("the manifest's `files` does not list `{name}`")))?;
    let bytes = read_inside(root, name, MAX_FILE_SIZE)?;
    if bytes.len() as u64 != entry.size {
        return Err(mismatch(format!("the file has {} bytes, the manifest says {}", bytes.len(), entry.size)));
    }
    let sha256 = sha256_hex(&bytes);
    if sha256 != entry.sha256 {
        return Err(mismatch(format!(
            "the file was altered: its SHA-256 is {sha256}, the manifest says {}",
            entry.sha256
        )));
    }
    if name.ends_with(".onnx") {
        Model::read(&bytes)?;
    }
    Ok(bytes)
}

/// Reads a regular file of the folder `root` (canonical); a link may not lead out of it.
fn read_inside(root: &Path, name: &str, max_size: u64) -> Result<Vec<u8>> {
    let path = root.join(name);
    let unreadable = |e| Error::with_source(ErrorKind::Io, "cannot read the file", e);
    let target = match path.canonicalize() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::Bundle, "the bundle lacks this file"));
        }
        other => other.map_err(unreadable)?,
    };
    if !target.starts_with(root) {
        return Err(Error::new(
            ErrorKind::Bundle,
            format!("the link leads out of the bundle, to {}", target.display()),
        ));
    }
    let metadata = fs::metadata(&target).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Bundle, "expected a file"));
    }
    if metadata.len() > max_size {
        return Err(Error::new(
            ErrorKind::Bundle,
            format!("the file has {} bytes, at most {max_size} are read", metadata.len()),
        ));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(&target).and_then(|file| file.take(max_size).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{test_support, write_bundle};
    use super::*;

    fn bundle() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        write_bundle(&dir, test_support::manifest(), &test_support::files()).unwrap();
        (temp, dir)
    }

    fn edit_manifest(dir: &Path, from: &str, to: &str) {
        let path = dir.join(MANIFEST_FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        let text = text.replacen(from, to, 1);
        fs::write(dir.join(SEAL_FILE), seal::line(text.as_bytes())).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The message of a bundle that must not load.
    fn refusal(dir: &Path) -> String {
        let error = Bundle::load(dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
        error.to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let (_temp, dir) = bundle();
        let bundle = Bundle::load(&dir).unwrap();
        assert_eq!(bundle.manifest().files.len(), FILES.len());
        assert_eq!(Manifest { files: BTreeMap::new(), ..bundle.manifest().clone() }, test_support::manifest());
        assert_eq!(bundle.network(super::super::DENOISER).unwrap().0, b"\x08\x08");
        assert_eq!(bundle.model_card(), "text");
    }

    #[test]
    fn one_flipped_bit_is_seen() {
        let (_temp, dir) = bundle();
        fs::write(dir.join("denoiser.onnx"), b"\x08\x09").unwrap();
        let message = refusal(&dir);
        assert!(message.contains("denoiser.onnx") && message.contains("altered"), "{message}");
    }

    #[test]
    fn a_missing_or_shortened_file_is_named() {
        let (_temp, dir) = bundle();
        fs::write(dir.join("label_decoder.onnx"), b"\x08").unwrap();
        assert!(refusal(&dir).contains("label_decoder.onnx: the file has 1 bytes, the manifest says 2"));
        fs::remove_file(dir.join("label_decoder.onnx")).unwrap();
        assert!(refusal(&dir).contains("label_decoder.onnx: the bundle lacks this file"));
    }

    #[test]
    fn unknown_keys_versions_and_files_are_refused() {
        let (_temp, dir) = bundle();
        edit_manifest(&dir, "name: test", "name: test\nsurprise: 1");
        assert!(refusal(&dir).contains("surprise"));

        edit_manifest(&dir, "surprise: 1\n", "");
        edit_manifest(&dir, "format_version: 1", "format_version: 2\nadded_in_2: yes");
        assert!(refusal(&dir).contains("format_version is 2"));

        edit_manifest(&dir, "format_version: 2\nadded_in_2: yes", "format_version: 1");
        edit_manifest(
            &dir,
            "  label_encoder.onnx:",
            "  ../extra.bin:\n    sha256: ''\n    size: 0\n  label_encoder.onnx:",
        );
        assert!(refusal(&dir).contains("`../extra.bin`"));

        edit_manifest(&dir, "  ../extra.bin:\n    sha256: ''\n    size: 0\n", "");
        edit_manifest(&dir, "default_steps: 4", "default_steps: 1000");
        assert!(refusal(&dir).contains("default_steps is 1000, expected 1 to 999"));

        edit_manifest(&dir, "default_steps: 1000", "default_steps: 999");
        Bundle::load(&dir).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_may_not_lead_out() {
        let (temp, dir) = bundle();
        let outside = temp.path().join("outside.onnx");
        fs::rename(dir.join("denoiser.onnx"), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("denoiser.onnx")).unwrap();
        assert!(refusal(&dir).contains("leads out of the bundle"));

        fs::rename(&outside, dir.join("kept.onnx")).unwrap();
        fs::remove_file(dir.join("denoiser.onnx")).unwrap();
        std::os::unix::fs::symlink("kept.onnx", dir.join("denoiser.onnx")).unwrap();
        Bundle::load(&dir).unwrap();
    }
}
