"""Segments a picture: segment.py BUNDLE IMAGE LABELS.png [PIXEL_SPACING_MM]

Writes a label map of the picture's size, the class index as grey value, and prints what is in it. Needs the package ldseg
(docs/python.md), NumPy and Pillow.
"""

import sys

import ldseg
import numpy as np
from PIL import Image


def main(bundle, image, output, spacing=None):
    segmenter = ldseg.Segmenter(bundle)
    with Image.open(image) as picture:
        # Grey or RGB. Of colour a bundle for grey images takes the luminance, and notes it.
        pixels = np.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB"))
    result = segmenter.segment(pixels, spacing=None if spacing is None else float(spacing))

    Image.fromarray(result.labels).save(output)
    for index, of_class in enumerate(result.classes):
        colour = "".join(f"{value:02x}" for value in of_class.colour)
        print(f"{of_class.name} (#{colour}): {np.count_nonzero(result.labels == index)} pixels")
    print(f"mean uncertainty: {result.uncertainty.mean(dtype=np.float64):.6f}")

    # Of a bundle that declares this measure, an image of its kind and a known spacing.
    for name in ("left_ventricle", "left_atrium"):
        chamber = (result.measurements or {}).get(name)
        if chamber is not None:
            print(f"{name.replace('_', ' ')}: {chamber['area_cm2']:.3f} cm2, long axis {chamber['long_axis_mm']:.3f} mm, "
                  f"volume {chamber['volume_ml']:.3f} ml")
    for note in result.notes:
        print(f"note: {image}: {note}", file=sys.stderr)


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 5:
        sys.exit("expected BUNDLE IMAGE LABELS.png [PIXEL_SPACING_MM]")
    main(*sys.argv[1:])
