"""Sharpening: a fast convolution or an unsharp mask."""

from __future__ import annotations

from math import log, sqrt
from typing import Annotated, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Image, Picture, rounded
from ..step import Shape, Step, StepCost

__all__ = ["Sharpen"]

Level: TypeAlias = Annotated[float, Meta(ge=0, le=1_000_000)]

_MILD = [[-1, -1, -1], [-1, 32, -1], [-1, -1, -1]]
_MIN_AMPLITUDE = 0.1  # at which the Gaussian ends, as in `sharpen` of libvips
_DEFAULTS = (1.0, 2.0, 2.0, 10.0, 20.0)


class Sharpen(Step, frozen=True):
    """Sharpens the picture, mildly and fast, or only its lightness, with different strengths for flat and jagged areas."""

    sigma: Annotated[float, Meta(ge=0.000001, le=10)] | None = None
    """Standard deviation of the mask in pixels; None: the mild, fast kind, which does not use the other fields."""

    m1: Level = 1.0
    """Strength in flat areas."""

    m2: Level = 2.0
    """Strength in jagged areas."""

    x1: Level = 2.0
    """Difference in lightness, 0 to 100, from which on an area counts as jagged."""

    y2: Level = 10.0
    """Maximum brightening, in lightness."""

    y3: Level = 20.0
    """Maximum darkening, in lightness."""

    def check(self) -> None:
        if self.sigma is None and (self.m1, self.m2, self.x1, self.y2, self.y3) != _DEFAULTS:
            raise InvalidTask("Sharpen: m1, m2, x1, y2 and y3 have no effect without a sigma")

    def apply(self, picture: Picture) -> Picture:
        if self.sigma is None:
            return picture.premultiplied().map_pages(_mildly_sharpened)
        sigma = self.sigma
        return picture.straight().map_pages(lambda page: _sharpened(page, sigma, self))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        if self.sigma is None:
            return StepCost(work_ns=8.0, rows=300, window=1)
        colours_nbytes = 2_000_000  # of a colour space of three floats
        window = int(self.sigma * sqrt(-2 * log(_MIN_AMPLITUDE)))
        return StepCost(work_ns=25.0, rows=1400, fixed_nbytes=colours_nbytes, alpha_fixed_nbytes=0, window=window)


def _mildly_sharpened(image: Image) -> Image:
    sharpened = image.conv(image.new_from_array(_MILD, scale=24))
    return sharpened if image.format == "float" else rounded(sharpened)


def _sharpened(image: Image, sigma: float, sharpen: Sharpen) -> Image:
    if image.hasalpha():
        return _sharpened_under_alpha(image, sigma, sharpen)
    levels = {"m1": sharpen.m1, "m2": sharpen.m2, "x1": sharpen.x1, "y2": sharpen.y2, "y3": sharpen.y3}
    return image.sharpen(sigma=sigma, **levels).colourspace(image.interpretation)


def _sharpened_under_alpha(image: Image, sigma: float, sharpen: Sharpen) -> Image:
    """Sharpens as libvips does, except that alpha weights the blurred lightness. Alpha does not change.

    libvips would sharpen premultiplied colours, with the precision of opaque ones, and change colours under a low alpha.
    """
    alpha = image[image.bands - 1]
    lab = image[: image.bands - 1].colourspace("lab")
    lightness = lab[0]
    mean = (lightness * alpha).gaussblur(sigma, min_ampl=_MIN_AMPLITUDE) / alpha.cast("float").gaussblur(
        sigma, min_ampl=_MIN_AMPLITUDE
    )
    difference = lightness - mean
    flat = difference.clamp(min=-sharpen.x1, max=sharpen.x1)
    change = (flat * sharpen.m1 + (difference - flat) * sharpen.m2).clamp(min=-sharpen.y3, max=sharpen.y2)
    sharpened = (lightness + change).clamp(min=0, max=100).bandjoin(lab[1:]).copy(interpretation="lab")
    return sharpened.colourspace(image.interpretation).bandjoin(alpha)
