//! The segmenter.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ldseg::bundle::{Bundle, DENOISER, IMAGE_ENCODER, LABEL_DECODER};
use ldseg::diffusion::Sampler;
use ldseg::engine::{EngineOptions, Network, same_process};
use ldseg::image::Image;
use ldseg::segmenter::{SegmentOptions, Segmenter as Loaded};
use ldseg::{Error, ErrorKind, Tensor};
use ldseg_recording::segment_image;
use pyo3::prelude::*;

use crate::array::{Spacing, intensities};
use crate::exception;
use crate::segmentation::{Class, Segmentation};

/// How often a call looks for signals, such as Ctrl-C, at most: each time it waits for the interpreter's lock.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(50);

/// The exception that a signal's handler raised, KeyboardInterrupt as a rule.
type Raised = Arc<Mutex<Option<PyErr>>>;

/// A network that looks for signals before it runs: between steps, windows and samples.
struct Interruptible {
    network: Box<dyn Network>,
    looked: Instant,
    raised: Raised,
}

impl Network for Interruptible {
    fn max_batch(&self) -> usize {
        self.network.max_batch()
    }

    fn run(&mut self, inputs: &[&Tensor]) -> ldseg::Result<Vec<Tensor>> {
        if self.looked.elapsed() >= BETWEEN_SIGNALS {
            self.looked = Instant::now();
            if let Err(raised) = Python::attach(|py| py.check_signals()) {
                *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(raised);
                return Err(Error::new(ErrorKind::Engine, "interrupted by a signal"));
            }
        }
        self.network.run(inputs)
    }
}

/// A loaded bundle, ready to segment. Threads may share it: they wait for each other.
#[pyclass(frozen, module = "ldseg")]
pub(crate) struct Segmenter {
    loaded: Mutex<Loaded>,
    raised: Raised,
    /// That loaded it.
    process: u32,
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
        let raised = Raised::default();
        let load = || {
            let read = Bundle::load(&bundle)?;
            let network = |name: &str| -> ldseg::Result<Box<dyn Network>> {
                let network = read.load_network(name, &options)?;
                Ok(Box::new(Interruptible { network, looked: Instant::now(), raised: raised.clone() }))
            };
            let [encoder, denoiser, decoder] = [network(IMAGE_ENCODER)?, network(DENOISER)?, network(LABEL_DECODER)?];
            Loaded::from_networks(read.manifest().clone(), encoder, denoiser, decoder)
        };
        let loaded = py.detach(load).map_err(exception)?;
        let manifest = loaded.manifest();
        let (axes, classes) = (manifest.spatial_axes, manifest.classes.iter().map(Class::new).collect());
        Ok(Self { loaded: Mutex::new(loaded), raised, process: std::process::id(), bundle, axes, classes })
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
        // Before the lock, which a thread may hold that is not in a fork.
        same_process(self.process).map_err(exception)?;
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
        let answer = py.detach(segment);
        if answer.is_err()
            && let Some(raised) = self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Err(raised);
        }
        let (found, answer) = answer.map_err(exception)?;
        Ok(Segmentation::new(py, found, answer, self.classes.clone()))
    }

    fn __repr__(&self) -> String {
        format!("Segmenter({:?})", self.bundle)
    }
}
