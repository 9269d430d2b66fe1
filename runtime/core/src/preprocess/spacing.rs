//! How voxel spacing decides the grid that the network sees.

use serde::{Deserialize, Serialize};

use super::check_axes;
use crate::image::Image;
use crate::{Error, ErrorKind, Result};

/// Most voxels of a resampled grid, channels aside.
const MAX_VOXELS: f64 = (1_u64 << 29) as f64;

/// How the file's voxel spacing is honoured. In a manifest or recipe: `stretch`, `{resample: [1.0, 0.5, 0.5]}`, or
/// `{resample: [2.0, 2.0], unit: voxel}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
#[non_exhaustive]
pub enum SpacingPolicy {
    /// The whole image is stretched to the input size; spacing plays no part.
    Stretch,
    /// The image is resampled to this spacing in mm along each axis, slowest first, and segmented in windows of the input
    /// size (see [`crate::windows`]). An image whose spacing is not known cannot be.
    Resample(Vec<f64>),
    /// The same with so many of the image's own voxels in place of mm, whatever its spacing is.
    ResampleVoxels(Vec<f64>),
}

/// As YAML has it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected stretch, or the spacing in mm along each axis like {resample: [1.0, 0.5, 0.5]}"
)]
enum Written {
    Name(Name),
    Target(Target),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Stretch,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    resample: Vec<f64>,
    #[serde(default, skip_serializing_if = "Unit::is_mm")]
    unit: Unit,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    #[default]
    Mm,
    Voxel,
}

impl Unit {
    fn is_mm(&self) -> bool {
        *self == Self::Mm
    }
}

impl From<Written> for SpacingPolicy {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(Name::Stretch) => Self::Stretch,
            Written::Target(Target { resample, unit: Unit::Mm }) => Self::Resample(resample),
            Written::Target(Target { resample, unit: Unit::Voxel }) => Self::ResampleVoxels(resample),
        }
    }
}

impl From<SpacingPolicy> for Written {
    fn from(policy: SpacingPolicy) -> Self {
        match policy {
            SpacingPolicy::Stretch => Self::Name(Name::Stretch),
            SpacingPolicy::Resample(resample) => Self::Target(Target { resample, unit: Unit::Mm }),
            SpacingPolicy::ResampleVoxels(resample) => Self::Target(Target { resample, unit: Unit::Voxel }),
        }
    }
}

impl SpacingPolicy {
    /// What keeps it from being a policy for images with `axes` spatial axes.
    pub fn problem(&self, axes: usize) -> Option<String> {
        let (Self::Resample(spacing) | Self::ResampleVoxels(spacing)) = self else { return None };
        let positive = spacing.iter().all(|mm| mm.is_finite() && *mm > 0.0);
        (spacing.len() != axes || !positive)
            .then(|| format!("spacing: resample is {spacing:?}, expected {axes} positive numbers"))
    }

    /// The same numbers, in the image's own voxels.
    pub fn in_voxels(self) -> Self {
        match self {
            Self::Resample(target) => Self::ResampleVoxels(target),
            other => other,
        }
    }

    /// The grid that an image is resampled to before the network, with an input of `input_size`, sees it: that size
    /// itself, or what the image measures in voxels of the policy's spacing, rounded.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the image has another number of spatial axes than the network, or where the grid
    /// would have an absurd size; [`ErrorKind::Format`] where its spacing is needed and not known.
    pub fn grid(&self, image: &Image, input_size: &[usize]) -> Result<Vec<usize>> {
        check_axes(image, input_size.len())?;
        let (target, spacing) = match self {
            Self::Stretch => return Ok(input_size.to_vec()),
            Self::ResampleVoxels(target) => (target, vec![1.0; input_size.len()]),
            Self::Resample(target) => {
                let spacing = image.spacing().ok_or_else(|| {
                    // At a guessed scale it would be segmented wrongly.
                    let message = format!(
                        "its spacing is not known, and the bundle resamples to {target:?} mm: expected a spacing"
                    );
                    Error::new(ErrorKind::Format, message)
                })?;
                (target, spacing.to_vec())
            }
        };
        let size = image.data.shape()[1..].iter().zip(&spacing).zip(target);
        let size: Vec<f64> = size.map(|((&n, from), to)| (n as f64 * from / to).round().max(1.0)).collect();
        let voxels = size.iter().product::<f64>();
        if voxels.is_nan() || voxels > MAX_VOXELS {
            let (found, expected) = (&spacing, target);
            let message = format!(
                "with a spacing of {found:?} mm it would have {size:?} voxels of the bundle's {expected:?} mm, expected \
                 {MAX_VOXELS} at most"
            );
            return Err(Error::new(ErrorKind::ShapeMismatch, message));
        }
        Ok(size.into_iter().map(|n| n as usize).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::image::Geometry;

    fn image(size: &[usize], spacing: &[f64]) -> Image {
        let data = Tensor::zeros([&[1], size].concat());
        Image { data, geometry: Geometry::with_spacing(spacing.to_vec()) }
    }

    #[test]
    fn the_grid_keeps_the_extent_in_millimetres() {
        let volume = image(&[10, 40, 30], &[4.0, 0.5, 0.75]);
        let resample = SpacingPolicy::Resample(vec![2.0, 1.0, 0.9]);
        assert_eq!(resample.grid(&volume, &[8, 8, 8]).unwrap(), [20, 20, 25]);
        assert_eq!(SpacingPolicy::Stretch.grid(&volume, &[8, 16, 8]).unwrap(), [8, 16, 8]);
        let same = SpacingPolicy::Resample(vec![4.0, 0.5, 0.75]);
        assert_eq!(same.grid(&volume, &[8, 8, 8]).unwrap(), [10, 40, 30]);
        assert_eq!(SpacingPolicy::Resample(vec![999.0; 3]).grid(&volume, &[8, 8, 8]).unwrap(), [1, 1, 1]);
        for refused in [image(&[4, 4], &[1.0; 2]), image(&[9, 9, 9], &[1e300; 3]), image(&[99, 99, 99], &[1e3; 3])] {
            let error = resample.grid(&refused, &[8, 8, 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ShapeMismatch, "{error}");
        }
    }

    #[test]
    fn both_forms_are_read_and_written_and_others_refused() {
        for (text, policy) in [
            ("stretch", SpacingPolicy::Stretch),
            ("resample: [1.0, 0.5, 2.0]", SpacingPolicy::Resample(vec![1.0, 0.5, 2.0])),
            ("{resample: [1.0, 0.5], unit: mm}", SpacingPolicy::Resample(vec![1.0, 0.5])),
            ("{resample: [1.0, 0.5], unit: voxel}", SpacingPolicy::ResampleVoxels(vec![1.0, 0.5])),
        ] {
            assert_eq!(yaml_serde::from_str::<SpacingPolicy>(text).unwrap(), policy);
            assert_eq!(
                yaml_serde::from_str::<SpacingPolicy>(&yaml_serde::to_string(&policy).unwrap()).unwrap(),
                policy
            );
        }
        for text in [
            "squeeze",
            "resample",
            "{resample: [1.0], more: 1}",
            "{resample: [1.0], unit: cm}",
            "{resample: fine}",
            "[1.0, 1.0]",
        ] {
            let error = yaml_serde::from_str::<SpacingPolicy>(text).unwrap_err().to_string();
            assert!(error.contains("expected stretch, or the spacing"), "{text}: {error}");
        }
        let problem = |spacing: &[f64]| SpacingPolicy::Resample(spacing.to_vec()).problem(2);
        assert_eq!(problem(&[1.0, 0.5]), None);
        assert!([&[1.0][..], &[1.0; 3], &[0.0, 1.0], &[f64::NAN, 1.0]].iter().all(|wrong| problem(wrong).is_some()));
    }

    #[test]
    fn an_unknown_spacing_is_refused_where_it_counts() {
        let unknown = Image { data: Tensor::zeros(vec![1, 4, 6, 8]), geometry: Geometry::default() };
        let resample = SpacingPolicy::Resample(vec![2.0, 1.0, 0.5]);
        let error = resample.grid(&unknown, &[8, 8, 8]).unwrap_err();
        assert!(error.kind() == ErrorKind::Format && error.to_string().contains("spacing is not known"), "{error}");
        assert_eq!(SpacingPolicy::Stretch.grid(&unknown, &[8, 8, 8]).unwrap(), [8, 8, 8]);
        // Voxels are counted whatever they measure.
        let voxels = resample.in_voxels();
        assert_eq!(voxels.grid(&unknown, &[8, 8, 8]).unwrap(), [2, 6, 16]);
        assert_eq!(voxels.grid(&image(&[4, 6, 8], &[9.0; 3]), &[8, 8, 8]).unwrap(), [2, 6, 16]);
    }
}
