"""Watermark: a second picture, scaled to the picture, as a mark on it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Attachment

from ...geometry import Position, Size, is_strategy, offset
from ...picture import Picture
from ..geometry.resize import Resize
from ..step import Shape, Step, StepCost
from .blending import blend_over, tiled, with_opacity

__all__ = ["Watermark"]


class Watermark(Step, frozen=True):
    """Lays a mark over the picture, in a size that depends on that of the picture."""

    mark: Attachment
    """Source of the mark: anything that is a source of `Pool.run`."""

    opacity: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Factor of the alpha of the mark."""

    gravity: Position = "southeast"
    """Place of the mark: a gravity or a side."""

    margin: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Least distance to the edges of the picture, in pixels."""

    scale: Annotated[float, Meta(gt=0, le=1)] | None = 0.25
    """Greatest part of the width and of the height of the picture that the mark takes; None: the mark keeps its size."""

    tile: bool = False
    """Repeat the mark in all directions from its place."""

    def check(self) -> None:
        if is_strategy(self.gravity):
            raise InvalidTask(f"Watermark(gravity={self.gravity!r}): expected a gravity or a side")

    @property
    def attached(self) -> tuple[Attachment, ...]:
        return (self.mark,)

    def apply(self, picture: Picture) -> Picture:
        picture = picture.in_known_colours()
        mark, size = picture.evaluation.load_attachment(self.mark.index, picture), picture.page_size
        if self.scale is not None:
            width, height = (max(round(side * self.scale), 1) for side in size)
            mark = Resize(width, height, fit="inside").apply(mark)
        mark = with_opacity(mark, self.opacity)
        area = Size(size.width - 2 * self.margin, size.height - 2 * self.margin)
        left, top = (place + self.margin for place in offset(mark.page_size, area, self.gravity, cropping=False))
        if self.tile:
            mark, left, top = tiled(mark, size, left, top)
        return blend_over(picture, mark, "over", left, top)

    def shape_after(self, shape: Shape) -> Shape:
        return shape.with_colours(3)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=30.0, alpha_factor=1.0, rows=400, fixed_nbytes=5_000_000)
