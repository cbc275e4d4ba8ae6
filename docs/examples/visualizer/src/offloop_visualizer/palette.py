"""Colours of the frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .plugin import Palette
from .wav import Floats

__all__ = ["PALETTES", "Colours"]


@dataclass(frozen=True, slots=True)
class Colours:
    """Colours of a palette: red, green and blue from 0 to 255, and a fourth value of 0, which stands for no light."""

    night: Floats  # background
    nebula: Floats  # its clouds
    stops: Floats  # colours from the lowest band to the highest, shape (n, 4)
    light: Floats  # waveform, sparks and rings

    def ramp(self, positions: Floats) -> Floats:
        """Returns the colours at positions from 0 (lowest band) to 1 (highest), of shape (len(positions), 4)."""
        places = np.linspace(0, 1, len(self.stops))
        bands: list[Floats] = [np.interp(positions, places, band) for band in self.stops.T]
        return np.stack(bands, axis=1).astype(np.float32)

    def opaque_ramp(self, positions: Floats) -> Floats:
        """Returns the same with an alpha of 255."""
        colours = self.ramp(positions)
        colours[:, 3] = 255
        return colours


def _rgb(text: str) -> Floats:
    return np.frombuffer(bytes.fromhex(text + "00"), "u1").astype(np.float32)


def _colours(night: str, nebula: str, stops: list[str], light: str) -> Colours:
    return Colours(_rgb(night), _rgb(nebula), np.stack([_rgb(stop) for stop in stops]), _rgb(light))


PALETTES: dict[Palette, Colours] = {
    "aurora": _colours("070a1c", "3a1f6b", ["ff3d81", "b14dff", "4d7dff", "22d3ee", "34f5a5"], "d9e6ff"),
    "ember": _colours("120608", "5c1a1b", ["ff2e4d", "ff5e3a", "ff9f1c", "ffd23f", "fff3b0"], "ffe9d2"),
    "ocean": _colours("03121c", "0b3d5c", ["2a6df5", "12a4d9", "12d9c5", "7af0a6", "e8ffb0"], "dcfbff"),
}
