//! What segmenting one image may take.

use crate::bundle::Manifest;
use crate::image::Image;
use crate::preprocess::SpacingPolicy;
use crate::windows::Windows;
use crate::{Error, ErrorKind, Result};

/// Bounds on segmenting one image, checked before memory is asked for or a network runs. A header of a few bytes may ask for a
/// lot: of large pixels, a small picture makes a large grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of memory, the image included.
    pub bytes: usize,
    /// Windows that the image is cut into.
    pub windows: usize,
    /// How many times as many voxels as the image the grid may have that it is resampled to, where that takes several windows.
    pub enlargement: usize,
}

impl Default for Budget {
    /// 4 GiB, 4096 windows, 16 times the voxels.
    fn default() -> Self {
        Self { bytes: 4 << 30, windows: 4096, enlargement: 16 }
    }
}

impl Budget {
    /// Voxels of the largest image that fits, where it is not resampled to more of them, and so many samples are kept.
    pub fn voxels(&self, manifest: &Manifest, kept: usize) -> usize {
        let resampled = usize::from(manifest.spacing != SpacingPolicy::Stretch);
        let a_voxel = bytes(manifest, kept, 1, resampled, false);
        (self.bytes as f64 / a_voxel) as usize
    }

    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the image asks for more, or for an absurd grid; it says for how much, and what to do.
    pub(crate) fn check(&self, manifest: &Manifest, image: &Image, kept: usize) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::ShapeMismatch, message));
        let grid = manifest.spacing.grid(image, &manifest.input_size)?;
        let (stored, resampled): (usize, usize) = (image.data.shape()[1..].iter().product(), grid.iter().product());
        let windows = Windows::count_over(&grid, &manifest.input_size);
        if windows > 1 && resampled / self.enlargement > stored {
            return fail(format!(
                "with a spacing of {:?} mm it would be enlarged from {stored} voxels to {resampled} to be segmented, expected {} \
                 times as many at most: is the spacing right?",
                image.spacing_or_ones(),
                self.enlargement
            ));
        }
        if windows > self.windows {
            return fail(format!("would be cut into {windows} windows, expected at most {}", self.windows));
        }
        let turned = !manifest.orientation().turn(&image.geometry).is_none();
        let bytes = bytes(manifest, kept, stored, resampled, turned);
        if bytes > self.bytes as f64 {
            let (needed, most) = (bytes / f64::from(1 << 20), self.bytes >> 20);
            return fail(format!("would take about {needed:.0} MiB to segment, expected at most {most}"));
        }
        Ok(())
    }
}

/// Memory for an image of so many `stored` voxels that is `resampled` to others: the image as read and as decided, the
/// network's grid, the probabilities in both, of the mean and of each of the `kept` samples, and what is found in them; another
/// copy of what is `turned`.
fn bytes(manifest: &Manifest, kept: usize, stored: usize, resampled: usize, turned: bool) -> f64 {
    let (channels, classes) = (manifest.channels as f64, manifest.classes.len() as f64);
    let maps = classes * (1.0 + kept as f64);
    let again = if turned { channels + maps } else { 0.0 };
    let values = stored as f64 * (2.0 * channels + maps + 3.0 + again) + resampled as f64 * 2.0 * (channels + maps);
    values * size_of::<f32>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::bundle::test_support;
    use crate::image::Geometry;

    #[test]
    fn what_a_header_asks_for_is_refused() {
        let mut manifest = test_support::manifest();
        let image = |size: [usize; 2], mm: f64| Image {
            data: Tensor::zeros(vec![manifest.channels, size[0], size[1]]),
            geometry: Geometry::with_spacing(vec![mm; 2]),
        };
        let (small, large) = (image([60, 60], 50.0), image([200, 100], 1.0));
        let budget = Budget::default();
        budget.check(&manifest, &small, 0).unwrap();
        manifest.spacing = SpacingPolicy::Resample(vec![1.0; 2]);
        let refusal = |budget: Budget, image: &Image| budget.check(&manifest, image, 0).unwrap_err().to_string();
        let text = refusal(budget, &small);
        assert!(text.contains("[50.0, 50.0] mm it would be enlarged from 3600 voxels to 9000000"), "{text}");
        budget.check(&manifest, &large, 0).unwrap();
        let text = refusal(Budget { windows: 3, ..budget }, &large);
        assert!(text.contains("windows, expected at most 3"), "{text}");
        let text = refusal(Budget { bytes: 1 << 20, ..budget }, &large);
        assert!(text.contains("MiB to segment, expected at most 1"), "{text}");
        let most = budget.voxels(&manifest, 0);
        assert!(bytes(&manifest, 0, most, most, false) <= budget.bytes as f64);
        assert!(bytes(&manifest, 0, most + 1, most + 1, false) > budget.bytes as f64);
    }
}
