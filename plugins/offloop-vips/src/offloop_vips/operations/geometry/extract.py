"""Extract: a rectangular part."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.errors import InvalidTask

from ...geometry import Side, Size
from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["Extract"]


class Extract(Step, frozen=True):
    """Keeps a rectangle of the picture, which must lie within it."""

    left: Annotated[int, Meta(ge=0, le=10_000_000)]
    """Pixels to the left of the rectangle."""

    top: Annotated[int, Meta(ge=0, le=10_000_000)]
    """Pixels above the rectangle."""

    width: Side
    """Width in pixels."""

    height: Side
    """Height in pixels."""

    def apply(self, picture: Picture) -> Picture:
        width, height = picture.page_size
        if self.left + self.width > width or self.top + self.height > height:
            right, bottom = self.left + self.width, self.top + self.height
            raise InvalidTask(f"{self!r}: it ends at ({right}, {bottom}), beyond the picture of {width} x {height} pixels")
        return picture.cropped(self.left, self.top, Size(self.width, self.height))

    def shape_after(self, shape: Shape) -> Shape:
        return shape._replace(size=Size(min(self.width, shape.size.width), min(self.height, shape.size.height)))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=0.3, rows=0, alpha_fixed_nbytes=0)
