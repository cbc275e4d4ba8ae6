"""Sharpening: a fast convolution or an unsharp mask."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..picture import Image, Picture, apply_premultiplied

__all__ = ["Sharpen"]

Level: TypeAlias = Annotated[float, Meta(ge=0, le=1_000_000)]

_MILD = [[-1, -1, -1], [-1, 32, -1], [-1, -1, -1]]
_DEFAULTS = (1.0, 2.0, 2.0, 10.0, 20.0)


class Sharpen(Operation, frozen=True):
    """Sharpens the picture, mildly and fast, or only its lightness, with different strengths for flat and jagged areas."""

    sigma: Annotated[float, Meta(ge=0.000001, le=10)] | None = None
    """Standard deviation of the mask in pixels; None: the mild, fast kind, which does not use the other fields."""

    m1: Level = 1.0
    """Strength in flat areas."""

    m2: Level = 2.0
    """Strength in jagged areas."""

    x1: Level = 2.0
    """Difference in lightness, 0 to 100, from which on an area counts as jagged."""

    y2: Level = 10.0
    """Maximum brightening, in lightness."""

    y3: Level = 20.0
    """Maximum darkening, in lightness."""

    def check(self) -> None:
        if self.sigma is None and (self.m1, self.m2, self.x1, self.y2, self.y3) != _DEFAULTS:
            raise InvalidTask("Sharpen: m1, m2, x1, y2 and y3 have no effect without a sigma")


def apply(picture: Picture, sharpen: Sharpen) -> Picture:
    return picture.map_pages(lambda page: apply_premultiplied(page, lambda image: _sharpened(image, sharpen)))


def _sharpened(image: Image, sharpen: Sharpen) -> Image:
    if sharpen.sigma is None:
        return image.conv(image.new_from_array(_MILD, scale=24))
    levels = {"m1": sharpen.m1, "m2": sharpen.m2, "x1": sharpen.x1, "y2": sharpen.y2, "y3": sharpen.y3}
    return image.sharpen(sigma=sharpen.sigma, **levels).colourspace(image.interpretation)
