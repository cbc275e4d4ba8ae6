"""Trim: cuts off edges that are like the background."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

from msgspec import Meta

from ...colours import Colour, check_colour, rgba
from ...geometry import Size
from ...picture import Image, Picture
from ..step import Shape, Step, StepCost

__all__ = ["Trim"]

_MEDIAN_SIZE = 3  # pixels a side of the window in which libvips removes noise


class Trim(Step, frozen=True):
    """Cuts off the rows and columns at the edges that have only background. A picture without anything else stays as it is.

    `info.trim_left` and `info.trim_top` tell how many pixels were cut off there.
    """

    has_exact_shape: ClassVar[bool] = False

    background: Colour | None = None
    """Colour of the background; None: the colour and the alpha of the pixel at the top left."""

    threshold: Annotated[float, Meta(ge=0, le=255)] = 10.0
    """Greatest difference to the background, in levels of 255 of any band, that counts as background."""

    line_art: bool = False
    """Examine the pixels themselves. Otherwise single pixels that differ from their neighbours are taken for noise."""

    margin: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Pixels of background to keep on each side, as far as there are some."""

    def check(self) -> None:
        if self.background is not None:
            check_colour(self, "background")

    def apply(self, picture: Picture) -> Picture:
        picture = picture.straight().with_random_access()
        colour = None if self.background is None else rgba(self.background)
        if colour is not None and not colour.is_grey:
            picture = picture.in_known_colours().in_colour()
        background = picture.image(0, 0) if colour is None else picture.samples_of(colour)
        for page in picture.split_pages():
            picture.evaluation.watch(page)
        found = [box for page in picture.split_pages() for box in self._boxes(page, background, picture.max_sample / 255)]
        if not found:
            return picture
        box = _within(_union(found), self.margin, picture.page_size)
        picture = picture.cropped(box.left, box.top, Size(box.right - box.left, box.bottom - box.top))
        return picture.with_image(picture.image, trim_left=box.left, trim_top=box.top)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=8.0 if self.line_art else 170.0, needs_random_access=True)

    def _boxes(self, page: Image, background: list[float], level: float) -> list[_Box]:
        """Returns the boxes of the foreground by its colours, and by its alpha, as far as there is any."""
        options = {
            "threshold": self.threshold * level,
            "line_art": self.line_art or min(page.width, page.height) < _MEDIAN_SIZE,
        }
        if not page.hasalpha():
            found = [page.find_trim(background=background, **options)]
        else:
            colours, alpha = background[: page.bands - 1], background[page.bands - 1 :]
            found = [
                page.find_trim(background=colours, **options),
                page[page.bands - 1].find_trim(background=alpha, **options),
            ]
        return [_Box(left, top, left + width, top + height) for left, top, width, height in found if width and height]


class _Box(NamedTuple):
    left: int
    top: int
    right: int
    bottom: int


def _union(boxes: list[_Box]) -> _Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return _Box(min(lefts), min(tops), max(rights), max(bottoms))


def _within(box: _Box, margin: int, size: Size) -> _Box:
    left, top = max(box.left - margin, 0), max(box.top - margin, 0)
    return _Box(left, top, min(box.right + margin, size.width), min(box.bottom + margin, size.height))
