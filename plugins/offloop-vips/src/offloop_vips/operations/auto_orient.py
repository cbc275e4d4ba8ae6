"""Auto-orient: applies the EXIF orientation."""

from __future__ import annotations

from dataclasses import replace

from offloop.operation import Operation

from ..picture import Picture

__all__ = ["AutoOrient"]


class AutoOrient(Operation, frozen=True):
    """Applies the EXIF orientation at this step. It is for `Decode(auto_orient=False)`; otherwise decoding applies it."""


def apply(picture: Picture, _auto_orient: AutoOrient) -> Picture:
    # the next step applies the orientation; a resize does so after scaling, when there are fewer pixels
    return replace(picture, auto_orient=True)
