#!/usr/bin/env python3
"""Why the 3-D image encoder differs from TensorFlow's stored output by 1e-2 of its standard deviation.

usage: scripts/experiments/tensorflow-sums.py FOLDER

FOLDER holds imageEncoder3D.hdf5 and io.safetensors.gz. The published network is written anew here, its convolutions run
by ONNX Runtime and its group normalisation by NumPy in two ways: with exact sums, and with sums in f32 that add one number
after the other, channel by channel, as TensorFlow 2.12 does. Needs numpy, h5py, onnx, onnxruntime and safetensors.
"""

import gzip
import sys

import h5py
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load

GROUPS = 4


def read_weights(path):
    weights = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            weights["/".join(name.split("/")[-2:]).removesuffix(":0")] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return weights


class Graph:
    """A few ONNX operators on one input `x`."""

    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], []

    def node(self, kind, inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def conv(self, x, number, groups=1):
        kernel = self.weights[f"conv3d_{number}/kernel"]
        inputs = [x, self.constant(kernel.transpose(4, 3, 0, 1, 2)), self.constant(self.weights[f"conv3d_{number}/bias"])]
        return self.node("Conv", inputs, pads=[kernel.shape[0] // 2] * 6, group=groups)

    def silu(self, x):
        return self.node("Mul", [x, self.node("Sigmoid", [x])])

    def run(self, output, x):
        tensor = helper.make_tensor_value_info
        inputs, outputs = tensor("x", TensorProto.FLOAT, x.shape), tensor(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "part", [inputs], [outputs], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def block(weights, index, x):
    """One level up to its group normalisation; the first includes the network's first convolution."""
    graph, first = Graph(weights), 21 + 3 * index
    start = graph.conv("x", 20) if index == 0 else "x"
    y = graph.conv(graph.silu(start), first + 1, GROUPS)
    y = graph.conv(graph.silu(y), first + 2, GROUPS)
    y = graph.silu(graph.node("Add", [y, graph.conv(start, first)]))
    return graph.run(graph.node("MaxPool", [y], kernel_shape=[2] * 3, strides=[2] * 3), x)


def one_by_one(rows):
    """The mean of each row in f32, one number after the other: NumPy adds rows so, but not within one."""
    return np.add.reduce(np.ascontiguousarray(rows.T), axis=0, dtype=np.float32) / np.float32(rows.shape[1])


def exact(rows):
    return rows.mean(axis=1, dtype=np.float64)


def group_norm(weights, name, x, mean):
    rows = x.reshape(GROUPS, -1)
    centre = mean(rows)[:, None]
    variance = mean((rows - centre.astype(np.float32)) ** 2)[:, None]
    error = variance[:, 0] / rows.var(axis=1, dtype=np.float64) - 1
    print(f"  {name}: greatest error of the variance {np.abs(error).max():.1e}")
    normalised = ((rows - centre) / np.sqrt(variance + 1e-3)).reshape(x.shape)
    gamma, beta = (weights[f"{name}/{part}"].reshape(1, -1, 1, 1, 1) for part in ("gamma", "beta"))
    return (normalised * gamma + beta).astype(np.float32)


def encode(weights, x, mean):
    for index in range(4):
        name = f"group_normalization_{index}" if index else "group_normalization"
        x = group_norm(weights, name, block(weights, index, x), mean)
    graph = Graph(weights)
    x = graph.run(graph.conv("x", 33), x)
    gamma, beta, centre, variance = (
        weights[f"embedding_output/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - centre) / np.sqrt(variance + 1e-3) * gamma + beta


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    weights = read_weights(f"{sys.argv[1]}/imageEncoder3D.hdf5")
    with gzip.open(f"{sys.argv[1]}/io.safetensors.gz") as file:
        stored = load(file.read())
    image = stored["image_u8"].astype(np.float32)[None, None] / np.float32(255)
    expected = stored["z_image"][..., 0]
    for title, mean in [("exact sums", exact), ("sums as TensorFlow takes them", one_by_one)]:
        print(title)
        difference = np.abs(encode(weights, image, mean)[0, 0] - expected) / expected.std()
        print(f"  from TensorFlow's output, over its std: max {difference.max():.1e}, mean {difference.mean():.1e}")


if __name__ == "__main__":
    main()
