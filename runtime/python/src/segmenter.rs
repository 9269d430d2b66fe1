//! The segmenter.

use std::path::PathBuf;
use std::sync::Mutex;

use ldseg::diffusion::Sampler;
use ldseg::engine::EngineOptions;
use ldseg::image::Image;
use ldseg::segmenter::{SegmentOptions, Segmenter as Loaded};
use ldseg::{Error, ErrorKind};
use ldseg_recording::segment_image;
use pyo3::prelude::*;

use crate::array::{Spacing, intensities};
use crate::exception;
use crate::segmentation::{Class, Segmentation};

/// A loaded bundle, ready to segment. Threads may share it: they wait for each other.
#[pyclass(frozen, module = "ldseg")]
pub(crate) struct Segmenter {
    loaded: Mutex<Loaded>,
    bundle: PathBuf,
    axes: usize,
    #[pyo3(get)]
    classes: Vec<Class>,
}

#[pymethods]
impl Segmenter {
    #[new]
    #[pyo3(signature = (bundle, engine = "tract", device = "cpu", threads = None, ort_library = None))]
    fn new(
        py: Python<'_>,
        bundle: PathBuf,
        engine: &str,
        device: &str,
        threads: Option<usize>,
        ort_library: Option<PathBuf>,
    ) -> PyResult<Self> {
        let options = EngineOptions::named(Some(engine), Some(device), threads).map_err(exception)?;
        let options = EngineOptions { ort_library, ..options };
        let loaded = py.detach(|| Loaded::load(&bundle, &options)).map_err(exception)?;
        let manifest = loaded.manifest();
        let (axes, classes) = (manifest.spatial_axes, manifest.classes.iter().map(Class::new).collect());
        Ok(Self { loaded: Mutex::new(loaded), bundle, axes, classes })
    }

    #[pyo3(signature = (
        image, spacing = None, sampler = None, steps = None, samples = 1, seed = 0, frame = 0
    ))]
    #[expect(clippy::too_many_arguments, reason = "all but the image are keywords in Python")]
    fn segment(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        spacing: Option<Spacing>,
        sampler: Option<&str>,
        steps: Option<usize>,
        samples: usize,
        seed: u64,
        frame: u64,
    ) -> PyResult<Segmentation> {
        let data = intensities(image, self.axes)?;
        let spacing = spacing.map(|spacing| spacing.along(self.axes));
        let sampler = sampler.map(str::parse::<Sampler>).transpose().map_err(exception)?;
        let segment = || {
            let image = Image::from_array(data, spacing.as_deref())?;
            let mut loaded = self.loaded.lock().map_err(|_| {
                let message = "an earlier call panicked: the bundle has to be loaded anew";
                Error::new(ErrorKind::Engine, message)
            })?;
            let options = SegmentOptions::completed(loaded.manifest(), sampler, steps)?;
            segment_image(&mut loaded, image, &SegmentOptions { samples, seed, frame, ..options })
        };
        let (found, answer) = py.detach(segment).map_err(exception)?;
        Ok(Segmentation::new(py, found, answer, self.classes.clone()))
    }

    fn __repr__(&self) -> String {
        format!("Segmenter({:?})", self.bundle)
    }
}
