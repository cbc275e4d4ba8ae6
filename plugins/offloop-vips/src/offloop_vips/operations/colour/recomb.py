"""Recomb: a matrix for colours."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Image, Picture, image_class, rounded
from ..step import Shape, Step, StepCost

__all__ = ["Recomb"]

Factor: TypeAlias = Annotated[float, Meta(ge=-1000, le=1000)]
Row: TypeAlias = tuple[Factor, ...]

_SIDES = (3, 4)  # red, green, blue, and alpha


class Recomb(Step, frozen=True):
    """Multiplies each colour by a matrix: each row has the factors of red, green and blue for one band of the result."""

    matrix: tuple[Row, ...]
    """Three rows of three factors, which leave alpha as it is, or four rows of four factors, alpha included."""

    def check(self) -> None:
        side = len(self.matrix)
        if side not in _SIDES or any(len(row) != side for row in self.matrix):
            raise InvalidTask(f"Recomb(matrix={self.matrix!r}): expected 3 rows of 3 factors, or 4 rows of 4")

    def apply(self, picture: Picture) -> Picture:
        is_deep = picture.is_deep

        def recombined(image: Image) -> Image:
            matrix = image_class(image).new_from_array([list(row) for row in self.matrix])
            return rounded(image.recomb(matrix), is_deep=is_deep).copy(interpretation=image.interpretation)

        picture = picture.in_colour()
        if len(self.matrix) == min(_SIDES):
            return picture.map_colours(recombined)
        picture = picture.straight()
        image = picture.image if picture.image.hasalpha() else picture.image.addalpha()
        return picture.with_image(recombined(image))

    def shape_after(self, shape: Shape) -> Shape:
        return shape.with_colours(3) if len(self.matrix) == min(_SIDES) else shape._replace(bands=4)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=4.0)
