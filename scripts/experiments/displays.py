#!/usr/bin/env python3
"""Dice of one bundle, or of several beside each other, on the same images shown differently.

    displays.py --ldseg target/release/ldseg --bundle models/echo [--bundle OTHER ...] --images CAMUS --split RUN/split.yaml

Takes the labelled images of the run's validation patients: as they are, mirrored, upside down (apex at the bottom), with more
black around the sector and zoomed into it, shifted, and with another ratio of width to height. Label maps are moved alike.
Prints for each the Dice of each class, averaged over the images, and the part of the images whose kind the bundle refuses.
Needs numpy and Pillow.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = (1, 2, 3)


def moved(zoom=(1.0, 1.0), shift=(0.0, 0.0), mirrored=False, upside_down=False):
    """A change of a picture about its middle: zoom and shift (a part of each side) along (x, y)."""

    def change(image, resample):
        width, height = image.size
        if mirrored:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        if upside_down:
            image = image.transpose(Image.FLIP_TOP_BOTTOM)
        sx, sy = 1.0 / zoom[0], 1.0 / zoom[1]
        x0 = width / 2 - sx * (width / 2 + shift[0] * width)
        y0 = height / 2 - sy * (height / 2 + shift[1] * height)
        return image.transform(image.size, Image.AFFINE, (sx, 0, x0, 0, sy, y0), resample, fillcolor=0)

    return change


DISPLAYS = {
    "as they are": moved(),
    "mirrored": moved(mirrored=True),
    "upside down": moved(upside_down=True),
    **{f"zoom {zoom}": moved((zoom, zoom)) for zoom in (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3)},
    **{f"shifted by {part:.0%} to the {side}": moved(shift=(sign * part, 0.0))
       for part in (0.05, 0.1, 0.2) for side, sign in (("right", 1), ("left", -1))},
    **{f"shifted by {part:.0%} downwards": moved(shift=(0.0, part)) for part in (0.05, 0.1, 0.2)},
    **{f"{ratio} times as wide": moved((ratio, 1.0)) for ratio in (0.6, 0.8, 1.25)},
    **{f"{ratio} times as high": moved((1.0, ratio)) for ratio in (0.6, 0.8)},
}


def dice(found, true):
    total = found.sum() + true.sum()
    return 2.0 * (found & true).sum() / total if total else 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ldseg", required=True)
    parser.add_argument("--bundle", required=True, action="append")
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--split", required=True, type=Path)
    args = parser.parse_args()

    side = args.split.read_text().split("validation:", 1)[1]
    patients = {line[2:].strip('"') for line in side.splitlines() if line.startswith("- ")}
    paths = [path for path in sorted(args.images.glob("*.png"))
             if path.name.split("_")[0] in patients and path.with_name(f"{path.stem}_gt.png").exists()]
    bundles = " | ".join(f"{bundle} | refused" for bundle in args.bundle)
    print(f"{len(paths)} images of {len(patients)} patients; Dice of classes {', '.join(map(str, CLASSES))}, and their mean\n")
    print(f"| display | {bundles} |\n|---|{'---|---|' * len(args.bundle)}")
    for name, change in DISPLAYS.items():
        row = [name]
        with tempfile.TemporaryDirectory() as temporary:
            shown = Path(temporary) / "in"
            shown.mkdir()
            truth = {}
            for path in paths:
                change(Image.open(path).convert("L"), Image.BILINEAR).save(shown / path.name)
                label = Image.open(path.with_name(f"{path.stem}_gt.png"))
                truth[path.name] = np.array(change(label, Image.NEAREST))
            for index, bundle in enumerate(args.bundle):
                out = Path(temporary) / str(index)
                command = [args.ldseg, "segment", shown, "--bundle", bundle, "--output", out, "--json"]
                done = json.loads(subprocess.run(map(str, command), check=True, capture_output=True, text=True).stdout)
                kinds = [file["image_kind"]["right"] for file in done["files"] if "image_kind" in file]
                scores = np.array([[dice(found == label, true == label) for label in CLASSES]
                                   for found, true in ((np.array(Image.open(out / file)), map_) for file, map_ in truth.items())])
                means = scores.mean(0)
                row += [f"{' / '.join(f'{mean:.3f}' for mean in means)}, {means.mean():.3f}",
                        f"{1 - np.mean(kinds):.0%}" if kinds else ""]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
