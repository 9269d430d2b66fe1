#!/usr/bin/env python3
"""Benchmarks of a bundle, interleaved: every round times every engine once, so that what else the machine does falls on
all of them. Started by scripts/bench.sh, which says what the options are.

The floor is the time that the convolutions and matrix products alone would take at the rate at which ONNX Runtime
multiplies two matrices of side 1024 on the same number of threads.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

try:
    import onnx2torch
    import torch
except ImportError:
    torch = None
from onnx import TensorProto, helper, shape_inference

NETWORKS = ["image_encoder", "denoiser", "label_decoder"]
THREADS = [1, 2]


def command(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def session(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def median_of(runs, call):
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def fixed(path):
    """The graph for a batch of one, with the shapes of all tensors."""
    model = onnx.load(path)
    for tensor in model.graph.input:
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    return shape_inference.infer_shapes(model)


def operations(path):
    """Floating-point operations of the convolutions and matrix products, two per multiplication."""
    graph = fixed(path).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in [*graph.input, *graph.output, *graph.value_info]}
    shapes.update({tensor.name: list(tensor.dims) for tensor in graph.initializer})
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            kernel = shapes[node.input[1]]
            grid = shapes[node.output[0]] if node.op_type == "Conv" else shapes[node.input[0]]
            total += 2 * np.prod(grid[2:]) * np.prod(kernel)
        elif node.op_type in ("MatMul", "Gemm"):
            total += 2 * np.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return int(total)


def gemm_rate(threads, runs):
    n = 1024
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [n, n])
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "gemm", [value("a"), value("b")], [value("c")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    running = session(model.SerializeToString(), threads)
    a = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    return 2 * n**3 / median_of(runs, lambda: running.run(None, {"a": a, "b": a}))


def example(path):
    """A seeded input for each of a network's inputs."""
    rng = np.random.default_rng(0)
    shape = lambda tensor: [d.dim_value for d in tensor.type.tensor_type.shape.dim]
    return {tensor.name: rng.standard_normal(shape(tensor), dtype=np.float32) for tensor in fixed(path).graph.input}


def python_onnxruntime(bundle, threads, runs):
    """The same networks from Python, one call of each."""
    times = {}
    for name in NETWORKS:
        path = bundle / f"{name}.onnx"
        running = session(str(path), threads)
        inputs = example(path)
        times[name] = median_of(runs, lambda: running.run(None, inputs))
    times["whole_loop"] = sum(times.values())
    return times


def pytorch(bundle, threads, runs):
    """PyTorch with the same weights, converted from the bundle by onnx2torch and held equal to ONNX Runtime first."""
    torch.set_num_threads(threads)
    times = {}
    for name in NETWORKS:
        path = bundle / f"{name}.onnx"
        inputs = example(path)
        network = onnx2torch.convert(onnx.load(path)).eval()
        tensors = [torch.from_numpy(value) for value in inputs.values()]
        with torch.inference_mode():
            difference = np.abs(network(*tensors).numpy() - session(str(path), threads).run(None, inputs)[0]).max()
            if difference > 1e-4:
                raise SystemExit(f"{name}: PyTorch differs from ONNX Runtime by {difference}")
            times[name] = median_of(runs, lambda: network(*tensors))
    times["whole_loop"] = sum(times.values())
    return times


def plain_unet(bundle, threads, runs):
    """One forward pass of a plain U-Net (Ronneberger et al. 2015, with group normalisation) of as many weights as
    the bundle has, give or take a tenth, in PyTorch. It answers in one pass, without samples."""
    torch.set_num_threads(threads)
    nn = torch.nn

    class UNet(nn.Module):
        def __init__(self, widths=(18, 36, 72, 144)):
            super().__init__()
            block = lambda i, o: nn.Sequential(*[layer for c in (i, o) for layer in
                                                 (nn.Conv2d(c, o, 3, padding=1), nn.GroupNorm(2, o), nn.SiLU())])
            self.down = nn.ModuleList(block(i, o) for i, o in zip((1, *widths), widths))
            self.middle = block(widths[-1], widths[-1])
            self.enlarge = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in
                                         zip((widths[-1], *widths[:0:-1]), widths[::-1]))
            self.up = nn.ModuleList(block(2 * o, o) for o in widths[::-1])
            self.head = nn.Conv2d(widths[0], 4, 1)

        def forward(self, x):
            skips = []
            for block in self.down:
                x = block(x)
                skips.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.middle(x)
            for enlarge, block in zip(self.enlarge, self.up):
                x = block(torch.cat([enlarge(x), skips.pop()], 1))
            return self.head(x).softmax(1)

    network = UNet().eval()
    image = torch.from_numpy(next(iter(example(bundle / f"{NETWORKS[0]}.onnx").values())))
    with torch.inference_mode():
        return {"whole_loop": median_of(runs, lambda: network(image)),
                "weights": sum(weight.numel() for weight in network.parameters())}


def cine(bundle, engine, threads):
    """Seconds a frame of the example cine takes, from pixels in memory to labels in its own grid."""
    with tempfile.TemporaryDirectory() as folder:
        document = json.loads(command(os.environ["LDSEG"], "segment", "models/examples/echo-phantom.gif", "--bundle", bundle,
                                      "--engine", engine, "--threads", threads, "--output", folder, "--json"))
    return {"frame": statistics.median(frame["milliseconds"] for frame in document["files"][0]["frames"]) / 1e3}


def native(bundle, engine, threads, runs):
    report = json.loads(command(os.environ["LDSEG"], "bench", "--bundle", bundle, "--engine", engine, "--threads", threads,
                                "--runs", runs, "--json"))
    times = {stage["name"]: stage["median_seconds"] for stage in report["stages"]}
    return times | {"load": report["load_seconds"], "peak_memory_bytes": report["peak_memory_bytes"]}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def engines(bundle, rounds, runs):
    contestants = [(f"ldseg, {engine}", threads, lambda e=engine, t=threads: native(bundle, e, t, runs))
                   for threads in THREADS for engine in ("tract", "ort")]
    contestants += [(f"ldseg, {engine}, a frame of a cine", threads, lambda e=engine, t=threads: cine(bundle, e, t))
                    for threads in THREADS for engine in ("tract", "ort")]
    contestants += [("onnxruntime from Python", threads, lambda t=threads: python_onnxruntime(bundle, t, runs))
                    for threads in THREADS]
    if torch:
        contestants += [(name, threads, lambda f=f, t=threads: f(bundle, t, runs)) for threads in THREADS
                        for name, f in (("PyTorch, the same weights", pytorch), ("PyTorch, a plain U-Net", plain_unet))]
    seen = {(name, threads): [] for name, threads, _ in contestants}
    for _ in range(rounds):
        for name, threads, run in contestants:
            seen[name, threads].append(run())
    return [{"what": name, "threads": threads, **{key: spread([one[key] for one in found]) for key in found[0]}}
            for (name, threads), found in seen.items()]


def untrained(folder, size):
    """A bundle of the echo recipe at another input size, after two steps of training."""
    data, run, bundle = folder / "data", folder / f"run{size}", folder / f"bundle{size}"
    if not data.exists():
        command(os.environ["LDSEG_TRAIN"], "phantom", "echo", "--count", 2, "--seed", 1, "--output", data)
    settings = ["validation=1", "training.epochs=1", "training.batch_size=1", f"network.input_size=[{size}, {size}]"]
    words = [word for setting in settings for word in ("--set", setting)]
    command(os.environ["LDSEG_TRAIN"], "fit", "models/recipes/echo.yaml", "--data", data, "--output", run, *words)
    command(os.environ["LDSEG_TRAIN"], "export", run, "--output", bundle)
    return bundle


def by_size(sizes, rounds, runs):
    with tempfile.TemporaryDirectory() as folder:
        bundles = {size: untrained(Path(folder), size) for size in sizes}
        seen = {(size, engine): [] for size in sizes for engine in ("tract", "ort")}
        for _ in range(rounds):
            for size, engine in seen:
                seen[size, engine].append(native(bundles[size], engine, 1, runs))
    return [{"size": size, "engine": engine, **{key: spread([one[key] for one in found]) for key in found[0]}}
            for (size, engine), found in seen.items()]


def milliseconds(one):
    return f"{1e3 * one['median']:.2f} ({1e3 * one['min']:.2f} to {1e3 * one['max']:.2f})"


def table(result):
    lines = [f"# Benchmarks\n\nWritten by `scripts/bench.sh`, which measures all of it in one run: {result['processor']}, "
             f"{os.cpu_count()} cores, {result['date']}, ONNX Runtime {result['onnxruntime']}. Milliseconds: the median over "
             f"{result['rounds']} interleaved rounds of the median over {result['runs']} calls, and the rounds' spread. "
             f"`{result['bundle']}` with its default of one denoiser call; loading includes hashing and planning.\n"]
    lines.append("| what | threads | image encoder | denoiser | label decoder | whole | load | peak memory |")
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in result["engines"]:
        load = milliseconds(row["load"]) if "load" in row else ""
        memory = f"{row['peak_memory_bytes']['median'] / 2**20:.0f} MiB" if "load" in row else ""
        whole = "frame" if "frame" in row else "whole_loop"
        cells = " | ".join(milliseconds(row[key]) if key in row else "" for key in [*NETWORKS, whole])
        lines.append(f"| {row['what']} | {row['threads']} | {cells} | {load} | {memory} |")
    for row in result["floors"]:
        cells = " | ".join(f"{1e3 * row['seconds'][key]:.2f}" for key in [*NETWORKS, "whole_loop"])
        lines.append(f"| floor at {row['gemm_gflops']:.0f} GFLOP/s | {row['threads']} | {cells} | | |")
    mega = ", ".join(f"{key} {value / 1e6:.0f}" for key, value in result["operations"].items())
    lines.append(f"\nMillion floating-point operations: {mega}.")
    if result["pytorch"]:
        weights = next(row["weights"]["median"] for row in result["engines"] if "weights" in row)
        lines.append(f"PyTorch {result['pytorch']}; the plain U-Net has {weights / 1e6:.1f} million weights and is untrained.")
    lines.append("A frame of a cine is counted from its pixels to its labels, resampling included.")
    if result["sizes"]:
        lines.append("\n## Input size\n\nThe echo recipe's networks at other sizes, untrained, one thread.\n")
        lines.append("| pixels | engine | whole | a million pixels | peak memory |\n|---|---|---|---|---|")
        for row in result["sizes"]:
            whole, memory = row["whole_loop"], row["peak_memory_bytes"]["median"] / 2**20
            lines.append(f"| {row['size']} x {row['size']} | {row['engine']} | {milliseconds(whole)} | "
                         f"{1e9 * whole['median'] / row['size']**2:.0f} | {memory:.0f} MiB |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, default=Path("models/echo"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",") if size], default=[128, 256, 512, 1024])
    parser.add_argument("--output", type=Path, default=Path("docs"))
    args = parser.parse_args()
    flops = {name: operations(args.bundle / f"{name}.onnx") for name in NETWORKS}
    floors = []
    for threads in THREADS:
        rate = gemm_rate(threads, args.runs)
        seconds = {name: count / rate for name, count in flops.items()}
        seconds["whole_loop"] = sum(seconds.values())
        floors.append({"threads": threads, "gemm_gflops": rate / 1e9, "seconds": seconds})
    result = {
        "processor": processor(),
        "date": datetime.date.today().isoformat(),
        "onnxruntime": onnxruntime.__version__,
        "pytorch": torch.__version__ if torch else None,
        "bundle": str(args.bundle),
        "rounds": args.rounds,
        "runs": args.runs,
        "operations": flops,
        "floors": floors,
        "engines": engines(args.bundle, args.rounds, args.runs),
        "sizes": by_size(args.sizes, args.rounds, max(3, args.runs // 4)),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "benchmarks.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.output / "benchmarks.md").write_text(table(result))
    print(table(result), end="")


if __name__ == "__main__":
    main()
