"""Extend: a margin around the picture."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

from ...colours import Colour, check_colour, rgba
from ...geometry import Size
from ...limits import check_pixels
from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["Extend"]

Margin: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]


class Extend(Step, frozen=True):
    """Adds a margin to the sides of the picture."""

    top: Margin = 0
    """Pixels to add above."""

    bottom: Margin = 0
    """Pixels to add below."""

    left: Margin = 0
    """Pixels to add on the left."""

    right: Margin = 0
    """Pixels to add on the right."""

    extend_with: Literal["background", "copy", "repeat", "mirror"] = "background"
    """Content of the margin: a colour, copies of the pixels at the edge, the picture repeated, or the picture mirrored."""

    background: Colour = "black"
    """Colour of the margin. A colour with alpha adds an alpha band."""

    def check(self) -> None:
        check_colour(self, "background")
        if self.top == self.bottom == self.left == self.right == 0:
            raise InvalidTask("Extend(top=0, bottom=0, left=0, right=0): give at least one side")
        if self.extend_with != "background" and self.background != "black":
            raise InvalidTask(f"Extend(extend_with={self.extend_with!r}): background has no effect")

    def apply(self, picture: Picture) -> Picture:
        width, height = self._canvas(picture.page_size)
        check_pixels(Size(width, height), picture.pages, picture.max_pixels)
        if self.extend_with == "background":
            colour = rgba(self.background)
            picture = picture.with_bands_for(colour)
            samples = picture.samples_of(colour)
            return picture.map_pages(
                lambda page: page.embed(self.left, self.top, width, height, extend="background", background=samples)
            )
        if self.extend_with != "copy":
            picture = picture.with_random_access()
        return picture.map_pages(lambda page: page.embed(self.left, self.top, width, height, extend=self.extend_with))

    def shape_after(self, shape: Shape) -> Shape:
        if self.extend_with == "background":
            shape = shape.with_bands_for(rgba(self.background))
        return shape._replace(size=self._canvas(shape.size))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=1.0, needs_random_access=self.extend_with in ("repeat", "mirror"))

    def _canvas(self, size: Size) -> Size:
        return Size(size.width + self.left + self.right, size.height + self.top + self.bottom)
