"""What other DICOM libraries make of files: `pixels FOLDER`, `segmentation SEG SOURCE LABELS` and `report SR`."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom

warnings.simplefilter("ignore")


def values(dataset):
    """The values of every frame as [frames, channels, height, width]: colour as RGB, grey after slope and intercept."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    pixels = pixel_array(dataset, raw=False)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        if dataset.RedPaletteColorLookupTableDescriptor[2] > 8:
            pixels = pixels >> 8
    if int(dataset.get("NumberOfFrames", 1) or 1) == 1:
        pixels = pixels[None]
    if pixels.ndim == 4:
        return np.moveaxis(pixels, -1, 1)
    return np.asarray(apply_modality_lut(pixels, dataset))[:, None]


def pixels(folder):
    """Decodes the files that come with pydicom, and lists them."""
    tests = Path(pydicom.data.__file__).parent / "test_files"
    listed = []
    for path in sorted(tests.glob("*.dcm")):
        dataset = pydicom.dcmread(path, force=True)
        if "PixelData" not in dataset or "TransferSyntaxUID" not in dataset.file_meta:
            continue
        if dataset.get("BitsAllocated") not in (8, 16):
            continue
        try:
            decoded = values(dataset)
        except Exception:  # broken on purpose, or without its decoder
            continue
        syntax = dataset.file_meta.TransferSyntaxUID
        decoded.astype("<f4").tofile(Path(folder) / f"{path.stem}.f32")
        listed.append({"path": str(path), "shape": decoded.shape, "syntax": syntax, "name": path.stem})
    print(json.dumps(listed))


def segmentation(seg_path, source_path, labels_path):
    """Reads a segmentation object and compares it with the label map of the same run."""
    import highdicom
    import nibabel
    from PIL import Image

    seg = highdicom.seg.segread(seg_path)
    source = pydicom.dcmread(source_path)
    frames = int(source.get("NumberOfFrames", 1) or 1)
    if labels_path.endswith(".png"):
        labels = np.asarray(Image.open(labels_path))[None]
    else:
        labels = np.asarray(nibabel.load(labels_path).dataobj).transpose(2, 1, 0)
    binary = seg.SegmentationType == "BINARY"
    if frames > 1:
        read = seg.get_pixels_by_source_frame(
            source.SOPInstanceUID, list(range(1, frames + 1)), combine_segments=binary
        )
    else:
        read = seg.get_pixels_by_source_instance([source.SOPInstanceUID], combine_segments=binary)
    if binary:
        differing = int((read != labels).sum())
    else:
        background = 1 - read.sum(-1, keepdims=True)
        classes = np.sort(np.concatenate([background, read], -1), -1)
        chosen = np.concatenate([background, read], -1).argmax(-1)
        # Of two classes as good as equally probable, rounding decides.
        differing = int(((chosen != labels) & (classes[..., -1] - classes[..., -2] > 2 / 255)).sum())
    segments = {segment.segment_label: segment.segmented_property_type.value for segment in seg.SegmentSequence}
    print(json.dumps({"differing": differing, "labelled": int((labels > 0).sum()), "segments": segments}))


def report(path):
    """Lists the measurements of a structured report by finding site."""
    import highdicom

    found = {}
    for group in highdicom.sr.srread(path).content.get_image_measurement_groups():
        sites = [site.value.meaning for site in group.finding_sites]
        for one in group.get_measurements():
            images = [item for item in one[0].ContentSequence if item.ValueType == "IMAGE"]
            frames = images[0].ReferencedSOPSequence[0].get("ReferencedFrameNumber")
            frames = frames if frames is None or isinstance(frames, pydicom.multival.MultiValue) else [frames]
            where = None if frames is None else [int(frame) for frame in frames]
            found[f"{sites[0]}, {one.name.meaning}"] = [one.value, one.unit.value, where]
    print(json.dumps(found))


if __name__ == "__main__":
    {"pixels": pixels, "segmentation": segmentation, "report": report}[sys.argv[1]](*sys.argv[2:])
