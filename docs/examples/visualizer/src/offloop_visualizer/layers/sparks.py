"""`Sparks`: points of light that fly outwards from the ring on each beat.

The place of a spark depends only on its beat and its age, so no state is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.random import default_rng  # here, because numpy imports it late and the sandbox refuses late imports

from ..palette import Colours
from ..wav import Floats
from .blending import add_light
from .layer import Geometry, Moment, Pixels

__all__ = ["Sparks"]

_COUNT = 40  # sparks of one beat
_LIFE_S = 1.6
_RADIUS = 2.2  # of a spark, in units


class Sparks:
    """Draws the sparks of the last beats."""

    def __init__(self, geometry: Geometry, colours: Colours) -> None:
        self._geometry, self._colours = geometry, colours
        self._radius = max(_RADIUS * geometry.unit, 0.7)
        reach = int(np.ceil(2.3 * self._radius))
        self._offsets = np.arange(-reach, reach + 1)

    def draw(self, pixels: Pixels, moment: Moment) -> None:
        for back, beat_s in enumerate(moment.beats_s[::-1]):
            age = (moment.time_s - float(beat_s)) / _LIFE_S
            if 0 <= age < 1:
                self._draw_beat(pixels, moment.beat - back, age)

    def _draw_beat(self, pixels: Pixels, beat: int, age: float) -> None:
        geometry, random = self._geometry, default_rng(beat)
        angles = random.uniform(-np.pi, np.pi, _COUNT)
        distances = geometry.ring + random.uniform(120, 460, _COUNT) * geometry.unit * (1 - (1 - age) ** 2.2)
        brightness = random.uniform(0.35, 1, _COUNT) * (1 - age) ** 1.5 / 2
        light = (self._colours.ramp(np.abs(angles) / np.pi) + self._colours.light) * brightness[:, None]
        centre_x, centre_y = geometry.centre
        x, y = centre_x + distances * np.sin(angles), centre_y + distances * np.cos(angles)
        margin = self._offsets[-1] + 1
        inside = (np.abs(x - centre_x) < centre_x - margin) & (np.abs(y - centre_y) < centre_y - margin)
        self._add_spots(pixels, x[inside], y[inside], light[inside].astype(np.float32))

    def _add_spots(self, pixels: Pixels, x: Floats, y: Floats, light: Floats) -> None:
        """Add round spots, whose middles are anywhere between the pixels."""
        columns, rows = np.rint(x).astype(np.intp)[:, None] + self._offsets, np.rint(y).astype(np.intp)[:, None] + self._offsets
        across, down = self._profile(columns - x[:, None]), self._profile(rows - y[:, None])
        places = rows[:, :, None] * pixels.shape[1] + columns[:, None, :]
        strength = down[:, :, None] * across[:, None, :]
        add_light(pixels, places.reshape(-1), (strength[..., None] * light[:, None, None, :]).reshape(-1, 4))

    def _profile(self, distances: Floats) -> Floats:
        return np.exp(-((distances / self._radius) ** 2)).astype(np.float32)
