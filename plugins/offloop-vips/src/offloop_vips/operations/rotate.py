"""Rotation by any angle."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.operation import Operation

from ..colours import Colour, check_colour, rgba
from ..picture import Image, Picture, match_background

__all__ = ["Rotate"]


class Rotate(Operation, frozen=True):
    """Rotates the picture clockwise. Multiples of 90 are exact; other angles enlarge the canvas, so that the corners fit."""

    angle: Annotated[float, Meta(ge=-36_000, le=36_000)]
    """Clockwise angle in degrees."""

    background: Colour = "black"
    """Colour of the new corners. A colour with alpha adds an alpha band. Not used for multiples of 90."""

    def check(self) -> None:
        check_colour(self, "background")


def apply(picture: Picture, rotate: Rotate) -> Picture:
    angle = rotate.angle % 360
    if angle == 0:
        return picture
    if angle % 90 == 0:
        return picture.with_random_access().map_pages(lambda page: page.rot(f"d{angle:.0f}"))
    return picture.with_random_access().map_pages(lambda page: _rotated(page, angle, rotate.background))


def _rotated(image: Image, angle: float, background: Colour) -> Image:
    colour = rgba(background)
    image, samples = match_background(image, colour)
    if image.hasalpha():  # libvips premultiplies the image, but not the background
        samples = [sample * colour.alpha for sample in samples[:-1]] + samples[-1:]
    return image.rotate(angle, background=samples)
