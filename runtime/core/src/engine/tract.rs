//! tract: pure Rust, on any CPU.

mod convolve;
mod normalise;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tract_linalg::multithread::Executor;
use tract_onnx::prelude::*;

use super::{Network, positions, with_batch};
use crate::engine::NetworkSpec;
use crate::{Error, ErrorKind};

/// Batch sizes whose plans are kept. Segmenting uses three at most: one, a full group of samples, and the rest.
const MAX_PLANS: usize = 4;

/// A network with one optimised plan per batch size, built when first asked for: tract optimises best where every
/// shape is known.
pub(super) struct TractNetwork {
    name: String,
    model: InferenceModel,
    spec: NetworkSpec,
    /// Where each input and output of the spec is in the model.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    executor: Executor,
    /// Where there is a pool.
    worker: Option<Worker>,
    plans: BTreeMap<usize, Arc<TypedRunnableModel>>,
}

impl TractNetwork {
    /// Parses the network and plans it for a batch of one, so that what cannot run fails here.
    pub(super) fn load(name: &str, onnx: &[u8], spec: &NetworkSpec, threads: usize) -> crate::Result<Self> {
        let model = guarded(name, "cannot load the network", || {
            // Shapes inside the file may speak of a symbolic batch; they follow from the inputs anyway.
            tract_onnx::onnx()
                .with_ignore_value_info(true)
                .with_ignore_output_shapes(true)
                .model_for_read(&mut std::io::Cursor::new(onnx))
        })?;
        let input_names = model.inputs.iter().map(|outlet| model.node(outlet.node).name.clone());
        let inputs = positions(name, "input", &spec.inputs, &input_names.collect::<Vec<_>>())?;
        let output_names = model.outputs.iter().map(|&outlet| match model.outlet_label(outlet) {
            Some(label) => label.to_string(),
            None => model.node(outlet.node).name.clone(),
        });
        let outputs = positions(name, "output", &spec.outputs, &output_names.collect::<Vec<_>>())?;
        let mut network = Self {
            name: name.to_string(),
            model,
            spec: spec.clone(),
            inputs,
            outputs,
            executor: executor(threads),
            worker: (threads > 1).then(|| Worker::start(name)).transpose()?,
            plans: BTreeMap::new(),
        };
        network.plan(1)?;
        Ok(network)
    }

    fn plan(&mut self, batch: usize) -> crate::Result<Arc<TypedRunnableModel>> {
        if let Some(plan) = self.plans.get(&batch) {
            return Ok(plan.clone());
        }
        let plan = guarded(&self.name, "cannot plan the network", || {
            let mut model = self.model.clone();
            for (spec, &input) in self.spec.inputs.iter().zip(&self.inputs) {
                model.set_input_fact(input, f32::fact(with_batch(spec, batch)).into())?;
            }
            let options = RunOptions { executor: Some(self.executor.clone()), ..RunOptions::default() };
            apart(self.worker.as_ref(), move || {
                let mut model = model.into_typed()?.into_decluttered()?;
                normalise::fuse(&mut model)?;
                convolve::replace(&mut model)?;
                model.into_optimized()?.into_runnable_with_options(&options)
            })
        })?;
        while self.plans.len() >= MAX_PLANS {
            // The largest batch holds the most memory.
            self.plans.pop_last();
        }
        self.plans.insert(batch, plan.clone());
        Ok(plan)
    }
}

impl Network for TractNetwork {
    fn run(&mut self, inputs: &[&crate::Tensor]) -> crate::Result<Vec<crate::Tensor>> {
        let plan = self.plan(inputs[0].shape()[0])?;
        let failed = |e: TractError| error(&self.name, "cannot run the network", e);
        let mut arguments: Vec<(usize, Tensor)> = Vec::with_capacity(inputs.len());
        for (input, &position) in inputs.iter().zip(&self.inputs) {
            arguments.push((position, Tensor::from_shape(input.shape(), &super::values(input)).map_err(failed)?));
        }
        arguments.sort_by_key(|(position, _)| *position);
        let outputs = self.outputs.clone();
        let run = move || -> TractResult<Vec<crate::Tensor>> {
            let results = plan.run(arguments.into_iter().map(|(_, argument)| argument.into()).collect())?;
            outputs.iter().map(|&position| from_tract(&results[position])).collect()
        };
        guarded(&self.name, "cannot run the network", || apart(self.worker.as_ref(), run))
    }
}

fn from_tract(tensor: &Tensor) -> TractResult<crate::Tensor> {
    let values = tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    Ok(crate::Tensor::from_shape_vec(tensor.shape(), values)?)
}

/// One pool of `threads` threads for all networks of the process. tract splits work between threads by output, never
/// inside a sum, so results don't depend on their number.
fn executor(threads: usize) -> Executor {
    // A fork has none of its parent's threads.
    static POOLS: Mutex<BTreeMap<(u32, usize), Executor>> = Mutex::new(BTreeMap::new());
    if threads == 1 {
        return Executor::SingleThread;
    }
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.entry((std::process::id(), threads)).or_insert_with(|| Executor::multithread(threads)).clone()
}

/// A thread that lives as long as its network. With a pool, tract leaves the calling thread's vector registers in a state in
/// which ordinary code that follows runs several times slower, so that thread is not the caller's. One of the pool would not
/// do: while it waits it may take up another network's run, and tract's scratch memory is the thread's.
struct Worker {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Worker {
    fn start(network: &str) -> crate::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let failed = |e| Error::with_source(ErrorKind::Engine, format!("{network}: cannot start a thread"), e);
        thread::Builder::new()
            .name("ldseg-tract".into())
            .spawn(move || queue.iter().for_each(|job| job()))
            .map_err(failed)?;
        Ok(Self { jobs })
    }
}

/// Runs `f` on the worker, where there is one, and waits for it; a panic goes on in the caller.
fn apart<T: Send + 'static>(worker: Option<&Worker>, f: impl FnOnce() -> T + Send + 'static) -> T {
    let Some(worker) = worker else {
        return f();
    };
    let (answer, result) = mpsc::sync_channel(1);
    let job = move || {
        // Whoever asked is waiting.
        let _ = answer.send(catch_unwind(AssertUnwindSafe(f)));
    };
    worker.jobs.send(Box::new(job)).expect("a worker ends with its network");
    result.recv().expect("every job answers").unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs tract on a file of unknown origin: what it does not understand may be an error, or a panic.
fn guarded<T>(name: &str, what: &str, f: impl FnOnce() -> TractResult<T>) -> crate::Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|e| error(name, what, e)),
        Err(_) => Err(Error::new(ErrorKind::Engine, format!("{name}: {what}: tract panicked"))),
    }
}

fn error(name: &str, what: &str, e: TractError) -> Error {
    Error::with_source(ErrorKind::Engine, format!("{name}: {what} with tract"), e)
}
