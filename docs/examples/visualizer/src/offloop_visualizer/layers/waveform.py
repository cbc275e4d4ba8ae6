"""`Waveform`: a line of light across the frame, interrupted by the bars' disc."""

from __future__ import annotations

import numpy as np

from ..palette import Colours
from .blending import add_light
from .layer import AT_ONCE, Geometry, Moment, Pixels

__all__ = ["Waveform"]

_HEIGHT = 130.0  # of a sample at full scale, in units
_CORE = 1.1  # half of the line's width, in units
_GLOW = 6.0  # distance at which its glow is half as bright, in units
_GLOW_LIGHT = 0.3
_REACH = 3.5  # distance at which its glow ends, in widths of the glow
_DISC = 145.0  # radius of the part without a line, in units


class Waveform:
    """Draws the samples around the time of the frame, one for each column."""

    def __init__(self, geometry: Geometry, colours: Colours) -> None:
        unit = geometry.unit
        self._unit, self._width, self._middle, self._light = unit, geometry.width, geometry.centre[1], colours.light
        border = geometry.width / 2
        x = np.abs(np.arange(geometry.width) - geometry.centre[0])
        self._taper = (np.clip((border - x) / (0.35 * border), 0, 1) * _HEIGHT * unit).astype(np.float32)  # calm at the sides
        fade = np.clip((x - _DISC * unit) / (40 * unit), 0, 1) * np.clip((border - x) / (0.12 * border), 0, 1)
        self._columns = np.flatnonzero(fade)
        self._fade = fade[self._columns].astype(np.float32)
        reach = int(_REACH * _GLOW * unit) + 2
        at_once = max(AT_ONCE // geometry.width, 1)
        self._rows = [  # of a column, relative to the line in it
            np.arange(first, min(first + at_once, reach + 1))[:, None] for first in range(-reach, reach + 1, at_once)
        ]

    def draw(self, pixels: Pixels, moment: Moment) -> None:
        line = self._middle + self._taper * moment.waveform
        slope = np.gradient(line)[self._columns]
        line = line[self._columns]
        nearest = np.rint(line).astype(np.intp)
        steepness = np.sqrt(1 + slope * slope).astype(np.float32)  # turns a distance in a column into one to the line
        brightness = self._fade * np.float32(0.7 + 0.3 * moment.pulse)
        for rows in self._rows:
            distance = np.abs(rows.astype(np.float32) + (nearest - line).astype(np.float32))
            core = np.clip(np.float32(_CORE * self._unit + 0.5) - distance / steepness, 0, 1)
            distance /= np.float32(_GLOW * self._unit)
            glow = np.maximum(1 / (1 + distance * distance) - np.float32(1 / (1 + _REACH * _REACH)), 0)
            strength = (core + np.float32(_GLOW_LIGHT) * glow) * brightness
            places = (nearest + rows) * self._width + self._columns
            add_light(pixels, places.reshape(-1), strength.reshape(-1, 1) * self._light)
