"""Rotate."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.operation import Operation

from ..colours import Colour, check_colour, rgba
from ..picture import Image, Picture, over

__all__ = ["Rotate"]


class Rotate(Operation, frozen=True):
    """Rotate the picture clockwise; multiples of 90 move whole pixels, other angles enlarge the canvas to hold the corners."""

    angle: Annotated[float, Meta(ge=-36_000, le=36_000)]
    """In degrees."""

    background: Colour = "black"
    """What the new corners show; a colour with alpha gives the picture an alpha band. Not used by multiples of 90."""

    def check(self) -> None:
        check_colour(self, "background")


def apply(picture: Picture, rotate: Rotate) -> Picture:
    angle = rotate.angle % 360
    if angle == 0:
        return picture
    if angle % 90 == 0:
        return picture.settled().each_page(lambda page: page.rot(f"d{angle:.0f}"))
    return picture.settled().each_page(lambda page: _rotated(page, angle, rotate.background))


def _rotated(image: Image, angle: float, background: Colour) -> Image:
    colour = rgba(background)
    image, ground = over(image, colour)
    if image.hasalpha():  # libvips premultiplies such an image by itself, but not the background
        ground = [band * colour.alpha for band in ground[:-1]] + ground[-1:]
    return image.rotate(angle, background=ground)
