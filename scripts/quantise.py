#!/usr/bin/env python3
"""An int8 copy of a bundle, for ONNX Runtime on CPUs with VNNI. docs/experiments/2026-11-26-int8.md says what it gains and costs.

    quantise.py BUNDLE IMAGES OUTPUT

The convolutions of image encoder, denoiser and label decoder take int8 weights and activations (QDQ form), whose ranges are
calibrated on up to 80 pictures of IMAGES, a folder: training images, never those that are to judge the result. The label
encoder stays as it is, as do the golden tensors: `ldseg verify` then tells how far the copy is from the f32 networks, within
the tolerances that the copy's manifest states. Measure its Dice before you use it. Needs numpy, Pillow, PyYAML, onnx and
onnxruntime; for 2-D bundles.
"""

import hashlib
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import yaml
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

NETWORKS = ["image_encoder", "denoiser", "label_decoder"]
CALIBRATION = 80
# The golden image is smoothed noise, which the ranges of real images fit badly: wide bounds, which a broken file still breaks.
TOLERANCES = {"network": 4.0, "probability": 1.0, "label_agreement": 0.9}


class Inputs(CalibrationDataReader):
    def __init__(self, inputs):
        self.left = iter(inputs)

    def get_next(self):
        return next(self.left, None)


def read(path, manifest):
    height, width = manifest["input_size"]
    picture = Image.open(path).convert("L" if manifest["channels"] == 1 else "RGB")
    image = np.atleast_3d(np.asarray(picture.resize((width, height), Image.BILINEAR), dtype=np.float32)).transpose(2, 0, 1)
    if manifest["normalisation"] == "min_max":
        image = (image - image.min()) / max(image.max() - image.min(), 1e-6)
    else:
        image = (image - image.mean()) / max(image.std(), 1e-6)
    return image[None]


def calibration(bundle, images, manifest):
    """What each network is fed on the way from noise to labels in one step."""
    sessions = {name: onnxruntime.InferenceSession(bundle / f"{name}.onnx") for name in NETWORKS}
    rng = np.random.default_rng(0)
    t = np.array([manifest["timesteps"] - 1], np.float32)
    inputs = {name: [] for name in NETWORKS}
    for path in images:
        image = {"image": read(path, manifest)}
        z_i = sessions["image_encoder"].run(None, image)[0]
        noisy = {"z_t": rng.standard_normal((1, *manifest["latent_shape"]), dtype=np.float32), "z_i": z_i, "t": t}
        z = {"z": sessions["denoiser"].run(None, noisy)[0]}
        for name, one in zip(NETWORKS, (image, noisy, z)):
            inputs[name].append(one)
    return inputs


def main(bundle, images, output):
    bundle, output = Path(bundle), Path(output)
    manifest = yaml.safe_load((bundle / "manifest.yaml").read_text())
    if manifest["spatial_axes"] != 2 or manifest["prediction"] != "x0":
        sys.exit(f"{bundle}: expected a 2-D bundle that predicts x0")
    pictures = [path for path in sorted(Path(images).iterdir())
                if path.suffix.lower() in (".png", ".bmp", ".jpg", ".tif") and not path.stem.endswith(("_gt", "_anno"))]
    if not pictures:
        sys.exit(f"{images}: no pictures")
    random.Random(0).shuffle(pictures)
    if output.exists():
        sys.exit(f"{output}: is there already")
    shutil.copytree(bundle, output)
    for name, inputs in calibration(bundle, pictures[:CALIBRATION], manifest).items():
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(bundle / f"{name}.onnx", prepared, skip_symbolic_shape=True)
            quantize_static(prepared, output / f"{name}.onnx", Inputs(inputs), quant_format=QuantFormat.QDQ,
                            # By channel, a matrix product's bias fails in onnxruntime 1.32.
                            per_channel=name != "denoiser", op_types_to_quantize=["Conv"],
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    manifest["tolerances"] = TOLERANCES
    with open(output / "MODEL_CARD.md", "a") as card:
        card.write("\n## Precision\n\nConvolutions in int8, calibrated on training images; see docs/experiments/2026-11-26-int8.md for what it costs.\n")
    for name in manifest["files"]:
        content = (output / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    text = yaml.safe_dump(manifest, sort_keys=False).encode()
    (output / "manifest.yaml").write_bytes(text)
    (output / "manifest.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.yaml\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
