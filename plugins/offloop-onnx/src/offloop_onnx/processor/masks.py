"""Finds the mask of a picture: opacity at the model's size, refined at a working size, and read at full size.

A model sees a small person as a few pixels of its input, and takes something else for the person, or only a part of it. So a
model with `second_pass` runs on the part of the picture around what it has found, if that is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offloop.processor import Task

from ..operations import RemoveBackground
from ..pictures.foreground import estimate_colours
from ..pictures.guided_filter import fit_mask, luminance
from ..pictures.picture import Floats, Picture, Samples
from ..pictures.regions import Region, find_region
from ..pictures.resampling import BilinearMap, reduce_picture, resize
from .model_io import find_alpha
from .sessions import Session

__all__ = ["IS_CLEAR", "IS_MIXED", "IS_OPAQUE", "ROUNDED", "Mask", "find_mask"]

IS_CLEAR, IS_MIXED, IS_OPAQUE = 0, 1, 2  # states of a pixel
ROUNDED = 1 / 512  # opacity that is none, because it is less than half a level of 8 bits

_WORKING_SIDE = 256  # least longer side in pixels of the picture that the mask is fitted to, at most half of the largest one
_COLOUR_SIDE = 256  # longer side in pixels of the picture from which the colours on both sides of an edge are estimated
_MASK_RADIUS = 1.5  # half of the guided filter's window, in pixels of the model's mask
_WIDE, _NARROW = 12, 2  # radii in pixels of the two estimates of the colours
_CLEAR, _OPAQUE = 0.2, 0.8  # opacity of a refined mask below and above which a pixel has nothing of the other side
_SURE = 0.5  # opacity from which a pixel is foreground
_LEAST_SURENESS = 0.7  # mean opacity of the foreground of a second pass that counts
_MAX_CUT = 0.3  # part of an edge that lies in the picture, which may be foreground in a second pass that counts
_PASS_FRACTION = 0.15  # progress after the first of two passes


@dataclass(frozen=True, slots=True)
class Mask:
    """The mask of a picture, computed for some pixels at a time, and the colours on both sides of its edge."""

    region: Region  # part of the picture outside of which all pixels are clear
    passes: int  # number of parts of the picture that the model has seen
    values: BilinearMap  # opacity in the region, or slope and offset of the opacity as a function of the luminance
    is_guided: bool
    cells: Samples  # state of all pixels between four values
    colours: BilinearMap | None  # estimated colours of foreground and background in the region; None: not needed

    def states(self, top: int, bottom: int, width: int) -> Samples:
        """Returns the state of each pixel of some rows of the picture, of shape (rows, width)."""
        region = self.region
        states = np.full((bottom - top, width), IS_CLEAR, np.uint8)
        first, last = max(top, region.top), min(bottom, region.bottom)
        if first < last:
            inside = self.values.spread(self.cells, first - region.top, last - region.top)
            if inside.shape == states.shape:
                return inside
            states[first - top : last - top, region.left : region.right] = inside
        return states

    def points(self, colours: Floats, rows: Samples, columns: Samples) -> Floats:
        """Returns the opacity, of shape (pixels,), of some pixels of the region. Their colours are given, of shape (bands,
        pixels)."""
        values = self.values.points(rows - self.region.top, columns - self.region.left)
        return _clean(values[0] * luminance(colours) + values[1]) if self.is_guided else values[0]

    def edge_colours(self, rows: Samples, columns: Samples) -> Floats | None:
        """Returns the estimated colours of foreground and background at some pixels, of shape (bands, pixels)."""
        if self.colours is None:
            return None
        region = self.region  # a feathered mask reaches over its edge
        rows = np.clip(rows - region.top, 0, region.height - 1)
        return self.colours.points(rows, np.clip(columns - region.left, 0, region.width - 1))


@dataclass(frozen=True, slots=True)
class _View:
    """A part of the picture as the model sees it."""

    region: Region
    factor: int | None  # pixels of the picture per pixel of `colours`, and side; None: the part is stretched
    colours: Floats  # the part at the working size, of shape (bands, rows, columns)
    alpha: Floats  # opacity at the model's size


def find_mask(picture: Picture, operation: RemoveBackground, session: Session, task: Task) -> Mask:
    """Returns the mask of a picture.

    Raises:
        TaskCancelled: the task was cancelled.
        TaskFailed: "model_failed".
    """
    view, passes = _look(picture, Region(0, 0, picture.height, picture.width), session, task), 1
    region = find_region(view.alpha, picture.height, picture.width) if session.model.second_pass else None
    if region is not None:
        task.progress(_PASS_FRACTION)
        closer, passes = _look(picture, region, session, task), 2
        view = closer if _counts(closer, picture) else view
    return _refined(view, passes, operation, task)


def _look(picture: Picture, region: Region, session: Session, task: Task) -> _View:
    """Runs the model on a part of the picture."""
    part = picture.part(*region)
    rows, columns = _model_size(part, session)
    factor = max(max(part.height, part.width) // max(_WORKING_SIDE, rows, columns), 1)
    colours = reduce_picture(part, factor, task)
    seen = resize(colours, rows, columns)
    alpha = find_alpha(session, seen, task)
    if min(rows, columns) >= _WORKING_SIDE:  # then the mask is fitted to the same picture, because resizing takes time
        return _View(region, None, seen, alpha)
    return _View(region, factor, colours, alpha)


def _model_size(picture: Picture, session: Session) -> tuple[int, int]:
    model = session.model
    if model.size is not None:
        return model.size
    multiple = model.multiple
    return (max(picture.height // multiple, 1) * multiple, max(picture.width // multiple, 1) * multiple)


def _counts(closer: _View, picture: Picture) -> bool:
    """Returns whether a second pass has found a foreground of which the model is sure, and which is not cut off by the part."""
    region, is_inside = closer.region, closer.alpha >= _SURE
    inside = closer.alpha[is_inside]
    if inside.size == 0 or float(inside.mean()) < _LEAST_SURENESS:
        return False
    edges = (
        (is_inside[0], region.top > 0),
        (is_inside[-1], region.bottom < picture.height),
        (is_inside[:, 0], region.left > 0),
        (is_inside[:, -1], region.right < picture.width),
    )
    return not any(cuts and float(edge.mean()) > _MAX_CUT for edge, cuts in edges)


def _refined(view: _View, passes: int, operation: RemoveBackground, task: Task) -> Mask:
    """Returns the mask of a part, with its edges at those of the picture."""
    height, width = view.colours.shape[1:]
    rows, columns = view.alpha.shape
    values = mask = resize(view.alpha, height, width)
    lowest = highest = mask
    is_guided = operation.refine == "guided"
    if is_guided:
        guide = luminance(view.colours)
        radius = max(round(_MASK_RADIUS * max(height / rows, width / columns)), 2)
        values = fit_mask(guide, mask, radius)
        slope, offset = values
        mask = _clean(slope * guide + offset)
        lowest, highest = _clean(offset + np.minimum(slope, 0)), _clean(offset + np.maximum(slope, 0))  # of all luminances
    region, estimated = view.region, None
    if not operation.mask_only:
        task.checkpoint()
        estimated = BilinearMap(_edge_colours(view.colours, mask), region.height, region.width)
    full = BilinearMap(values.reshape(-1, height, width), region.height, region.width, view.factor)
    return Mask(region, passes, full, is_guided, _states_of_cells(lowest, highest), estimated)


def _clean(alpha: Floats) -> Floats:
    return np.clip((alpha - np.float32(_CLEAR)) * np.float32(1 / (_OPAQUE - _CLEAR)), 0, 1)


def _states_of_cells(lowest: Floats, highest: Floats) -> Samples:
    """Returns the state of the pixels between four points, of which the lowest and the highest opacity are known."""
    states = np.full(lowest.shape, IS_MIXED, np.uint8)
    states[_all_around(highest <= ROUNDED)] = IS_CLEAR
    states[_all_around(lowest >= 1 - ROUNDED)] = IS_OPAQUE
    return states


def _all_around(condition: Samples) -> Samples:
    """Returns whether it holds for a point and those below, to the right, and both."""
    result = condition.copy()
    result[:-1] &= condition[1:]
    result[:, :-1] &= result[:, 1:].copy()
    return result


def _edge_colours(colours: Floats, alpha: Floats) -> Floats:
    """Returns the estimated colours of foreground and background at a small size."""
    scale = min(1.0, _COLOUR_SIDE / max(alpha.shape))
    rows, columns = (max(round(side * scale), 1) for side in alpha.shape)
    return estimate_colours(resize(colours, rows, columns), resize(alpha, rows, columns), _WIDE, _NARROW)
