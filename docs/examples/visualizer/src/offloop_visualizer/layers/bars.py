"""`Bars`: the spectrum as round-ended bars on a ring, low bands at the bottom, high ones at the top, both sides alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..palette import Colours
from ..spectrum import BANDS
from ..wav import Floats
from .blending import paint
from .layer import AT_ONCE, Geometry, Moment, Pixels

__all__ = ["Bars"]

_LENGTH = 190.0  # of a bar at level 1, in units
_KICK = 9.0  # distance by which a beat pushes the bars outwards, in units
_WIDTH = 4.4  # of a bar, in units
_BARS = 2 * BANDS


class Bars:
    """Draws the bars. Pixels that a bar can reach, and their places along and across it, are computed once."""

    def __init__(self, geometry: Geometry, colours: Colours) -> None:
        self._unit = unit = geometry.unit
        self._half = max(_WIDTH * unit / 2, 0.6)
        angles = (np.arange(_BARS) + 0.5) * (2 * np.pi / _BARS) - np.pi
        self._bands = np.minimum((np.abs(angles) / np.pi * BANDS).astype(np.intp), BANDS - 1)
        places, bar, along, across = self._reach(geometry, angles)
        base = colours.opaque_ramp(((self._bands + 0.5) / BANDS).astype(np.float32))[bar]
        brightening = np.float32(0.55) * np.clip(along / (_LENGTH * unit), 0, 1)[:, None] ** 1.5  # towards the end
        painted: Floats = (base + (255 - base) * brightening).astype(np.float32)
        ends = range(AT_ONCE, places.size, AT_ONCE)
        self._parts: list[tuple[Floats, Floats, Floats, Floats, Floats]] = list(
            zip(*(np.split(of_all, ends) for of_all in (places, bar, along, across**2, painted)), strict=True)
        )

    def _reach(self, geometry: Geometry, angles: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats, Floats]:
        """Returns index, bar, and distances along and across the bar of each pixel that a bar can reach."""
        centre_x, centre_y = geometry.centre
        x = np.arange(geometry.width)[None, :] - centre_x
        y = np.arange(geometry.height)[:, None] - centre_y
        radius, angle = np.hypot(x, y), np.arctan2(x, y)
        farthest = geometry.ring + (_LENGTH + _KICK) * self._unit + self._half + 1
        places = np.flatnonzero((radius > geometry.ring - self._half - 1) & (radius < farthest))
        bar = ((angle.reshape(-1)[places] + np.pi) * (_BARS / (2 * np.pi))).astype(np.intp) % _BARS
        turned = angle.reshape(-1)[places] - angles[bar]
        along = radius.reshape(-1)[places] * np.cos(turned) - geometry.ring
        across = radius.reshape(-1)[places] * np.sin(turned)
        near = np.abs(across) < self._half + 0.5
        return places[near], bar[near], along[near].astype(np.float32), across[near].astype(np.float32)

    def draw(self, pixels: Pixels, moment: Moment) -> None:
        foot = np.float32(_KICK * self._unit * moment.pulse)
        ends = (foot + self._half + _LENGTH * self._unit * moment.levels**1.4).astype(np.float32)[self._bands]
        for places, bar, along, across_squared, colours in self._parts:
            end: Floats = ends.take(bar)
            reached = np.flatnonzero(along < end + np.float32(self._half + 0.5))
            near = along.take(reached)
            beyond = np.maximum(np.maximum(near - end.take(reached), foot - near), 0)
            distance = np.sqrt(beyond * beyond + across_squared.take(reached))
            cover = np.clip(np.float32(self._half + 0.5) - distance, 0, 1)
            paint(pixels, places.take(reached), colours.take(reached, axis=0), cover)
