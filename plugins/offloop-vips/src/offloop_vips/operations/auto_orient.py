"""Turn the picture the way its EXIF tag tells."""

from __future__ import annotations

from dataclasses import replace

from offloop.operation import Operation

from ..picture import Picture

__all__ = ["AutoOrient"]


class AutoOrient(Operation, frozen=True):
    """Apply the EXIF orientation here. Decoding does it already, so this is for `Decode(auto_orient=False)`."""


def apply(picture: Picture, _auto_orient: AutoOrient) -> Picture:
    return replace(picture, auto_orient=True)  # done when the next step looks: a resize does it when there is less to turn
