//! How voxel spacing decides the grid that the network sees.

use serde::{Deserialize, Serialize};

use super::check_axes;
use crate::image::Image;
use crate::{Error, ErrorKind, Result};

/// Most voxels of a resampled grid, channels aside.
const MAX_VOXELS: f64 = (1_u64 << 29) as f64;

/// How the file's voxel spacing is honoured. In a manifest or recipe: `stretch` or `{resample: [1.0, 0.5, 0.5]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum SpacingPolicy {
    /// The whole image is stretched to the input size; spacing plays no part.
    Stretch,
    /// The image is resampled to this spacing in mm along each axis, slowest first, and segmented in windows of the input
    /// size (see [`crate::windows`]). A picture's pixels, whose file tells no spacing, count as 1 mm wide.
    Resample(Vec<f64>),
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
}

impl From<Written> for SpacingPolicy {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(Name::Stretch) => Self::Stretch,
            Written::Target(target) => Self::Resample(target.resample),
        }
    }
}

impl From<SpacingPolicy> for Written {
    fn from(policy: SpacingPolicy) -> Self {
        match policy {
            SpacingPolicy::Stretch => Self::Name(Name::Stretch),
            SpacingPolicy::Resample(resample) => Self::Target(Target { resample }),
        }
    }
}

impl SpacingPolicy {
    /// What keeps it from being a policy for images with `axes` spatial axes.
    pub fn problem(&self, axes: usize) -> Option<String> {
        let Self::Resample(spacing) = self else { return None };
        let positive = spacing.iter().all(|mm| mm.is_finite() && *mm > 0.0);
        (spacing.len() != axes || !positive)
            .then(|| format!("spacing: resample is {spacing:?}, expected {axes} positive numbers"))
    }

    /// What the user has to know where an image's spacing is `unknown`: to resample it, 1 mm is taken.
    pub fn note(&self, unknown: bool) -> Option<String> {
        match self {
            Self::Resample(target) if unknown => Some(format!(
                "its spacing is not known, and 1 mm is taken for it, as the bundle resamples to {target:?} mm"
            )),
            _ => None,
        }
    }

    /// The grid that an image is resampled to before the network, with an input of `input_size`, sees it: that size
    /// itself, or what the image measures in voxels of the policy's spacing, rounded.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the image has another number of spatial axes than the network, or where the grid
    /// would have an absurd size.
    pub fn grid(&self, image: &Image, input_size: &[usize]) -> Result<Vec<usize>> {
        check_axes(image, input_size.len())?;
        let Self::Resample(target) = self else { return Ok(input_size.to_vec()) };
        let spacing = image.spacing_or_ones();
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
        ] {
            assert_eq!(yaml_serde::from_str::<SpacingPolicy>(text).unwrap(), policy);
            assert_eq!(
                yaml_serde::from_str::<SpacingPolicy>(&yaml_serde::to_string(&policy).unwrap()).unwrap(),
                policy
            );
        }
        for text in ["squeeze", "resample", "{resample: [1.0], more: 1}", "{resample: fine}", "[1.0, 1.0]"] {
            let error = yaml_serde::from_str::<SpacingPolicy>(text).unwrap_err().to_string();
            assert!(error.contains("expected stretch, or the spacing"), "{text}: {error}");
        }
        let problem = |spacing: &[f64]| SpacingPolicy::Resample(spacing.to_vec()).problem(2);
        assert_eq!(problem(&[1.0, 0.5]), None);
        assert!([&[1.0][..], &[1.0; 3], &[0.0, 1.0], &[f64::NAN, 1.0]].iter().all(|wrong| problem(wrong).is_some()));
    }

    #[test]
    fn an_unknown_spacing_is_noted_where_it_counts() {
        let resample = SpacingPolicy::Resample(vec![1.0, 0.5, 0.5]);
        assert!(resample.note(true).is_some_and(|note| note.contains("1 mm is taken")));
        assert_eq!((resample.note(false), SpacingPolicy::Stretch.note(true)), (None, None));
    }
}
