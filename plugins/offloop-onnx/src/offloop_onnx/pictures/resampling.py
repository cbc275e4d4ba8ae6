"""Resampling: the reduction of a picture to a model's size, enlargement of small maps, and Lanczos' kernel for alpha.

Small pictures and maps are planar, of shape (bands, rows, columns), because numpy computes long rows of one band several times
as fast as groups of three values.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from offloop.processor import Task

from .picture import Floats, Picture, Samples, strips, to_samples

__all__ = ["BilinearMap", "enlarge_lanczos", "reduce_picture", "reduce_to_bytes", "resize"]

_LANCZOS_LOBES = 3
_WHITE_BYTE = 255.0  # value of a white sample of 8 bits
_MAX_BYTE_FACTOR = 257  # largest number of bytes whose sum fits into 16 bits


def reduce_picture(picture: Picture, factor: int, task: Task) -> Floats:
    """Returns the mean colours of blocks of `factor` x `factor` pixels, of shape (colours, rows, columns).

    The blocks at the right and the lower edge are smaller if the side is no multiple of `factor`.
    """
    bands, height, width = picture.colours, picture.height, picture.width
    means = np.empty((bands, -(-height // factor), -(-width // factor)), np.float32)
    is_narrow = picture.samples.dtype.itemsize == 1 and factor <= _MAX_BYTE_FACTOR and not picture.has_alpha
    for top, bottom in strips(means.shape[1], width * picture.bands if picture.has_alpha else width):
        task.checkpoint()
        sums = np.zeros((bottom - top, width * bands), np.uint16 if is_narrow else np.float32)
        for offset in range(factor):
            rows = picture.every_row(top * factor + offset, min(bottom * factor, height), factor)
            sums[: len(rows)] += rows.reshape(-1, width * bands)
        for band in range(bands):
            means[band, top:bottom] = _column_sums(sums, band, bands, factor)
    means *= np.float32(1 / ((1 if picture.has_alpha else picture.white) * factor * factor))
    means[:, -1] *= np.float32(factor / (height - (means.shape[1] - 1) * factor))
    means[..., -1] *= np.float32(factor / (width - (means.shape[2] - 1) * factor))
    return means


def reduce_to_bytes(picture: Picture, factor: int, task: Task) -> Picture:
    """Returns the mean colours of blocks of `factor` x `factor` pixels as a picture of 8 bits, without alpha."""
    bands, rows, columns = picture.colours, -(-picture.height // factor), -(-picture.width // factor)
    samples = np.empty((rows, columns, bands), np.uint8)
    for top, bottom in strips(rows, picture.width):
        first, last = top * factor, min(bottom * factor, picture.height)
        means = reduce_picture(picture.part(first, 0, last - first, picture.width), factor, task)
        to_samples(means.transpose(1, 2, 0), samples[top:bottom], _WHITE_BYTE)
    return Picture(samples, _WHITE_BYTE)


def _column_sums(rows: Samples, band: int, bands: int, factor: int) -> Floats:
    """Returns the sums of `factor` values of one band each; the last sum of a row has fewer if need be."""
    sums = rows[:, band :: factor * bands].astype(np.float32)
    for offset in range(1, factor):
        others = rows[:, offset * bands + band :: factor * bands]
        sums[:, : others.shape[1]] += others
    return sums


def resize(array: Floats, height: int, width: int) -> Floats:
    """Resizes a small array of shape (..., height, width) with a triangular kernel, centre-aligned, edges repeated."""
    for axis, target in ((-2, height), (-1, width)):
        if array.shape[axis] != target:
            array = _resize_axis(array, target, axis)
    return array


def _resize_axis(array: Floats, target: int, axis: int) -> Floats:
    """Resizes one side. Each pixel of the result is the weighted sum of a few pixels of the source."""
    source: int = array.shape[axis]
    scale = source / target
    radius = max(scale, 1.0)
    centres = np.clip((np.arange(target) + 0.5) * scale, 0.5, source - 0.5)
    first = np.floor(centres - radius + 0.5).astype(np.intp)
    at = first[:, None] + np.arange(ceil(2 * radius))
    weights = np.maximum(0.0, 1 - np.abs(at + 0.5 - centres[:, None]) / radius) * ((at >= 0) & (at < source))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    at = np.clip(at, 0, source - 1)
    shape = (-1, 1) if axis == -2 else (-1,)  # noqa: PLR2004 (the rows)
    total: Floats = np.float32(0)
    for tap in range(at.shape[1]):
        part = np.take(array, at[:, tap], axis)
        part *= weights[:, tap].reshape(shape)
        total = total + part if tap == 0 else np.add(total, part, out=total)
    return total


class BilinearMap:
    """A small map that covers a large picture. It is read at the pixels of the picture, without being enlarged as a whole."""

    def __init__(self, values: Floats, height: int, width: int, factor: float | None = None) -> None:
        """Makes a map over a picture.

        Args:
            values: the map, of shape (bands, rows, columns).
            height: rows of the picture.
            width: columns of the picture.
            factor: pixels per value and side, if the first value covers the first pixels; None: the map is stretched.
        """
        self._values = values
        self._rows = _Steps(values.shape[1], height, factor)
        self._columns = _Steps(values.shape[2], width, factor)

    def rows(self, top: int, bottom: int) -> Floats:
        """Returns the values for some rows of the picture, of shape (bands, rows, width)."""
        lines, steps = self._lines(top, bottom), self._columns
        return _between(np.take(lines, steps.lower, 2), np.take(lines, steps.upper, 2), steps.weight)

    def points(self, rows: Samples, columns: Samples) -> Floats:
        """Returns the values at some pixels of the picture, of shape (bands, pixels). They should lie in few rows, because the
        map is computed for all rows from the first to the last of them."""
        if not len(rows):
            return np.empty((len(self._values), 0), np.float32)
        top = int(rows.min())
        lines, steps = self._lines(top, int(rows.max()) + 1), self._columns
        starts = (rows - top) * lines.shape[2]
        lines = lines.reshape(len(lines), -1)
        left, right = (np.take(lines, starts + step[columns], 1) for step in (steps.lower, steps.upper))
        return _between(left, right, steps.weight[columns])

    def _lines(self, top: int, bottom: int) -> Floats:
        """Returns the values for some rows of the picture, with the columns of the map, of shape (bands, rows, columns)."""
        above, below = (np.take(self._values, step[top:bottom], 1) for step in (self._rows.lower, self._rows.upper))
        return _between(above, below, self._rows.weight[top:bottom, None])

    def spread(self, cells: Samples, top: int, bottom: int) -> Samples:
        """Returns for some rows of the picture the cell in which each pixel lies, of shape (rows, width).

        Args:
            cells: one value for each cell between four values of the map, of shape (rows, columns) of the map. The last row and
                column are the cells between their values and the edge.
            top: first row of the picture.
            bottom: row after the last.
        """
        lower = self._rows.lower[top:bottom]
        start = int(lower[0])
        return np.take(np.take(cells[start : int(lower[-1]) + 1], self._columns.lower, 1), lower - start, 0)


def _between(first: Floats, second: Floats, weight: Floats) -> Floats:
    """Returns the weighted means of two arrays, in the memory of the second."""
    second -= first
    second *= weight
    second += first
    return second


class _Steps:
    """For each pixel of the larger side: its two neighbours on the smaller side, and the weight of the second."""

    def __init__(self, source: int, target: int, factor: float | None) -> None:
        position = np.clip((np.arange(target) + 0.5) / (factor or target / source) - 0.5, 0, source - 1)
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
