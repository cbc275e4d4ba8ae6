"""Negative."""

from __future__ import annotations

from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["Negate"]


class Negate(Step, frozen=True):
    """Makes the negative: white becomes black."""

    alpha: bool = True
    """Negate alpha, too: transparent pixels become opaque, and opaque ones transparent."""

    def apply(self, picture: Picture) -> Picture:
        if not self.alpha:
            return picture.map_colours(lambda colours: colours.invert())
        picture = picture.straight()
        return picture.with_image(picture.image.invert())

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=0.5)
