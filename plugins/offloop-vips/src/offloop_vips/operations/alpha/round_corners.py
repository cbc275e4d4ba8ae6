"""Round corners."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from ...geometry import Size
from ...picture import Image, Picture, image_class, rounded
from ..step import Shape, Step, StepCost

__all__ = ["RoundCorners"]


class RoundCorners(Step, frozen=True):
    """Makes the corners transparent, outside of circular arcs with smooth edges. It adds an alpha band."""

    radius: Annotated[float, Meta(ge=0.5, le=10_000_000)]
    """Radius of the arcs in pixels, at most half of the shorter side: a great radius makes a square picture a disc."""

    def apply(self, picture: Picture) -> Picture:
        picture = picture.straight()
        coverage, is_deep = _coverage(image_class(picture.image), picture.page_size, self.radius), picture.is_deep

        def cut(page: Image) -> Image:
            page = page if page.hasalpha() else page.addalpha()
            alpha = rounded(page[page.bands - 1] * coverage, is_deep=is_deep)
            return page[: page.bands - 1].bandjoin(alpha).copy(interpretation=page.interpretation)

        return picture.map_pages(cut)

    def shape_after(self, shape: Shape) -> Shape:
        return shape._replace(bands=shape.colour_bands + 1)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=20.0, alpha_factor=1.0, fixed_nbytes=6_000_000)


def _coverage(images: Any, size: Size, radius: float) -> Image:
    """Returns the covered fraction of each pixel, from the distance of its centre to the outline."""
    radius = min(radius, min(size) / 2)
    straight = [side / 2 - radius for side in size]  # half of each side, without its arcs
    centred = images.xyz(*size).linear(1, [0.5 - side / 2 for side in size]).abs()
    beyond = centred.linear(1, [-half for half in straight]).clamp(min=0, max=max(size))
    distance = (beyond[0] * beyond[0] + beyond[1] * beyond[1]) ** 0.5 - radius
    return (0.5 - distance).clamp(min=0, max=1)
