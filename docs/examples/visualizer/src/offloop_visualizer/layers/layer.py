"""Contract of a layer: what it draws from, and where to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..wav import Floats

__all__ = ["AT_ONCE", "Geometry", "Layer", "Moment", "Pixels"]

AT_ONCE = 6_000
"""Pixels that a layer computes at a time. Each of their arrays is smaller than 128 KiB, because a worker returns the memory of
a larger one to the system when it is freed, and each page of the next one costs a page fault."""

Pixels: TypeAlias = npt.NDArray[np.uint32]
"""A frame of shape (height, width). The bytes of a pixel are red, green, blue and alpha."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Size of a frame, and of what is in its middle."""

    width: int
    height: int

    @property
    def unit(self) -> float:
        """Length that all others are given in: pixels, 1 for a frame 720 pixels high."""
        return min(self.width, self.height) / 720

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the frame as (x, y), in pixels."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    @property
    def ring(self) -> float:
        """Radius of the ring that the bars stand on, in pixels."""
        return 128 * self.unit


@dataclass(frozen=True, slots=True)
class Moment:
    """State of the music at the time of a frame."""

    time_s: float
    progress: float  # part of the range that is over, from 0 to 1
    levels: Floats  # of the bands, from 0 to 1
    waveform: Floats  # samples around the time, from -1 to 1, one for each column
    beats_s: npt.NDArray[np.float64]  # times of the beats so far, the last ones
    beat: int  # number of beats so far
    pulse: float  # 1 on a beat, then falling

    @property
    def bass(self) -> float:
        """Mean level of the lowest bands."""
        return float(self.levels[:8].mean())

    @property
    def loudness(self) -> float:
        """Mean level of all bands."""
        return float(self.levels.mean())


class Layer(Protocol):
    """Draws a part of each frame."""

    def draw(self, pixels: Pixels, moment: Moment) -> None:
        """Draw over what is in the frame. `Backdrop` writes every pixel, so it is the first layer."""
        ...
