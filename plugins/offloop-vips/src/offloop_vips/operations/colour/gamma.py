"""Gamma correction."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Image, Picture, image_class, rounded
from ..step import Shape, Step, StepCost

__all__ = ["Gamma"]


class Gamma(Step, frozen=True):
    """Raises each level, as a fraction of white, to the power of 1/gamma. More than 1 brightens, less darkens.

    `Gamma(1 / 2.2), Resize(...), Gamma(2.2)` is the `gamma(2.2)` of sharp, which does both around its resize.
    """

    gamma: Annotated[float, Meta(ge=0.1, le=10)] = 2.2
    """Gamma, 0.1 to 10."""

    def check(self) -> None:
        if self.gamma == 1:
            raise InvalidTask("Gamma(gamma=1): it would have no effect")

    def apply(self, picture: Picture) -> Picture:
        white = picture.max_sample

        def corrected(colours: Image) -> Image:
            levels = image_class(colours).identity(ushort=picture.is_deep)
            table = rounded((levels / white) ** (1 / self.gamma) * white, is_deep=picture.is_deep)
            return colours.maplut(table).copy(interpretation=colours.interpretation)

        return picture.map_colours(corrected)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=1.5)
