//! Every engine of this build on one small network, written as ONNX by hand.

use super::*;

#[cfg(feature = "ort")]
#[path = "../../../../tests/tests/skip.rs"]
#[expect(unreachable_pub, reason = "several crates share it")]
mod skip;

/// A protobuf message, built field by field.
#[derive(Default)]
struct Proto(Vec<u8>);

impl Proto {
    fn bytes(mut self, field: usize, content: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(content.len());
        self.0.extend(content);
        self
    }

    fn number(mut self, field: usize, value: usize) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn message(self, field: usize, message: Proto) -> Self {
        self.bytes(field, &message.0)
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Channels, and height and width, of the test network: large enough for tract to use its threads.
const CHANNELS: usize = 16;
const SIZE: usize = 48;

fn weights() -> Tensor {
    Tensor::from_shape_fn(vec![CHANNELS, CHANNELS, 3, 3], |i| {
        ((i[0] * 31 + i[1] * 17 + i[2] * 7 + i[3] * 3) % 23) as f32 / 100.0 - 0.1
    })
}

/// `b = sigmoid(conv3x3(a)) * conv3x3(a) + t`, with inputs `a` `[N, C, H, W]` and `t` `[N]`, declared as `t`, `a`.
fn onnx() -> Vec<u8> {
    let node = |op: &str, inputs: &[&str], output: &str| {
        let node = inputs.iter().fold(Proto::default(), |node, input| node.bytes(1, input.as_bytes()));
        node.bytes(2, output.as_bytes()).bytes(4, op.as_bytes())
    };
    let pads = Proto::default().bytes(1, b"pads").bytes(8, &[1, 1, 1, 1]).number(20, 7);
    let value = |name: &str, shape: &[usize]| {
        let dims = shape.iter().fold(Proto::default(), |dims, &size| {
            let dim = Proto::default();
            dims.message(1, if size == 0 { dim.bytes(2, b"N") } else { dim.number(1, size) })
        });
        let tensor = Proto::default().number(1, 1).message(2, dims);
        Proto::default().bytes(1, name.as_bytes()).message(2, Proto::default().message(1, tensor))
    };
    let raw = |values: &Tensor| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let weights = weights();
    let weights_proto = weights.shape().iter().fold(Proto::default(), |tensor, &size| tensor.number(1, size));
    let shape: Vec<u8> = [-1_i64, 1, 1, 1].iter().flat_map(|size| size.to_le_bytes()).collect();

    let grid = [0, CHANNELS, SIZE, SIZE];
    let graph = Proto::default()
        .message(1, node("Conv", &["a", "w"], "c").message(5, pads))
        .message(1, node("Sigmoid", &["c"], "s"))
        .message(1, node("Mul", &["s", "c"], "m"))
        .message(1, node("Reshape", &["t", "shape"], "u"))
        .message(1, node("Add", &["m", "u"], "b"))
        .bytes(2, b"test")
        .message(5, weights_proto.number(2, 1).bytes(8, b"w").bytes(9, &raw(&weights)))
        .message(5, Proto::default().number(1, 4).number(2, 7).bytes(8, b"shape").bytes(9, &shape))
        .message(11, value("t", &[0]))
        .message(11, value("a", &grid))
        .message(12, value("b", &grid));
    let opset = Proto::default().bytes(1, b"").number(2, 17);
    Proto::default().number(1, 8).message(7, graph).message(8, opset).0
}

fn spec() -> NetworkSpec {
    let tensor = |name: &str, shape: &[usize]| TensorSpec { name: name.into(), shape: shape.into() };
    let grid = [0, CHANNELS, SIZE, SIZE];
    NetworkSpec { inputs: vec![tensor("a", &grid), tensor("t", &[0])], outputs: vec![tensor("b", &grid)] }
}

fn image(batch: usize) -> Tensor {
    Tensor::from_shape_fn(vec![batch, CHANNELS, SIZE, SIZE], |i| {
        ((i[0] * 13 + i[1] * 5 + i[2] * 11 + i[3] * 29) % 37) as f32 / 18.0 - 1.0
    })
}

/// One voxel of the network's output, in f64.
fn expected(a: &Tensor, t: f32, [n, c, y, x]: [usize; 4]) -> f64 {
    let w = weights();
    let mut sum = 0.0;
    for (i, dy, dx) in (0..CHANNELS * 9).map(|i| (i / 9, i / 3 % 3, i % 3)) {
        if (1..=SIZE).contains(&(y + dy)) && (1..=SIZE).contains(&(x + dx)) {
            sum += f64::from(w[[c, i, dy, dx]]) * f64::from(a[[n, i, y + dy - 1, x + dx - 1]]);
        }
    }
    sum / (1.0 + (-sum).exp()) + f64::from(t)
}

/// The engines that can run here: ort only where its library is named.
fn engines() -> Vec<EngineKind> {
    let mut engines = Vec::new();
    if cfg!(feature = "tract") {
        engines.push(EngineKind::Tract);
    }
    if cfg!(feature = "ort") && std::env::var_os("ORT_DYLIB_PATH").is_some() {
        engines.push(EngineKind::Ort);
    }
    engines
}

fn options(engine: EngineKind, threads: usize) -> EngineOptions {
    EngineOptions { engine, threads, device: Device::Cpu, ort_library: None }
}

#[test]
fn every_engine_computes_the_network() {
    for engine in engines() {
        let mut network = load_network("test", &onnx(), &spec(), &options(engine, 2)).unwrap();
        for batch in [1, 3] {
            let (a, t) = (image(batch), Tensor::from_shape_fn(vec![batch], |i| 10.0 * i[0] as f32));
            let b = network.run(&[&a, &t]).unwrap().swap_remove(0);
            for voxel in [[0, 0, 0, 0], [batch - 1, 5, 20, 47], [batch - 1, 15, 47, 3]] {
                let expected = expected(&a, t[voxel[0]], voxel);
                assert!((f64::from(b[voxel]) - expected).abs() < 1e-5, "{engine}: {} for {expected}", b[voxel]);
            }
        }
    }
}

/// As on a GPU, where inputs stay in its memory; here that is main memory.
#[cfg(feature = "ort")]
#[test]
fn bound_inputs_give_the_same_answers() {
    if !engines().contains(&EngineKind::Ort) {
        skip::skip(
            skip::Need::Ort,
            "inputs that stay on the device",
            "ORT_DYLIB_PATH is not set; scripts/test.sh sets it",
        );
        return;
    }
    let options = options(EngineKind::Ort, 1);
    let mut free = load_network("test", &onnx(), &spec(), &options).unwrap();
    let mut bound = ort::OrtNetwork::load("test", &onnx(), &spec(), &options).unwrap();
    bound.bind().unwrap();
    let (image_1, image_3) = (image(1), image(3));
    // Both inputs new, one new, none new, another batch, and back.
    for (a, t) in [(&image_1, 0.0), (&image_1, 1.0), (&image_1, 1.0), (&image_3, 1.0), (&image_1, -1.0)] {
        let t = Tensor::from_elem(vec![a.shape()[0]], t);
        assert_eq!(bound.run(&[a, &t]).unwrap(), free.run(&[a, &t]).unwrap(), "{t}");
    }
}

#[test]
fn every_run_gives_the_same_bits() {
    for engine in engines() {
        let (a, t) = (image(2), Tensor::zeros(vec![2]));
        let run = |threads| {
            let mut network = load_network("test", &onnx(), &spec(), &options(engine, threads)).unwrap();
            [network.run(&[&a, &t]).unwrap().swap_remove(0), network.run(&[&a, &t]).unwrap().swap_remove(0)]
        };
        let one = run(1);
        for threads in [1, 2, 3, 7] {
            let [first, again] = run(threads);
            assert_eq!(first, again, "{engine} with {threads} threads");
            match engine {
                EngineKind::Tract => assert_eq!(first, one[0], "{threads} threads"),
                EngineKind::Ort => assert!((first - &one[0]).iter().all(|d| d.abs() < 1e-5), "{threads} threads"),
            }
        }
    }
}

#[test]
fn other_shapes_and_values_are_refused() {
    for engine in engines() {
        let mut network = load_network("test", &onnx(), &spec(), &options(engine, 1)).unwrap();
        let error = network.run(&[&image(2), &Tensor::zeros(vec![1])]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
        assert!(error.to_string().contains("test: input `t` has shape [1], expected [2]"), "{error}");

        let batch = MAX_BATCH + 1;
        let error = network.run(&[&image(batch), &Tensor::zeros(vec![batch])]).unwrap_err();
        assert!(error.to_string().contains("test: a batch of 17, expected 16 at most"), "{error}");

        let error = network.run(&[&image(1), &Tensor::from_elem(vec![1], f32::NAN)]).unwrap_err();
        assert!(error.to_string().contains("output `b` holds values that are not finite"), "{error}");
    }
}

#[test]
fn what_cannot_be_loaded_is_an_error() {
    for engine in engines() {
        let load = |onnx: &[u8], spec: &NetworkSpec| match load_network("test", onnx, spec, &options(engine, 1)) {
            Ok(_) => panic!("{engine} loaded it"),
            Err(error) => error,
        };
        for wrong in [&b"text"[..], b"\x08\x08", &onnx()[..200]] {
            assert_eq!(load(wrong, &spec()).kind(), ErrorKind::Bundle);
        }
        let mut renamed = spec();
        renamed.outputs[0].name = "probabilities".into();
        let message = load(&onnx(), &renamed).to_string();
        assert!(message.contains("test: the output `b` is not one that the manifest has"), "{message}");
    }
}

#[test]
fn devices_and_threads_are_never_replaced_silently() {
    for engine in engines() {
        // No machine offers both; ort's error depends on the library, tract's is the same everywhere.
        let absent = EngineOptions { device: Device::OpenVino, ..options(engine, 1) };
        if engine == EngineKind::Tract {
            let error = load_network("test", &onnx(), &spec(), &absent).err().unwrap();
            assert!(error.to_string().contains("runs on device cpu only, not on openvino"), "{error}");
        }
        let error = load_network("test", &onnx(), &spec(), &options(engine, 0)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Setting);
    }
    assert_eq!("tensorrt".parse::<Device>().unwrap(), Device::TensorRt);
    assert_eq!("gpu".parse::<Device>().unwrap_err().kind(), ErrorKind::Setting);
}
