//! What segmenting gives.

use ldseg::calibration::Quantity;
use ldseg::segmenter::{Segmentation as Found, Timings};
use ldseg_recording::heart::Measured;
use ldseg_recording::{Answer, ImageKind};
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
    /// What was not taken as it is.
    #[pyo3(get)]
    notes: Vec<String>,
    measured: Measured,
    image_kind: Option<ImageKind>,
    /// Probability with which each interval holds the true value, at least.
    #[pyo3(get)]
    interval_level: Option<f64>,
    timings: Timings,
}

impl Segmentation {
    /// NumPy takes the arrays over as they are.
    pub(crate) fn new(py: Python<'_>, result: Found, answer: Answer, classes: Vec<Class>) -> Self {
        let Answer { measured, image_kind, interval_level, notes, .. } = answer;
        Self {
            labels: result.labels.into_pyarray(py).unbind(),
            probabilities: result.probabilities.into_pyarray(py).unbind(),
            uncertainty: result.uncertainty.into_pyarray(py).unbind(),
            classes,
            steps: result.steps,
            notes,
            image_kind,
            interval_level,
            measured,
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
        let dict = PyDict::new(py);
        let Measured { left_ventricle, left_atrium, intervals, .. } = &self.measured;
        let quantities = [
            [Quantity::LeftVentricleArea, Quantity::LeftVentricleLongAxis, Quantity::LeftVentricleVolume],
            [Quantity::LeftAtriumArea, Quantity::LeftAtriumLongAxis, Quantity::LeftAtriumVolume],
        ];
        let chambers = [("left_ventricle", left_ventricle), ("left_atrium", left_atrium)];
        for ((name, chamber), quantities) in chambers.into_iter().zip(quantities) {
            let Some(measured) = chamber else { continue };
            let of_chamber = PyDict::new(py);
            let values = [
                ("area_cm2", measured.area_cm2),
                ("long_axis_mm", measured.long_axis_mm),
                ("volume_ml", measured.volume_ml),
            ];
            for ((key, value), quantity) in values.into_iter().zip(quantities) {
                of_chamber.set_item(key, value)?;
                if let Some([low, high]) = intervals.get(&quantity) {
                    of_chamber.set_item(format!("{key}_interval"), (*low, *high))?;
                }
            }
            dict.set_item(name, of_chamber)?;
        }
        Ok((!dict.is_empty()).then_some(dict))
    }

    #[getter]
    fn image_kind<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(kind) = self.image_kind else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("score", kind.score)?;
        dict.set_item("threshold", kind.threshold)?;
        dict.set_item("right", kind.right)?;
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
