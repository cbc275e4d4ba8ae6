"""Grayscale conversion."""

from __future__ import annotations

from offloop.operation import Operation

from ..picture import Picture, interpretation_of

__all__ = ["Grayscale"]


class Grayscale(Operation, frozen=True):
    """Converts the picture to grey by its luminance: one band, and alpha if the picture has it."""


def apply(picture: Picture, _grayscale: Grayscale) -> Picture:
    picture = picture.straight()
    return picture.with_image(picture.image.colourspace(interpretation_of(1, is_deep=picture.is_deep)))
