//! The manifest's own hash, in a file beside it.

use std::path::Path;

use super::{Bundle, MANIFEST_FILE, SEAL_FILE, sha256_hex};
use crate::files::write_bytes;
use crate::{Error, ErrorKind, Result};

/// What [`SEAL_FILE`] says of a manifest: the line that `sha256sum` writes, and `sha256sum -c` checks.
pub(super) fn line(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST_FILE}\n", sha256_hex(manifest))
}

/// Holds a manifest to the content of [`SEAL_FILE`].
///
/// # Errors
/// [`ErrorKind::Bundle`] where it is another one.
pub(super) fn check(manifest: &[u8], seal: &[u8]) -> Result<()> {
    let found = sha256_hex(manifest);
    let words: Vec<_> = seal.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    if words == [found.as_bytes(), MANIFEST_FILE.as_bytes()] {
        return Ok(());
    }
    let message = format!(
        "the manifest was altered: its SHA-256 is {found}, {SEAL_FILE} says otherwise; after an edit that is meant, \
         `ldseg-train seal` makes {SEAL_FILE} anew"
    );
    Err(Error::new(ErrorKind::Bundle, message))
}

/// Writes [`SEAL_FILE`] anew, after an edit of the manifest that is meant.
///
/// # Errors
/// Those of [`Bundle::load`], but for the seal: an edit that makes the manifest wrong is not sealed. [`ErrorKind::Io`] where the
/// file cannot be written.
pub fn seal(dir: &Path) -> Result<()> {
    let (_, manifest) = Bundle::open(dir, false)?;
    write_bytes(&dir.join(SEAL_FILE), line(&manifest).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{test_support, write_bundle};
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_manifest_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        write_bundle(&dir, test_support::manifest(), &test_support::files()).unwrap();
        let (manifest, hash) = (dir.join(MANIFEST_FILE), dir.join(SEAL_FILE));
        let (bytes, line) = (fs::read(&manifest).unwrap(), fs::read(&hash).unwrap());
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped, &line).is_err(), "bit {bit}");
        }
        for bit in 0..8 * (line.len() - 1) {
            let mut flipped = line.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A space may become another blank.
            assert!(check(&bytes, &flipped).is_err() || (64..66).contains(&(bit / 8)), "bit {bit} of the hash");
        }

        // A class by another name is a valid manifest, and not the one that was written.
        fs::write(&manifest, String::from_utf8(bytes).unwrap().replace("name: cavity", "name: cavitz")).unwrap();
        let error = Bundle::load(&dir).unwrap_err();
        assert!(error.kind() == ErrorKind::Bundle && error.to_string().contains("the manifest was altered"), "{error}");
        seal(&dir).unwrap();
        assert_eq!(Bundle::load(&dir).unwrap().manifest().classes[1].name, "cavitz");

        // Without the file nothing says that the manifest is the one that was written.
        fs::remove_file(&hash).unwrap();
        let error = Bundle::load(&dir).unwrap_err();
        assert!(error.to_string().contains("manifest.sha256: the bundle lacks this file"), "{error}");

        // What no bundle could be is not sealed.
        fs::write(&manifest, "format_version: 1\n").unwrap();
        assert_eq!(seal(&dir).unwrap_err().kind(), ErrorKind::Bundle);
        assert!(!hash.exists());
    }

    #[test]
    fn no_control_character_of_a_manifest_gets_out() {
        for text in ["a\u{1b}[31mb", "a\u{9b}31m", "a\nb", "a\u{202e}b"] {
            let mut named = test_support::manifest();
            named.name = text.into();
            let mut classes = test_support::manifest();
            classes.classes[1].name = text.into();
            let mut recipe = test_support::manifest();
            recipe.provenance.recipe = text.into();
            for wrong in [named, classes, recipe] {
                let error = wrong.validate().unwrap_err();
                let message = error.to_string();
                assert!(message.contains("control character"), "{message}");
                assert!(!message.chars().any(char::is_control), "{message:?}");
            }
        }
        // Nor by way of the parser's words about it.
        let error = Error::new(ErrorKind::Bundle, "unknown field `\u{1b}]0;title\u{7}`");
        assert_eq!(error.to_string(), "unknown field `\\u{1b}]0;title\\u{7}`");
    }
}
