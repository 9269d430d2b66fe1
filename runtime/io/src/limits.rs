//! What one input may ask for.

use ldseg::{Error, ErrorKind, Result};

/// Bounds on one input. What a file's header asks for is checked against them before memory is asked for, and what comes out
/// of a decoder while it decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Samples (pixels times channels) of one picture or frame.
    pub frame_samples: usize,
    /// Frames of a cine.
    pub frames: usize,
    /// Bytes of all frames together as they are kept, and of an inflated DICOM data set.
    pub decoded_bytes: usize,
    /// How deep DICOM sequences may lie in one another.
    pub depth: usize,
}

impl Default for Limits {
    /// 2^28 samples a frame (16384 x 16384 grey), 100,000 frames, 2 GiB decoded, 64 sequences deep.
    fn default() -> Self {
        Self { frame_samples: 1 << 28, frames: 100_000, decoded_bytes: 2 << 30, depth: 64 }
    }
}

impl Limits {
    /// Checks `frames` frames of `[height, width, channels]`, each sample `size` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where a frame is empty, or a limit is passed.
    pub(crate) fn check(&self, frames: usize, shape: [usize; 3], size: usize) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::Format, message));
        let [height, width, _] = shape;
        if shape.contains(&0) {
            return fail(format!("is empty: its size is {width} x {height} pixels, expected 1 or more each"));
        }
        let samples = shape.iter().try_fold(1_usize, |samples, &axis| samples.checked_mul(axis));
        let Some(samples) = samples.filter(|samples| *samples <= self.frame_samples) else {
            let most = self.frame_samples;
            return fail(format!("has frames of {width} x {height} pixels, expected at most {most} samples a frame"));
        };
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
    }
}
