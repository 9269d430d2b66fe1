#!/usr/bin/env python3
"""Mean Dice of label maps that `ldseg segment` wrote, apart from the product's own code. Needs numpy and Pillow.

    score.py PREDICTIONS LABELS CLASSES

PREDICTIONS/X.png is compared with LABELS/X_gt.png, both class indices; CLASSES counts the background, which is left out.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def dice(prediction, reference, label):
    both = np.count_nonzero((prediction == label) & (reference == label))
    sizes = np.count_nonzero(prediction == label) + np.count_nonzero(reference == label)
    return 2 * both / sizes if sizes else np.nan


def main(predictions, labels, classes):
    rows = []
    for path in sorted(Path(predictions).glob("*.png")):
        if path.stem.endswith(("_overlay", "_uncertainty")):
            continue
        prediction = np.array(Image.open(path))
        reference = np.array(Image.open(Path(labels) / f"{path.stem}_gt.png"))
        if prediction.shape != reference.shape:
            sys.exit(f"{path}: {prediction.shape}, but its labels are {reference.shape}")
        rows.append([dice(prediction, reference, label) for label in range(1, int(classes))])
    if not rows:
        sys.exit(f"{predictions}: no label maps")
    means = np.nanmean(rows, axis=0)
    print(f"{len(rows)} images, Dice by class {means.round(4)}, standard deviation {np.nanstd(rows, axis=0).round(4)}, mean {means.mean():.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
