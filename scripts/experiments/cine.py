#!/usr/bin/env python3
"""Dice and flicker of segmented cines, apart from the product's own code. Needs numpy, nibabel and Pillow.

    cine.py PREDICTIONS LABELS CLASSES

PREDICTIONS/X.nii.gz is compared with LABELS/X_gt.nii.gz, or X.nii.gz; frames lie along the last axis. CLASSES counts the
background, which is left out of the Dice. Flicker is the part of pixels whose label changes from one frame to the next,
less the part that changes in the reference: change beyond the true motion.
"""

import sys
from pathlib import Path

import nibabel
import numpy as np
from score import dice


def read(path):
    return np.asarray(nibabel.load(path).dataobj).astype(np.uint8)


def change(labels):
    return np.mean(labels[..., 1:] != labels[..., :-1])


def main(predictions, labels, classes):
    scores, flicker = [], []
    for path in sorted(Path(predictions).glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        candidates = [Path(labels) / f"{name}{end}.nii.gz" for end in ("_gt", "")]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            sys.exit(f"{path}: no reference among {', '.join(map(str, candidates))}")
        prediction, reference = read(path), read(found)
        if prediction.shape != reference.shape:
            sys.exit(f"{path}: {prediction.shape}, but its reference is {reference.shape}")
        scores.append([dice(prediction, reference, label) for label in range(1, int(classes))])
        flicker.append(change(prediction) - change(reference))
    if not scores:
        sys.exit(f"{predictions}: no cines")
    means = np.nanmean(scores, axis=0)
    print(f"{len(scores)} cines, Dice by class {means.round(4)}, mean {means.mean():.4f}, flicker {np.mean(flicker):.5f}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
