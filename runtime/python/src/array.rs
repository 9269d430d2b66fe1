//! From a NumPy array to an image.

use ldseg::Tensor;
use ldseg::image::check_samples;
use ndarray::{ArrayViewD, Axis};
use numpy::{PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Pixel or voxel spacing in mm.
#[derive(FromPyObject)]
pub(crate) enum Spacing {
    /// The same along every axis.
    Same(f64),
    /// Along each axis, slowest first.
    Each(Vec<f64>),
}

impl Spacing {
    /// A number for each of the axes.
    pub(crate) fn along(self, axes: usize) -> Vec<f64> {
        match self {
            Self::Same(mm) => vec![mm; axes],
            Self::Each(all) => all,
        }
    }
}

/// The intensities `[C, H, W]` or `[C, D, H, W]` of an array `[H, W]`, `[H, W, C]`, `[D, H, W]` or `[D, H, W, C]`, of
/// uint8, uint16 or float32. The bundle's number of spatial axes tells a picture of several channels from a volume.
pub(crate) fn intensities(array: &Bound<'_, PyAny>, axes: usize) -> PyResult<Tensor> {
    if let Ok(values) = array.extract::<PyReadonlyArrayDyn<'_, u8>>() {
        return planes(values.as_array(), axes, f32::from);
    }
    if let Ok(values) = array.extract::<PyReadonlyArrayDyn<'_, u16>>() {
        return planes(values.as_array(), axes, f32::from);
    }
    if let Ok(values) = array.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        return planes(values.as_array(), axes, |value| value);
    }
    let found = match array.cast::<PyUntypedArray>() {
        Ok(array) => format!("an array of {}", array.dtype()),
        Err(_) => format!("an object of type {}", array.get_type().name()?),
    };
    Err(PyTypeError::new_err(format!("the image is {found}, expected a NumPy array of uint8, uint16 or float32")))
}

fn planes<T: Copy>(array: ArrayViewD<'_, T>, axes: usize, value: impl Fn(T) -> f32) -> PyResult<Tensor> {
    let shape = array.shape().to_vec();
    // A broadcast array has a shape without the memory for it.
    check_samples(&shape).map_err(crate::exception)?;
    let channels_first = if shape.len() == axes {
        array.insert_axis(Axis(0))
    } else if shape.len() == axes + 1 {
        let order: Vec<usize> = std::iter::once(axes).chain(0..axes).collect();
        array.permuted_axes(order)
    } else {
        let size = if axes == 2 { "H, W" } else { "D, H, W" };
        let message = format!("the image has shape {shape:?}, expected [{size}] or [{size}, C]");
        return Err(PyValueError::new_err(message));
    };
    let values: Vec<f32> = channels_first.iter().map(|&v| value(v)).collect();
    Tensor::from_shape_vec(channels_first.shape(), values).map_err(|e| PyValueError::new_err(e.to_string()))
}
