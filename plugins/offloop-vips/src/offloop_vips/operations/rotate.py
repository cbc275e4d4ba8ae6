"""Rotation by any angle."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.operation import Operation

from ..colours import Colour, Rgba, check_colour, rgba
from ..picture import Image, Picture

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
    return _rotated(picture.with_random_access(), angle, rgba(rotate.background))


def _rotated(picture: Picture, angle: float, background: Rgba) -> Picture:
    picture = picture.with_bands_for(background).premultiplied()
    samples, interpretation = picture.samples_of(background), picture.image.interpretation

    def rotated(page: Image) -> Image:
        bands = page.copy(interpretation="multiband")  # because libvips would premultiply a band that it takes for alpha
        return bands.rotate(angle, background=samples).copy(interpretation=interpretation)

    return picture.map_pages(rotated)
