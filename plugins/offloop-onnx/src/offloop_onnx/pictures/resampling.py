"""Resampling: the reduction of a picture to a model's size, enlargement of small maps, and Lanczos' kernel for alpha."""

from __future__ import annotations

from functools import lru_cache

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
    down, across = max(picture.height // (2 * height), 1), max(picture.width // (2 * width), 1)
    row_edges, column_edges = np.arange(0, picture.height, down), np.arange(0, picture.width, across)
    reduced = np.empty((len(row_edges), len(column_edges), picture.colours), np.float32)
    counts = np.diff(column_edges, append=picture.width).astype(np.float32)[:, None]
    for top, bottom in strips(len(row_edges), picture.width * down):
        task.checkpoint()
        first, last = top * down, min(bottom * down, picture.height)
        rows = picture.colour_floats(first, last)
        columns = np.add.reduceat(rows, column_edges, axis=1) / counts if across > 1 else rows
        edges = row_edges[top:bottom] - first
        row_counts = np.diff(edges, append=last - first).astype(np.float32)[:, None, None]
        reduced[top:bottom] = np.add.reduceat(columns, edges, axis=0) / row_counts if down > 1 else columns
    return resize(reduced, height, width)


def resize(array: Floats, height: int, width: int) -> Floats:
    """Resizes a small array of shape (height, width, ...) with a triangular kernel, centre-aligned, edges repeated."""
    if array.shape[:2] == (height, width):
        return array
    vertical, horizontal = _triangle(array.shape[0], height), _triangle(array.shape[1], width)
    tall = np.tensordot(vertical, array, axes=(1, 0))
    wide = np.tensordot(horizontal, tall, axes=(1, 1))
    return np.ascontiguousarray(np.swapaxes(wide, 0, 1), dtype=np.float32)


@lru_cache(maxsize=16)  # a service uses a handful of sizes
def _triangle(source: int, target: int) -> Floats:
    """Returns the weights, of shape (target, source), of a triangular kernel that is as wide as a pixel of the larger step."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    distances = np.abs(np.clip(centres, 0.5, source - 0.5)[:, None] - (np.arange(source) + 0.5)[None, :])
    weights = np.maximum(0.0, 1 - distances / max(scale, 1.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class BilinearMap:
    """A small map that covers a large picture. It is read at the pixels of the picture, without being enlarged as a whole."""

    def __init__(self, values: Floats, height: int, width: int) -> None:
        """`values` has the shape (rows, columns, bands); height and width are those of the picture."""
        self._values = values
        self._rows = _Steps(values.shape[0], height)
        self._columns = _Steps(values.shape[1], width)

    def rows(self, top: int, bottom: int) -> Floats:
        """Returns the values for some rows of the picture, of shape (rows, width, bands)."""
        at = slice(top, bottom)
        lower, upper, weight = self._rows.lower[at], self._rows.upper[at], self._rows.weight[at, None, None]
        small = self._values[lower] * (1 - weight) + self._values[upper] * weight
        weight = self._columns.weight[None, :, None]
        return small[:, self._columns.lower] * (1 - weight) + small[:, self._columns.upper] * weight

    def points(self, rows: np.ndarray, columns: np.ndarray) -> Floats:
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
