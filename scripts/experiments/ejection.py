#!/usr/bin/env python3
"""How well volumes and ejection fractions of predicted label maps agree with those of reference label maps.

    ejection.py PREDICTIONS LABELS CLASSES [PIXEL_SPACING]

For files named as in CAMUS: PREDICTIONS/patient0001_4CH_ED.png, of which the reference is patient0001_4CH_ED_gt.png in
LABELS, likewise 2CH and ES. `ldseg measure` (LDSEG names it, else PATH) measures both by the method of discs; the larger of
two ventricles is that at end-diastole. PIXEL_SPACING, its option, matters for the pixels' shape alone: volumes are compared
in per cent of the reference. Bias is prediction less reference; the limits of agreement are the bias plus and minus 1.96
standard deviations (Bland and Altman 1986).
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path


def measure(views, classes, spacing):
    command = [os.environ.get("LDSEG", "ldseg"), "measure", "--classes", classes, "--pixel-spacing", spacing, "--json"]
    for view, files in views.items():
        command += [f"--{view}-chamber", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    told = json.loads(done.stdout)
    return {
        (view, key): told[view][key]
        for view in ("four_chamber", "two_chamber", "biplane")
        for key in ("end_diastolic_volume_ml", "end_systolic_volume_ml", "ejection_fraction")
        if key in told.get(view, {})
    }


def files(folder, patient, suffix):
    return {
        view: [folder / f"{patient}_{short}_{phase}{suffix}.png" for phase in ("ED", "ES")]
        for view, short in (("four", "4CH"), ("two", "2CH"))
    }


def main(predictions, labels, classes, spacing="1"):
    predictions, labels = Path(predictions), Path(labels)
    pairs = {}
    patients = sorted(path.name.split("_")[0] for path in predictions.glob("*_4CH_ED.png"))
    for patient in patients:
        found = measure(files(predictions, patient, ""), classes, spacing)
        expected = measure(files(labels, patient, "_gt"), classes, spacing)
        for key in expected.keys() & found.keys():
            whole = 1 if key[1] == "ejection_fraction" else expected[key]
            pairs.setdefault(key, []).append((found[key], expected[key], 100 * (found[key] - expected[key]) / whole))
    if not pairs:
        sys.exit(f"{predictions}: no label maps named like patient0001_4CH_ED.png")
    print(f"{len(patients)} patients\n")
    print("| view | measure | bias | limits of agreement | mean absolute error | correlation |")
    print("|---|---|---|---|---|---|")
    for (view, key), values in sorted(pairs.items()):
        found, expected, errors = zip(*values)
        bias, spread = statistics.mean(errors), 1.96 * statistics.stdev(errors)
        print(
            f"| {view} | {key.removesuffix('_ml')} | {bias:+.1f} | {bias - spread:+.1f} to {bias + spread:+.1f} "
            f"| {statistics.mean(map(abs, errors)):.1f} | {statistics.correlation(found, expected):.2f} |"
        )


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
