//! A part of a picture.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use serde::Serialize;

use super::{Geometry, Image};
use crate::{Error, ErrorKind, Result};

/// A box of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Number of rows, at least 1.
    pub height: usize,
    /// Number of columns, at least 1.
    pub width: usize,
}

impl Region {
    /// The part of a picture `[C, H, W]` that the box holds.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where it reaches beyond the picture.
    pub fn crop(&self, image: &Image) -> Result<Image> {
        let [_, rows, columns] = *image.data.shape() else { return Err(self.beyond(image.data.shape())) };
        if self.top + self.height > rows || self.left + self.width > columns {
            return Err(self.beyond(image.data.shape()));
        }
        let data = image
            .data
            .slice_axis(Axis(1), Slice::from(self.top..self.top + self.height))
            .slice_axis(Axis(2), Slice::from(self.left..self.left + self.width))
            .to_owned();
        let geometry =
            image.spacing().map_or_else(Geometry::default, |spacing| Geometry::with_spacing(spacing.to_vec()));
        Ok(Image { data, geometry })
    }

    /// `part` `[..., h, w]` in a larger array `[..., H, W]` that holds `outside` around it.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the part has another size than the box, or the box does not fit.
    pub fn paste<A: Clone>(&self, part: &ArrayD<A>, [rows, columns]: [usize; 2], outside: A) -> Result<ArrayD<A>> {
        let axes = part.ndim();
        let fits = self.top + self.height <= rows && self.left + self.width <= columns;
        if axes < 2 || part.shape()[axes - 2..] != [self.height, self.width] || !fits {
            return Err(self.beyond(part.shape()));
        }
        let shape = [&part.shape()[..axes - 2], &[rows, columns]].concat();
        let mut whole = ArrayD::from_elem(IxDyn(&shape), outside);
        whole
            .slice_axis_mut(Axis(axes - 2), Slice::from(self.top..self.top + self.height))
            .slice_axis_mut(Axis(axes - 1), Slice::from(self.left..self.left + self.width))
            .assign(part);
        Ok(whole)
    }

    fn beyond(&self, shape: &[usize]) -> Error {
        Error::new(ErrorKind::ShapeMismatch, format!("the part {self:?} does not fit an array of {shape:?}"))
    }
}
