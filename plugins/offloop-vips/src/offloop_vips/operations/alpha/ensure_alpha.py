"""Ensure alpha: adds an alpha band."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["EnsureAlpha"]


class EnsureAlpha(Step, frozen=True):
    """Adds an alpha band, unless the picture has one."""

    alpha: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Value of the new band: 0 is transparent, 1 is opaque."""

    def apply(self, picture: Picture) -> Picture:
        if picture.image.hasalpha():
            return picture
        return picture.with_image(picture.image.bandjoin(round(self.alpha * picture.max_sample)))

    def shape_after(self, shape: Shape) -> Shape:
        return shape._replace(bands=shape.colour_bands + 1)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=1.0)
