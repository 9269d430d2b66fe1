"""Segments medical images by diffusion in a latent space."""

from ._native import BundleError, Class, EngineError, Segmentation, Segmenter, __version__

__all__ = ["BundleError", "Class", "EngineError", "Segmentation", "Segmenter", "__version__"]
