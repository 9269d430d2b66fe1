#!/usr/bin/env python3
"""Expected against real Dice, apart from the product's own code. Needs numpy and Pillow.

    expected.py DOCUMENT LABELS

DOCUMENT is what `ldseg segment --json` printed for pictures; LABELS holds X_gt.png for each. Prints, for each class but the
background, the mean of both, Spearman's rank correlation of expected Dice and of the image's mean entropy with the real
Dice, and what the unsure flag tells apart.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from score import dice


def ranks(values):
    return np.argsort(np.argsort(values))


def spearman(a, b):
    return np.corrcoef(ranks(a), ranks(b))[0, 1]


def main(document, labels):
    files = json.loads(Path(document).read_text())["files"]
    maps = [np.array(Image.open(file["output"])) for file in files]
    references = [np.array(Image.open(Path(labels) / f"{Path(file['input']).stem}_gt.png")) for file in files]
    entropy = np.array([file["mean_uncertainty"] for file in files])
    for index, known in enumerate(files[0]["classes"][1:], 1):
        classes = [file["classes"][index] for file in files]
        expected = np.array([found.get("expected_dice", 0.0) for found in classes])
        unsure = np.array([found["unsure"] for found in classes])
        real = np.array([dice(found, reference, index) for found, reference in zip(maps, references)])
        flagged = f"{real[unsure].mean():.3f}, others {real[~unsure].mean():.3f}" if unsure.any() else "none"
        print(f"{known['name']}: expected {expected.mean():.3f}, real {real.mean():.3f}, Spearman {spearman(expected, real):.2f} "
              f"(entropy {spearman(-entropy, real):.2f}), flagged {unsure.sum()}: {flagged}; "
              f"{(unsure & (real < 0.8)).sum()} of {(real < 0.8).sum()} below 0.8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
