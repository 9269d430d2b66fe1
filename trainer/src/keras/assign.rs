//! Gives one network the weights of its Keras file: every weight of both sides is used, or it is an error.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor as BurnTensor;
use ldseg::{Error, ErrorKind, Result, Tensor};
use ndarray::Axis;

use super::layout::{Kind, Layer};
use super::weights::Weights;
use crate::engine::to_device;

/// How many weights of each sort of trouble an error names.
const NAMED: usize = 6;

/// Where the weight of one of our parameters is in the file.
struct Source {
    name: String,
    kind: Kind,
}

/// Replaces all parameters of `network` by those of the file; `layers` lists the network's layers, of `axes` spatial
/// axes.
///
/// # Errors
/// [`ErrorKind::Format`], naming the file and the weights, if any are missing, of another shape, or left over.
pub(crate) fn assign<M: Module>(network: M, layers: &[Layer], axes: usize, weights: &Weights) -> Result<M> {
    let mut assignment = Assignment {
        sources: sources(layers, axes, weights),
        weights,
        place: Vec::new(),
        used: BTreeSet::new(),
        missing: Vec::new(),
        misshapen: Vec::new(),
        failure: None,
    };
    let network = network.map(&mut assignment);
    let extra = weights.names().filter(|name| !assignment.used.contains(*name)).map(String::from).collect::<Vec<_>>();
    if let Some(failure) = assignment.failure {
        return Err(failure.in_file(weights.path()));
    }
    let problems: Vec<String> =
        [("missing", assignment.missing), ("of another shape", assignment.misshapen), ("extra", extra)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| {
                let more =
                    if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
                format!("{what}: {}{more}", names[..names.len().min(NAMED)].join(", "))
            })
            .collect();
    if problems.is_empty() {
        return Ok(network);
    }
    let message = format!("not the weights of the published network; {}", problems.join("; "));
    Err(Error::new(ErrorKind::Format, message).in_file(weights.path()))
}

/// The weight in the file for each of our parameters, by its path.
fn sources(layers: &[Layer], axes: usize, weights: &Weights) -> BTreeMap<String, Source> {
    let mut next: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut sources = BTreeMap::new();
    for Layer { kind, module, name } in layers {
        let keras = name.map_or_else(
            || {
                let kind_name = kind.keras_name(axes);
                // Where the numbers start depends on what was made before this network.
                let first = || weights.numbered(&kind_name).first().copied().unwrap_or(0);
                let number = next.entry(*kind).or_insert_with(first);
                *number += 1;
                if *number == 1 { kind_name } else { format!("{kind_name}_{}", *number - 1) }
            },
            String::from,
        );
        for (theirs, ours) in kind.weights() {
            let ours = if module.is_empty() { ours.to_string() } else { format!("{module}.{ours}") };
            sources.insert(ours, Source { name: format!("{keras}/{theirs}"), kind: *kind });
        }
    }
    sources
}

struct Assignment<'a> {
    sources: BTreeMap<String, Source>,
    weights: &'a Weights,
    place: Vec<String>,
    used: BTreeSet<String>,
    missing: Vec<String>,
    misshapen: Vec<String>,
    failure: Option<Error>,
}

/// Variants of enums are no part of a path.
fn is_variant(container: &str) -> bool {
    container.starts_with("Enum:")
}

impl ModuleMapper for Assignment<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        if !is_variant(container) {
            self.place.push(name.to_string());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if !is_variant(container) {
            self.place.pop();
        }
    }

    fn map_float<const R: usize>(&mut self, param: Param<BurnTensor<R>>) -> Param<BurnTensor<R>> {
        let shape = param.dims();
        match self.find(&shape) {
            Some(values) => match to_device(&values, &param.device()) {
                Ok(tensor) => param.map(|_| tensor),
                Err(error) => {
                    self.failure.get_or_insert(error);
                    param
                }
            },
            None => param,
        }
    }
}

impl Assignment<'_> {
    /// The weight for the parameter that is visited, of this shape in our axis order.
    fn find(&mut self, shape: &[usize]) -> Option<Tensor> {
        let place = self.place.join(".");
        let Some(source) = self.sources.get(&place) else {
            let message = format!("our parameter `{place}` has no counterpart among the published layers");
            self.failure.get_or_insert(Error::new(ErrorKind::Format, message));
            return None;
        };
        let expected = keras_shape(source.kind, shape);
        let Some(values) = self.weights.get(&source.name) else {
            self.missing.push(format!("{} {expected:?}", source.name));
            return None;
        };
        self.used.insert(source.name.clone());
        if values.shape() != expected {
            self.misshapen.push(format!("{} {:?}, expected {expected:?}", source.name, values.shape()));
            return None;
        }
        Some(to_our_axes(source.kind, values))
    }
}

/// The shape in Keras' axis order of a parameter whose shape is `ours`.
fn keras_shape(kind: Kind, ours: &[usize]) -> Vec<usize> {
    match (kind, ours) {
        // [O, I, ...] or, transposed, [I, O, ...]: either way the two swap and go last.
        (Kind::Conv | Kind::ConvTranspose, [first, second, kernel @ ..]) => [kernel, &[*second, *first]].concat(),
        (Kind::LayerNorm, [_, channels, spatial @ ..]) => [spatial, &[*channels]].concat(),
        _ => ours.to_vec(),
    }
}

/// A weight of the shape that [`keras_shape`] gives, in our axis order.
fn to_our_axes(kind: Kind, values: &Tensor) -> Tensor {
    let rank = values.ndim();
    match kind {
        // A kernel has its axes, and a bias one alone.
        Kind::Conv | Kind::ConvTranspose if rank > 2 => {
            let order: Vec<usize> = [rank - 1, rank - 2].into_iter().chain(0..rank - 2).collect();
            values.clone().permuted_axes(order)
        }
        Kind::LayerNorm => {
            let order: Vec<usize> = [rank - 1].into_iter().chain(0..rank - 1).collect();
            values.clone().permuted_axes(order).insert_axis(Axis(0))
        }
        _ => values.clone(),
    }
}
