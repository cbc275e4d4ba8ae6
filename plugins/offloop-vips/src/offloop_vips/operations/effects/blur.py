"""Blur: a box filter or a Gaussian."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ...picture import Image, Picture, rounded
from ..step import Shape, Step, StepCost

__all__ = ["Blur"]

_BOX = [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


class Blur(Step, frozen=True):
    """Blurs the picture, mildly and fast, or by a Gaussian."""

    sigma: Annotated[float, Meta(ge=0.3, le=1000)] | None = None
    """The Gaussian's standard deviation in pixels; None averages each pixel with its eight neighbours."""

    def apply(self, picture: Picture) -> Picture:
        return picture.premultiplied().map_pages(lambda page: _blurred(page, self.sigma))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        if self.sigma is None:
            return StepCost(work_ns=7.0, rows=400)
        # the mask grows with sigma, and a long mask is slower for each of its points
        work_ns = 2.0 + 0.25 * self.sigma + 0.0018 * self.sigma**2
        return StepCost(work_ns, alpha_factor=6.0, rows=400 + int(8 * self.sigma))


def _blurred(image: Image, sigma: float | None) -> Image:
    if sigma is not None:
        return image.gaussblur(sigma)
    blurred = image.conv(image.new_from_array(_BOX, scale=9))
    return blurred if image.format == "float" else rounded(blurred)
