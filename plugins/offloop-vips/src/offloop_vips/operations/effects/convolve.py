"""Convolution with any kernel."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Image, Picture, image_class, rounded
from ..step import Shape, Step, StepCost

__all__ = ["Convolve"]

Factor: TypeAlias = Annotated[float, Meta(ge=-1_000_000, le=1_000_000)]
KernelSide: TypeAlias = Annotated[int, Meta(ge=1, le=101)]


class Convolve(Step, frozen=True):
    """Replaces each pixel by a weighted sum of itself and its neighbours. Colours are weighted by alpha.

    Alpha is convolved, too, if the sum of the kernel is positive; the result of another kernel, as for edges, has the alpha
    of the picture.
    """

    width: KernelSide
    """Columns of the kernel."""

    height: KernelSide
    """Rows of the kernel."""

    kernel: tuple[Factor, ...]
    """Weights, row by row from the top left."""

    scale: Annotated[float, Meta(ge=-1_000_000, le=1_000_000)] | None = None
    """Divisor of the sum; None: the sum of the kernel, or 1 if that is 0."""

    offset: Annotated[float, Meta(ge=-255, le=255)] = 0.0
    """Level of 255 that is added to each colour."""

    def check(self) -> None:
        if len(self.kernel) != self.width * self.height:
            expected = f"{self.width} x {self.height} = {self.width * self.height}"
            raise InvalidTask(f"Convolve(kernel=...): {len(self.kernel)} weights, expected {expected}")
        if self.scale == 0:
            raise InvalidTask("Convolve(scale=0): a sum cannot be divided by 0")

    def apply(self, picture: Picture) -> Picture:
        picture = picture.premultiplied()
        if not picture.image.hasalpha():
            is_deep, offset = picture.is_deep, self._offset(picture)
            return picture.map_pages(lambda page: rounded(self._convolved(page) + offset, is_deep=is_deep))
        if sum(self.kernel) > 0:
            return self._with_convolved_alpha(picture)
        return self._with_unchanged_alpha(picture)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        work_ns = 6.0 + 0.8 * len(self.kernel)
        return StepCost(work_ns, alpha_factor=1.0, rows=400 + self.height, window=self.height // 2)

    def _with_convolved_alpha(self, picture: Picture) -> Picture:
        picture, offset = picture.map_pages(self._convolved), self._offset(picture)
        if not offset:
            return picture
        is_deep = picture.is_deep
        return picture.map_colours(lambda colours: rounded(colours + offset, is_deep=is_deep))

    def _with_unchanged_alpha(self, picture: Picture) -> Picture:
        is_deep, offset = picture.is_deep, self._offset(picture)
        alpha, straight = picture.image[picture.image.bands - 1], picture.straight()
        convolved = picture.map_pages(self._convolved).image[: picture.image.bands - 1]
        colours = rounded(convolved + offset, is_deep=is_deep)
        joined = colours.bandjoin(rounded(alpha, is_deep=is_deep))
        return straight.with_image(joined.copy(interpretation=straight.image.interpretation))

    def _offset(self, picture: Picture) -> float:
        return self.offset * picture.max_sample / 255

    def _convolved(self, page: Image) -> Image:
        rows = [list(self.kernel[at : at + self.width]) for at in range(0, len(self.kernel), self.width)]
        scale = self.scale if self.scale is not None else sum(self.kernel) or 1
        name = page.interpretation
        return page.cast("float").conv(image_class(page).new_from_array(rows, scale=scale)).copy(interpretation=name)
