"""Rotation by any angle."""

from __future__ import annotations

from math import cos, radians, sin
from typing import Annotated, ClassVar

from msgspec import Meta

from ...colours import Colour, Rgba, check_colour, rgba
from ...geometry import Size
from ...picture import Image, Picture
from ..step import Shape, Step, StepCost

__all__ = ["Rotate"]


class Rotate(Step, frozen=True):
    """Rotates the picture clockwise. Multiples of 90 are exact; other angles enlarge the canvas, so that the corners fit."""

    has_exact_shape: ClassVar[bool] = False

    angle: Annotated[float, Meta(ge=-36_000, le=36_000)]
    """Clockwise angle in degrees."""

    background: Colour = "black"
    """Colour of the new corners. A colour with alpha adds an alpha band. Not used for multiples of 90."""

    def check(self) -> None:
        check_colour(self, "background")

    def apply(self, picture: Picture) -> Picture:
        angle = self.angle % 360
        if angle == 0:
            return picture
        if angle % 90 == 0:
            return picture.with_random_access().map_pages(lambda page: page.rot(f"d{angle:.0f}"))
        return _rotated(picture.with_random_access(), angle, rgba(self.background))

    def shape_after(self, shape: Shape) -> Shape:
        angle = self.angle % 360
        if angle % 90 == 0:
            return shape._replace(size=shape.size.transposed) if angle % 180 else shape
        return shape.with_bands_for(rgba(self.background))._replace(size=_canvas(shape.size, angle))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        if self.angle % 90 == 0:
            return StepCost(work_ns=2.5, needs_random_access=self.angle % 360 != 0)
        # the pixels under a turned tile are read as an upright rectangle
        width = abs(cos(radians(self.angle))) + abs(sin(radians(self.angle)))
        return StepCost(work_ns=10.5, needs_random_access=True, times=width**2)


def _rotated(picture: Picture, angle: float, background: Rgba) -> Picture:
    picture = picture.with_bands_for(background).premultiplied()
    samples, interpretation = picture.samples_of(background), picture.image.interpretation

    def rotated(page: Image) -> Image:
        bands = page.copy(interpretation="multiband")  # because libvips would premultiply a band that it takes for alpha
        return bands.rotate(angle, background=samples).copy(interpretation=interpretation)

    return picture.map_pages(rotated)


def _canvas(size: Size, angle: float) -> Size:
    """Returns the size of the canvas that holds a picture rotated by `angle` degrees."""
    cosine, sine = abs(cos(radians(angle))), abs(sin(radians(angle)))
    return Size(round(size.width * cosine + size.height * sine), round(size.width * sine + size.height * cosine))
