"""Flip: upside down."""

from __future__ import annotations

from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["Flip"]


class Flip(Step, frozen=True):
    """Mirrors the picture vertically: the top row becomes the bottom row."""

    def apply(self, picture: Picture) -> Picture:
        return picture.with_random_access().map_pages(lambda page: page.flip("vertical"))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=0.5, needs_random_access=True)
