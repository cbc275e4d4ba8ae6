"""Flop: left and right exchanged."""

from __future__ import annotations

from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["Flop"]


class Flop(Step, frozen=True):
    """Mirrors the picture horizontally: the left column becomes the right column."""

    def apply(self, picture: Picture) -> Picture:
        return picture.with_image(picture.image.fliphor())

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=1.0)
