"""`ProgressLine`: a thin line at the bottom, as long as the part of the music that is over."""

from __future__ import annotations

import numpy as np

from ..palette import Colours
from .blending import paint
from .layer import Geometry, Moment, Pixels

__all__ = ["ProgressLine"]

_THICKNESS = 3.0  # in units
_MARGIN = 28.0  # to the borders, in units
_REST = 0.12  # cover of the part that is not over


class ProgressLine:
    """Draws the line."""

    def __init__(self, geometry: Geometry, colours: Colours) -> None:
        thickness = max(round(_THICKNESS * geometry.unit), 1)
        margin = round(_MARGIN * geometry.unit)
        rows = np.arange(geometry.height - margin - thickness, geometry.height - margin)
        columns = np.arange(margin, geometry.width - margin)
        self._places = (rows[:, None] * geometry.width + columns).reshape(-1)
        self._rows, self._length = rows.size, columns.size
        self._colours = np.tile(colours.opaque_ramp(np.linspace(0, 1, columns.size, dtype=np.float32)), (rows.size, 1))

    def draw(self, pixels: Pixels, moment: Moment) -> None:
        over = np.clip(moment.progress * self._length - np.arange(self._length), 0, 1)
        cover = (_REST + (0.85 - _REST) * over).astype(np.float32)
        paint(pixels, self._places, self._colours, np.tile(cover, self._rows))
