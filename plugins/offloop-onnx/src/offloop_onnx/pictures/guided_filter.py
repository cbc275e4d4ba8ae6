"""Guided filter: a mask whose edges follow the edges of a picture (He, Sun, Tang: "Guided image filtering").

Within a window around each pixel the mask is explained as a linear function of the picture's luminance. The function is fitted
at a small size, which is the fast variant of the filter, and applied to the luminance at full size, so that the edges are as
sharp as the picture.
"""

from __future__ import annotations

import numpy as np

from .blurring import box_mean
from .picture import Floats

__all__ = ["fit_mask", "luminance"]

_EPSILON = 1e-4  # squared contrast, from 0 to 1, below which an edge of the picture is no edge of the mask
_WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)  # of red, green and blue in the luminance of sRGB


def luminance(colours: Floats) -> Floats:
    """Returns the luminance, of shape (...), of an array of shape (1 or 3, ...)."""
    if len(colours) == 1:
        return colours[0]
    red, green, blue = (colours[band] * _WEIGHTS[band] for band in range(3))
    return red + green + blue


def fit_mask(guide: Floats, mask: Floats, radius: int) -> Floats:
    """Returns slope and offset, of shape (2, rows, columns), of the mask as a linear function of the guide.

    Args:
        guide: luminance, of shape (rows, columns).
        mask: opacity, of the same shape.
        radius: half of the window's width in pixels.
    """
    mean_guide, mean_mask, mean_square, mean_product = box_mean(np.stack([guide, mask, guide * guide, guide * mask]), radius)
    slope = (mean_product - mean_guide * mean_mask) / (mean_square - mean_guide * mean_guide + np.float32(_EPSILON))
    return box_mean(np.stack([slope, mean_mask - slope * mean_guide]), radius)
