"""Sharpen."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..picture import Image, Picture, premultiplied

__all__ = ["Sharpen"]

Level: TypeAlias = Annotated[float, Meta(ge=0, le=1_000_000)]

_MILD = [[-1, -1, -1], [-1, 32, -1], [-1, -1, -1]]
_DEFAULTS = (1.0, 2.0, 2.0, 10.0, 20.0)


class Sharpen(Operation, frozen=True):
    """Sharpen the picture, mildly and fast, or its lightness alone with flat and jagged areas told apart."""

    sigma: Annotated[float, Meta(ge=0.000001, le=10)] | None = None
    """The mask's standard deviation in pixels; None is the mild, fast kind, to which the fields below do not apply."""

    m1: Level = 1.0
    """How much flat areas are sharpened."""

    m2: Level = 2.0
    """How much jagged areas are sharpened."""

    x1: Level = 2.0
    """The difference in lightness, of 100, at which an area counts as jagged."""

    y2: Level = 10.0
    """The most that is brightened."""

    y3: Level = 20.0
    """The most that is darkened."""

    def check(self) -> None:
        if self.sigma is None and (self.m1, self.m2, self.x1, self.y2, self.y3) != _DEFAULTS:
            raise InvalidTask("Sharpen: m1, m2, x1, y2 and y3 do nothing without a sigma")


def apply(picture: Picture, sharpen: Sharpen) -> Picture:
    return picture.each_page(lambda page: premultiplied(page, lambda image: _sharpened(image, sharpen)))


def _sharpened(image: Image, sharpen: Sharpen) -> Image:
    if sharpen.sigma is None:
        return image.conv(image.new_from_array(_MILD, scale=24))
    levels = {"m1": sharpen.m1, "m2": sharpen.m2, "x1": sharpen.x1, "y2": sharpen.y2, "y3": sharpen.y3}
    return image.sharpen(sigma=sharpen.sigma, **levels).colourspace(image.interpretation)
