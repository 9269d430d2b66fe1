import os
from collections.abc import Sequence
from typing import Literal, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__version__: str

class BundleError(Exception):
    """The bundle is incomplete, altered or of an unknown version."""

class EngineError(RuntimeError):
    """The engine could not load or run a network, or the device is not there."""

class Chamber(TypedDict):
    """A chamber of the heart in one frame, by the method of discs in this plane alone."""

    area_cm2: float
    long_axis_mm: float
    volume_ml: float

class MeasuredChamber(Chamber, total=False):
    """A chamber and, where the bundle was calibrated, where the true values lie."""

    area_cm2_interval: tuple[float, float]
    long_axis_mm_interval: tuple[float, float]
    volume_ml_interval: tuple[float, float]

class ImageKind(TypedDict):
    """Whether an image is of the kind that the bundle was trained on."""

    score: float
    threshold: float
    right: bool

class Measurements(TypedDict, total=False):
    """What was measured; a chamber that cannot be measured is left out."""

    left_ventricle: MeasuredChamber
    left_atrium: MeasuredChamber

class Timings(TypedDict):
    """Wall-clock time of each stage in seconds."""

    preprocess: float
    image_encoder: float
    denoiser: float
    label_decoder: float
    postprocess: float

@final
class Class:
    """A class of the bundle."""

    @property
    def name(self) -> str: ...
    @property
    def colour(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255, to draw it in."""

@final
class Segmentation:
    """One image's segmentation, in the image's own grid: [H, W], or [D, H, W] for a volume."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """[H, W] or [D, H, W]: the index of the most probable class."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """[K, H, W] or [K, D, H, W], 0 to 1: the class probabilities, averaged over the samples."""

    @property
    def uncertainty(self) -> NDArray[np.float32]:
        """[H, W] or [D, H, W], 0 to 1: the entropy of the averaged probabilities over its maximum."""

    @property
    def classes(self) -> list[Class]:
        """In the order of their indices; the first is the background."""

    @property
    def steps(self) -> int:
        """Denoiser calls of a sample."""

    @property
    def measurements(self) -> Measurements | None:
        """None where the bundle declares no measures, no spacing was given, the image is a volume or of another kind than
        the bundle was trained on, or the label map shows nothing that can be measured."""

    @property
    def image_kind(self) -> ImageKind | None:
        """None where the bundle does not tell."""

    @property
    def interval_level(self) -> float | None:
        """Probability with which each interval of `measurements` holds the true value, at least; None without intervals."""

    @property
    def notes(self) -> list[str]:
        """What was not taken as it is, such as the luminance of a colour image by a bundle of grey images."""

    @property
    def timings(self) -> Timings: ...

@final
class Segmenter:
    """A loaded bundle, ready to segment. Threads may share it, and wait for each other then; those that have one each
    run side by side, as no interpreter lock is held meanwhile."""

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        engine: Literal["tract", "ort"] = "tract",
        device: Literal["cpu", "cuda", "tensorrt", "openvino", "xnnpack"] = "cpu",
        threads: int | None = None,
        ort_library: str | os.PathLike[str] | None = None,
    ) -> None:
        """Loads the bundle in a folder.

        threads: CPU threads, one for each core by default.
        ort_library: libonnxruntime for engine "ort"; by default what ORT_DYLIB_PATH names.

        Raises OSError where a file cannot be read, BundleError for a bundle that is not in order, EngineError where an
        engine or device is not there, ValueError for a setting out of its range.
        """

    @property
    def classes(self) -> list[Class]:
        """In the order of their indices; the first is the background."""

    def segment(
        self,
        image: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32],
        spacing: float | Sequence[float] | None = None,
        sampler: Literal["direct", "ddim", "ddpm", "dpm++"] | None = None,
        steps: int | None = None,
        samples: int = 1,
        seed: int = 0,
        frame: int = 0,
    ) -> Segmentation:
        """Segments one image: the same image, settings and engine give the same answer, bit by bit.

        image: [H, W] or [H, W, C]; with a bundle for volumes [D, H, W] or [D, H, W, C].
        spacing: mm along each axis, slowest first, or one number for all. Without it nothing is
            measured, and a bundle that resamples to mm refuses the image.
        sampler, steps: how noise is refined; the bundle's way by default.
        samples: how many are drawn and averaged.
        frame: the index in a cine, as every frame has noise of its own.

        Raises TypeError for other arrays, ValueError for other shapes, values that are not finite and settings out of
        their range, EngineError where a network fails.
        """
