"""Take the colour out."""

from __future__ import annotations

from offloop.operation import Operation

from ..picture import Picture

__all__ = ["Grayscale"]


class Grayscale(Operation, frozen=True):
    """Turn the picture into shades of grey by its luminance: one band, and alpha if there was any."""


def apply(picture: Picture, _grayscale: Grayscale) -> Picture:
    return picture.with_image(picture.image.colourspace("b-w"))
