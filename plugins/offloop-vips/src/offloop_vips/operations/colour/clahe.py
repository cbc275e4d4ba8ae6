"""CLAHE: contrast-limited adaptive histogram equalisation."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ...picture import Image, Picture, apply_to_colours
from ..step import Shape, Step, StepCost

__all__ = ["Clahe"]


class Clahe(Step, frozen=True):
    """Increases the contrast of lightness locally, so that dark and bright areas show detail. Hue and alpha do not change."""

    width: Annotated[int, Meta(ge=1, le=4096)]
    """Width, in pixels, of the area around a pixel whose histogram is equalised."""

    height: Annotated[int, Meta(ge=1, le=4096)]
    """Height of the area."""

    max_slope: Annotated[int, Meta(ge=0, le=100)] = 3
    """Limit of the increase of contrast, which also limits the noise; 0: no limit."""

    def apply(self, picture: Picture) -> Picture:
        picture = picture.straight().with_random_access()
        return picture.map_pages(lambda page: apply_to_colours(page, self._equalised))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(
            work_ns=220.0 + 0.3 * self.height,
            rows=400 + self.height,
            fixed_nbytes=9_000_000,
            needs_random_access=True,
            window=self.height // 2,
        )

    def _equalised(self, colours: Image) -> Image:
        lab = colours.colourspace("lab")
        levels = lab[0].linear(2.55, 0.5, uchar=True)  # the operation of libvips takes 8 bits
        area = min(self.width, levels.width), min(self.height, levels.height)
        change = levels.hist_local(*area, max_slope=self.max_slope).cast("float") - levels
        lightness = (lab[0] + change / 2.55).clamp(min=0, max=100)
        return lightness.bandjoin(lab[1:]).copy(interpretation="lab").colourspace(colours.interpretation)
