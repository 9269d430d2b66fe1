//! Engines run the networks of a bundle.
//!
//! Each engine sees ONNX bytes only, never a path. Same bundle, same input: outputs agree between engines to rounding,
//! and on one engine and machine they are bit-identical from run to run. With tract that holds for any thread count. ONNX
//! Runtime cuts the sums of a convolution or matrix product into blocks whose length depends on each thread's share of
//! the output where that share is small (64 columns or fewer), so there another thread count may change the last bits.

#[cfg(feature = "ort")]
mod ort;
#[cfg(feature = "tract")]
mod tract;

use std::path::{Path, PathBuf};

use crate::onnx::Model;
use crate::spec::with_batch;
pub use crate::spec::{NetworkSpec, TensorSpec};
use crate::{Error, ErrorKind, Result, Tensor};

/// Samples that are run as one batch at most.
pub const MAX_BATCH: usize = 16;

/// One network of a bundle, ready to run.
pub trait Network: Send {
    /// The most samples that one run takes.
    fn max_batch(&self) -> usize {
        MAX_BATCH
    }

    /// Runs it: inputs and outputs in the order of the [`NetworkSpec`], every one with the batch axis first.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] for other shapes than the spec's, [`ErrorKind::Engine`] where the run fails.
    fn run(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>>;
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineKind {
    /// tract, pure Rust.
    Tract,
    /// ONNX Runtime.
    Ort,
}

/// Which processor runs the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// Any CPU.
    Cpu,
    /// NVIDIA CUDA, by ONNX Runtime.
    Cuda,
    /// NVIDIA TensorRT, by ONNX Runtime.
    TensorRt,
    /// Intel OpenVINO, by ONNX Runtime.
    OpenVino,
    /// XNNPACK, by ONNX Runtime.
    Xnnpack,
}

/// How to run networks.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The engine.
    pub engine: EngineKind,
    /// The device.
    pub device: Device,
    /// CPU threads, at least 1.
    pub threads: usize,
    /// Where libonnxruntime is; `None` looks at ORT_DYLIB_PATH, then beside the executable.
    pub ort_library: Option<PathBuf>,
}

impl EngineOptions {
    /// More threads than this are a mistake, and no engine would survive them.
    pub const MAX_THREADS: usize = 1024;

    /// What was asked for by name, e.g. `ort` on `cuda`, completed with the defaults.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] for an unknown name.
    pub fn named(engine: Option<&str>, device: Option<&str>, threads: Option<usize>) -> Result<Self> {
        let default = Self::default();
        Ok(Self {
            engine: engine.map(str::parse).transpose()?.unwrap_or(default.engine),
            device: device.map(str::parse).transpose()?.unwrap_or(default.device),
            threads: threads.unwrap_or(default.threads),
            ort_library: None,
        })
    }
}

/// The default engine of this build (tract where it is compiled in) on the CPU, with all its threads.
impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            engine: if cfg!(feature = "tract") { EngineKind::Tract } else { EngineKind::Ort },
            device: Device::Cpu,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()).min(Self::MAX_THREADS),
            ort_library: None,
        }
    }
}

crate::named!("engine", EngineKind { Tract = "tract", Ort = "ort" });

crate::named!(
    "device",
    Device { Cpu = "cpu", Cuda = "cuda", TensorRt = "tensorrt", OpenVino = "openvino", Xnnpack = "xnnpack" }
);

/// Loads one ONNX network from memory. Error messages call it `name`. The file is read and held to limits before an engine
/// sees it, and written anew for the engine. Every call is checked against `spec`: the shapes of inputs and outputs, and that
/// outputs are finite.
///
/// # Errors
/// [`ErrorKind::Bundle`] where `onnx` is no ONNX file, refers to data outside itself, uses operators that segmentation networks
/// don't use, gives other shapes than `spec` has, or asks for more nodes, memory or multiply-adds than any such network;
/// [`ErrorKind::Engine`] where the engine is not part of this build, the device or library is not there, or the
/// network cannot be loaded or differs from `spec`; [`ErrorKind::Setting`] for a thread count out of range. Never falls
/// back to another engine or device.
pub fn load_network(name: &str, onnx: &[u8], spec: &NetworkSpec, options: &EngineOptions) -> Result<Box<dyn Network>> {
    if !(1..=EngineOptions::MAX_THREADS).contains(&options.threads) {
        return Err(Error::new(
            ErrorKind::Setting,
            format!("threads is {}, expected 1 to {}", options.threads, EngineOptions::MAX_THREADS),
        ));
    }
    let model = Model::read(onnx).map_err(|e| e.in_file(Path::new(name)))?;
    let max_batch = model.largest_batch(spec, MAX_BATCH).map_err(|e| e.in_file(Path::new(name)))?;
    let onnx = model.write();
    drop(model);
    let network: Box<dyn Network> = match options.engine {
        EngineKind::Tract => load_tract(name, &onnx, spec, options)?,
        EngineKind::Ort => load_ort(name, &onnx, spec, options)?,
    };
    let process = std::process::id();
    Ok(Box::new(Checked { process, name: name.to_string(), spec: spec.clone(), max_batch, network }))
}

#[cfg(feature = "tract")]
fn load_tract(name: &str, onnx: &[u8], spec: &NetworkSpec, options: &EngineOptions) -> Result<Box<dyn Network>> {
    if options.device != Device::Cpu {
        return Err(Error::new(
            ErrorKind::Engine,
            format!("engine tract runs on device cpu only, not on {}; try --engine ort", options.device),
        ));
    }
    Ok(Box::new(tract::TractNetwork::load(name, onnx, spec, options.threads)?))
}

#[cfg(not(feature = "tract"))]
fn load_tract(_: &str, _: &[u8], _: &NetworkSpec, _: &EngineOptions) -> Result<Box<dyn Network>> {
    Err(Error::new(ErrorKind::Engine, "this build has no engine tract (cargo feature `tract`)"))
}

#[cfg(feature = "ort")]
fn load_ort(name: &str, onnx: &[u8], spec: &NetworkSpec, options: &EngineOptions) -> Result<Box<dyn Network>> {
    Ok(Box::new(ort::OrtNetwork::load(name, onnx, spec, options)?))
}

#[cfg(not(feature = "ort"))]
fn load_ort(_: &str, _: &[u8], _: &NetworkSpec, _: &EngineOptions) -> Result<Box<dyn Network>> {
    Err(Error::new(ErrorKind::Engine, "this build has no engine ort (cargo feature `ort`)"))
}

/// Whether this is the process `loaded` that a network was loaded in.
///
/// # Errors
/// [`ErrorKind::Engine`] in a child of that process (`fork`): an engine's threads stay behind, and a run would wait for them for
/// ever.
pub fn same_process(loaded: u32) -> Result<()> {
    let process = std::process::id();
    if process == loaded {
        return Ok(());
    }
    let message = format!(
        "the networks were loaded in process {loaded}, of which this one, {process}, is a fork without the engine's threads: \
         load them after the fork"
    );
    Err(Error::new(ErrorKind::Engine, message))
}

/// Holds an engine's network to its spec.
struct Checked {
    process: u32,
    name: String,
    spec: NetworkSpec,
    max_batch: usize,
    network: Box<dyn Network>,
}

impl Network for Checked {
    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn run(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        same_process(self.process)?;
        let batch = inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(0);
        check_shapes(&self.name, "input", &self.spec.inputs, inputs, batch)?;
        if batch > self.max_batch {
            let message = format!("{}: a batch of {batch}, expected {} at most", self.name, self.max_batch);
            return Err(Error::new(ErrorKind::Setting, message));
        }
        let outputs = self.network.run(inputs)?;
        check_shapes(&self.name, "output", &self.spec.outputs, &outputs.iter().collect::<Vec<_>>(), batch)?;
        for (output, spec) in outputs.iter().zip(&self.spec.outputs) {
            if !output.iter().all(|value| value.is_finite()) {
                return Err(Error::new(
                    ErrorKind::Engine,
                    format!("{}: output `{}` holds values that are not finite", self.name, spec.name),
                ));
            }
        }
        Ok(outputs)
    }
}

fn check_shapes(name: &str, side: &str, specs: &[TensorSpec], tensors: &[&Tensor], batch: usize) -> Result<()> {
    let mismatch = |message: String| Err(Error::new(ErrorKind::ShapeMismatch, format!("{name}: {message}")));
    if specs.len() != tensors.len() || batch == 0 {
        return mismatch(format!("expected {} {side}s of at least one sample, found {}", specs.len(), tensors.len()));
    }
    for (spec, tensor) in specs.iter().zip(tensors) {
        let expected = with_batch(spec, batch);
        if tensor.shape() != expected {
            return mismatch(format!("{side} `{}` has shape {:?}, expected {expected:?}", spec.name, tensor.shape()));
        }
    }
    Ok(())
}

/// The C-ordered values of a tensor, copied only where it is not C-ordered.
#[cfg(any(feature = "tract", feature = "ort"))]
fn values(tensor: &Tensor) -> std::borrow::Cow<'_, [f32]> {
    match tensor.as_slice() {
        Some(values) => values.into(),
        None => tensor.iter().copied().collect(),
    }
}

/// The position of each tensor of `specs` among `names`, the ones in the ONNX file.
#[cfg(any(feature = "tract", feature = "ort"))]
fn positions(network: &str, side: &str, specs: &[TensorSpec], names: &[String]) -> Result<Vec<usize>> {
    let found = specs.iter().map(|spec| names.iter().position(|name| *name == spec.name)).collect::<Option<Vec<_>>>();
    found.filter(|found| found.len() == names.len()).ok_or_else(|| {
        let expected: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        Error::new(
            ErrorKind::Engine,
            format!("{network}: the ONNX file's {side}s are {names:?}, the manifest says {expected:?}"),
        )
    })
}

#[cfg(test)]
mod tests;
