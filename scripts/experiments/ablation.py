#!/usr/bin/env python3
"""What each choice in the compact networks costs and buys, as a Markdown table:

    scripts/experiments/ablation.py DATA OUTPUT [--epochs 6] [--size 128] [--only NAME,NAME]

Trains every variant of the echo recipe alike on DATA, then times all of them in turns with one thread. The runs stay in
OUTPUT: what is there already is not trained again. `ldseg` and `ldseg-train` are taken from $LDSEG and $LDSEG_TRAIN, else
from the path; ONNX Runtime from $ORT_DYLIB_PATH. Needs nothing but Python.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "models" / "recipes" / "echo.yaml"
NETWORKS = ["image_encoder", "denoiser", "label_decoder"]
VARIANTS = {
    "as it is": [],
    "no context": ["context_widths=[]"],
    "no context, denoiser of two levels with attention": [
        "context_widths=[]",
        "embedding_channels=48",
        "denoiser_widths=[16, 32]",
        "denoiser_blocks=1",
        "denoiser_attention=[false, true]",
    ],
    "narrower context": ["context_widths=[64, 96]"],
    "context of one level": ["context_widths=[96]"],
    "embedding of 48 channels": ["embedding_channels=48"],
    "denoiser with a block on each side": ["denoiser_blocks=1"],
    "half the widths": ["widths=[16, 32]"],
    "one and a half times the widths": ["widths=[48, 96]", "context_widths=[128, 192]"],
    "separable convolutions": ["separable=true"],
    "separable at twice the widths": ["separable=true", "widths=[64, 128]", "context_widths=[192, 256]"],
    "first convolution of stride 2": ["stem=2", "widths=[16, 32, 64]", "label_widths=[8, 16, 32]"],
    "latent at 1/16 with 16 channels": [
        "downsampling=16",
        "latent_channels=16",
        "embedding_channels=64",
        "widths=[32, 64, 96]",
        "label_widths=[16, 32, 64]",
        "context_widths=[128]",
        "denoiser_widths=[48]",
    ],
    "latent of 1 channel": ["latent_channels=1"],
    "instance normalisation": ["group_size=1"],
}


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True).stdout


def train(name, settings, args):
    """The last validation of a run, which is trained and exported unless that was done before."""
    folder = args.output / name.replace(" ", "-").replace("/", "")
    bundle = folder / "bundle"
    if not bundle.exists():
        settings = [f"network.{setting}" for setting in settings] + [
            f"network.input_size=[{args.size}, {args.size}]",
            f"training.epochs={args.epochs}",
            f"training.validate_every={args.epochs}",
        ]
        words = [word for setting in settings for word in ("--set", setting)]
        resume = ["--resume"] if (folder / "run" / "recipe.yaml").exists() else []
        run(args.trainer, "fit", RECIPE, "--data", args.data, "--output", folder / "run", *words, *resume)
        run(args.trainer, "export", folder / "run", "--output", bundle)
    with (folder / "run" / "metrics.csv").open() as file:
        row = [row for row in csv.DictReader(file) if row["validation_dice"]][-1]
    alone = [float(value) for key, value in row.items() if key.startswith("autoencoder dice")]
    size = sum((bundle / f"{network}.onnx").stat().st_size for network in [*NETWORKS, "label_encoder"])
    return {"dice": float(row["validation_dice"]), "alone": statistics.mean(alone), "bytes": size, "bundle": bundle}


def seconds(bundle, engine, args):
    words = ["bench", "--bundle", bundle, "--engine", engine, "--threads", 1, "--runs", 30, "--json"]
    return {stage["name"]: stage["median_seconds"] for stage in json.loads(run(args.ldseg, *words))["stages"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(VARIANTS), metavar="NAME,NAME")
    args = parser.parse_args()
    args.ldseg, args.trainer = os.environ.get("LDSEG", "ldseg"), os.environ.get("LDSEG_TRAIN", "ldseg-train")
    found = {name: train(name, VARIANTS[name], args) for name in args.only}
    times = {(name, engine): [] for name in found for engine in ("ort", "tract")}
    for _ in range(args.rounds):
        for name, engine in times:
            times[name, engine].append(seconds(found[name]["bundle"], engine, args))
    print("| variant | Dice | autoencoder alone | ONNX | image encoder | denoiser | label decoder | whole, ort | whole, tract |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, one in found.items():
        ms = {(engine, stage): f"{1e3 * statistics.median(round[stage] for round in times[name, engine]):.2f}"
              for engine in ("ort", "tract") for stage in [*NETWORKS, "whole_loop"]}
        stages = " | ".join(ms["ort", stage] for stage in NETWORKS)
        print(f"| {name} | {one['dice']:.3f} | {one['alone']:.3f} | {one['bytes'] / 1e6:.1f} MB | {stages} | "
              f"{ms['ort', 'whole_loop']} | {ms['tract', 'whole_loop']} |")


if __name__ == "__main__":
    main()
