"""One image through the Python interface: entry_points.py BUNDLE PIXELS DTYPE SHAPE SPACING LABELS, the last two of numbers
separated by commas, or `-`. Writes the label map as bytes and prints measurements and notes as JSON."""

import json
import sys

import numpy as np

import ldseg

bundle, pixels, dtype, shape, spacing, labels = sys.argv[1:]
image = np.fromfile(pixels, dtype).reshape([int(n) for n in shape.split(",")])
spacing = None if spacing == "-" else [float(mm) for mm in spacing.split(",")]
result = ldseg.Segmenter(bundle).segment(image, spacing=spacing)
result.labels.tofile(labels)
print(json.dumps({"measured": result.measurements or {}, "notes": result.notes}))
