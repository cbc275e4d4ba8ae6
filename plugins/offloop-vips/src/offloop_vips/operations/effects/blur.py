"""Blur: a box filter or a Gaussian."""

from __future__ import annotations

from math import log, sqrt
from typing import Annotated

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Image, Picture, rounded
from ..step import Shape, Step, StepCost

__all__ = ["Blur"]

_MIN_AMPLITUDE = 0.2
_BOX = [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


class Blur(Step, frozen=True):
    """Blurs the picture, mildly and fast, or by a Gaussian."""

    sigma: Annotated[float, Meta(ge=0.3, le=1000)] | None = None
    """The Gaussian's standard deviation in pixels; None averages each pixel with its eight neighbours."""

    min_amplitude: Annotated[float, Meta(ge=0.001, le=1)] = 0.2
    """Amplitude at which the Gaussian is cut off, of 1. With the default, which is that of sharp, the blur is that of about
    0.85 `sigma`; with 0.01 it is that of `sigma`, and takes twice the time."""

    def check(self) -> None:
        if self.sigma is None and self.min_amplitude != _MIN_AMPLITUDE:
            raise InvalidTask("Blur: min_amplitude has no effect without a sigma")

    def apply(self, picture: Picture) -> Picture:
        return picture.premultiplied().map_pages(lambda page: _blurred(page, self.sigma, self.min_amplitude))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        if self.sigma is None:
            return StepCost(work_ns=7.0, rows=400, window=1)
        # the mask grows with sigma, and a long mask is slower for each of its points
        longer = (log(self.min_amplitude) / log(_MIN_AMPLITUDE)) ** 0.5 if self.min_amplitude < _MIN_AMPLITUDE else 1.0
        work_ns = longer * (2.0 + 0.25 * self.sigma + 0.0018 * self.sigma**2)
        window = int(self.sigma * sqrt(-2 * log(self.min_amplitude)))  # beyond it, the Gaussian is below the amplitude
        float_ns = 2.9 * (2 * window + 1)  # for each point of the mask
        return StepCost(work_ns, float_ns / work_ns, rows=400 + int(8 * self.sigma * longer), window=window)


def _blurred(image: Image, sigma: float | None, min_amplitude: float) -> Image:
    if sigma is not None:
        return image.gaussblur(sigma, min_ampl=min_amplitude)
    blurred = image.conv(image.new_from_array(_BOX, scale=9))
    return blurred if image.format == "float" else rounded(blurred)
