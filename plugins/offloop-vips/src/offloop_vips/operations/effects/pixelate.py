"""Pixelate: squares of one colour."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ...picture import Image, Picture
from ..step import Shape, Step, StepCost

__all__ = ["Pixelate"]


class Pixelate(Step, frozen=True):
    """Divides the picture into squares, from the top left on, and gives each the mean of its pixels."""

    size: Annotated[int, Meta(ge=2, le=10_000)] = 8
    """Width and height of a square in pixels."""

    def apply(self, picture: Picture) -> Picture:
        return picture.premultiplied().map_pages(self._pixelated)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=2.5, rows=400 + 2 * self.size)

    def _pixelated(self, page: Image) -> Image:
        columns, rows = -(-page.width // self.size), -(-page.height // self.size)
        whole = page.embed(0, 0, columns * self.size, rows * self.size, extend="copy")  # a whole number of squares
        return whole.shrink(self.size, self.size).zoom(self.size, self.size).crop(0, 0, page.width, page.height)
