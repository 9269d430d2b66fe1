//! A release with random weights, written as Keras writes it and read again, whole and damaged.

use std::collections::BTreeMap;

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Tensor as BurnTensor;
use hdf5_pure::FileBuilder;
use ldseg::Tensor;
use tempfile::TempDir;

use super::layout::{Kind, Layer};
use super::*;
use crate::engine::to_array;

/// Every parameter by its path, as [`Layer::module`] writes it.
#[derive(Default)]
struct Parameters {
    place: Vec<String>,
    all: BTreeMap<String, Tensor>,
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.place.push(name.to_string());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.place.pop();
        }
    }

    fn visit_float<const R: usize>(&mut self, param: &Param<BurnTensor<R>>) {
        self.all.insert(self.place.join("."), to_array(param.val()).unwrap());
    }
}

fn parameters<M: Module>(network: &M) -> BTreeMap<String, Tensor> {
    let mut parameters = Parameters::default();
    network.visit(&mut parameters);
    parameters.all
}

fn all_parameters<const D: usize>(networks: &Networks<D>) -> [BTreeMap<String, Tensor>; 4] {
    [
        parameters(&networks.label_encoder),
        parameters(&networks.image_encoder),
        parameters(&networks.denoiser),
        parameters(&networks.label_decoder),
    ]
}

/// In Keras' axis order.
fn to_keras(kind: Kind, values: &Tensor) -> Tensor {
    match (kind, values.ndim()) {
        (Kind::Conv | Kind::ConvTranspose, rank @ 3..) => {
            values.clone().permuted_axes((2..rank).chain([1, 0]).collect::<Vec<_>>())
        }
        (Kind::LayerNorm, rank) => values
            .clone()
            .permuted_axes((0..1).chain(2..rank).chain([1]).collect::<Vec<_>>())
            .remove_axis(ndarray::Axis(0)),
        _ => values.clone(),
    }
}

/// One file as layers and their weights; the layers of each kind are numbered from 3.
fn keras(layers: &[Layer], parameters: &BTreeMap<String, Tensor>, axes: usize) -> BTreeMap<(String, String), Tensor> {
    let mut numbers = BTreeMap::new();
    let mut file = BTreeMap::new();
    for Layer { kind, module, name } in layers {
        let number = numbers.entry(*kind).or_insert(3);
        let layer = name.map_or_else(|| format!("{}_{number}", kind.keras_name(axes)), String::from);
        *number += usize::from(name.is_none());
        for (theirs, ours) in kind.weights() {
            let ours = if module.is_empty() { ours.to_string() } else { format!("{module}.{ours}") };
            file.insert((layer.clone(), format!("{theirs}:0")), to_keras(*kind, &parameters[&ours]));
        }
    }
    file
}

fn write_file(path: &Path, file: &BTreeMap<(String, String), Tensor>) {
    let mut root = FileBuilder::new();
    let mut layers: BTreeMap<&str, Vec<(&str, &Tensor)>> = BTreeMap::new();
    for ((layer, weight), values) in file {
        layers.entry(layer).or_default().push((weight, values));
    }
    for (layer, weights) in layers {
        let (mut outer, mut inner) = (root.create_group(layer), FileBuilder::new().create_group(layer));
        for (weight, values) in weights {
            let shape: Vec<u64> = values.shape().iter().map(|size| *size as u64).collect();
            let values: Vec<f32> = values.iter().copied().collect();
            inner.create_dataset(weight).with_f32_data(&values).with_shape(&shape);
        }
        outer.add_group(inner.finish());
        root.add_group(outer.finish());
    }
    root.write(path).unwrap();
}

/// A folder with four files, each changed by `change` before it is written, and the networks that they came from.
fn release<const D: usize>(
    config: &NetworkConfig,
    change: impl Fn(&str, &mut BTreeMap<(String, String), Tensor>),
) -> (TempDir, Networks<D>) {
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::<D>::new(config, &Device::default());
    let axes = config.spatial_axes();
    let layouts = [
        layout::label_encoder(config),
        layout::image_encoder(config),
        layout::denoiser(config),
        layout::label_decoder(config),
    ];
    for ((name, layers), parameters) in FILES.iter().zip(layouts).zip(all_parameters(&networks)) {
        let mut file = keras(&layers, &parameters, axes);
        change(name, &mut file);
        let ending = if axes == 2 { ".hdf5" } else { "3D.hdf5" };
        write_file(&dir.path().join(format!("{name}{ending}")), &file);
    }
    (dir, networks)
}

fn small() -> NetworkConfig {
    NetworkConfig::reference(vec![64, 128], 3, 2)
}

#[test]
fn what_keras_writes_is_read_again() {
    let (dir, networks) = release::<4>(&small(), |_, _| {});
    let found = Release::read(dir.path()).unwrap();
    assert_eq!(found.config(), &small());
    assert_eq!(all_parameters(&found.networks::<4>(&Device::default()).unwrap()), all_parameters(&networks));

    let config = NetworkConfig::reference(vec![64, 64, 128], 1, 3);
    let (dir, networks) = release::<5>(&config, |_, _| {});
    let found = Release::read(dir.path()).unwrap();
    assert_eq!(found.config(), &config);
    assert_eq!(all_parameters(&found.networks::<5>(&Device::default()).unwrap()), all_parameters(&networks));
}

/// The message must name the file and the weight.
fn refused(change: impl Fn(&str, &mut BTreeMap<(String, String), Tensor>), words: &[&str]) {
    let (dir, _) = release::<4>(&small(), change);
    let error = Release::read(dir.path()).and_then(|release| release.networks::<4>(&Device::default()).map(drop));
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}, expected it to say {word}");
    }
}

fn weight(layer: &str, name: &str) -> (String, String) {
    (layer.into(), format!("{name}:0"))
}

#[test]
fn a_weight_that_is_missing_extra_or_of_another_shape_is_named() {
    let only = |wanted: &'static str, change: fn(&mut BTreeMap<(String, String), Tensor>)| {
        move |file: &str, weights: &mut BTreeMap<(String, String), Tensor>| {
            if file == wanted {
                change(weights);
            }
        }
    };
    refused(
        only("denoiser", |weights| drop(weights.remove(&weight("dense_9", "kernel")))),
        &["denoiser.hdf5", "missing: dense_9/kernel [32, 32]"],
    );
    refused(
        only("labelDecoder", |weights| weights.retain(|(layer, _), _| layer != "conv2d_transpose_4")),
        &["labelDecoder.hdf5", "missing: conv2d_transpose_4/kernel [3, 3, 64, 32], conv2d_transpose_4/bias [64]"],
    );
    refused(
        only("imageEncoder", |weights| drop(weights.insert(weight("dense_99", "kernel"), Tensor::zeros(vec![2, 2])))),
        &["imageEncoder.hdf5", "extra: dense_99/kernel"],
    );
    refused(
        only("imageEncoder", |weights| {
            weights.insert(weight("conv2d_4", "kernel"), Tensor::zeros(vec![1, 1, 32, 16]));
        }),
        &["imageEncoder.hdf5", "of another shape: conv2d_4/kernel [1, 1, 32, 16], expected [1, 1, 16, 32]"],
    );
    refused(
        only("labelEncoder", |weights| weights.retain(|(layer, _), _| layer != "encoder_output")),
        &["labelEncoder.hdf5", "encoder_output/gamma"],
    );
    refused(
        only("labelEncoder", |weights| {
            weights.insert(weight("conv2d_3", "bias"), Tensor::from_elem(vec![16], f32::NAN));
        }),
        &["labelEncoder.hdf5", "conv2d_3/bias:0", "not finite"],
    );
}

#[test]
fn files_that_are_not_there_or_not_hdf5_are_named() {
    let (dir, _) = release::<4>(&small(), |_, _| {});
    let fails = |kind: ErrorKind, words: &str| {
        let error = Release::read(dir.path()).map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let denoiser = dir.path().join("denoiser.hdf5");
    let whole = std::fs::read(&denoiser).unwrap();
    for bytes in [&b"not HDF5"[..], &whole[..whole.len() / 2], &[]] {
        std::fs::write(&denoiser, bytes).unwrap();
        fails(ErrorKind::Format, "denoiser.hdf5");
    }
    std::fs::remove_file(&denoiser).unwrap();
    fails(ErrorKind::Io, "denoiser.hdf5");
    std::fs::write(dir.path().join("denoiser3D.hdf5"), whole).unwrap();
    fails(ErrorKind::Io, "holds both sorts");
}
