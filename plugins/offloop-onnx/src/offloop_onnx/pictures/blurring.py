"""Box filters: means over windows."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from .picture import Floats

__all__ = ["blur_radius", "box_mean", "smooth"]

_FEW = 8  # largest radius up to which adding the pixels one by one is faster
_PASSES = 3  # box filters in a row, which are close to a Gaussian


def box_mean(array: Floats, radius: int) -> Floats:
    """Returns the mean over (2 * radius + 1)² pixels around each pixel. At the edges the window is cut off.

    `array` has the shape (..., rows, columns).
    """
    return _mean_along(_mean_along(array, radius, array.ndim - 2), radius, array.ndim - 1)


def smooth(array: Floats, radius: int) -> Floats:
    """Returns the array after three box filters. `blur_radius` has the radius for a Gaussian."""
    for _ in range(_PASSES):
        array = box_mean(array, radius)
    return array


def blur_radius(sigma: float) -> int:
    """Returns the radius of three box filters that have the standard deviation `sigma`, at least 1 pixel."""
    return max(round((sqrt(12 * sigma * sigma / _PASSES + 1) - 1) / 2), 1)


def _mean_along(array: Floats, radius: int, axis: int) -> Floats:
    count: int = array.shape[axis]
    first = np.clip(np.arange(count) - radius, 0, count)
    last = np.clip(np.arange(count) + radius + 1, 0, count)
    means: Floats = _sums_of_few(array, radius, axis) if radius <= _FEW else _sums_of_many(array, first, last, axis)
    means /= (last - first).astype(np.float32).reshape([-1 if at == axis else 1 for at in range(array.ndim)])
    return means.astype(np.float32, copy=False)


def _sums_of_few(array: Floats, radius: int, axis: int) -> Floats:
    sums = array.astype(np.float32)
    before = (slice(None),) * axis
    for step in range(1, min(radius, array.shape[axis] - 1) + 1):
        sums[(*before, slice(step, None))] += array[(*before, slice(None, -step))]
        sums[(*before, slice(None, -step))] += array[(*before, slice(step, None))]
    return sums


def _sums_of_many(array: Floats, first: Any, last: Any, axis: int) -> Floats:
    """Returns the differences of cumulative sums, in a time that does not depend on the radius."""
    shape = list(array.shape)
    shape[axis] += 1
    cumulated = np.zeros(shape)  # float64, because the difference of two large float32 sums is inaccurate
    np.cumsum(array, axis=axis, dtype=np.float64, out=cumulated[(*(slice(None),) * axis, slice(1, None))])
    return np.take(cumulated, last, axis) - np.take(cumulated, first, axis)
