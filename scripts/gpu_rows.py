#!/usr/bin/env python3
"""What scripts/gpu.sh reads out of the files that its commands write: one line a result, six fields separated by tabs.

The fields are part, what, device, value, expected and verdict (`ok`, `FAILED`, `left out`, or empty for a figure).
Standard library alone.
"""

import csv
import glob
import gzip
import json
import struct
import sys
from pathlib import Path

# Relative difference of a loss between two devices, and the part of equal labels (as `ldseg verify` asks for).
LOSS_TOLERANCE = 1e-3
LABELS_EQUAL = 0.999
# The loss is read back for so many steps at a time on a GPU: the first readings hold compiling and autotuning.
READ_STEPS = 16


def row(*fields):
    print("\t".join(str(field) for field in fields))


def verdict(good):
    return "ok" if good else "FAILED"


def trace(path):
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in line.items()} for line in csv.DictReader(file)]


def losses(name, device, reference, other, steps):
    """The first losses of two runs of the same seed and weights."""
    pair = [trace(path)[: int(steps)] for path in (reference, other)]
    if min(map(len, pair)) < int(steps):
        row("train", f"{name}: first {steps} losses", device, f"{min(map(len, pair))} steps only", "", "FAILED")
        return
    worst = max(abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in zip(*pair))
    row("train", f"{name}: first {steps} losses against the CPU's, relative", device, f"{worst:.1e}",
        f"at most {LOSS_TOLERANCE:g}", verdict(worst <= LOSS_TOLERANCE))


def rate(name, device, path, batch, log):
    """Samples a second after the first third of the steps, and what came before."""
    rows = trace(path)
    # Times are those of reading, which comes for several steps at once: only where the time changes does a span end.
    ends = [i for i in range(len(rows)) if i + 1 == len(rows) or rows[i + 1]["seconds"] - rows[i]["seconds"] > 1e-3]
    late = [i for i in ends if i >= len(rows) // 3]
    if len(late) < 2 or rows[late[-1]]["seconds"] <= rows[late[0]]["seconds"]:
        row("train", f"{name}, batch {batch}: samples/s", device, f"{len(rows)} steps only", "", "FAILED")
        return
    first, last = late[0], late[-1]
    speed = (last - first) * int(batch) / (rows[last]["seconds"] - rows[first]["seconds"])
    row("train", f"{name}, batch {batch}: samples/s", device, f"{speed:.1f}", "", "")
    row("train", f"{name}, batch {batch}: until the first reading, s", device, f"{rows[ends[0]]['seconds']:.1f}", "", "")
    waited = [line.rsplit("waited", 1)[1].strip() for line in Path(log).read_text().splitlines() if "waited" in line]
    if waited:
        row("train", f"{name}, batch {batch}: waiting for data, whole run", device, waited[-1], "", "")


def peer(path):
    report = json.loads(Path(path).read_text())
    for name, counts in report["weights"].items():
        row("train", f"{name}: weights of PyTorch's networks", "", sum(counts.values()), "", "")
    for r in report["rows"]:
        what = f"{r['recipe']}, batch {r['batch']}: samples/s of PyTorch, {r['mode']}, {r['precision']}"
        if "left_out" in r:
            row("train", what, report["device"], r["left_out"], "", "left out")
        else:
            row("train", what, report["device"], f"{r['samples_per_second']:.1f}", "", "")


def verify(path):
    report = json.loads(Path(path).read_text())
    for check in report["checks"]:
        equal = check["name"] == "labels"
        row("engines", f"{report['bundle']} {check['name']}, {check['measure']}", f"{report['engine']} {report['device']}",
            f"{100 * check['value']:.3f} %" if equal else f"{check['value']:.1e}",
            f"at least {100 * check['tolerance']:g} %" if equal else f"at most {check['tolerance']:g}",
            verdict(check["passed"]))


def voxels(path):
    data = gzip.decompress(Path(path).read_bytes())
    # NIfTI-1: the header is 348 bytes, the voxels start where vox_offset says.
    import struct

    [offset] = struct.unpack_from("<f", data, 108)
    [kind] = struct.unpack_from("<h", data, 70)
    if data[344:347] != b"n+1" or kind != 2:
        sys.exit(f"{path}: expected a NIfTI-1 file of unsigned bytes")
    return data[int(offset):]


def labels(bundle, device, reference, other):
    a, b = voxels(reference), voxels(other)
    foreground = sum(value != 0 for value in a)
    if len(a) != len(b) or not foreground:
        found = f"{len(b)} voxels; {foreground} of foreground on the CPU"
        row("engines", f"{bundle}: labels", device, found, f"{len(a)} voxels", "FAILED")
        return
    equal = sum(x == y for x, y in zip(a, b)) / len(a)
    row("engines", f"{bundle}: labels of the example equal to those of ort cpu", device, f"{100 * equal:.4f} %",
        f"at least {100 * LABELS_EQUAL:g} %", verdict(equal >= LABELS_EQUAL))


def bench(path, most_ms):
    report = json.loads(Path(path).read_text())
    device = f"{report['engine']} {report['device']}"
    for stage in report["stages"]:
        ms = 1e3 * stage["median_seconds"]
        goal = most_ms and stage["name"] == "whole_loop"
        row("bench", f"{report['bundle']} {stage['name']}, median of {report['runs']}, ms", device, f"{ms:.3f}",
            f"below {most_ms} (goal)" if goal else "", ("ok" if ms < float(most_ms) else "not reached") if goal else "")
    row("bench", f"{report['bundle']} load, s", device, f"{report['load_seconds']:.2f}", "", "")


def quality(run):
    path = Path(run) / "metrics.csv"
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        row("quality", "epochs finished", "", 0, "", "")
        return
    row("quality", "epochs finished", "", len(rows), "", "")
    scored = [line for line in rows if line["validation_dice"]]
    if scored:
        best = max(scored, key=lambda line: float(line["validation_dice"]))
        row("quality", f"best validation Dice, in epoch {best['epoch']}", "", best["validation_dice"], "", "")


def table(path, heading):
    lines = [line.rstrip("\n").split("\t") for line in open(path)]
    print(heading)
    print("\n| part | what | device | value | expected | verdict |\n|---|---|---|---|---|---|")
    for fields in lines:
        print("| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |")


def cuda_libraries():
    """Folders of the CUDA libraries that pip installed, for LD_LIBRARY_PATH."""
    try:
        import nvidia
    except ImportError:
        return
    print(":".join(glob.glob(f"{list(nvidia.__path__)[0]}/**/lib", recursive=True)))


if __name__ == "__main__":
    known = {f.__name__: f for f in (losses, rate, peer, verify, labels, bench, quality, table, cuda_libraries)}
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        sys.exit(f"usage: gpu_rows.py {'|'.join(known)} ...")
    known[sys.argv[1]](*sys.argv[2:])
