"""Regions: the part of a picture around a small foreground, for a second look at it, and windows in which to look for one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .picture import Floats, Samples
from .resampling import resize

__all__ = ["Region", "cut_into_windows", "find_region"]

_CELLS = 64  # cells of the longer side in which parts of the foreground are told apart
_SURE = 0.5  # mean opacity from which a cell is foreground
_LEAST = 0.1  # the same, if no cell is sure of it
_RELATIVE = 0.5  # part of the highest opacity from which a cell is foreground, if none is sure of it
_SUBSTANTIAL = 0.2  # opacity of a part of the foreground, compared with the largest part, from which it counts
_LESS_SURE = 0.15  # difference to the highest mean opacity of such a part, from which another one does not count
_MARGIN = 0.08  # margin on each side of the foreground, as a part of its longer side
_MARGIN_CELLS = 1.5  # the same in cells, in addition, because the ends of a small foreground are not found
_WINDOWS = ((1.5, 2), (2, 3), (3, 5))  # for each size of a window: how many fill a side, and how many overlap each other on it
_LARGEST = 0.6  # part of the picture above which a second look would show little more


class Region(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column after the last."""
        return self.left + self.width

    def within(self, outer: Region) -> Region:
        """Returns the region in the coordinates of a picture, of which it is in a part."""
        return self._replace(top=outer.top + self.top, left=outer.left + self.left)

    def enlarged(self, factor: int, height: int, width: int) -> Region:
        """Returns the region in the coordinates of a picture of that size, which was reduced by that factor."""
        bottom, right = min(self.bottom * factor, height), min(self.right * factor, width)
        top, left = self.top * factor, self.left * factor
        return Region(top, left, bottom - top, right - left)


def cut_into_windows(height: int, width: int) -> list[Region]:
    """Returns parts of two thirds, half and a third of the sides of a picture. They overlap each other, so that a small
    foreground lies wholly in at least one of them."""
    windows: list[Region] = []
    for parts, count in _WINDOWS:
        high, wide = max(int(height / parts), 1), max(int(width / parts), 1)
        tops, lefts = (np.linspace(0, free, count).round().astype(int).tolist() for free in (height - high, width - wide))
        windows += [Region(top, left, high, wide) for top in tops for left in lefts]
    return windows


def find_region(alpha: Floats, height: int, width: int) -> Region | None:
    """Returns the part of a picture around its foreground, nearly square, with a margin.

    Args:
        alpha: opacity of the whole picture, of shape (rows, columns).
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        None if there is no foreground, or it is so large that there is nothing to gain.
    """
    rows, columns = (min(side, _CELLS) for side in alpha.shape)
    cells = resize(alpha, rows, columns)
    highest = float(cells.max())
    if highest < _LEAST:
        return None
    is_foreground = cells >= (_SURE if highest >= _SURE else _RELATIVE * highest)
    if float(is_foreground.mean()) > _LARGEST:
        return None
    parts = _parts(cells, is_foreground)
    largest = max(part.opacity for part in parts)
    parts = [part for part in parts if part.opacity >= _SUBSTANTIAL * largest]
    surest = max(part.sureness for part in parts)
    found = np.any([part.cells for part in parts if part.sureness >= surest - _LESS_SURE], axis=0)
    (top, bottom), (left, right) = (_extent(found.any(axis=axis)) for axis in (1, 0))
    down, across = height / rows, width / columns  # pixels per cell
    longer = max((bottom - top) * down, (right - left) * across)
    side = (1 + 2 * _MARGIN) * longer + 2 * _MARGIN_CELLS * max(down, across)
    first_row, last_row = _clamped((top + bottom) / 2 * down, side, height)
    first_column, last_column = _clamped((left + right) / 2 * across, side, width)
    region = Region(first_row, first_column, last_row - first_row, last_column - first_column)
    return region if region.height * region.width <= _LARGEST * height * width else None


class _Part(NamedTuple):
    """A connected part of the foreground."""

    cells: Samples  # whether each cell belongs to it
    opacity: float  # sum of the opacity of its cells
    sureness: float  # mean of the same


class _Run(NamedTuple):
    """Cells of a part that lie beside each other."""

    start: int  # first column
    stop: int  # column after the last
    part: int  # number of the part


def _extent(condition: Samples) -> tuple[int, int]:
    """Returns the first index at which it holds, and the index after the last."""
    (indices,) = np.nonzero(condition)
    return int(indices[0]), int(indices[-1]) + 1


def _clamped(centre: float, length: float, limit: int) -> tuple[int, int]:
    """Returns first pixel and pixel after the last, moved into the picture and cut to it."""
    whole = max(min(round(length), limit), 1)
    first = min(max(round(centre - whole / 2), 0), limit - whole)
    return first, first + whole


def _parts(cells: Floats, is_foreground: Samples) -> list[_Part]:
    """Returns the connected parts of the foreground. Cells that touch at a corner are connected."""
    labels = np.zeros(cells.shape, np.intp)  # number of each cell's part; 0: no foreground
    parents = [0]  # number of the part that a part was found to belong to, or its own
    before: list[_Run] = []
    for row, line in enumerate(np.diff(is_foreground.astype(np.int8), prepend=0, append=0, axis=1)):
        runs: list[_Run] = []
        for start, stop in zip(np.flatnonzero(line == 1).tolist(), np.flatnonzero(line == -1).tolist(), strict=True):
            touched = {_root(parents, run.part) for run in before if run.start <= stop and start <= run.stop}
            part = min(touched, default=len(parents))
            if not touched:
                parents.append(part)
            for other in touched:
                parents[other] = part
            labels[row, start:stop] = part
            runs.append(_Run(start, stop, part))
        before = runs
    labels = np.array([_root(parents, part) for part in range(len(parents))])[labels]
    flat = labels.reshape(-1)
    counts, sums = np.bincount(flat), np.bincount(flat, cells.reshape(-1))
    return [_Part(labels == part, float(sums[part]), float(sums[part] / counts[part])) for part in np.unique(flat) if part]


def _root(parents: list[int], part: int) -> int:
    """Returns the number of the part that a part belongs to."""
    while parents[part] != part:
        part = parents[part]
    return part
