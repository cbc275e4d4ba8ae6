"""Flatten: removes alpha over a background."""

from __future__ import annotations

from offloop.errors import InvalidTask

from ...colours import Colour, check_colour, rgba
from ...picture import Picture
from ..step import Shape, Step

__all__ = ["Flatten"]


class Flatten(Step, frozen=True):
    """Lays the picture over an opaque background. The result has no alpha."""

    background: Colour = "black"
    """Opaque colour."""

    def check(self) -> None:
        check_colour(self, "background")
        if rgba(self.background).alpha != 1:
            raise InvalidTask(f"Flatten(background={self.background!r}): the result has no alpha; give an opaque colour")

    def apply(self, picture: Picture) -> Picture:
        return picture.flattened(rgba(self.background))

    def shape_after(self, shape: Shape) -> Shape:
        if not shape.has_alpha:
            return shape
        shape = shape.with_bands_for(rgba(self.background))
        return shape._replace(bands=shape.colour_bands)
