"""What other DICOM libraries make of files: `pixels FOLDER`, `made FOLDER`, `segmentation SEG SOURCE LABELS`, `report SR`,
`names FOLDER`, `texts SOURCE DERIVED...` and `regions CINE FOLDER`."""

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


def ultrasound(pixels, **attributes):
    """A data set of grey pixels [frames, height, width], with these attributes besides."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientName, dataset.PatientID = "US", "Doe^Jane", "1"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.FrameTime = "40"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    return dataset


def item(**attributes):
    """A sequence of one item."""
    dataset = pydicom.Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return [dataset]


def palette(bits, entries=None, segments=None):
    """A palette of 256 entries, each colour with another one."""
    attributes = {"PhotometricInterpretation": "PALETTE COLOR"}
    for shift, name in enumerate(("Red", "Green", "Blue")):
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        if entries is not None:
            attributes[f"{name}PaletteColorLookupTableData"] = np.roll(entries, shift).astype("<u2").tobytes()
        else:
            kind = "<u2" if bits == 16 else "u1"
            data = np.asarray(segments, kind).tobytes()
            attributes[f"Segmented{name}PaletteColorLookupTableData"] = data + bytes(len(data) % 2)
    return attributes


def made(folder):
    """Makes files that say unusual things of their values, and what pydicom reads of them."""
    bytes_ = (np.arange(2 * 16 * 16) * 7 % 256).astype("u1").reshape(2, 16, 16)
    words = (np.arange(2 * 16 * 16) * 37 - 9000).astype("<i2").reshape(2, 16, 16)
    ramp = np.arange(256)
    table = (60000 - ramp**2 * 0.9).astype("<u2")
    lut = pydicom.Dataset()
    lut.add_new("LUTDescriptor", "US", [256, 0, 16])
    lut.add_new("LUTData", "OW", table.tobytes())
    # 0, up to 100 in 100 steps, down to 20 in 55, and the 100 steps once more, from there.
    segments = lambda scale, offset: [0, 1, 0, 1, 100, 100 * scale, 1, 55, 20 * scale, 2, 1] + offset
    files = {
        "linear": ultrasound(words, RescaleSlope="0.5", RescaleIntercept="-1024"),
        "negative": ultrasound(bytes_, RescaleSlope="-2", RescaleIntercept="3"),
        "table": ultrasound(bytes_, ModalityLUTSequence=[lut]),
        "palette16": ultrasound(bytes_, **palette(16, ramp * 257)),
        "palette16_high": ultrasound(bytes_, **palette(16, ramp * 256)),
        "palette16_segmented": ultrasound(bytes_, **palette(16, segments=segments(256, [3, 0]))),
        "palette8_segmented": ultrasound(bytes_, **palette(8, segments=segments(1, [3, 0, 0, 0]))),
        # Entries of 8 bits that are said to have 16: what they mean is what they hold.
        "palette16_low": ultrasound(bytes_, **palette(16, ramp)),
    }
    slopes = [(2.0, -5.0), (0.25, 100.0)]
    enhanced = ultrasound(bytes_)
    enhanced.PerFrameFunctionalGroupsSequence = [
        item(PixelValueTransformationSequence=item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US"))[0]
        for slope, intercept in slopes
    ]
    files["per_frame"] = enhanced
    listed = []
    for name, dataset in files.items():
        path = Path(folder) / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        dataset = pydicom.dcmread(path)
        if name == "per_frame":
            stack = [frame * slope + intercept for frame, (slope, intercept) in zip(dataset.pixel_array, slopes)]
            expected = np.stack(stack)[:, None]
        elif name == "palette16_low":
            from pydicom.pixels import apply_color_lut

            expected = np.moveaxis(apply_color_lut(dataset.pixel_array, dataset), -1, 1)
        else:
            expected = values(dataset)
        expected.astype("<f4").tofile(Path(folder) / f"{name}.f32")
        listed.append({"path": str(path), "name": name, "shape": expected.shape})
    print(json.dumps(listed))


NAMES = {
    "ISO_IR 100": "Buc^Jérôme",
    "ISO_IR 101": "Wałęsa^Łukasz",
    "ISO_IR 109": "Ċetta^Ġorġ",
    "ISO_IR 110": "Bērziņš^Jānis",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 144": "Люкceмбypг",
    "ISO_IR 148": "Çavuşoğlu^Işık",
    "ISO_IR 166": "นามสกุล^ชื่อต้น",
    "ISO_IR 192": "Wang^XiaoDong=王^小東",
    "GB18030": "Wang^XiaoDong=王^小东",
    "GBK": "Wang^XiaoDong=王^小东",
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 87\\ISO 2022 IR 159": "Yamada^Tarou=丂山^太郎",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO 2022 IR 100\\ISO 2022 IR 144": "Müller^Люк",
}


def names(folder):
    """Makes a file of each character set that pydicom can write, with a name in it."""
    listed = []
    for number, (terms, name) in enumerate(NAMES.items()):
        charset = terms.split("\\")
        dataset = ultrasound(np.zeros((1, 8, 8), "u1"), SpecificCharacterSet=charset if len(charset) > 1 else terms)
        dataset.PatientName = name
        dataset.StudyDescription = name.replace("^", " ").replace("=", " ")
        path = Path(folder) / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        assert str(pydicom.dcmread(path).PatientName) == name, terms
        listed.append({"path": str(path), "charset": terms})
    print(json.dumps(listed))


def texts(*paths):
    """The texts of data sets, of each a list."""
    read = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    print(json.dumps([[str(one.PatientName), str(one.get("StudyDescription"))] for one in read]))


def region(corners, millimetres):
    """An ultrasound region of tissue."""
    x0, y0, x1, y1 = corners
    return item(
        RegionSpatialFormat=1,
        RegionDataType=1,
        RegionFlags=0,
        RegionLocationMinX0=x0,
        RegionLocationMinY0=y0,
        RegionLocationMaxX1=x1,
        RegionLocationMaxY1=y1,
        PhysicalUnitsXDirection=3,
        PhysicalUnitsYDirection=3,
        PhysicalDeltaX=millimetres / 10,
        PhysicalDeltaY=millimetres / 10,
    )[0]


def regions(cine, folder):
    """Makes DICOM of a grey GIF of 224 x 224 pixels: with an inset of another scale first, and as two views."""
    from PIL import Image, ImageSequence

    frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(Image.open(cine))]
    cases = {
        "inset": [region((0, 0, 39, 39), 1.2), region((40, 0, 223, 223), 0.3)],
        "views": [region((0, 0, 111, 223), 0.3), region((112, 0, 223, 223), 0.3)],
    }
    for name, found in cases.items():
        dataset = ultrasound(np.stack(frames), SequenceOfUltrasoundRegions=found)
        dataset.save_as(Path(folder) / f"{name}.dcm", enforce_file_format=True)
    print(json.dumps(list(cases)))


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
    commands = [pixels, made, segmentation, report, names, texts, regions]
    {command.__name__: command for command in commands}[sys.argv[1]](*sys.argv[2:])
