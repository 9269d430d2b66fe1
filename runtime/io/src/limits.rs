//! What one input may ask for.

use std::fs;
use std::path::Path;

use ldseg::{Error, ErrorKind, Result};

/// Bytes of a sample in memory once it is a value: f32.
const VALUE: usize = 4;

/// Bounds on one input. What a file's header asks for is checked against them before memory is asked for, and what comes out
/// of a decoder while it decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Samples (pixels or voxels times channels) of one picture, frame or volume.
    pub frame_samples: usize,
    /// Pixels or voxels of it, whatever its channels.
    pub frame_pixels: usize,
    /// Frames of a cine.
    pub frames: usize,
    /// Bytes that a file takes in memory: as it is stored where it is read as a whole, and decoded.
    pub decoded_bytes: usize,
    /// How deep DICOM sequences may lie in one another.
    pub depth: usize,
}

impl Default for Limits {
    /// 2^28 samples a frame (16384 x 16384 grey, 512 x 512 x 1024), 10,000 frames, 2 GiB decoded, 64 sequences deep.
    fn default() -> Self {
        Self { frame_samples: 1 << 28, frame_pixels: 1 << 28, frames: 10_000, decoded_bytes: 2 << 30, depth: 64 }
    }
}

impl Limits {
    /// What is left beside so many bytes.
    pub(crate) fn without(&self, bytes: usize) -> Self {
        Self { decoded_bytes: self.decoded_bytes.saturating_sub(bytes), ..*self }
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where it cannot be read, [`ErrorKind::Format`] where it is longer than what may be decoded.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let unreadable = |e| Error::with_source(ErrorKind::Io, "cannot be read", e);
        let length = fs::metadata(path).map_err(unreadable)?.len();
        if length > self.decoded_bytes as u64 {
            let most = self.decoded_bytes >> 20;
            return Err(Error::new(ErrorKind::Format, format!("has {length} bytes, expected at most {most} MiB")));
        }
        fs::read(path).map_err(unreadable)
    }

    /// Checks a picture or volume of so many samples, each stored in `size` bytes until it becomes a value.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where it is empty, or a limit is passed.
    pub(crate) fn check_still(&self, axes: &[usize], channels: usize, size: usize) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Format, message));
        if axes.contains(&0) || channels == 0 {
            return fail(format!("is empty: its size is {axes:?}, expected 1 or more each"));
        }
        let pixels = axes.iter().try_fold(1_usize, |pixels, &axis| pixels.checked_mul(axis));
        if pixels.is_none_or(|pixels| pixels > self.frame_pixels) {
            let most = self.frame_pixels;
            return fail(format!("has size {axes:?}, expected at most {most} pixels or voxels"));
        }
        let samples = axes.iter().try_fold(channels, |samples, &axis| samples.checked_mul(axis));
        let Some(samples) = samples.filter(|samples| *samples <= self.frame_samples) else {
            let most = self.frame_samples;
            return fail(format!("has size {axes:?} with {channels} channels, expected at most {most} samples"));
        };
        if samples.checked_mul(size + VALUE).is_none_or(|bytes| bytes > self.decoded_bytes) {
            let most = self.decoded_bytes >> 20;
            return fail(format!("has size {axes:?} with {channels} channels, which takes more than {most} MiB"));
        }
        Ok(())
    }

    /// Checks `frames` frames of `[height, width, channels]`, each sample `size` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where a frame is empty, or a limit is passed.
    pub(crate) fn check(&self, frames: usize, shape: [usize; 3], size: usize) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Format, message));
        let [height, width, channels] = shape;
        if shape.contains(&0) {
            return fail(format!("is empty: its size is {width} x {height} pixels, expected 1 or more each"));
        }
        let samples = shape.iter().try_fold(1_usize, |samples, &axis| samples.checked_mul(axis));
        let Some(samples) = samples.filter(|samples| *samples <= self.frame_samples) else {
            let most = self.frame_samples;
            return fail(format!("has frames of {width} x {height} pixels, expected at most {most} samples a frame"));
        };
        if samples / channels > self.frame_pixels {
            let most = self.frame_pixels;
            return fail(format!("has frames of {width} x {height} pixels, expected at most {most}"));
        }
        if frames > self.frames {
            return fail(format!("has {frames} frames, expected at most {}", self.frames));
        }
        match samples.checked_mul(size).and_then(|bytes| bytes.checked_mul(frames)) {
            Some(bytes) if bytes <= self.decoded_bytes => Ok(()),
            _ => fail(format!(
                "has {frames} frames of {width} x {height} pixels, which are more than {} MiB decoded",
                self.decoded_bytes >> 20
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked_without_overflow() {
        let limits = Limits::default();
        limits.check(300, [1080, 1920, 3], 1).unwrap();
        for (frames, shape, size, expected) in [
            (1, [0, 4, 1], 1, "is empty"),
            (1, [usize::MAX, usize::MAX, 3], 2, "samples a frame"),
            (usize::MAX, [4, 4, 1], 1, "frames, expected at most"),
            (1_000, [1080, 1920, 3], 1, "more than 2048 MiB"),
        ] {
            let error = limits.check(frames, shape, size).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        limits.check_still(&[512, 512, 1024], 1, 0).unwrap();
        for (axes, channels, size, expected) in [
            (&[4, 0][..], 1, 1, "is empty"),
            (&[usize::MAX, 2], 1, 1, "expected at most 268435456 pixels or voxels"),
            (&[16_384, 16_385], 1, 1, "expected at most 268435456 pixels or voxels"),
            (&[16_384, 16_384], 3, 1, "with 3 channels, expected at most 268435456 samples"),
            (&[16_384, 16_384], 1, 8, "takes more than 2048 MiB"),
        ] {
            let error = limits.check_still(axes, channels, size).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_only_where_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, [7; 100]).unwrap();
        let limits = Limits { decoded_bytes: 100, ..Limits::default() };
        assert_eq!(limits.read(&path).unwrap().len(), 100);
        let error = limits.without(1).read(&path).unwrap_err();
        assert!(error.kind() == ErrorKind::Format && error.to_string().contains("has 100 bytes"), "{error}");
    }
}
