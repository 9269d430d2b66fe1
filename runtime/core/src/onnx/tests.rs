//! Files that an engine must never see, made here, and those that it must.

use std::path::Path;

use super::*;
use crate::bundle::{Bundle, NETWORKS};
use crate::engine::{MAX_BATCH, NetworkSpec, TensorSpec};

/// A message with the fields of `build`.
fn message<'a>(build: impl FnOnce(&mut Message<'a>)) -> Message<'a> {
    let mut message = Message::default();
    build(&mut message);
    message
}

fn blob(field: u32, content: &[u8]) -> Vec<u8> {
    message(|m| m.bytes(field, Cow::Borrowed(content))).into_bytes()
}

/// A network from `a` `[N, 2, 8, 8]` to `b` of the same shape.
#[derive(Default)]
struct Network {
    nodes: Vec<Vec<u8>>,
    weights: Vec<Vec<u8>>,
}

impl Network {
    fn node(mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&'static str, &[i64])]) -> Self {
        let node = message(|m| {
            inputs.iter().for_each(|input| m.bytes(1, Cow::Owned(input.as_bytes().to_vec())));
            m.bytes(2, Cow::Owned(output.as_bytes().to_vec()));
            m.bytes(4, Cow::Owned(operator.as_bytes().to_vec()));
            for &(name, values) in attributes {
                let mut attribute = Attribute { name, kind: KIND_INTS, ints: values.to_vec(), ..Attribute::default() };
                if let ("axis" | "group", [value]) = (name, values) {
                    (attribute.kind, attribute.int) = (KIND_INT, *value);
                }
                m.bytes(5, Cow::Owned(attribute.write().into_bytes()));
            }
        });
        self.nodes.push(node.into_bytes());
        self
    }

    fn weight(mut self, name: &str, shape: &[usize], kind: u64, data: &[u8]) -> Self {
        let tensor = message(|m| {
            shape.iter().for_each(|&size| m.number(1, size as u64));
            m.number(2, kind);
            m.bytes(8, Cow::Owned(name.as_bytes().to_vec()));
            m.bytes(9, Cow::Owned(data.to_vec()));
        });
        self.weights.push(tensor.into_bytes());
        self
    }

    fn list(self, name: &str, values: &[i64]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.weight(name, &[values.len()], 7, &data)
    }

    fn floats(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.weight(name, shape, 1, &data)
    }

    fn onnx(&self) -> Vec<u8> {
        let port = |name| {
            let shape = [Size::Named("N"), Size::Known(2), Size::Known(8), Size::Known(8)];
            Port { name, kind: 1, shape: Some(shape.into()) }.write().into_bytes()
        };
        let graph = message(|m| {
            self.nodes.iter().for_each(|node| m.bytes(1, Cow::Borrowed(node)));
            self.weights.iter().for_each(|tensor| m.bytes(5, Cow::Borrowed(tensor)));
            m.bytes(11, Cow::Owned(port("a")));
            m.bytes(12, Cow::Owned(port("b")));
        });
        model(&graph.into_bytes())
    }

    fn refusal(&self) -> String {
        largest_batch(&self.onnx()).unwrap_err().to_string()
    }
}

fn model(graph: &[u8]) -> Vec<u8> {
    let opset = message(|m| m.int(2, 17)).into_bytes();
    let model = message(|m| {
        m.number(1, 8);
        m.bytes(7, Cow::Borrowed(graph));
        m.bytes(8, Cow::Borrowed(&opset));
    });
    model.into_bytes()
}

fn spec() -> NetworkSpec {
    let tensor = |name: &str| TensorSpec { name: name.into(), shape: vec![0, 2, 8, 8] };
    NetworkSpec { inputs: vec![tensor("a")], outputs: vec![tensor("b")] }
}

fn largest_batch(bytes: &[u8]) -> Result<usize> {
    Model::read(bytes)?.largest_batch(&spec(), MAX_BATCH)
}

#[test]
fn networks_of_ours_are_read_whole_and_written_the_same() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for dir in ["tests/fixtures/echo", "tests/fixtures/knee", "models/echo", "models/glas"] {
        let bundle = Bundle::load(&repository.join(dir)).unwrap();
        for name in NETWORKS {
            let (onnx, spec) = bundle.network(name).unwrap();
            let model = Model::read(onnx).unwrap();
            assert_eq!(model.largest_batch(spec, MAX_BATCH).unwrap(), MAX_BATCH, "{dir} {name}");
            let written = model.write();
            assert_eq!(Model::read(&written).unwrap().write(), written, "{dir} {name}");
            // Nothing is lost but the producer's name; lists of numbers may take a byte more for each.
            assert!(onnx.len() - 64 < written.len() && written.len() < onnx.len() * 11 / 10, "{dir} {name}");
        }
    }
}

#[test]
fn external_data_is_found_wherever_it_hides() {
    let location = [blob(13, &blob(1, b"location")), [2 << 3, 1].to_vec()].concat();
    let constant = |tensor: &[u8]| blob(7, &blob(1, &blob(5, &blob(5, tensor))));
    let elsewhere = [14 << 3, 1, 2 << 3, 1];
    for file in [blob(7, &blob(5, &location)), constant(&location), constant(&elsewhere), blob(7, &blob(5, &elsewhere))]
    {
        let message = Model::read(&file).unwrap_err().to_string();
        assert!(message.contains("external data"), "{message}");
    }

    // The key of field 13 with a bit beyond the 32nd: ONNX Runtime drops it, and reads external data.
    let beyond = |field: u64| {
        let mut key = field << 3 | 2 | 1 << 32;
        let mut bytes = Vec::new();
        while key >= 0x80 {
            bytes.push(key as u8 | 0x80);
            key >>= 7;
        }
        bytes.push(key as u8);
        bytes
    };
    let hidden = [&beyond(13)[..], &[10], &blob(1, b"location")].concat();
    for file in [
        blob(7, &blob(5, &hidden)),
        [&beyond(7)[..], &[2, 5 << 3 | 2, 0]].concat(),
        // Field 0, and a number of more than 64 bits.
        vec![2, 1, 0],
        [&[8][..], &[0xFF; 9], &[2]].concat(),
        b"<html>not found</html>".to_vec(),
    ] {
        let message = Model::read(&file).unwrap_err().to_string();
        assert!(message.contains("not a protobuf"), "{message}");
    }

    // A flatbuffer of ONNX Runtime, which may be a protobuf too: field 2 of 8 bytes that begin with its mark.
    let flat = [&[8, 8, 18, 6][..], b"ORTMxx"].concat();
    let message = Model::read(&flat).unwrap_err().to_string();
    assert!(message.contains("ONNX Runtime's own format"), "{message}");
}

#[test]
fn what_an_engine_gets_has_no_other_fields_than_are_known() {
    let network = Network::default().node("Relu", &["a"], "b", &[]).onnx();
    assert_eq!(largest_batch(&network).unwrap(), MAX_BATCH);
    // Said by the file about itself, and not handed on, whatever it looks like.
    let said = [&network[..], &blob(2, b"ORTM ORTM ORTM"), &blob(14, &blob(1, b"key"))].concat();
    let written = Model::read(&said).unwrap().write();
    assert!(!written.windows(4).any(|bytes| bytes == b"ORTM"));
    for (more, expected) in [
        (blob(7, b""), "a field twice"),
        (blob(20, b""), "graphs for training"),
        (blob(25, b""), "functions of its own"),
        (blob(99, b""), "the field 99, which is not known"),
    ] {
        let message = Model::read(&[&network[..], &more].concat()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // The body of a loop.
    let looped = model(&blob(1, &[blob(4, b"Loop"), blob(5, &blob(6, &blob(1, b"")))].concat()));
    let message = Model::read(&looped).unwrap_err().to_string();
    assert!(message.contains("graphs in nodes"), "{message}");
}

#[test]
fn weights_have_to_be_there_and_finite() {
    let held = |kind: u64, data: &[u8]| {
        let network = Network::default().weight("conv.weight", &[2], kind, data).node("Relu", &["a"], "b", &[]);
        Model::read(&network.onnx()).map(drop).map_err(|error| error.to_string())
    };
    let floats = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
    let doubles = |values: [f64; 2]| values.map(f64::to_le_bytes).concat();
    let halves = |values: [u16; 2]| values.map(u16::to_le_bytes).concat();
    for (kind, good, bad) in [
        (1, floats([1.0, -2.0]), floats([1.0, f32::NAN])),
        (1, floats([1.0, -2.0]), floats([f32::INFINITY, 1.0])),
        (11, doubles([1.0, -2.0]), doubles([1.0, f64::NEG_INFINITY])),
        (10, halves([0x3C00, 0x7BFF]), halves([0x3C00, 0x7E00])),
        (16, halves([0x3F80, 0x7F7F]), halves([0x3F80, 0x7F80])),
    ] {
        held(kind, &good).unwrap();
        let message = held(kind, &bad).unwrap_err();
        assert!(message.contains("`conv.weight` holds values that are not finite"), "{message}");
        let message = held(kind, &good[1..]).unwrap_err();
        assert!(message.contains("`conv.weight` of shape [2] has"), "{message}");
    }
    // As integers, these bits are numbers like any other.
    held(6, &floats([f32::NAN, 1.0])).unwrap();
    // The bound of a Clip may be infinite, but is never NaN.
    let bound = |value: f32| {
        let clip = Network::default().floats("least", &[], &[value]).node("Clip", &["a", "least"], "b", &[]);
        Model::read(&clip.onnx()).map(drop)
    };
    bound(f32::NEG_INFINITY).unwrap();
    bound(f32::NAN).unwrap_err();
    // Values in the field of their type are the same as raw ones.
    let tensor = |more: &[u8]| blob(7, &blob(5, &[&[1 << 3, 2, 2 << 3, 10, 5 << 3 | 2], more].concat()));
    Model::read(&tensor(&[4, 0x80, 0x78, 0x80, 0x78])).unwrap();
    let message = Model::read(&tensor(&[6, 0x80, 0x78, 0x81, 0xF8, 0x01, 0x00])).unwrap_err().to_string();
    assert!(message.contains("of shape [2] has 6 bytes"), "{message}");
}

#[test]
fn hostile_graphs_are_refused_before_an_engine_sees_them() {
    let relu = |network: Network, from: &str| network.node("Relu", &[from], "b", &[]);
    let start = Network::default;
    let wide = |width: usize| vec![0; width * 2 * 9];
    let conv = |attributes: &[(&'static str, &[i64])]| {
        relu(start().weight("w", &[2, 2, 3, 3], 1, &[0; 144]).node("Conv", &["a", "w"], "c", attributes), "c")
    };
    for (network, expected) in [
        (start(), "0 nodes"),
        (
            relu(start().floats("s", &[4], &[1.0, 1.0, 4000.0, 4000.0]).node("Resize", &["a", "", "s"], "c", &[]), "c"),
            "Resize (``) gives a tensor of shape",
        ),
        (
            relu(start().list("s", &[1, 1_000_000_000, 1, 1, 1]).node("Expand", &["a", "s"], "c", &[]), "c"),
            "Expand (``) gives a tensor of shape",
        ),
        (
            relu(start().list("s", &[1, 1, 9999, 9999]).node("Tile", &["a", "s"], "c", &[]), "c"),
            "Tile (``) is none that",
        ),
        (
            relu(start().list("p", &[0, 0, 0, 0, 0, 0, 0, 1_000_000_000]).node("Pad", &["a", "p"], "c", &[]), "c"),
            "Pad (``) gives a tensor of shape",
        ),
        (
            relu(start().list("p", &[0, 0, 0, 0, 0, 0, 0, i64::MAX]).node("Pad", &["a", "p"], "c", &[]), "c"),
            "an axis of",
        ),
        (conv(&[("pads", &[100_000; 4])]), "Conv (``) gives a tensor of shape"),
        // Of these nearly all is border, which an engine may lay out.
        (conv(&[("pads", &[1 << 30; 4]), ("strides", &[1 << 30; 2])]), "hold more than"),
        (conv(&[("strides", &[0, 1])]), "strides [0, 1]"),
        (conv(&[("kernel_shape", &[0, 0])]), "kernel [0, 0]"),
        (conv(&[("dilations", &[4, 4])]), "an axis of"),
        (conv(&[("group", &[0])]), "0 groups"),
        (conv(&[("pads", &[-1, 0, 0, 0])]), "below 0"),
        (conv(&[("storage", &[1])]), "the attribute `storage`"),
        (relu(start().node("MaxPool", &["a"], "c", &[("kernel_shape", &[0, 2])]), "c"), "kernel [0, 2]"),
        (relu(start().node("Loop", &["a"], "c", &[]), "c"), "Loop (``) is none that"),
        (relu(start(), "later"), "takes `later`, which nothing before it gives"),
        (relu(start().node("Relu", &["a"], "a", &[]), "a"), "gives `a`, which is there already"),
        (relu(start().node("Reshape", &["a", "a"], "c", &[]), "c"), "known in a run only"),
        (start().node("GlobalAveragePool", &["a"], "b", &[]), "the manifest says f32 [1, 2, 8, 8]"),
        (
            start().weight("w", &[100_000, 2, 3, 3], 1, &wide(4 * 100_000)).node("Conv", &["a", "w"], "b", &[]),
            "the output `b` is Some([1, 100000, 6, 6])",
        ),
    ] {
        let message = network.refusal();
        assert!(message.contains(expected), "{message}, expected {expected}");
    }

    // 30 concatenations, each twice as large as the one before.
    let mut doubling = start();
    let names: Vec<String> = (0..=30).map(|n| if n == 0 { "a".into() } else { format!("c{n}") }).collect();
    for pair in names.windows(2) {
        doubling = doubling.node("Concat", &[&pair[0], &pair[0]], &pair[1], &[("axis", &[1])]);
    }
    assert!(relu(doubling, "c30").refusal().contains("gives a tensor of shape"));

    // Each small enough, and all needed to the end.
    let large = start().list("s", &[0, 2, 8, 1 << 20]);
    let mut large = large.list("ones", &[1, 1, 1, 1 << 20]).node("GlobalMaxPool", &["a"], "g", &[]);
    for n in 0..100 {
        large = large.node("Expand", &["g", "ones"], &format!("e{n}"), &[]);
    }
    for n in 0..100 {
        large = large.node("GlobalMaxPool", &[&format!("e{n}")], &format!("p{n}"), &[]);
    }
    let held = large.node("Mul", &["a", "p0"], "b", &[]);
    assert_eq!(largest_batch(&held.onnx()).unwrap(), 5, "200 Mi elements for each sample");

    for count in [100_000, 1_000_000] {
        let mut chain = start();
        chain.nodes = vec![start().node("Identity", &["a"], "c", &[]).nodes[0].clone(); count];
        assert!(chain.refusal().contains("nodes, expected 1 to 5000"), "{count}");
    }

    // 400 convolutions of 512 channels on 512 x 512 points.
    let mut deep = start().floats("s", &[4], &[1.0, 1.0, 64.0, 64.0]).node("Resize", &["a", "", "s"], "c0", &[]);
    deep = deep.weight("u", &[512, 2, 3, 3], 1, &wide(4 * 512)).node("Conv", &["c0", "u"], "c1", &[("pads", &[1; 4])]);
    deep = deep.weight("w", &[512, 512, 3, 3], 1, &vec![0; 4 * 512 * 512 * 9]);
    for n in 1..400 {
        deep = deep.node("Conv", &[&format!("c{n}"), "w"], &format!("c{}", n + 1), &[("pads", &[1; 4])]);
    }
    assert!(relu(deep, "c400").refusal().contains("multiply-adds a run"));
}

#[test]
fn shapes_that_follow_from_the_inputs_are_computed() {
    // As exporters write an upsampling to the size of another tensor.
    let network = Network::default()
        .node("MaxPool", &["a"], "p", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])])
        .node("Shape", &["a"], "whole", &[])
        .list("two", &[2])
        .list("four", &[4])
        .list("zero", &[0])
        .node("Slice", &["whole", "two", "four", "zero"], "grid", &[])
        .node("Shape", &["p"], "part", &[])
        .node("Slice", &["part", "zero", "two", "zero"], "front", &[])
        .node("Concat", &["front", "grid"], "sizes", &[("axis", &[0])])
        .node("Resize", &["p", "", "", "sizes"], "b", &[]);
    assert_eq!(largest_batch(&network.onnx()).unwrap(), MAX_BATCH);
    // A batch that is doubled is not the manifest's.
    let mixed = Network::default().node("Concat", &["a", "a"], "b", &[("axis", &[0])]);
    assert!(mixed.refusal().contains("Some([2, 2, 8, 8])"));
}
