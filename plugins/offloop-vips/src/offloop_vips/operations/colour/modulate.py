"""Modulate: brightness, saturation, hue and lightness."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Image, Picture
from ..step import Shape, Step, StepCost

__all__ = ["Modulate"]


class Modulate(Step, frozen=True):
    """Changes brightness, saturation, hue and lightness in the colour space CIE LCh. Alpha does not change."""

    brightness: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    """Factor of lightness."""

    saturation: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    """Factor of chroma; 0 makes the picture grey."""

    hue: Annotated[float, Meta(ge=-36_000, le=36_000)] = 0.0
    """Degrees by which the hue is rotated."""

    lightness: Annotated[float, Meta(ge=-100, le=100)] = 0.0
    """Summand of lightness, which is 0 to 100."""

    def check(self) -> None:
        if (self.brightness, self.saturation, self.hue % 360, self.lightness) == (1, 1, 0, 0):
            raise InvalidTask("Modulate(): it would have no effect; give at least one of its parameters")

    def apply(self, picture: Picture) -> Picture:
        factors, summands = [self.brightness, self.saturation, 1], [self.lightness, 0, self.hue % 360]

        def modulated(colours: Image) -> Image:
            return colours.colourspace("lch").linear(factors, summands).colourspace(colours.interpretation)

        return picture.map_colours(modulated)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=45.0, rows=400, fixed_nbytes=2_000_000)
