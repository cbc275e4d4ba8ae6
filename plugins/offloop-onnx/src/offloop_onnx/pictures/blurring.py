"""Box filters: means over windows, in a time that does not depend on the window's size."""

from __future__ import annotations

from math import sqrt

import numpy as np

from .picture import Floats

__all__ = ["blur_radius", "box_mean", "smooth"]

_PASSES = 3  # box filters in a row, which are close to a Gaussian


def box_mean(array: Floats, radius: int) -> Floats:
    """Returns the mean over (2 * radius + 1)² pixels around each pixel. At the edges the window is cut off.

    `array` has the shape (rows, columns, ...).
    """
    return _mean_along(_mean_along(array, radius, 0), radius, 1)


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
    shape = list(array.shape)
    shape[axis] += 1
    sums = np.zeros(shape)  # float64, because the difference of two large float32 sums is inaccurate
    np.cumsum(array, axis=axis, dtype=np.float64, out=sums[(slice(None),) * axis + (slice(1, None),)])
    means: Floats = np.take(sums, last, axis)
    means -= np.take(sums, first, axis)
    means /= (last - first).reshape([-1 if at == axis else 1 for at in range(array.ndim)])
    return means.astype(np.float32)
