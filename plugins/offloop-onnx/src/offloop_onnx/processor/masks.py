"""Finds the mask of a picture: opacity at the model's size, refined at a working size, and read at full size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offloop.processor import Task

from ..operations import RemoveBackground
from ..pictures.foreground import estimate_colours
from ..pictures.guided_filter import fit_mask, luminance
from ..pictures.picture import Floats, Picture, Samples
from ..pictures.regions import Region
from ..pictures.resampling import BilinearMap, resize
from .sessions import Session
from .views import View, find_view

__all__ = ["IS_CLEAR", "IS_MIXED", "IS_OPAQUE", "ROUNDED", "Mask", "find_mask"]

IS_CLEAR, IS_MIXED, IS_OPAQUE = 0, 1, 2  # states of a pixel
ROUNDED = 1 / 512  # opacity that is none, because it is less than half a level of 8 bits

_COLOUR_SIDE = 256  # longer side in pixels of the picture from which the colours on both sides of an edge are estimated
_MASK_RADIUS = 1.5  # half of the guided filter's window, in pixels of the model's mask
_WIDE, _NARROW = 12, 2  # radii in pixels of the two estimates of the colours
_CLEAR, _OPAQUE = 0.2, 0.8  # opacity of a refined mask below and above which a pixel has nothing of the other side


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


def find_mask(picture: Picture, operation: RemoveBackground, session: Session, task: Task) -> Mask:
    """Returns the mask of a picture.

    Raises:
        TaskCancelled: the task was cancelled.
        TaskFailed: "model_failed".
    """
    view, passes = find_view(picture, session, task)
    return _refined(view, passes, operation, task)


def _refined(view: View, passes: int, operation: RemoveBackground, task: Task) -> Mask:
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
