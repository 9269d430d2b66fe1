//! Inputs that stay on a device.

use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session},
};

use crate::Tensor;
use crate::engine::NetworkSpec;
use crate::engine::values;

/// A session's inputs, bound to the device's memory. What an input held in the call before is not copied there again:
/// over the steps of a sampler, the image embedding is copied once.
pub(super) struct Bound {
    binding: IoBinding,
    /// What each input of the spec holds.
    held: Vec<Option<Tensor>>,
    /// Where outputs go: main memory.
    host: MemoryInfo<'static>,
}

impl Bound {
    pub(super) fn new(session: &Session, spec: &NetworkSpec) -> ort::Result<Self> {
        let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
        Ok(Self { binding: session.create_binding()?, held: vec![None; spec.inputs.len()], host })
    }

    /// Runs the session; the outputs are in the order of the spec.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        spec: &NetworkSpec,
        inputs: &[&Tensor],
    ) -> ort::Result<Vec<Tensor>> {
        for ((tensor, input), held) in spec.inputs.iter().zip(inputs).zip(&mut self.held) {
            if held.as_ref().is_some_and(|held| same_bits(held, input)) {
                continue;
            }
            // Nothing is held if this fails.
            *held = None;
            let value = ort::value::Tensor::from_array((input.shape(), values(input).into_owned()))?;
            self.binding.bind_input(&tensor.name, &value)?;
            *held = Some((*input).clone());
        }
        for output in &spec.outputs {
            // Bound anew for each run: else the last run's buffer would be filled again, which may be of another
            // batch's size.
            self.binding.bind_output_to_device(&output.name, &self.host)?;
        }
        self.binding.synchronize_inputs()?;
        let results = session.run_binding(&self.binding)?;
        self.binding.synchronize_outputs()?;
        spec.outputs
            .iter()
            .map(|output| Ok(results[output.name.as_str()].try_extract_array::<f32>()?.into_owned()))
            .collect()
    }
}

/// Whether shape and every bit are the same: 0 and -0 are not.
fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.shape() == b.shape() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
