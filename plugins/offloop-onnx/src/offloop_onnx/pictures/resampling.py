"""Resampling: the reduction of a picture to a model's size, enlargement of small maps, and Lanczos' kernel for alpha."""

from __future__ import annotations

from typing import Any

import numpy as np

from offloop.processor import Task

from .picture import Floats, Picture, strips

__all__ = ["BilinearMap", "enlarge_lanczos", "reduce_picture", "resize"]

_LANCZOS_LOBES = 3


def reduce_picture(picture: Picture, height: int, width: int, task: Task) -> Floats:
    """Returns the colours of a picture at a smaller or larger size. Every pixel has its weight in the result.

    Blocks of whole pixels are averaged first, while the picture is read once, until less than four times the size is left. A
    triangular kernel does the rest.
    """
    row_edges, column_edges = _blocks(picture.height, height), _blocks(picture.width, width)
    reduced = np.empty((len(row_edges) - 1, len(column_edges) - 1, picture.colours), np.float32)
    for top, bottom in strips(len(row_edges) - 1, picture.samples[: row_edges[1], :, 0].size):
        task.checkpoint()
        edges = row_edges[top : bottom + 1]
        rows = picture.colour_floats(int(edges[0]), int(edges[-1]))
        reduced[top:bottom] = _block_means(_block_means(rows, column_edges, 1), edges - edges[0], 0)
    return resize(reduced, height, width)


def _blocks(source: int, target: int) -> Any:
    """Returns the first pixel of each block, and `source`. The sizes of two blocks differ by one pixel at most."""
    count = -(-source // max(source // (2 * target), 1))
    return np.arange(count + 1) * source // count


def _block_means(array: Floats, edges: Any, axis: int) -> Floats:
    if len(edges) - 1 == array.shape[axis]:
        return array
    sizes = np.diff(edges).astype(np.float32)
    return np.add.reduceat(array, edges[:-1], axis=axis) / sizes.reshape([-1 if at == axis else 1 for at in range(array.ndim)])


def resize(array: Floats, height: int, width: int) -> Floats:
    """Resizes a small array of shape (height, width, ...) with a triangular kernel, centre-aligned, edges repeated."""
    for axis, target in enumerate((height, width)):
        if array.shape[axis] != target:
            array = _resize_axis(array, target, axis)
    return array


def _resize_axis(array: Floats, target: int, axis: int) -> Floats:
    """Resizes one side. Each pixel of the result is the weighted sum of a few pixels of the source."""
    source: int = array.shape[axis]
    scale = source / target
    radius = max(scale, 1.0)
    centres = np.clip((np.arange(target) + 0.5) * scale, 0.5, source - 0.5)
    first = np.floor(centres - radius).astype(np.intp)
    at = first[:, None] + np.arange(int(2 * radius) + 2)
    weights = np.maximum(0.0, 1 - np.abs(at + 0.5 - centres[:, None]) / radius) * ((at >= 0) & (at < source))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    at = np.clip(at, 0, source - 1)
    shape = [-1 if side == axis else 1 for side in range(array.ndim)]
    return sum(np.take(array, at[:, tap], axis) * weights[:, tap].reshape(shape) for tap in range(at.shape[1]))


class BilinearMap:
    """A small map that covers a large picture. It is read at the pixels of the picture, without being enlarged as a whole."""

    def __init__(self, values: Floats, height: int, width: int) -> None:
        """`values` has the shape (rows, columns, bands); height and width are those of the picture."""
        self._values = values
        self._rows = _Steps(values.shape[0], height)
        self._columns = _Steps(values.shape[1], width)

    def rows(self, top: int, bottom: int) -> Floats:
        """Returns the values for some rows of the picture, of shape (rows, width, bands)."""
        lower, upper = self._rows.lower[top:bottom], self._rows.upper[top:bottom]
        start = int(lower[0])
        few = self._values[start : int(upper[-1]) + 1]  # rows of the map, which are widened before they are repeated
        weight = self._columns.weight[None, :, None]
        wide = np.take(few, self._columns.lower, 1) * (1 - weight) + np.take(few, self._columns.upper, 1) * weight
        weight = self._rows.weight[top:bottom, None, None]
        return wide[lower - start] * (1 - weight) + wide[upper - start] * weight

    def points(self, rows: Any, columns: Any) -> Floats:
        """Returns the values at some pixels of the picture, of shape (pixels, bands)."""
        down, across = self._rows.weight[rows, None], self._columns.weight[columns, None]
        upper, lower = self._rows.lower[rows], self._rows.upper[rows]
        left, right = self._columns.lower[columns], self._columns.upper[columns]
        above = self._values[upper, left] * (1 - across) + self._values[upper, right] * across
        below = self._values[lower, left] * (1 - across) + self._values[lower, right] * across
        return above * (1 - down) + below * down


class _Steps:
    """For each pixel of the larger side: its two neighbours on the smaller side, and the weight of the second."""

    def __init__(self, source: int, target: int) -> None:
        position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
        self.lower = np.floor(position).astype(np.intp)
        self.upper = np.minimum(self.lower + 1, source - 1)
        self.weight = (position - self.lower).astype(np.float32)


def enlarge_lanczos(array: Floats, factor: int) -> Floats:
    """Returns an array of shape (rows, columns, bands) that is `factor` times as high and as wide. Edges are repeated."""
    for axis in (0, 1):
        array = _enlarge_axis(array, factor, axis)
    return array


def _enlarge_axis(array: Floats, factor: int, axis: int) -> Floats:
    count = array.shape[axis]
    around = [(0, 0)] * array.ndim
    around[axis] = (_LANCZOS_LOBES, _LANCZOS_LOBES)
    padded = np.pad(array, around, mode="edge")
    shape = list(array.shape)
    shape[axis] = count * factor
    result = np.empty(shape, np.float32)
    for phase in range(factor):
        position = (phase + 0.5) / factor - 0.5  # of the result's pixel, from the centre of the source's pixel
        taps = np.arange(-_LANCZOS_LOBES, _LANCZOS_LOBES + 1)
        weights = np.sinc(position - taps) * np.sinc((position - taps) / _LANCZOS_LOBES)
        weights[np.abs(position - taps) >= _LANCZOS_LOBES] = 0
        weights /= weights.sum()
        total = np.zeros(array.shape, np.float32)
        for tap, weight in zip(taps, weights, strict=True):
            if weight:
                total += np.float32(weight) * _slice(padded, axis, int(tap) + _LANCZOS_LOBES, count)
        _every(result, axis, phase, factor)[...] = total
    return result


def _slice(array: Floats, axis: int, start: int, count: int) -> Floats:
    return array[(slice(None),) * axis + (slice(start, start + count),)]


def _every(array: Floats, axis: int, start: int, step: int) -> Floats:
    return array[(slice(None),) * axis + (slice(start, None, step),)]
