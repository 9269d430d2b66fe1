"""Volumes in all 48 orientations, by nibabel and by SimpleITK: `make SOURCE FOLDER` stores one in each, with its affine;
`compare FOLDER OUTPUT` reads the label maps made of them, brings each to RAS, and says where they differ;
`pictures SOURCE FOLDER` stores a picture in all ways that a plane has."""

import sys
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

CODES = ["".join(code) for letters in permutations(["RL", "AP", "SI"]) for code in product(*letters)]


def turned(image, code):
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(code)))


def make(source, folder):
    """RAS.nii.gz, LAS.nii.gz and so on, as nibabel stores them; RAS_itk.mha and so on, as SimpleITK does."""
    image = nib.load(source)
    assert len(set(CODES)) == 48
    for code in CODES:
        stored = turned(image, code)
        assert "".join(nib.aff2axcodes(stored.affine)) == code
        nib.save(stored, folder / f"{code}.nii.gz")
    image = sitk.ReadImage(str(source))
    for code in CODES:
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(folder / f"{code}_itk.mha"))


def pictures(source, folder):
    """The same pixels in the same place, axes reversed and exchanged, as MetaImage and NIfTI."""
    image = sitk.ReadImage(str(source))
    for x, y, swap in product([False, True], repeat=3):
        stored = sitk.Flip(image, [x, y])
        if swap:
            stored = sitk.PermuteAxes(stored, [1, 0])
        for ending in ("mha", "nii.gz"):
            name = f"{'x' * x}{'y' * y}{'s' * swap}_{ending[:3]}.{ending}"
            sitk.WriteImage(stored, str(folder / name))
            # NIfTI is read with a direction by those codes alone that SimpleITK writes.
            assert np.allclose(sitk.ReadImage(str(folder / name)).GetDirection(), stored.GetDirection())


def compare(folder, output):
    """Every label map lies where its image does, and brought to RAS all are one, voxel by voxel."""
    first = None
    for code in CODES:
        image, labels = nib.load(folder / f"{code}.nii.gz"), nib.load(output / f"{code}.nii.gz")
        assert image.shape == labels.shape and np.allclose(image.affine, labels.affine, atol=1e-5), code
        values = np.asarray(turned(labels, "RAS").dataobj)
        first = values if first is None else first
        assert np.array_equal(values, first), f"{code}: {np.mean(values != first):.3f} of the voxels differ"
        image = sitk.ReadImage(str(folder / f"{code}_itk.mha"))
        labels = sitk.ReadImage(str(output / f"{code}_itk.nii.gz"))
        assert image.GetSize() == labels.GetSize(), code
        for of in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(image, of)(), getattr(labels, of)(), atol=1e-4), (code, of)
        values = sitk.GetArrayFromImage(sitk.DICOMOrient(labels, "RAS")).T
        assert np.array_equal(values, first), f"{code} by SimpleITK: {np.mean(values != first):.3f} of the voxels differ"
    assert len(np.unique(first)) > 1, "the label maps are empty"


if __name__ == "__main__":
    {"make": make, "compare": compare, "pictures": pictures}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
