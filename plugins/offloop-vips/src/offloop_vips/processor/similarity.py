"""Structural similarity of two pictures (SSIM, Wang et al. 2004), by their luminance."""

from __future__ import annotations

from typing import Any

__all__ = ["ssim"]

_SIGMA = 1.5  # pixels; standard deviation of the window, by the paper
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(first: Any, second: Any) -> float:
    """Returns the mean structural similarity of two images of one size, 0 to 1. Alpha counts as black behind the colours."""
    a, b = _luminance(first), _luminance(second)
    mean_a, mean_b = _windowed(a), _windowed(b)
    variance_a, variance_b = _windowed(a * a) - mean_a * mean_a, _windowed(b * b) - mean_b * mean_b
    covariance = _windowed(a * b) - mean_a * mean_b
    similarity = (mean_a * mean_b * 2 + _C1) * (covariance * 2 + _C2)
    return float((similarity / ((mean_a * mean_a + mean_b * mean_b + _C1) * (variance_a + variance_b + _C2))).avg())


def _luminance(image: Any) -> Any:
    if image.hasalpha():
        image = image.flatten()
    return image.colourspace("b-w").cast("float")


def _windowed(image: Any) -> Any:
    return image.gaussblur(_SIGMA, min_ampl=0.01)
