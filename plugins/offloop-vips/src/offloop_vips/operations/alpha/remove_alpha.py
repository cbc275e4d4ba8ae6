"""Remove alpha."""

from __future__ import annotations

from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["RemoveAlpha"]


class RemoveAlpha(Step, frozen=True):
    """Drops the alpha band: transparent pixels show the colour that they have. `Flatten` shows a background instead."""

    def apply(self, picture: Picture) -> Picture:
        picture = picture.straight()
        image = picture.image
        return picture.with_image(image[: image.bands - 1]) if image.hasalpha() else picture

    def shape_after(self, shape: Shape) -> Shape:
        return shape._replace(bands=shape.colour_bands)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=1.0)
