"""Affine transformation."""

from __future__ import annotations

from math import ceil, floor
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

from ...colours import Colour, check_colour, rgba
from ...geometry import Size
from ...limits import check_pixels
from ...picture import Picture, interpolator
from ..step import Shape, Step, StepCost

__all__ = ["Affine"]

Factor: TypeAlias = Annotated[float, Meta(ge=-1000, le=1000)]
Offset: TypeAlias = Annotated[float, Meta(ge=-1_000_000, le=1_000_000)]

_MIN_DETERMINANT = 1e-6
_ROUNDING = 1e-6  # pixels; less is an error of rounding


class Affine(Step, frozen=True):
    """Applies a matrix to the positions of pixels. The canvas becomes as large as the result.

    A position (x, y) becomes (a (x + idx) + b (y + idy) + odx, c (x + idx) + d (y + idy) + ody). These are positions of the
    centres of pixels, so that an enlarged or turned picture does not shift, as it would in libvips and sharp. Pixels are
    interpolated and not averaged, so that a reduction loses detail; `Resize` averages.
    """

    has_exact_shape: ClassVar[bool] = False

    matrix: tuple[Factor, Factor, Factor, Factor]
    """(a, b, c, d)."""

    background: Colour = "black"
    """Colour of the canvas around the picture. A colour with alpha adds an alpha band."""

    idx: Offset = 0.0
    """Horizontal offset of the input, in pixels."""

    idy: Offset = 0.0
    """Vertical offset of the input, in pixels."""

    odx: Offset = 0.0
    """Horizontal offset of the result, in pixels. The canvas moves with it, so that only a part of a pixel has an effect."""

    ody: Offset = 0.0
    """Vertical offset of the result, in pixels."""

    interpolator: Literal["nearest", "bilinear", "bicubic", "lbb", "nohalo", "vsqbs"] = "bicubic"
    """How a pixel is computed from its neighbours."""

    def check(self) -> None:
        check_colour(self, "background")
        a, b, c, d = self.matrix
        if abs(a * d - b * c) < _MIN_DETERMINANT:
            raise InvalidTask(f"Affine(matrix={self.matrix!r}): all pixels would be on one line; the determinant is nearly 0")

    def apply(self, picture: Picture) -> Picture:
        background = rgba(self.background)
        picture = picture.with_random_access().with_bands_for(background)
        if self.interpolator != "nearest":
            picture = picture.premultiplied()
        samples, area = picture.samples_of(background), self._area(picture.page_size)
        check_pixels(Size(*area[2:]), picture.pages, picture.max_pixels)
        a, b, c, d = self.matrix
        return picture.map_pages(
            lambda page: page.affine(
                [a, b, c, d],
                oarea=area,
                interpolate=interpolator(self.interpolator),
                background=samples,
                idx=self.idx,
                idy=self.idy,
                odx=self.odx + (a + b - 1) / 2,  # libvips takes the corners of pixels for their positions
                ody=self.ody + (c + d - 1) / 2,
                premultiplied=True,
            )
        )

    def shape_after(self, shape: Shape) -> Shape:
        size = Size(*self._area(shape.size)[2:])
        return shape.with_bands_for(rgba(self.background))._replace(size=size)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        slow = self.interpolator in ("lbb", "nohalo", "vsqbs")
        a, b, c, d = self.matrix
        # the pixels under a turned tile are read as an upright rectangle
        times = (abs(a) + abs(c)) * (abs(b) + abs(d)) / abs(a * d - b * c)
        return StepCost(work_ns=280.0 if slow else 18.0, needs_random_access=True, times=times)

    def _area(self, size: Size) -> list[int]:
        """Returns left, top, width and height of the whole pixels that the transformed picture touches."""
        (left, right), (top, bottom) = self._extent(size, 0, self.odx), self._extent(size, 1, self.ody)
        return [left, top, max(right - left, 1), max(bottom - top, 1)]

    def _extent(self, size: Size, axis: int, offset: float) -> tuple[int, int]:
        horizontal, vertical = self.matrix[2 * axis : 2 * axis + 2]
        ends = [
            horizontal * (x + self.idx) + vertical * (y + self.idy) + offset for x in (0, size.width) for y in (0, size.height)
        ]
        return floor(min(ends) + _ROUNDING), ceil(max(ends) - _ROUNDING)
