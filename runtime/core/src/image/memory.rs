//! Images that come from memory instead of a file.

use super::{Geometry, Image};
use crate::{Error, ErrorKind, Result, Tensor};

/// Most samples of an image in memory: 2 GiB as f32. An array that claims more is a view of fewer, or a mistake.
pub const MAX_SAMPLES: usize = 1 << 29;

/// Checks the number of samples before they are copied.
///
/// # Errors
/// [`ErrorKind::ShapeMismatch`] for more than [`MAX_SAMPLES`].
pub fn check_samples(shape: &[usize]) -> Result<()> {
    let samples = shape.iter().try_fold(1_usize, |samples, &axis| samples.checked_mul(axis));
    if samples.is_some_and(|samples| samples <= MAX_SAMPLES) {
        return Ok(());
    }
    let message = format!("the image has shape {shape:?}, expected at most {MAX_SAMPLES} values");
    Err(Error::new(ErrorKind::ShapeMismatch, message))
}

impl Image {
    /// An image of intensities in memory, without a position in space.
    ///
    /// # Shapes
    /// `data` `[C, H, W]` or `[C, D, H, W]`, all values finite; `spacing` in mm along each spatial axis,
    /// slowest first, `None` where it is not known.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] for other shapes, an axis of no voxels, or another number of spacings;
    /// [`ErrorKind::Format`] for a value that isn't finite, [`ErrorKind::Setting`] for a spacing that isn't positive.
    pub fn from_array(data: Tensor, spacing: Option<&[f64]>) -> Result<Self> {
        let fail = |kind, message| Err(Error::new(kind, message));
        let shape = data.shape();
        if !matches!(shape.len(), 3 | 4) || shape.contains(&0) {
            let message = format!("the image has shape {shape:?}, expected [C, H, W] or [C, D, H, W]");
            return fail(ErrorKind::ShapeMismatch, message);
        }
        let axes = shape.len() - 1;
        if let Some(spacing) = spacing {
            if spacing.len() != axes {
                let message = format!("the spacing is {spacing:?}, expected one number for each of {axes} axes");
                return fail(ErrorKind::ShapeMismatch, message);
            }
            if !spacing.iter().all(|mm| mm.is_finite() && *mm > 0.0) {
                return fail(ErrorKind::Setting, format!("the spacing is {spacing:?} mm, expected positive numbers"));
            }
        }
        if !data.iter().all(|value| value.is_finite()) {
            return fail(ErrorKind::Format, "the image holds values that are not finite".into());
        }
        Ok(Self { data, geometry: Geometry { spacing: spacing.map(<[f64]>::to_vec), affine: None } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_fits_is_refused_by_its_shape() {
        check_samples(&[3, 1080, 1920]).unwrap();
        for shape in [&[1_000_000, 1_000_000][..], &[usize::MAX, 2, 3]] {
            let error = check_samples(shape).unwrap_err();
            assert!(error.to_string().contains("expected at most 536870912 values"), "{error}");
        }
    }

    #[test]
    fn arrays_are_checked() {
        let image = |shape: &[usize], spacing| Image::from_array(Tensor::zeros(shape), spacing);
        assert_eq!(image(&[1, 2, 3], None).unwrap().spacing(), None);
        assert_eq!(image(&[3, 4, 2, 3], Some(&[3.0, 1.0, 1.0])).unwrap().spacing().unwrap(), [3.0, 1.0, 1.0]);
        fn kind(shape: &[usize], spacing: Option<&[f64]>) -> ErrorKind {
            Image::from_array(Tensor::zeros(shape), spacing).unwrap_err().kind()
        }
        for shape in [&[2, 3][..], &[0, 2, 3], &[1, 0, 3], &[1, 1, 1, 1, 1], &[]] {
            assert_eq!(kind(shape, None), ErrorKind::ShapeMismatch, "{shape:?}");
        }
        assert_eq!(kind(&[1, 2, 3], Some(&[1.0])), ErrorKind::ShapeMismatch);
        for spacing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(kind(&[1, 2, 3], Some(&[1.0, spacing])), ErrorKind::Setting, "{spacing}");
        }
        let error = Image::from_array(Tensor::from_elem(vec![1, 2, 3], f32::NAN), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
    }
}
