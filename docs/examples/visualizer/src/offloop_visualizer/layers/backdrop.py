"""`Backdrop`: night sky with clouds, the glow of the bars, and a ring of light that runs outwards on each beat.

All of it is smooth, so it is computed in polar coordinates, for few radii and angles, and looked up for each pixel: one
`numpy.take` writes the whole frame. The places to look up are fixed. Noise in them hides the steps between radii.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng  # here, because numpy imports it late and the sandbox refuses late imports

from ..palette import Colours
from ..wav import Floats
from .blending import pack
from .layer import AT_ONCE, Geometry, Moment, Pixels

__all__ = ["Backdrop"]

_RADII, _ANGLES = 384, 192
_SOFTNESS = np.hanning(9) / np.hanning(9).sum()  # of the glow, over bands
_RADII_AT_ONCE = AT_ONCE // _ANGLES
_ARMS = 3  # arms of the clouds' spiral
_TURN_S = 40.0  # time of a turn of the clouds
_RING_SPEED = 620.0  # of a ring of light, in units per second
_RING_LIFE_S = 0.7


class Backdrop:
    """Writes every pixel of a frame."""

    def __init__(self, geometry: Geometry, colours: Colours) -> None:
        self._colours = colours
        self._table = np.zeros(_RADII * _ANGLES, np.uint32)
        self._places, radii = _places(geometry)
        self._radii = radii = radii / np.float32(geometry.unit)
        self._angles = np.linspace(-np.pi, np.pi, _ANGLES, endpoint=False, dtype=np.float32)
        self._heights = np.abs(self._angles) / np.float32(np.pi)  # from the lowest band, at the bottom, to the highest
        outside = radii - np.float32(geometry.ring / geometry.unit)
        self._inside = 1 / (1 + np.exp(np.clip(outside / 5, -20, 20)))  # 1 inside the ring, 0 outside
        self._core = np.exp(-((radii / 80) ** 2))
        self._rim = np.exp(-((outside / 5) ** 2))
        self._near = np.exp(-np.maximum(outside, 0) / 60) * (1 - self._inside)
        self._far = np.exp(-np.maximum(outside, 0) / 170) * (1 - self._inside)
        self._vignette = 1 / (1 + (radii / 520) ** 2)
        self._cloud = self._vignette * (1 - self._inside) * np.clip(outside / 120, 0, 1)
        winding = 2.6 * np.log1p(radii / 90)
        self._winding = np.cos(winding), np.sin(winding)

    def draw(self, pixels: Pixels, moment: Moment) -> None:
        by_radius, by_angle = self._by_radius(moment), self._by_angle(moment)
        for first in range(0, _RADII, _RADII_AT_ONCE):
            lights = by_radius[first : first + _RADII_AT_ONCE] @ by_angle  # at each radius and angle
            np.clip(lights, 0, 255, out=lights)
            lights[:, 3::4] = 255
            self._table[first * _ANGLES : (first + _RADII_AT_ONCE) * _ANGLES] = pack(lights)
        np.take(self._table, self._places, out=pixels, mode="clip")

    def _by_radius(self, moment: Moment) -> Floats:
        """Returns how far each light reaches, of shape (radii, lights)."""
        exposure = 0.75 + 0.35 * moment.pulse + 0.4 * moment.bass
        clouds = (0.4 + 0.9 * moment.loudness) * self._cloud
        reaches = (
            self._vignette * exposure * (1 - 0.55 * self._inside),
            clouds * 0.85,
            clouds * self._winding[0] * 0.6,
            clouds * self._winding[1] * 0.6,
            self._near * (0.5 + 0.4 * moment.pulse),
            self._far * (0.28 + 0.25 * moment.pulse),
            self._rim * (0.45 + 0.55 * moment.pulse),
            self._rings(moment) + self._core * (0.03 + 0.14 * moment.pulse),
        )
        return np.stack(reaches, axis=1).astype(np.float32)

    def _by_angle(self, moment: Moment) -> Floats:
        """Returns the colour of each light at each angle, of shape (lights, 4 x angles)."""
        ramp, turn = self._colours.ramp(self._heights), moment.time_s / _TURN_S * 2 * np.pi
        phases = _ARMS * (self._angles - np.float32(turn % (2 * np.pi)))
        bands = np.arange(moment.levels.size)
        soft: Floats = np.convolve(np.pad(moment.levels, _SOFTNESS.size // 2, "edge"), _SOFTNESS, "valid")
        places: Floats = self._heights * (moment.levels.size - 1)
        levels: Floats = np.interp(places, bands, soft)[:, None]
        everywhere = np.ones((_ANGLES, 1), np.float32)
        colours = (
            everywhere * self._colours.night,
            everywhere * self._colours.nebula,
            np.cos(phases)[:, None] * self._colours.nebula,
            np.sin(phases)[:, None] * self._colours.nebula,
            ramp * levels,
            ramp * levels * levels,
            ramp,
            everywhere * self._colours.light,
        )
        return np.stack(colours).astype(np.float32).reshape(len(colours), -1)

    def _rings(self, moment: Moment) -> Floats:
        light = np.zeros_like(self._radii)
        for beat_s in moment.beats_s:
            age = moment.time_s - float(beat_s)
            if 0 <= age < _RING_LIFE_S:
                distance = (self._radii - 128 - _RING_SPEED * age) / (10 + 60 * age)
                light += 0.5 * (1 - age / _RING_LIFE_S) ** 2 * np.exp(-distance * distance)
        return light


def _places(geometry: Geometry) -> tuple[npt.NDArray[np.intp], Floats]:
    """Returns the index into the table for each pixel, and the radii of the table's rows in pixels, closest at the ring."""
    random = default_rng(1)
    x = np.arange(geometry.width, dtype=np.float32) - np.float32(geometry.centre[0])
    y = np.arange(geometry.height, dtype=np.float32)[:, None] - np.float32(geometry.centre[1])
    radius, angle = np.hypot(x, y), np.arctan2(x, y)  # 0 at the bottom, -pi and pi at the top
    ring, scale = np.float32(geometry.ring), np.float32(60 * geometry.unit)
    warped = np.arcsinh((radius - ring) / scale)
    first, last = float(np.arcsinh(-ring / scale)), float(warped.max())
    rows = (warped - np.float32(first)) * np.float32((_RADII - 2) / (last - first)) + random.random(radius.shape, np.float32)
    columns = (angle / np.float32(2 * np.pi) + np.float32(0.5)) * _ANGLES + random.random(radius.shape, np.float32)
    places = rows.astype(np.intp) * _ANGLES + columns.astype(np.intp) % _ANGLES
    radii = ring + scale * np.sinh(first + np.arange(_RADII, dtype=np.float32) * np.float32((last - first) / (_RADII - 2)))
    return places, radii.astype(np.float32)
