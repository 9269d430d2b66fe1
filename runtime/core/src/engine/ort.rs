//! ONNX Runtime, loaded at run time from a shared library.

use std::{
    env,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    ep::{self, ExecutionProvider, ExecutionProviderDispatch},
    session::{
        Session, SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{Outlet, TensorElementType, TensorRef},
};

use sha2::{Digest, Sha256};

mod bound;

use bound::Bound;

use super::{Device, EngineOptions, Network, positions, values};
use crate::engine::{NetworkSpec, TensorSpec};
use crate::{Error, ErrorKind, Result, Tensor};

/// The environment variable that names the library.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The first version that limits how long idle threads spin.
const SPINS_BRIEFLY: [u32; 2] = [1, 26];

/// On two cores this is as fast as spinning through a whole run. Not spinning at all is a fifth slower, or a quarter
/// faster beside a program that takes both cores.
const SPIN_MICROSECONDS: &str = "20";

/// A network as an ONNX Runtime session.
pub(super) struct OrtNetwork {
    name: String,
    session: Session,
    spec: NetworkSpec,
    /// Where each output of the spec is in the session.
    outputs: Vec<usize>,
    /// On a device with memory of its own.
    bound: Option<Bound>,
}

impl OrtNetwork {
    /// Loads the library if it isn't yet, then the network onto the device.
    pub(super) fn load(name: &str, onnx: &[u8], spec: &NetworkSpec, options: &EngineOptions) -> Result<Self> {
        let (library, environment) = environment(options)?;
        let provider = provider(options, onnx)?;
        let failed = |e: ort::Error| {
            Error::with_source(ErrorKind::Engine, format!("{name}: cannot load the network with ort"), e)
        };
        let mut builder = configured(&library, &environment, options).map_err(failed)?;
        if let Some(provider) = provider {
            builder = builder.with_execution_providers([provider.error_on_failure()]).map_err(|e| {
                let message =
                    format!("device {} is not available to ONNX Runtime: {}", options.device, e.message().trim());
                Error::new(ErrorKind::Engine, message)
            })?;
        }
        let session = builder.commit_from_memory(onnx).map_err(failed)?;
        check_outlets(name, "input", &spec.inputs, session.inputs())?;
        let outputs = check_outlets(name, "output", &spec.outputs, session.outputs())?;
        let mut network = Self { name: name.to_string(), session, spec: spec.clone(), outputs, bound: None };
        if matches!(options.device, Device::Cuda | Device::TensorRt) {
            network.bind()?;
        }
        Ok(network)
    }

    /// Keeps inputs on the device.
    pub(super) fn bind(&mut self) -> Result<()> {
        let failed = |e: ort::Error| {
            Error::with_source(
                ErrorKind::Engine,
                format!("{}: cannot bind the network's inputs with ort", self.name),
                e,
            )
        };
        self.bound = Some(Bound::new(&self.session, &self.spec).map_err(failed)?);
        Ok(())
    }
}

impl Network for OrtNetwork {
    fn run(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        let failed = |e: ort::Error| {
            Error::with_source(ErrorKind::Engine, format!("{}: cannot run the network with ort", self.name), e)
        };
        if let Some(bound) = &mut self.bound {
            return bound.run(&mut self.session, &self.spec, inputs).map_err(failed);
        }
        let buffers: Vec<_> = inputs.iter().map(|input| (input.shape(), values(input))).collect();
        let mut arguments: Vec<(&str, SessionInputValue)> = Vec::with_capacity(inputs.len());
        for (spec, (shape, values)) in self.spec.inputs.iter().zip(&buffers) {
            arguments.push((&spec.name, TensorRef::from_array_view((*shape, &**values)).map_err(failed)?.into()));
        }
        let results = self.session.run(arguments).map_err(failed)?;
        let results: Vec<_> = results.values().collect();
        self.outputs
            .iter()
            .map(|&position| Ok(results[position].try_extract_array::<f32>().map_err(failed)?.into_owned()))
            .collect()
    }
}

/// One operator after the other, each on all threads, the same way in every run.
///
/// Each network has threads of its own. One that spins for more work need not be woken, but it takes a core from the
/// next network and from other programs: so it spins briefly, where the library knows how, or not at all.
fn configured(library: &Path, environment: &Environment, options: &EngineOptions) -> ort::Result<SessionBuilder> {
    let builder = SessionBuilder::new(environment)?
        .with_intra_threads(options.threads)?
        .with_inter_threads(1)?
        .with_deterministic_compute(true)?
        // Versions before 1.23 have no number for the highest level, but one for all of them, which there is the same.
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .or_else(|e| e.recover().with_optimization_level(GraphOptimizationLevel::All))?
        // Never a guess by the file's bytes.
        .with_config_entry("session.load_model_format", "ONNX")?;
    if version(library) < Some(SPINS_BRIEFLY.to_vec()) {
        return Ok(builder.with_intra_op_spinning(false)?);
    }
    Ok(builder
        .with_intra_op_spinning(true)?
        .with_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)?
        .with_config_entry("session.force_spinning_stop", "1")?)
}

/// The execution provider of the device, after asking whether the library was built with it.
fn provider(options: &EngineOptions, onnx: &[u8]) -> Result<Option<ExecutionProviderDispatch>> {
    let threads = NonZeroUsize::new(options.threads).unwrap_or(NonZeroUsize::MIN);
    let (available, provider) = match options.device {
        Device::Cpu => return Ok(None),
        // TF32 and a search by trial would make results differ from other engines, and from run to run.
        Device::Cuda => (
            ep::CUDA::is_available(),
            ep::CUDA::default()
                .with_tf32(false)
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
                .build(),
        ),
        Device::TensorRt => (ep::TensorRT::is_available(), tensorrt(onnx)),
        Device::OpenVino => (
            ep::OpenVINO::is_available(),
            ep::OpenVINO::default().with_num_threads(options.threads).with_precision("FP32").build(),
        ),
        Device::Xnnpack => {
            (ep::XNNPACK::is_available(), ep::XNNPACK::default().with_intra_op_num_threads(threads).build())
        }
    };
    match available {
        Ok(true) => Ok(Some(provider)),
        Ok(false) => Err(Error::new(
            ErrorKind::Engine,
            format!(
                "device {} is not available: this ONNX Runtime was built without it; point --ort-library at one that was",
                options.device
            ),
        )),
        Err(e) => Err(Error::with_source(ErrorKind::Engine, "cannot ask ONNX Runtime for its devices", e)),
    }
}

/// TensorRT, which keeps the engines that it takes minutes to build in the user's cache folder.
fn tensorrt(onnx: &[u8]) -> ExecutionProviderDispatch {
    let Some(folder) = engine_cache(onnx) else {
        return ep::TensorRT::default().build();
    };
    let path = folder.display();
    ep::TensorRT::default()
        .with_engine_cache(true)
        .with_engine_cache_path(&path)
        .with_timing_cache(true)
        .with_timing_cache_path(&path)
        .build()
}

/// `ldseg/tensorrt/HASH` in the user's cache folder, made where it is missing; `None` where that cannot be. ONNX Runtime
/// names an engine after the graph's structure and not after its weights, so each network has a folder of its own.
fn engine_cache(onnx: &[u8]) -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home)?;
    let hash: String = Sha256::digest(onnx).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let folder = cache.join("ldseg").join("tensorrt").join(hash);
    std::fs::create_dir_all(&folder).ok().map(|()| folder)
}

/// ONNX Runtime's library and environment, one per process.
fn environment(options: &EngineOptions) -> Result<(PathBuf, Environment)> {
    static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);
    let library = find_library(options.ort_library.as_deref())?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = &*loaded {
        if *path != library {
            let message = format!("ONNX Runtime is already loaded from {}", path.display());
            return Err(Error::new(ErrorKind::Engine, message).in_file(&library));
        }
        return Ok((library, environment.clone()));
    }
    let failed = "cannot load ONNX Runtime (1.19 or newer)";
    let builder =
        ort::init_from(&library).map_err(|e| Error::with_source(ErrorKind::Engine, failed, e).in_file(&library))?;
    let environment = builder
        .with_name("ldseg")
        .with_telemetry(false)
        .build()
        .map_err(|e| Error::with_source(ErrorKind::Engine, failed, e).in_file(&library))?;
    Ok(loaded.insert((library, environment)).clone())
}

/// The library that was asked for, else the one that [`LIBRARY_VARIABLE`] names, else one beside the executable.
fn find_library(asked: Option<&Path>) -> Result<PathBuf> {
    let named = match asked {
        Some(path) => Some((path.to_path_buf(), "--ort-library")),
        None => env::var_os(LIBRARY_VARIABLE)
            .filter(|path| !path.is_empty())
            .map(|path| (PathBuf::from(path), LIBRARY_VARIABLE)),
    };
    if let Some((path, origin)) = named {
        return path
            .canonicalize()
            .ok()
            .filter(|path| path.is_file())
            .ok_or_else(|| Error::new(ErrorKind::Engine, format!("{origin} names no library")).in_file(&path));
    }
    let folder = env::current_exe().ok().and_then(|exe| exe.canonicalize().ok()?.parent().map(Path::to_path_buf));
    folder.as_deref().and_then(library_in).ok_or_else(|| {
        Error::new(
            ErrorKind::Engine,
            format!(
                "engine ort needs the ONNX Runtime library, and none lies beside the executable: fetch it with \
                 scripts/fetch-onnxruntime.sh and name it with --ort-library or {LIBRARY_VARIABLE}"
            ),
        )
    })
}

/// `libonnxruntime.so` (or `.dylib`, `onnxruntime.dll`), else the newest `libonnxruntime.so.1.*`.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join(format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX));
    if plain.is_file() {
        return Some(plain);
    }
    let entries = folder.read_dir().ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    entries.filter_map(|path| Some((version(&path)?, path))).max().map(|(_, path)| path)
}

/// The version in the name of a library that is called `libonnxruntime.so.1.23.2` or `libonnxruntime.1.23.2.dylib`.
fn version(library: &Path) -> Option<Vec<u32>> {
    let name = library.file_name()?.to_str()?;
    let version = name
        .strip_prefix("libonnxruntime.so.")
        .or_else(|| name.strip_prefix("libonnxruntime.")?.strip_suffix(".dylib"))?;
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// Compares names, element types and known sizes with the spec; returns the spec's positions in the session.
fn check_outlets(network: &str, side: &str, specs: &[TensorSpec], outlets: &[Outlet]) -> Result<Vec<usize>> {
    let names: Vec<_> = outlets.iter().map(|outlet| outlet.name().to_string()).collect();
    let positions = positions(network, side, specs, &names)?;
    for (spec, &position) in specs.iter().zip(&positions) {
        let dtype = outlets[position].dtype();
        let is_f32 = dtype.tensor_type() == Some(TensorElementType::Float32);
        // -1 stands for any size, and so does the spec's 0. A scalar's or unknown shape is empty.
        let shape = dtype.tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
        let fits = shape.len() == spec.shape.len()
            && shape.iter().zip(&spec.shape).all(|(&found, &size)| found < 0 || size == 0 || found == size as i64);
        if !is_f32 || !(fits || shape.is_empty()) {
            let message =
                format!("{network}: {side} `{}` is {dtype}, the manifest says f32 {:?}", spec.name, spec.shape);
            return Err(Error::new(ErrorKind::Engine, message));
        }
    }
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_looked_for_by_its_names() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(library_in(folder.path()), None);
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.20.1", "libonnxruntime.so.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(library_in(folder.path()), Some(folder.path().join("libonnxruntime.so.1.20.1")));
        assert_eq!(version(Path::new("a/libonnxruntime.1.26.0.dylib")), Some(vec![1, 26, 0]));
        assert_eq!(version(Path::new("a/libonnxruntime.dylib")), None);

        let missing = folder.path().join("nowhere.so");
        let error = find_library(Some(&missing)).unwrap_err();
        assert!(error.to_string().contains("nowhere.so: --ort-library names no library"), "{error}");
    }
}
