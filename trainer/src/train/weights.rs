//! What happens to weights besides the optimiser's step: the moving average and the clipping of gradients.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Collects every weight, flattened.
#[derive(Default)]
struct Collect {
    weights: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.weights.insert(param.id, flat(param.val()));
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len: usize = tensor.dims().iter().product();
    tensor.reshape([len])
}

struct Average {
    weights: HashMap<ParamId, Tensor<1>>,
    decay: f64,
}

impl ModuleMapper for Average {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(new) = self.weights.remove(&param.id) else { return param };
        let decay = self.decay;
        param.map(|old| {
            let new = new.reshape(old.dims());
            old * decay + new * (1.0 - decay)
        })
    }
}

/// The moving average after one more step: decay * average + (1 - decay) * weights, running statistics included.
///
/// `weights` is not on an autodiff device. Early on the decay is (1 + step) / (10 + step) at most, so that the average
/// soon forgets the initial weights.
pub(crate) fn moving_average<M: Module>(average: M, weights: &M, decay: f64, step: usize) -> M {
    let mut collect = Collect::default();
    weights.visit(&mut collect);
    let decay = decay.min((1.0 + step as f64) / (10.0 + step as f64));
    average.map(&mut Average { weights: collect.weights, decay })
}

struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = (gradient.clone() * gradient).sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}

struct Scale {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}

/// Scales all gradients so that their norm over the whole module is `greatest` at most. Also returns that norm before.
pub(crate) fn clip<M: Module>(module: &M, gradients: GradientsParams, greatest: f64) -> (GradientsParams, f64) {
    let mut squared = SquaredNorm { gradients: &gradients, sum: None };
    module.visit(&mut squared);
    let norm = squared.sum.map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()).sqrt());
    if norm <= greatest {
        return (gradients, norm);
    }
    let mut scale = Scale { gradients, factor: greatest / norm };
    module.visit(&mut scale);
    (scale.gradients, norm)
}
