"""The image under way through a pipeline, with what libvips does not keep for us.

Pixels are 8-bit sRGB or grey, with or without alpha, never premultiplied between two steps. Several pages are stacked from
the top down, and a step is applied to each of them by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from offloop.errors import TaskFailed

from .colours import Rgba
from .evaluation import Evaluation
from .geometry import Size

__all__ = ["Image", "Picture", "check_pixels", "class_of", "over", "premultiplied"]

Image: TypeAlias = Any  # pyvips.Image: it has no types, and this module is imported where there is no pyvips


@dataclass(frozen=True, slots=True)
class Picture:
    """One image between two steps. Steps return a new one."""

    image: Image
    evaluation: Evaluation
    max_pixels: int
    """No picture, at any step, may have more pixels than this, all pages together."""

    pages: int = 1
    auto_orient: bool = True
    """Whether every step is to see the picture upright."""

    loaded_from: Size | None = None
    """One page's stored size, if the decoder was told to shrink it and the resize that was meant has not happened yet."""

    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What steps have to tell the user, for `result.info`."""

    @property
    def page_size(self) -> Size:
        """One page, as it lies in memory."""
        return Size(self.image.width, self.image.height // self.pages)

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8, that the pixels do not show yet."""
        if self.image.get_typeof("orientation") == 0:
            return 1
        tag = int(self.image.get("orientation"))
        return tag if 1 <= tag <= 8 else 1  # noqa: PLR2004 (what else a file may say has no meaning)

    @property
    def turns(self) -> bool:
        """Whether making it upright will swap width and height."""
        return self.auto_orient and self.orientation >= 5  # noqa: PLR2004 (5 to 8 are the ones on their side)

    @property
    def size(self) -> Size:
        """One page as steps are to reckon with it: upright if it is to be, and not yet shrunk."""
        stored = self.loaded_from or self.page_size
        return stored.turned if self.turns else stored

    def with_image(self, image: Image, **facts: Any) -> Picture:
        """The picture with other pixels."""
        return replace(self, image=image, facts={**self.facts, **facts})

    def each_page(self, work: Callable[[Image], Image]) -> Picture:
        """The picture with `work` done to every page; all pages must come out at one size."""
        if self.pages == 1:
            return self.with_image(work(self.image))
        width, height = self.page_size
        pages = [work(self.image.crop(0, page * height, width, height)) for page in range(self.pages)]
        return self.with_image(class_of(self.image).arrayjoin(pages, across=1))

    def settled(self) -> Picture:
        """The picture with pixels that can be read in any order; a decoder gives them from the top down, once.

        Raises:
            TaskFailed: "too_many_pixels", as all of them may have to be computed at once.
        """
        check_pixels(self.page_size, self.pages, self.max_pixels)
        if self.image.get_typeof("vips-sequential") == 0:
            return self
        return self.with_image(self.evaluation.in_memory(self.image))

    def upright(self) -> Picture:
        """The picture as it is to be looked at, its orientation applied if it is to be."""
        if not self.auto_orient or self.orientation == 1:
            return self
        return self.settled().each_page(lambda page: page.autorot())


def class_of(image: Image) -> Any:
    """`pyvips.Image`, for making an image without importing pyvips."""
    return cast("Any", type(image))


def check_pixels(size: Size, pages: int, max_pixels: int) -> None:
    """Refuse a picture that is larger than allowed.

    Raises:
        TaskFailed: with the code "too_many_pixels".
    """
    total = size.pixels * pages
    if total > max_pixels:
        times = f" x {pages} pages" if pages > 1 else ""
        raise TaskFailed(
            "too_many_pixels",
            f"{size.width} x {size.height}{times} = {total:,} pixels, the limit is {max_pixels:,} (Decode.max_pixels)",
        )


def premultiplied(image: Image, work: Callable[[Image], Image]) -> Image:
    """Do work that mixes neighbouring pixels so that the colour of transparent ones does not bleed into their neighbours."""
    if not image.hasalpha():
        return work(image)
    return work(image.premultiply().cast("uchar")).unpremultiply().cast("uchar")


def over(image: Image, colour: Rgba) -> tuple[Image, list[float]]:
    """The image with the bands that it needs to stand on `colour`, and that colour as samples of those bands."""
    if image.bands < 3 and not colour.is_grey:  # noqa: PLR2004 (grey, and a coloured ground cannot be put around grey)
        image = image.colourspace("srgb")
    if colour.alpha < 1 and not image.hasalpha():
        image = image.addalpha()
    bands = [colour.red] if image.bands < 3 else [colour.red, colour.green, colour.blue]  # noqa: PLR2004
    return image, [*bands, colour.alpha * 255] if image.hasalpha() else bands
