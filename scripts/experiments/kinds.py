#!/usr/bin/env python3
"""How well a bundle's score of kind tells echocardiograms from other pictures.

    kinds.py --ldseg target/release/ldseg --bundle models/echo --images CAMUS --split RUN/split.yaml [--other NAME=DIR ...]

Takes the images of the run's validation patients as they are, mirrored, turned, half covered and cropped wrongly, noise, lines of text, and
up to 100 pictures, or slices of NIfTI volumes across their last axis, of each other folder, and prints for each the median score, the
area under the receiver operating characteristic curve against the images as they are, and the part that the bundle's
threshold refuses. Needs numpy and Pillow, and nibabel for volumes.
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def changed(image):
    """The image as it is and changed, by name."""
    width, height = image.size
    covered = np.array(image)
    covered[:, : width // 2] = 0
    return {
        "as they are": image,
        "mirrored": image.transpose(Image.FLIP_LEFT_RIGHT),
        "turned by 180 degrees": image.transpose(Image.ROTATE_180),
        "turned by 90 degrees": image.transpose(Image.ROTATE_90),
        "half covered": Image.fromarray(covered),
        "wrong crop": image.crop((0, 0, width // 2, height // 2)).resize(image.size),
    }


def text(index):
    """A frame of a report: lines of white letters on black."""
    image = Image.new("L", (224, 224))
    words = "PATIENT EDV ESV LVEF ml cm/s 54 % 2026-03-11 Vmax MI 1.3 TIS 0.8 FR 52 Hz depth 16.0 cm".split()
    rng = random.Random(index)
    for row in range(8, 216, 14):
        line = " ".join(rng.choice(words) for _ in range(rng.randint(0, 6)))
        ImageDraw.Draw(image).text((8, row), line, fill=rng.randint(150, 255))
    return image


def slices(volumes, most):
    """Up to `most` pictures, spread over the middle halves of the volumes' last axes."""
    if not volumes or not most:
        return
    import nibabel

    for path in volumes:
        data = np.asarray(nibabel.load(path).dataobj, float)
        depth = data.shape[2]
        for at in np.linspace(depth // 4, 3 * depth // 4, max(1, most // len(volumes))).astype(int):
            one = data[:, :, at]
            yield Image.fromarray(np.uint8(255 * (one - one.min()) / max(np.ptp(one), 1e-9)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ldseg", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--split", required=True, type=Path)
    parser.add_argument("--other", action="append", default=[], metavar="NAME=DIR")
    args = parser.parse_args()
    random.seed(1)
    noise = np.random.default_rng(1)

    side = args.split.read_text().split("validation:", 1)[1]
    patients = {line[2:].strip('"') for line in side.splitlines() if line.startswith("- ")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def keep(kind, index, image):
            (folder / kind).mkdir(exist_ok=True)
            image.save(folder / kind / f"{index:04d}.png")

        own = [path for path in sorted(args.images.glob("*.png")) if not path.stem.endswith("_gt")]
        for index, path in enumerate(path for path in own if path.name.split("_")[0] in patients):
            for kind, image in changed(Image.open(path).convert("L")).items():
                keep(kind, index, image)
        for index in range(100):
            keep("text", index, text(index))
            keep("noise", index, Image.fromarray(noise.integers(0, 256, (224, 224), dtype=np.uint8)))
        for other in args.other:
            name, _, place = other.partition("=")
            paths = sorted(path for path in Path(place).rglob("*.png") if not path.stem.endswith(("_gt", "_anno")))
            for index, path in enumerate(random.sample(paths, min(100, len(paths)))):
                keep(name, index, Image.open(path).convert("L"))
            for index, image in enumerate(slices(sorted(Path(place).rglob("*.nii*")), 100 if not paths else 0)):
                keep(name, index, image)

        scores, refused = {}, {}
        for kind in sorted(path.name for path in folder.iterdir()):
            command = [args.ldseg, "segment", folder / kind, "--bundle", args.bundle, "--output", folder / "out" / kind, "--json"]
            found = json.loads(subprocess.run(map(str, command), check=True, capture_output=True, text=True).stdout)
            kinds = [file["image_kind"] for file in found["files"]]
            scores[kind] = np.array([kind["score"] for kind in kinds])
            refused[kind] = np.mean([not kind["right"] for kind in kinds])
    usual = scores["as they are"]
    print("| images | number | median score | AUROC | refused |\n|---|---|---|---|---|")
    for kind, found in scores.items():
        above = np.mean([(found > score).mean() + 0.5 * (found == score).mean() for score in usual])
        print(f"| {kind} | {len(found)} | {np.median(found):.2f} | {above:.3f} | {refused[kind]:.0%} |")


if __name__ == "__main__":
    main()
