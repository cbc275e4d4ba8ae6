"""The image between two steps of a pipeline, with state that libvips does not store.

Pixels are sRGB, Display P3 or grey, with or without alpha, in 8 bits, or in 16 if the source has more than 8. Several pages
are stacked from the top down, and a step is applied to each page separately.

A step that mixes neighbouring pixels works on colours that are multiplied by alpha, so that the colour of transparent pixels
does not bleed. Such colours are float: rounded to 8 bits, a colour under an alpha of 16 would be one of 17. The picture stays
premultiplied until a step or an encoder needs the colours themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

from .colour_spaces import ColourSpace, colour_in_p3, convert_colours
from .colours import Rgba
from .evaluation import Evaluation
from .geometry import Size
from .limits import check_pixels

__all__ = [
    "TILE",
    "Image",
    "Picture",
    "apply_to_colours",
    "image_class",
    "interpolator",
    "interpretation_of",
    "orientation_of",
    "rounded",
    "with_field",
]

TILE = 128
"""Width and height of the tiles, in pixels, in which libvips computes a picture whose steps have windows."""

Image: TypeAlias = Any  # pyvips.Image, which has no types; the server imports this module without pyvips


_DEEP = ("rgb16", "grey16")
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)  # which are the same in every colour space


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

    shrunk_extent: tuple[float, float] | None = None
    """Width and height of the whole page in pixels of the shrunk image, with dropped fractions of a pixel; otherwise None."""

    is_premultiplied: bool = False
    """Whether `image` has float samples whose colours are multiplied by alpha. Otherwise samples are integers."""

    kept_metadata: tuple[str, ...] = ()
    """Kinds of metadata that the encoder puts into the file: "exif", "xmp", "iptc"."""

    colour_space: ColourSpace = "srgb"
    """Colour space of the colour bands. Grey pictures are never in "source"."""

    attaches_profile: bool | None = None
    """Whether the encoder attaches the profile of the colour space; None: it does if that is not sRGB."""

    work_ns: float = 0.0
    """CPU time to compute the pixels again, in nanoseconds for each byte of samples: of all steps since they were in memory."""

    extra_info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields that steps add to `result.info`."""

    @property
    def page_size(self) -> Size:
        """Size of one page as it lies in memory."""
        return Size(self.image.width, self.image.height // self.pages)

    @property
    def is_deep(self) -> bool:
        """Whether samples have 16 bits, or are float with the range of 16 bits."""
        return self.image.interpretation in _DEEP

    @property
    def max_sample(self) -> int:
        """The sample for white, and for full alpha."""
        return 65_535 if self.is_deep else 255

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8, that has not been applied to the pixels yet; 1 if there is none."""
        return orientation_of(self.image)

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

    def with_straight_image(self, image: Image) -> Picture:
        """Returns the picture with other pixels: integers whose colours are not multiplied by alpha."""
        return replace(self, image=image, is_premultiplied=False)

    def split_pages(self) -> list[Image]:
        """Returns the pages as separate images."""
        if self.pages == 1:
            return [self.image]
        width, height = self.page_size
        return [self.image.crop(0, page * height, width, height) for page in range(self.pages)]

    def map_pages(self, function: Callable[[Image], Image]) -> Picture:
        """Returns the picture with `function` applied to each page. All results must have the same size."""
        pages = [function(page) for page in self.split_pages()]
        return self.with_image(pages[0] if self.pages == 1 else image_class(self.image).arrayjoin(pages, across=1))

    def map_colours(self, function: Callable[[Image], Image]) -> Picture:
        """Returns the picture with `function` applied to its colours, straight and without alpha, of all pages at once."""
        picture = self.straight()
        return picture.with_image(apply_to_colours(picture.image, function))

    def cropped(self, left: int, top: int, size: Size) -> Picture:
        """Returns the same part of each page. Rows of the source below it are read by the check for damage, if at all."""
        if top + size.height < self.page_size.height and self.image.get_typeof("vips-sequential"):
            self.evaluation.reads_all_rows = False
        return self.map_pages(lambda page: page.crop(left, top, *size))

    def premultiplied(self) -> Picture:
        """Returns the picture for a step that mixes neighbouring pixels. Without alpha it is the same picture."""
        if self.is_premultiplied or not self.image.hasalpha():
            return self
        return replace(self, image=self.image.premultiply(max_alpha=self.max_sample), is_premultiplied=True)

    def straight(self) -> Picture:
        """Returns the picture with integer samples, and with colours that are not multiplied by alpha."""
        if not self.is_premultiplied:
            return self
        return replace(self, image=rounded(self.image.unpremultiply(max_alpha=self.max_sample)), is_premultiplied=False)

    def in_colour_space(self, space: Literal["srgb", "p3"]) -> Picture:
        """Returns the picture with its colours converted to a colour space. Grey levels are the same in both."""
        if self.colour_space == space:
            return self
        if self.image.bands < 3:  # noqa: PLR2004 (grey, with alpha or not)
            return replace(self, colour_space=space)
        picture = self.map_colours(lambda colours: convert_colours(colours, self.colour_space, space))
        return replace(picture, colour_space=space)

    def in_known_colours(self) -> Picture:
        """Returns the picture in a colour space that other colours can be converted to, to be combined with it."""
        return self.in_colour_space("srgb") if self.colour_space == "source" else self

    def in_colour(self) -> Picture:
        """Returns the picture with three bands for its colours."""
        if self.image.bands >= 3:  # noqa: PLR2004 (red, green and blue)
            return self
        picture = self.straight()
        return picture.with_image(picture.image.colourspace(interpretation_of(3, is_deep=self.is_deep)))

    def flattened(self, background: Rgba) -> Picture:
        """Returns the picture over an opaque background, without alpha."""
        if not self.image.hasalpha():
            return self
        picture = self.with_bands_for(background).straight()
        colours = picture.samples_of(background)[:-1]
        # in float, because libvips drops the fractions of integers
        flat = picture.image.cast("float").flatten(background=colours, max_alpha=picture.max_sample)
        name = interpretation_of(flat.bands, is_deep=picture.is_deep)
        return picture.with_image(rounded(flat, is_deep=picture.is_deep).copy(interpretation=name))

    def with_bands_for(self, colour: Rgba) -> Picture:
        """Returns the picture with the bands that a background of `colour` needs: three for colour, one more for alpha."""
        picture = self if colour[:3] in (_BLACK, _WHITE) else self.in_known_colours()
        picture = picture if colour.is_grey else picture.in_colour()  # a grey image cannot have a coloured background
        if colour.alpha < 1 and not picture.image.hasalpha():
            picture = picture.with_image(picture.image.addalpha())
        return picture

    def samples_of(self, colour: Rgba) -> list[float]:
        """Returns a colour of sRGB as samples of the picture's bands."""
        colour = self.levels_of(colour)
        bands = [colour.red] if self.image.bands < 3 else [colour.red, colour.green, colour.blue]  # noqa: PLR2004
        scale = self.max_sample / 255
        if not self.image.hasalpha():
            return [band * scale for band in bands]
        factor = scale * colour.alpha if self.is_premultiplied else scale
        return [*(band * factor for band in bands), colour.alpha * self.max_sample]

    def levels_of(self, colour: Rgba) -> Rgba:
        """Returns a colour of sRGB with the levels that it has in the colour space of the picture."""
        return colour_in_p3(image_class(self.image), colour) if self.colour_space == "p3" and not colour.is_grey else colour

    def with_depth(self, bits: Literal[8, 16]) -> Picture:
        """Returns the picture with integer samples of this depth, and with colours that are not multiplied by alpha."""
        picture, image = self.straight(), self.straight().image
        if picture.is_deep == (bits == 16):  # noqa: PLR2004
            return picture
        name = interpretation_of(image.bands, is_deep=not picture.is_deep)
        converted = rounded(image.linear(1 / 257, 0), is_deep=False) if picture.is_deep else image.linear(257, 0).cast("ushort")
        return picture.with_image(converted.copy(interpretation=name))

    def with_random_access(self) -> Picture:
        """Returns the picture with pixels that can be read in any order. A decoder gives them once, from the top down.

        A copy has integer samples, because they take a quarter of the memory.

        Raises:
            TaskFailed: with the code "too_many_pixels". The size is checked because all pixels may be computed at once.
        """
        check_pixels(self.page_size, self.pages, self.max_pixels)
        if self.image.get_typeof("vips-sequential") == 0:
            return self
        straight = self.straight()
        return replace(straight, image=self.evaluation.copy_to_memory(straight.image), work_ns=0.0)

    def with_kept_rows(self, rows: int) -> Picture:
        """Returns the picture with its last `rows` rows in memory, a multiple of `TILE`, for a step that reads rows again.

        Pixels are computed in tiles, because a window around each pixel is then read for few rows at a time.
        """
        image = self.evaluation.watch(self.image)  # so that `stop` stops it at the next tile
        tiles = -(-image.width // TILE) * (rows // TILE)
        kept = image.tilecache(tile_width=TILE, tile_height=TILE, max_tiles=tiles, threaded=True)
        return replace(self, image=kept, work_ns=0.0)

    def upright(self) -> Picture:
        """Returns the picture with its orientation applied if `auto_orient`."""
        if not self.auto_orient or self.orientation == 1:
            return self
        return self.with_random_access().map_pages(lambda page: page.autorot())


def image_class(image: Image) -> Any:
    """Returns `pyvips.Image`, to make an image without importing pyvips."""
    return cast("Any", type(image))


def orientation_of(image: Image) -> int:
    """Returns the EXIF orientation of an image, 1 to 8; 1 if there is none."""
    if image.get_typeof("orientation") == 0:
        return 1
    tag = int(image.get("orientation"))
    return tag if 1 <= tag <= 8 else 1  # noqa: PLR2004 (other values have no meaning)


def apply_to_colours(image: Image, function: Callable[[Image], Image]) -> Image:
    """Returns a straight image with `function` applied to its colours, and with the alpha that it has."""
    if not image.hasalpha():
        return function(image)
    name = interpretation_of(image.bands - 1, is_deep=image.interpretation in _DEEP)
    colours = function(image[: image.bands - 1].copy(interpretation=name))
    return colours.bandjoin(image[image.bands - 1]).copy(interpretation=colours.interpretation)


def with_field(image: Image, name: str, value: str | bytes) -> Image:
    """Returns the image with a field of metadata."""
    types = cast("Any", sys.modules["pyvips"]).GValue
    copied = image.copy()
    copied.set_type(types.gstr_type if isinstance(value, str) else types.blob_type, name, value)
    return copied


def interpolator(name: str) -> Any:
    """Returns an interpolator of libvips, which needs no import, because it is used with an image."""
    return cast("Any", sys.modules["pyvips"]).Interpolate.new(name)


def interpretation_of(bands: int, *, is_deep: bool) -> str:
    """Returns the name that libvips has for the colours of a picture."""
    if bands < 3:  # noqa: PLR2004 (grey, with alpha or not)
        return "grey16" if is_deep else "b-w"
    return "rgb16" if is_deep else "srgb"


def rounded(image: Image, *, is_deep: bool | None = None) -> Image:
    """Returns float samples as integers. A plain cast of libvips drops the fraction, which makes a picture darker.

    Args:
        image: float samples.
        is_deep: whether the result has 16 bits; None: by the name of its colours.
    """
    # `linear` with an offset and a cast take four times as long
    return image.rint().cast("ushort" if (image.interpretation in _DEEP if is_deep is None else is_deep) else "uchar")
