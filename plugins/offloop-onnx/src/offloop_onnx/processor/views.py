"""Runs a model on parts of a picture, to find the one that shows the foreground best.

A model sees a small person as a few pixels of its input, and takes something else for the person, or only a part of it. So a
model with `second_pass` runs on the part of the picture around what it has found, if that is small.

If it takes something else for the person, the results for the picture and its mirror image disagree. Then the model runs on
windows of the picture, and on the parts around the surest finds, until both results for one of these agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from offloop.processor import Task

from ..pictures.picture import Floats, Picture
from ..pictures.regions import Region, cut_into_windows, find_region
from ..pictures.resampling import reduce_picture, reduce_to_bytes, resize
from .model_io import find_alpha, find_opacity
from .sessions import Session

__all__ = ["View", "find_view"]

_WORKING_SIDE = 256  # least longer side in pixels of the picture that the mask is fitted to, at most half of the largest one
_SURE = 0.5  # opacity from which a pixel is foreground
_LEAST_SURENESS = 0.7  # mean opacity of the foreground of a second pass that counts
_MAX_CUT = 0.3  # part of an edge that lies in the picture, which may be foreground in a second pass that counts
_MAX_EDGE = 0.05  # the same for a part that the search has found
_AGREED, _SURELY_AGREED = 0.1, 0.09  # disagreement up to which a mask is kept; and up to which the search takes another one
_LEAST_FOUND = 0.15  # part of such a part that is foreground
_FINDS = 4  # windows with the surest foreground, around which the model looks again
_SEARCHED_SIDE = (
    768  # least longer side in pixels of the picture in which windows are cut, because a third of it is the model's
)
_LEAST_SIDE = 96  # pixels; least side of a window, and of the part around what is found in it
_PASS_FRACTION, _SEARCH_FRACTION = 0.15, 0.14  # progress after the first pass; further progress of the search


@dataclass(frozen=True, slots=True)
class View:
    """A part of the picture as the model sees it."""

    region: Region
    factor: int | None  # pixels of the picture per pixel of `colours`, and side; None: the part is stretched
    colours: Floats  # the part at the working size, of shape (bands, rows, columns)
    alpha: Floats  # opacity at the model's size
    disagreement: float  # see `Opacity`


def find_view(picture: Picture, session: Session, task: Task) -> tuple[View, int]:
    """Returns the part of the picture in which the model finds the foreground best, and the number of parts that it has seen.

    Raises:
        TaskCancelled: the task was cancelled.
        TaskFailed: "model_failed".
    """
    view, passes = _look(Region(0, 0, picture.height, picture.width), picture, session, task), 1
    if not session.model.second_pass:
        return view, passes
    region = find_region(view.alpha, picture.height, picture.width)
    if region is not None:
        task.progress(_PASS_FRACTION)
        closer, passes = _look(region, picture, session, task), 2
        view = closer if _counts(closer, picture, _MAX_CUT) else view
    if view.disagreement <= _AGREED:
        return view, passes
    found, looks = _search(picture, session, task)
    return found or view, passes + looks


def _look(region: Region, picture: Picture, session: Session, task: Task) -> View:
    """Runs the model on a part of the picture."""
    factor, colours, seen = _seen(picture.part(*region), session, task)
    alpha, disagreement = find_opacity(session, seen, task)
    if min(seen.shape[1:]) >= _WORKING_SIDE:  # then the mask is fitted to the same picture, because resizing takes time
        return View(region, None, seen, alpha, disagreement)
    return View(region, factor, colours, alpha, disagreement)


def _seen(part: Picture, session: Session, task: Task) -> tuple[int, Floats, Floats]:
    """Returns a part of the picture at the working size, with the factor to it, and at the model's size."""
    rows, columns = _model_size(part, session)
    factor = max(max(part.height, part.width) // max(_WORKING_SIDE, rows, columns), 1)
    colours = reduce_picture(part, factor, task)
    return factor, colours, resize(colours, rows, columns)


class _Find(NamedTuple):
    """A foreground in a window of the picture."""

    score: float
    region: Region  # the part around it


def _search(picture: Picture, session: Session, task: Task) -> tuple[View | None, int]:
    """Looks for a foreground in windows of the picture. Returns the first part around one on which the results for the part and
    its mirror image agree, and the number of parts that the model has seen."""
    factor = max(max(picture.height, picture.width) // _SEARCHED_SIDE, 1)
    small = picture if factor == 1 else reduce_to_bytes(picture, factor, task)
    windows = cut_into_windows(small.height, small.width)
    if min(windows[-1].height, windows[-1].width) * factor < _LEAST_SIDE:
        return None, 0
    finds: list[_Find] = []
    for index, window in enumerate(windows):
        task.progress(_PASS_FRACTION + _SEARCH_FRACTION * (index + 1) / len(windows))
        alpha = find_alpha(session, _seen(small.part(*window), session, task)[2], task)
        sureness = _sureness(alpha)
        score = sureness - _cut(alpha, window, small)
        if not sureness or (len(finds) == _FINDS and score <= finds[-1].score):
            continue
        region = find_region(alpha, window.height, window.width)
        if region is not None and min(region.height, region.width) * factor >= _LEAST_SIDE:
            finds = sorted([*finds, _Find(score, region.within(window))], reverse=True)[:_FINDS]
    for looks, find in enumerate(finds, len(windows) + 1):
        view = _look(find.region.enlarged(factor, picture.height, picture.width), picture, session, task)
        is_large = float((view.alpha >= _SURE).mean()) >= _LEAST_FOUND
        if is_large and view.disagreement <= _SURELY_AGREED and _counts(view, picture, _MAX_EDGE):
            return view, looks
    return None, len(windows) + len(finds)


def _model_size(picture: Picture, session: Session) -> tuple[int, int]:
    model = session.model
    if model.size is not None:
        return model.size
    multiple = model.multiple
    return (max(picture.height // multiple, 1) * multiple, max(picture.width // multiple, 1) * multiple)


def _counts(closer: View, picture: Picture, max_cut: float) -> bool:
    """Returns whether a pass has found a foreground of which the model is sure, and which is not cut off by the part."""
    return _sureness(closer.alpha) >= _LEAST_SURENESS and _cut(closer.alpha, closer.region, picture) <= max_cut


def _sureness(alpha: Floats) -> float:
    """Returns the mean opacity of the foreground; 0 if there is none."""
    inside = alpha[alpha >= _SURE]
    return float(inside.mean()) if inside.size else 0.0


def _cut(alpha: Floats, region: Region, picture: Picture) -> float:
    """Returns the part of an edge that is foreground, of those edges that lie in the picture, at most."""
    is_inside = alpha >= _SURE
    edges = (
        (is_inside[0], region.top > 0),
        (is_inside[-1], region.bottom < picture.height),
        (is_inside[:, 0], region.left > 0),
        (is_inside[:, -1], region.right < picture.width),
    )
    return max((float(edge.mean()) for edge, cuts in edges if cuts), default=0.0)
