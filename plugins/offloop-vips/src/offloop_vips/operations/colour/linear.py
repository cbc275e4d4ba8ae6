"""Linear change of levels."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Picture, rounded
from ..step import Shape, Step

__all__ = ["Linear"]

Number: TypeAlias = Annotated[float, Meta(ge=-1_000_000, le=1_000_000)]
Numbers: TypeAlias = Annotated[tuple[Number, ...], Meta(min_length=1, max_length=4)]

_MAX_BANDS = 3


class Linear(Step, frozen=True):
    """Computes a * level + b, with levels of 255, for each colour band. Alpha does not change. Results are clipped."""

    a: Number | Numbers = 1.0
    """Factor, or one factor for each of the colour bands, or for each band including alpha."""

    b: Number | Numbers = 0.0
    """Summand in levels of 255, or one for each band."""

    def check(self) -> None:
        factors, summands = _tuple(self.a), _tuple(self.b)
        if len(factors) != len(summands) and min(len(factors), len(summands)) > 1:
            raise InvalidTask(f"{self!r}: a has {len(factors)} numbers and b has {len(summands)}")

    def apply(self, picture: Picture) -> Picture:
        count = max(len(_tuple(self.a)), len(_tuple(self.b)))
        if count >= _MAX_BANDS:
            picture = picture.in_colour()
        picture = picture.straight()
        bands = picture.image.bands
        factors, level = self._for_bands(count), picture.max_sample / 255
        if count not in (1, bands, bands - picture.image.hasalpha()):
            raise InvalidTask(f"{self!r}: {count} numbers for a picture of {bands} bands")
        a, b = [factor for factor, _ in factors], [summand * level for _, summand in factors]
        is_deep = picture.is_deep
        if count == bands and count > 1:
            return picture.with_image(rounded(picture.image.linear(a, b), is_deep=is_deep))
        return picture.map_colours(lambda colours: rounded(colours.linear(a, b), is_deep=is_deep))

    def shape_after(self, shape: Shape) -> Shape:
        count = max(len(_tuple(self.a)), len(_tuple(self.b)))
        return shape.with_colours(_MAX_BANDS) if count >= _MAX_BANDS else shape

    def _for_bands(self, count: int) -> list[tuple[float, float]]:
        a, b = _tuple(self.a), _tuple(self.b)
        return list(zip(a * count if len(a) == 1 else a, b * count if len(b) == 1 else b, strict=True))


def _tuple(numbers: float | tuple[float, ...]) -> tuple[float, ...]:
    return numbers if isinstance(numbers, tuple) else (numbers,)
