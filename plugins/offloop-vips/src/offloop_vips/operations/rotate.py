"""Rotate."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from offloop.operation import Operation

from ..colours import Colour, check_colour, rgba
from ..fitting import Size
from ..picture import Image, Picture, check_pixels, over

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
    check_pixels(_bounding(picture.size, angle), picture.pages, picture.max_pixels)
    return picture.settled().each_page(lambda page: _rotated(page, angle, rotate.background))


def _bounding(size: Size, angle: float) -> Size:
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return Size(int(size.width * cosine + size.height * sine), int(size.width * sine + size.height * cosine))


def _rotated(image: Image, angle: float, background: Colour) -> Image:
    image, ground = over(image, rgba(background))
    return image.rotate(angle, background=ground)
