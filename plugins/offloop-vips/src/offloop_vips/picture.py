"""The image between two steps of a pipeline, with state that libvips does not store.

Pixels are 8-bit sRGB or grey, with or without alpha, and not premultiplied between two steps. Several pages are stacked from
the top down, and a step is applied to each page separately.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from offloop.errors import TaskFailed

from .colours import Rgba
from .evaluation import Evaluation
from .geometry import Size

__all__ = ["Image", "Picture", "apply_premultiplied", "check_pixels", "image_class", "match_background"]

Image: TypeAlias = Any  # pyvips.Image, which has no types; the server imports this module without pyvips


@dataclass(frozen=True, slots=True)
class Picture:
    """The image between two steps. A step returns a new picture."""

    image: Image
    evaluation: Evaluation
    max_pixels: int
    """Maximum number of pixels after any step, all pages together."""

    pages: int = 1
    auto_orient: bool = True
    """Whether the EXIF orientation is applied before the next step."""

    unshrunk_size: Size | None = None
    """Stored size of one page, if the decoder shrank it for a resize that has not been applied yet; otherwise None."""

    extra_info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields that steps add to `result.info`."""

    @property
    def page_size(self) -> Size:
        """Size of one page as it lies in memory."""
        return Size(self.image.width, self.image.height // self.pages)

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8, that has not been applied to the pixels yet; 1 if there is none."""
        if self.image.get_typeof("orientation") == 0:
            return 1
        tag = int(self.image.get("orientation"))
        return tag if 1 <= tag <= 8 else 1  # noqa: PLR2004 (other values have no meaning)

    @property
    def is_sideways(self) -> bool:
        """Whether applying the orientation will swap width and height."""
        return self.auto_orient and self.orientation >= 5  # noqa: PLR2004 (5 to 8 swap width and height)

    @property
    def logical_size(self) -> Size:
        """Size of one page that a step computes with: before a shrink on load, and upright if `auto_orient`."""
        stored = self.unshrunk_size or self.page_size
        return stored.transposed if self.is_sideways else stored

    def with_image(self, image: Image, **extra_info: Any) -> Picture:
        """Returns the picture with other pixels, and with these fields added to `extra_info`."""
        return replace(self, image=image, extra_info={**self.extra_info, **extra_info})

    def map_pages(self, function: Callable[[Image], Image]) -> Picture:
        """Returns the picture with `function` applied to each page. All results must have the same size."""
        if self.pages == 1:
            return self.with_image(function(self.image))
        width, height = self.page_size
        pages = [function(self.image.crop(0, page * height, width, height)) for page in range(self.pages)]
        return self.with_image(image_class(self.image).arrayjoin(pages, across=1))

    def with_random_access(self) -> Picture:
        """Returns the picture with pixels that can be read in any order. A decoder gives them once, from the top down.

        Raises:
            TaskFailed: with the code "too_many_pixels". The size is checked because all pixels may be computed at once.
        """
        check_pixels(self.page_size, self.pages, self.max_pixels)
        if self.image.get_typeof("vips-sequential") == 0:
            return self
        return self.with_image(self.evaluation.copy_to_memory(self.image))

    def upright(self) -> Picture:
        """Returns the picture with its orientation applied if `auto_orient`."""
        if not self.auto_orient or self.orientation == 1:
            return self
        return self.with_random_access().map_pages(lambda page: page.autorot())


def image_class(image: Image) -> Any:
    """Returns `pyvips.Image`, to make an image without importing pyvips."""
    return cast("Any", type(image))


def check_pixels(size: Size, pages: int, max_pixels: int) -> None:
    """Checks the number of pixels of a picture, all pages together, against the limit.

    Raises:
        TaskFailed: with the code "too_many_pixels".
    """
    total = size.pixels * pages
    if total > max_pixels:
        page_factor = f" x {pages} pages" if pages > 1 else ""
        raise TaskFailed(
            "too_many_pixels",
            f"{size.width} x {size.height}{page_factor} = {total:,} pixels, the limit is {max_pixels:,} (Decode.max_pixels)",
        )


def apply_premultiplied(image: Image, function: Callable[[Image], Image]) -> Image:
    """Applies a function that mixes neighbouring pixels, so that the colour of transparent pixels does not bleed."""
    if not image.hasalpha():
        return function(image)
    return function(image.premultiply().cast("uchar")).unpremultiply().cast("uchar")


def match_background(image: Image, colour: Rgba) -> tuple[Image, list[float]]:
    """Returns the image with the bands that `colour` needs as its background, and the colour as samples of these bands."""
    if image.bands < 3 and not colour.is_grey:  # noqa: PLR2004 (a grey image cannot have a coloured background)
        image = image.colourspace("srgb")
    if colour.alpha < 1 and not image.hasalpha():
        image = image.addalpha()
    bands = [colour.red] if image.bands < 3 else [colour.red, colour.green, colour.blue]  # noqa: PLR2004
    return image, [*bands, colour.alpha * 255] if image.hasalpha() else bands
