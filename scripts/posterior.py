#!/usr/bin/env python3
"""How honest a bundle's samples are: coverage of the true areas, spread beside error, Dice of one answer and of the mean.

    posterior.py --ldseg target/release/ldseg --bundle models/echo --images DATA [--split runs/echo/split.yaml]
                 [--samples 16] [--sampler ddim] [--steps 10] [--part 0/2] [--patients 0]

Images are X.png with the label map X_gt.png beside them; a patient is what comes before the first `_`. `--split` takes the
validation patients of a run, `--part I/N` every N-th of them from the I-th on, and `--patients` the first so many of all.
Prints a Markdown table, and one line of JSON with --json. Needs numpy and Pillow.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def read_maps(path, shape):
    """Label maps [N, H, W] of a NIfTI-1 file whose last axis counts them."""
    raw = gzip.open(path).read()
    offset = int(np.frombuffer(raw[108:112], "<f4")[0])
    kind = int(np.frombuffer(raw[70:72], "<i2")[0])
    if kind != 2:
        sys.exit(f"{path}: has data type {kind}, expected 2 (unsigned bytes)")
    return np.frombuffer(raw[offset:], np.uint8).reshape(-1, *shape)


def dice(a, b):
    total = a.sum() + b.sum()
    return 2.0 * (a & b).sum() / total if total else 1.0


def ranks(values):
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values))
    for value in np.unique(values):
        same = values == value
        rank[same] = rank[same].mean()
    return rank


def spearman(a, b):
    a, b = ranks(a), ranks(b)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else float("nan")


def validation_patients(split):
    """The patients below `validation:` in a run's split.yaml."""
    lines = Path(split).read_text().split("validation:", 1)[1].splitlines()
    return [re.sub(r'^- "?|"$', "", line) for line in lines if line.startswith("- ")]


def segment(args, images, out, *more):
    names = out / "images.txt"
    out.mkdir(parents=True, exist_ok=True)
    names.write_text("".join(f"{image.resolve()}\n" for image in images))
    command = [args.ldseg, "segment", names, "--bundle", args.bundle, "--output", out, *more]
    if args.threads:
        command += ["--threads", str(args.threads)]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ldseg", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--split")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--patients", type=int, default=0)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--sampler", default="ddim")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--central", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--extra", default="", help="further options of `ldseg segment`, for the samples")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    images = sorted(path for path in args.images.glob("*.png") if path.with_name(f"{path.stem}_gt.png").exists())
    patient = lambda path: path.name.split("_")[0]
    patients = validation_patients(args.split) if args.split else sorted({patient(path) for path in images})
    part, parts = map(int, args.part.split("/"))
    patients = patients[part::parts]
    if args.patients:
        patients = patients[: args.patients]
    images = [path for path in images if patient(path) in set(patients)]
    if not images:
        sys.exit(f"{args.images}: no labelled images of these patients")

    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        direct, sampled, single = (Path(temporary) / name for name in ("direct", "sampled", "single"))
        segment(args, images, direct, "--sampler", "direct")
        loop = ["--sampler", args.sampler, *([] if args.sampler == "direct" else ["--steps", str(args.steps)])]
        segment(args, images, single, *loop)
        segment(args, images, sampled, *loop, "--samples", str(args.samples), "--keep-samples", *args.extra.split())
        tail = (1.0 - args.central) / 2.0
        for image in images:
            truth = np.array(Image.open(image.with_name(f"{image.stem}_gt.png")))
            found = {name: np.array(Image.open(folder / image.name)) for name, folder in
                     (("direct", direct), ("single", single), ("mean", sampled))}
            maps = read_maps(sampled / f"{image.stem}_samples.nii.gz", truth.shape)
            for label in range(1, int(max(truth.max(), 1)) + 1):
                true = truth == label
                of_samples = maps == label
                areas = of_samples.sum((1, 2)).astype(float)
                low, high = np.quantile(areas, [tail, 1.0 - tail])
                pairs = [dice(of_samples[i], of_samples[(i + 1) % len(maps)]) for i in range(len(maps))]
                row = rows.setdefault(label, [])
                row.append({
                    "inside": float(low <= true.sum() <= high),
                    "direct": dice(found["direct"] == label, true),
                    "single": dice(found["single"] == label, true),
                    "mean": dice(found["mean"] == label, true),
                    "pair": float(np.mean(pairs)),
                    "spread": float(areas.std() / max(areas.mean(), 1.0)),
                    "error": abs(areas.mean() - true.sum()) / max(true.sum(), 1.0),
                    "bias": (areas.mean() - true.sum()) / max(true.sum(), 1.0),
                })

    keys = ["inside", "pair", "direct", "single", "mean", "spread", "error", "bias"]
    table = {}
    for label, row in sorted(rows.items()):
        table[label] = {key: float(np.mean([case[key] for case in row])) for key in keys}
        table[label]["rank_area"] = spearman([case["spread"] for case in row], [case["error"] for case in row])
        table[label]["rank_dice"] = spearman([case["pair"] for case in row], [case["mean"] for case in row])
    print(f"{len(images)} images of {len(patients)} patients, {args.samples} samples, {args.sampler} {args.steps} steps\n")
    print("| label | area inside | Dice of pairs | direct | one sample | mean | spread | error | bias | rank (area) | rank (Dice) |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for label, row in table.items():
        print(f"| {label} | {row['inside']:.0%} | {row['pair']:.3f} | {row['direct']:.4f} | {row['single']:.4f} | "
              f"{row['mean']:.4f} | {row['spread']:.3f} | {row['error']:.3f} | {row['bias']:+.3f} | "
              f"{row['rank_area']:.2f} | {row['rank_dice']:.2f} |")
    if args.json:
        print(json.dumps({"images": len(images), "patients": patients, "table": table}))


if __name__ == "__main__":
    main()
