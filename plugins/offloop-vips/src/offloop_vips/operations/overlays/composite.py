"""Composite: a second picture over the picture."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Attachment

from ...geometry import Position, Size, is_strategy, offset
from ...picture import Picture
from ..step import Shape, Step, StepCost
from .blending import Blend, blend_over, tiled, with_opacity

__all__ = ["Composite"]

Place: TypeAlias = Annotated[int, Meta(ge=-10_000_000, le=10_000_000)]


class Composite(Step, frozen=True):
    """Combines the picture with a second one. The result has the size of the picture; the rest of the second one is cut off.

    The second picture is upright and of the first page of its source. Limits of `Decode` apply to it, too.
    """

    overlay: Attachment
    """Source of the second picture: anything that is a source of `Pool.run`."""

    blend: Blend = "over"
    """How colours are combined. Outside of the second picture the picture is combined with transparency."""

    gravity: Position = "centre"
    """Place of the second picture: a gravity or a side."""

    left: Place | None = None
    """Pixels from the left edge to that of the second picture, with `top`, in place of `gravity`."""

    top: Place | None = None
    """Pixels from the top edge to that of the second picture."""

    tile: bool = False
    """Repeat the second picture in all directions from its place."""

    opacity: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Factor of the alpha of the second picture."""

    def check(self) -> None:
        if is_strategy(self.gravity):
            raise InvalidTask(f"Composite(gravity={self.gravity!r}): expected a gravity or a side")
        if (self.left is None) != (self.top is None):
            raise InvalidTask(f"Composite(left={self.left}, top={self.top}): give both of them, or a gravity")

    @property
    def attached(self) -> tuple[Attachment, ...]:
        return (self.overlay,)

    def apply(self, picture: Picture) -> Picture:
        picture = picture.in_known_colours()
        overlay = with_opacity(picture.evaluation.load_attachment(self.overlay.index, picture), self.opacity)
        left, top = self._place(overlay.page_size, picture.page_size)
        if self.tile:
            overlay, left, top = tiled(overlay, picture.page_size, left, top)
        return blend_over(picture, overlay, self.blend, left, top)

    def shape_after(self, shape: Shape) -> Shape:
        return shape.with_colours(3)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(
            work_ns=30.0 if self.blend in ("over", "source") else 75.0, alpha_factor=1.0, rows=400, fixed_nbytes=5_000_000
        )

    def _place(self, overlay: Size, size: Size) -> tuple[int, int]:
        if self.left is not None and self.top is not None:
            return self.left, self.top
        return offset(overlay, size, self.gravity, cropping=False)
