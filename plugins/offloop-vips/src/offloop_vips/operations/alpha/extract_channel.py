"""Extract channel: one band as a grey picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ...picture import Picture, interpretation_of
from ..step import Shape, Step, StepCost

__all__ = ["ExtractChannel"]

_NUMBERS = {"red": 0, "green": 1, "blue": 2, "alpha": 3}


class ExtractChannel(Step, frozen=True):
    """Makes a grey picture of one band. The colours of a grey picture are equal, and the alpha of an opaque one is white."""

    channel: Literal["red", "green", "blue", "alpha", 0, 1, 2, 3]
    """Name or number of the band."""

    def apply(self, picture: Picture) -> Picture:
        number = _NUMBERS[self.channel] if isinstance(self.channel, str) else self.channel
        picture = picture.in_colour().straight()
        image = picture.image if picture.image.hasalpha() else picture.image.addalpha()
        name = interpretation_of(1, is_deep=picture.is_deep)
        band = picture.with_image(image[number].copy(interpretation=name))
        return replace(band, colour_space="srgb")  # grey has no primaries

    def shape_after(self, shape: Shape) -> Shape:
        return shape._replace(bands=1)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=1.0)
