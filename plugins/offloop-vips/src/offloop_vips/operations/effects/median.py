"""Median filter."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ...picture import Image, Picture
from ..step import Shape, Step, StepCost

__all__ = ["Median"]


class Median(Step, frozen=True):
    """Replaces each sample by the median of a square around it, which removes single deviating pixels and keeps edges."""

    size: Annotated[int, Meta(ge=2, le=100)] = 3
    """Width and height of the square in pixels."""

    def apply(self, picture: Picture) -> Picture:
        return picture.premultiplied().map_pages(self._filtered)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        work_ns = 150.0  # of a histogram, for any size; float samples are sorted
        alpha_factor = 14.0 * self.size**2 / work_ns
        return StepCost(work_ns, alpha_factor, rows=400 + self.size, window=self.size // 2)

    def _filtered(self, page: Image) -> Image:
        size = min(self.size, page.width, page.height)  # a limit of libvips
        return page.rank(size, size, size * size // 2)
