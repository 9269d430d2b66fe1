//! What segmenting gives.

use ldseg::segmenter::{Segmentation as Result, Timings};
use ldseg_recording::heart::Ventricle;
use numpy::{IntoPyArray, PyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A class of the bundle.
#[pyclass(frozen, get_all, module = "ldseg")]
#[derive(Clone)]
pub(crate) struct Class {
    name: String,
    colour: (u8, u8, u8),
}

impl Class {
    pub(crate) fn new(class: &ldseg::bundle::Class) -> Self {
        let [r, g, b] = class.colour;
        Self { name: class.name.clone(), colour: (r, g, b) }
    }
}

#[pymethods]
impl Class {
    fn __repr__(&self) -> String {
        format!("Class(name={:?}, colour={:?})", self.name, self.colour)
    }
}

/// One image's segmentation, in the image's own grid.
#[pyclass(frozen, module = "ldseg")]
pub(crate) struct Segmentation {
    labels: Py<PyArrayDyn<u8>>,
    probabilities: Py<PyArrayDyn<f32>>,
    uncertainty: Py<PyArrayDyn<f32>>,
    #[pyo3(get)]
    classes: Vec<Class>,
    #[pyo3(get)]
    steps: usize,
    measurements: Option<Ventricle>,
    timings: Timings,
}

impl Segmentation {
    /// NumPy takes the arrays over as they are.
    pub(crate) fn new(py: Python<'_>, result: Result, classes: Vec<Class>, measurements: Option<Ventricle>) -> Self {
        Self {
            labels: result.labels.into_pyarray(py).unbind(),
            probabilities: result.probabilities.into_pyarray(py).unbind(),
            uncertainty: result.uncertainty.into_pyarray(py).unbind(),
            classes,
            steps: result.steps,
            measurements,
            timings: result.timings,
        }
    }
}

#[pymethods]
impl Segmentation {
    #[getter]
    fn labels(&self, py: Python<'_>) -> Py<PyArrayDyn<u8>> {
        self.labels.clone_ref(py)
    }

    #[getter]
    fn probabilities(&self, py: Python<'_>) -> Py<PyArrayDyn<f32>> {
        self.probabilities.clone_ref(py)
    }

    #[getter]
    fn uncertainty(&self, py: Python<'_>) -> Py<PyArrayDyn<f32>> {
        self.uncertainty.clone_ref(py)
    }

    #[getter]
    fn measurements<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(measured) = &self.measurements else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("area_cm2", measured.area_cm2)?;
        dict.set_item("long_axis_mm", measured.long_axis_mm)?;
        dict.set_item("volume_ml", measured.volume_ml)?;
        Ok(Some(dict))
    }

    #[getter]
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Timings { preprocess, image_encoder, denoiser, label_decoder, postprocess } = self.timings;
        let dict = PyDict::new(py);
        for (name, time) in [
            ("preprocess", preprocess),
            ("image_encoder", image_encoder),
            ("denoiser", denoiser),
            ("label_decoder", label_decoder),
            ("postprocess", postprocess),
        ] {
            dict.set_item(name, time.as_secs_f64())?;
        }
        Ok(dict)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let names: Vec<_> = self.classes.iter().map(|class| class.name.as_str()).collect();
        Ok(format!("Segmentation(shape={}, classes={names:?})", self.labels.bind(py).getattr("shape")?))
    }
}
