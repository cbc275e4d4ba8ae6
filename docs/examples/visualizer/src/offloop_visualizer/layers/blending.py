"""Blending of some pixels of a frame with new colours, in place.

Colours are float32 from 0 to 255, of shape (n, 4). All four bytes of a pixel are computed, because three of four take longer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..wav import Floats
from .layer import Pixels

__all__ = ["add_light", "pack", "paint"]


def paint(pixels: Pixels, places: npt.NDArray[np.intp], colours: Floats, cover: Floats) -> None:
    """Lay opaque colours over pixels.

    Args:
        places: indices of the pixels in the flat frame, each once.
        colours: the fourth of each is 255.
        cover: parts of the pixels that are covered, from 0 to 1, of shape (n,). They make edges smooth.
    """
    flat = pixels.reshape(-1)
    below = _unpack(flat.take(places))
    colours = colours - below
    colours *= cover[:, None]
    below += colours
    flat[places] = pack(below)


def add_light(pixels: Pixels, places: npt.NDArray[np.intp], light: Floats) -> None:
    """Add light to pixels. The fourth value of each is 0. `places` are as in `paint`."""
    flat = pixels.reshape(-1)
    below = _unpack(flat.take(places))
    below += light
    flat[places] = pack(np.minimum(below, 255, out=below))


def pack(colours: Floats) -> npt.NDArray[np.uint32]:
    """Returns the pixels of colours, of shape (n,)."""
    return colours.astype("u1").view("<u4").reshape(-1)


def _unpack(pixels: npt.NDArray[np.uint32]) -> Floats:
    return pixels.view("u1").reshape(-1, 4).astype(np.float32)
