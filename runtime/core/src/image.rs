//! Images as pixels with geometry, whatever they came from.

mod geometry;
mod memory;
mod region;

pub use geometry::{Affine, GridDifference, Orientation, OrientationPolicy, Turn};
#[doc(hidden)]
pub use memory::{MAX_SAMPLES, check_samples};
pub use region::Region;

use ndarray::{ArrayViewD, Axis, Slice, Zip};

use crate::{Error, ErrorKind, Result, Tensor};

/// Pixels with geometry.
#[derive(Debug, Clone)]
pub struct Image {
    /// Intensities `[C, H, W]` or `[C, D, H, W]`, finite. Of a file they are as stored, after its slope and intercept, and
    /// `C` is 1 or 3; of several files as many.
    pub data: Tensor,
    /// Where the image lies.
    pub geometry: Geometry,
}

/// Where an image lies, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Geometry {
    /// Voxel spacing in mm along each spatial axis, slowest first; `None` where it is not known.
    pub spacing: Option<Vec<f64>>,
    /// From voxel indices, those of the slowest axis first, and a 1 to mm towards the patient's right, front and head
    /// (RAS), one row each; `None` where the image has no place in space.
    pub affine: Option<[[f64; 4]; 3]>,
}

impl Geometry {
    /// Of a known spacing in mm along each spatial axis, slowest first, without a place in space.
    pub fn with_spacing(spacing: Vec<f64>) -> Self {
        Self { spacing: Some(spacing), affine: None }
    }

    /// The same, in a place.
    pub fn placed(self, affine: [[f64; 4]; 3]) -> Self {
        Self { affine: Some(affine), ..self }
    }
}

/// A label map `[H, W]` or `[D, H, W]`, class index per voxel.
pub type Labels = ndarray::ArrayD<u8>;

impl Image {
    /// Number of spatial axes, 2 or 3.
    pub fn spatial_axes(&self) -> usize {
        self.data.ndim() - 1
    }

    /// Voxel spacing in mm along each spatial axis, slowest first; `None` where it is not known.
    pub fn spacing(&self) -> Option<&[f64]> {
        self.geometry.spacing.as_deref()
    }

    /// The spacing, or 1 along every axis where it is not known: lengths are then in voxels, not in mm.
    pub fn spacing_or_ones(&self) -> Vec<f64> {
        self.geometry.spacing.clone().unwrap_or_else(|| vec![1.0; self.spatial_axes()])
    }

    /// The intensities with so many channels, e.g. 1 (grey) or 3 (RGB). A colour image whose channels are all equal
    /// counts as grey.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the image has another number of channels.
    pub fn with_channels(&self, channels: usize) -> Result<ArrayViewD<'_, f32>> {
        let found = self.data.shape()[0];
        if found == channels {
            return Ok(self.data.view());
        }
        let grey = self.data.slice_axis(Axis(0), Slice::from(0..1));
        if channels == 1 && self.data.axis_iter(Axis(0)).all(|plane| plane == grey.index_axis(Axis(0), 0)) {
            return Ok(grey);
        }
        let what = match found {
            1 => "1 grey channel".into(),
            3 => "3 colour channels".into(),
            _ => format!("{found} channels"),
        };
        Err(Error::new(ErrorKind::ShapeMismatch, format!("has {what}, the bundle expects {channels}")))
    }

    /// Whether it is in colour: channels that are all equal are none.
    pub fn is_coloured(&self) -> bool {
        self.data.shape()[0] == 3 && self.with_channels(1).is_err()
    }

    /// The image with one channel: colour is replaced by its luminance (ITU-R BT.601), and of channels that are all equal
    /// one is kept. Other images are left as they are.
    pub fn into_grey(mut self) -> Self {
        if self.data.shape()[0] != 3 {
            return self;
        }
        if let Ok(grey) = self.with_channels(1) {
            self.data = grey.to_owned();
            return self;
        }
        let plane = |c| self.data.index_axis(Axis(0), c);
        let mut grey = Tensor::zeros(plane(0).raw_dim());
        Zip::from(&mut grey)
            .and(plane(0))
            .and(plane(1))
            .and(plane(2))
            .for_each(|grey, &r, &g, &b| *grey = luminance([r, g, b]));
        self.data = grey.insert_axis(Axis(0));
        self
    }
}

/// Luminance of R, G and B (ITU-R BT.601).
pub fn luminance([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    #[test]
    fn equal_colour_channels_count_as_grey() {
        let data = Tensor::from_shape_fn(IxDyn(&[3, 2, 2]), |i| (i[1] * 2 + i[2]) as f32);
        let mut image = Image { data, geometry: Geometry::default() };
        assert_eq!(image.with_channels(1).unwrap().shape(), [1, 2, 2]);
        assert_eq!(image.with_channels(3).unwrap().shape(), [3, 2, 2]);
        image.data[[2, 1, 1]] += 1.0;
        let error = image.with_channels(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
        assert_eq!(error.to_string(), "has 3 colour channels, the bundle expects 1");
        assert!(image.is_coloured());
        assert_eq!(image.clone().into_grey().data.shape(), [1, 2, 2]);
        image.data = Tensor::zeros(IxDyn(&[1, 2, 2]));
        assert_eq!(image.with_channels(3).unwrap_err().to_string(), "has 1 grey channel, the bundle expects 3");
    }

    #[test]
    fn colour_becomes_luminance() {
        let colour = |pixel: [f32; 3]| Image {
            data: Tensor::from_shape_fn(IxDyn(&[3, 1, 1]), |i| pixel[i[0]]),
            geometry: Geometry::default(),
        };
        assert_eq!(colour([200.0, 100.0, 50.0]).into_grey().data[[0, 0, 0]], 124.2);
        assert_eq!(colour([7.0; 3]).into_grey().data.as_slice().unwrap(), [7.0]);
    }
}
