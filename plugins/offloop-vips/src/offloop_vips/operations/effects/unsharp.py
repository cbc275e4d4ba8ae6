"""Unsharp mask on all colour bands."""

from __future__ import annotations

from math import log, sqrt
from typing import Annotated

from msgspec import Meta

from ...picture import Image, Picture, rounded
from ..step import Shape, Step, StepCost

__all__ = ["Unsharp"]

_MIN_AMPLITUDE = 0.05  # of the mask's last sample, relative to the first


class Unsharp(Step, frozen=True):
    """Adds the difference between the picture and a blurred copy, as Pillow's UnsharpMask. Alpha does not change."""

    radius: Annotated[float, Meta(ge=0.3, le=100)] = 2.0
    """Standard deviation of the Gaussian blur in pixels."""

    percent: Annotated[float, Meta(ge=0, le=10_000)] = 150.0
    """Strength: the percentage of the difference that is added."""

    threshold: Annotated[float, Meta(ge=0, le=255)] = 3.0
    """Greatest difference, in levels of 255, that is left as it is, so that noise is not sharpened."""

    def apply(self, picture: Picture) -> Picture:
        level, is_deep = picture.max_sample / 255, picture.is_deep
        return picture.straight().map_pages(lambda page: self._sharpened(page, level, is_deep=is_deep))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        window = int(self.radius * sqrt(-2 * log(_MIN_AMPLITUDE)))
        return StepCost(
            work_ns=15.0 + 13.0 * self.radius,
            alpha_factor=1.0,
            rows=800 + int(8 * self.radius),
            fixed_nbytes=5_000_000,
            alpha_fixed_nbytes=8_000_000,
            window=window,
        )

    def _sharpened(self, page: Image, level: float, *, is_deep: bool) -> Image:
        if not page.hasalpha():
            return self._with_difference(page, self._blurred(page.cast("float")), level, is_deep=is_deep)
        colours, alpha = page[: page.bands - 1], page[page.bands - 1]
        # colours of transparent pixels are not mixed in; libvips divides by zero with the result zero
        mean = self._blurred(colours * alpha) / self._blurred(alpha.cast("float"))
        return (
            self._with_difference(colours, mean, level, is_deep=is_deep)
            .bandjoin(alpha)
            .copy(interpretation=page.interpretation)
        )

    def _blurred(self, image: Image) -> Image:
        return image.gaussblur(self.radius, min_ampl=_MIN_AMPLITUDE)

    def _with_difference(self, colours: Image, mean: Image, level: float, *, is_deep: bool) -> Image:
        difference = colours - mean
        added = (difference.abs() > self.threshold * level).ifthenelse(difference * (self.percent / 100), 0)
        return rounded(colours + added, is_deep=is_deep).copy(interpretation=colours.interpretation)
