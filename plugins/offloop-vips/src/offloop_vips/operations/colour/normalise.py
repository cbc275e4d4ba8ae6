"""Normalise: stretches lightness to the full range."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Image, Picture
from ..step import Shape, Step, StepCost

__all__ = ["Normalise"]

_BINS = 10_000  # of the histogram, so that a bin is a hundredth of a unit of lightness


class Normalise(Step, frozen=True):
    """Stretches lightness, so that the darkest pixels become black and the brightest white. Hue and alpha do not change.

    All pages are stretched alike. Transparent pixels are not counted.
    """

    lower: Annotated[int, Meta(ge=0, le=99)] = 1
    """Percentile of lightness that becomes black."""

    upper: Annotated[int, Meta(ge=1, le=100)] = 99
    """Percentile of lightness that becomes white."""

    def check(self) -> None:
        if self.lower >= self.upper:
            raise InvalidTask(f"{self!r}: lower must be less than upper")

    def apply(self, picture: Picture) -> Picture:
        picture = picture.straight().with_random_access()
        low, high = self._range(picture)
        if high - low <= 1:  # one unit of lightness: there is hardly anything to stretch
            return picture
        factor = 100 / (high - low)

        def stretched(colours: Image) -> Image:
            lab = colours.colourspace("lab")
            return lab.linear([factor, 1, 1], [-low * factor, 0, 0]).colourspace(colours.interpretation)

        return picture.map_colours(stretched)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=40.0, rows=400, fixed_nbytes=2_000_000, needs_random_access=True)

    def _range(self, picture: Picture) -> tuple[float, float]:
        """Returns the two percentiles of the lightness of the visible pixels, 0 to 100."""
        image = picture.image
        lightness = (image[: image.bands - 1] if image.hasalpha() else image).colourspace("lab")[0]
        bins = lightness.linear(_BINS / 100, 0.5).cast("ushort")
        if image.hasalpha():
            bins = (image[image.bands - 1] > 0).ifthenelse(bins, _BINS + 1).cast("ushort")
        counts = memoryview(picture.evaluation.watch(bins).hist_find().write_to_memory()).cast("I").tolist()[: _BINS + 1]
        return _percentile(counts, self.lower), _percentile(counts, self.upper)


def _percentile(counts: list[int], percent: int) -> float:
    """Returns the lightness at or below which `percent` of the pixels are; for 0 and 100 the lowest and the highest one."""
    least, seen = max(sum(counts) * percent / 100, 1), 0
    for number, count in enumerate(counts):
        seen += count
        if seen >= least:
            return number * 100 / _BINS
    return 0.0
