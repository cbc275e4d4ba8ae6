"""Resize: scale, then crop or embed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

from ...colours import Colour, check_colour, rgba
from ...geometry import Fit, Fitting, Position, Side, Size, fit_size, is_strategy, offset
from ...limits import check_pixels
from ...picture import TILE, Image, Picture, interpolator, rounded
from ..step import RowReads, Shape, Step, StepCost

__all__ = ["Resize", "fit_resize"]

Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]

_INTERPOLATORS = {"nearest": "nearest", "linear": "bilinear"}
_GAP = 2.0  # reduction that is left to the kernel after averaging whole blocks, as in `resize` of libvips
_MAX_PADDING = 48  # columns or rows
# Rows at a multiple of this distance fall into few sets of a processor's first cache: a vertical reduction of them took two to
# four times as long.
_SLOW_ROW_NBYTES = 2048
_SPARE_COLUMNS = 8
_FLOAT_NBYTES = 4
# A reduction of a file computes ten rows over the whole width at a time, and the window of Lanczos3 has six rows of the result.
_STRIP_READS = 1.6


class Resize(Step, frozen=True):
    """Scales the picture, then crops it or embeds it in a canvas, according to `fit`. Width or height may be omitted."""

    applies_orientation: ClassVar[bool] = True

    width: Side | None = None
    """Width in pixels; None keeps the aspect ratio."""

    height: Side | None = None
    """Height in pixels; None keeps the aspect ratio."""

    fit: Fit = "cover"
    """cover: fill the size and crop the rest. contain: embed the whole picture in a canvas of the size. fill: stretch.
    inside: scale to the largest picture within the size. outside: scale to the smallest picture that covers the size."""

    position: Position = "centre"
    """Part that cover keeps, or place of the picture with contain: a gravity, a side, or for cover "entropy" (most detail)
    or "attention" (most salient)."""

    kernel: Literal["nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3"] = "lanczos3"
    """Interpolation kernel for a reduction. An enlargement uses the closest of nearest, linear and cubic."""

    background: Colour = "black"
    """Colour around the picture with contain. A colour with alpha adds an alpha band."""

    without_enlargement: bool = False
    """Do not scale up. The result may be smaller than requested."""

    without_reduction: bool = False
    """Do not scale down. The result may be larger than requested, or cropped more."""

    focus: tuple[Fraction, Fraction] | None = None
    """Point that cover keeps as near to the centre as it can, as fractions of width and height: (0.5, 0.3). It replaces
    `position`."""

    fast: bool = False
    """Let the decoder of a JPEG or WebP shrink the picture as far as it can. Fine detail gets coarser or jagged. A picture with
    alpha is reduced with colours multiplied by alpha in 8 bits, as in sharp, so that colours under a low alpha change."""

    def check(self) -> None:
        if self.width is None and self.height is None:
            raise InvalidTask("Resize(width=None, height=None): give at least one of them")
        if is_strategy(self.position) and self.fit != "cover":
            raise InvalidTask(f"Resize(position={self.position!r}, fit={self.fit!r}): this position needs fit='cover'")
        if self.focus is not None and (self.fit != "cover" or self.position not in ("centre", "center")):
            raise InvalidTask(f"Resize(focus={self.focus!r}): it needs fit='cover', and replaces the position")
        check_colour(self, "background")

    def apply(self, picture: Picture) -> Picture:
        if is_strategy(self.position) and picture.pages > 1:
            raise InvalidTask(f"Resize(position={self.position!r}): the crop would differ from page to page; use a gravity")
        scaled, canvas = fit_resize(self, picture.logical_size)
        # the canvas is checked, because libvips computes only this part of the scaled picture
        check_pixels(canvas, picture.pages, picture.max_pixels)
        source_pixels = picture.page_size.pixels
        picture = _scale(picture, scaled, self).upright()
        if canvas == scaled:
            return picture
        if self.fit == "contain":
            return _embed(picture, canvas, self)
        if is_strategy(self.position):
            return _crop_by_content(picture, canvas, self.position)
        left, top = offset(canvas, scaled, self.focus or self.position, cropping=True)
        if top + canvas.height < scaled.height:
            if scaled.pixels < source_pixels:
                picture = picture.with_random_access()  # so that the decoder reads all rows, of which each may be damaged
            else:
                picture.evaluation.reads_all_rows = False
        return picture.map_pages(lambda page: page.crop(left, top, canvas.width, canvas.height))

    def shape_after(self, shape: Shape) -> Shape:
        scaled, canvas = fit_resize(self, shape.size)
        if canvas != scaled and self.fit == "contain":
            shape = shape.with_bands_for(rgba(self.background))
        return shape._replace(size=canvas)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        slices_nbytes = {"entropy": 75_000_000, "attention": 10_000_000}.get(self.position, 2_500_000)  # which it examines
        return StepCost(work_ns=1.0, alpha_factor=1.0 if self.fast else 4.0, alpha_fixed_nbytes=slices_nbytes)

    def reads(self, shape: Shape, *, is_sequential: bool) -> RowReads:
        """Samples in memory count as read once: they are reduced in tiles of the result, which hardly overlap."""
        is_reduced = fit_resize(self, shape.size).scaled.height < shape.size.height
        return RowReads(TILE, _STRIP_READS) if is_sequential and is_reduced and self.kernel != "nearest" else RowReads()


def fit_resize(resize: Resize, size: Size) -> Fitting:
    """Returns the sizes for the resize of a picture of `size`."""
    return fit_size(
        size,
        resize.width,
        resize.height,
        fit=resize.fit,
        without_enlargement=resize.without_enlargement,
        without_reduction=resize.without_reduction,
    )


def _scale(picture: Picture, scaled: Size, resize: Resize) -> Picture:
    """Scales before the orientation is applied: the result is the same, and fewer pixels are turned."""
    kernel = resize.kernel
    stored = scaled.transposed if picture.is_sideways else scaled
    extent, picture = picture.shrunk_extent, replace(picture, unshrunk_size=None, shrunk_extent=None)
    if extent is not None and extent != picture.page_size:
        return picture.map_pages(lambda page: _reduced_to_edges(page, extent, stored, kernel))
    if stored == picture.page_size:
        return picture
    if kernel == "nearest":  # this kernel mixes no pixels, and does not need those after the last that it takes
        picture.evaluation.reads_all_rows = False
        return picture.map_pages(lambda page: _enlarged(_reduced(page, page.width, stored, kernel, gap=0), stored, kernel))
    width, is_reduced = picture.page_size.width, stored.height < picture.page_size.height
    in_8_bits = resize.fast and is_reduced and not (picture.is_deep or picture.is_premultiplied)
    picture = _premultiplied_8_bits(picture) if in_8_bits else _as_float(picture, spare=is_reduced)
    picture = picture.map_pages(lambda page: _enlarged(_reduced(page, width, stored, kernel, _GAP), stored, kernel))
    if picture.is_premultiplied:
        return picture if picture.image.format == "float" else picture.straight()
    return picture.with_image(rounded(picture.image)) if picture.image.format == "float" else picture


def _premultiplied_8_bits(picture: Picture) -> Picture:
    """Returns the picture with integer samples, which libvips reduces with vector instructions. Only a caller that makes it
    straight again may use it, because each further step would round."""
    premultiplied = picture.premultiplied()
    return premultiplied.with_image(rounded(premultiplied.image)) if premultiplied.is_premultiplied else picture


def _as_float(picture: Picture, *, spare: bool) -> Picture:
    """Returns the picture premultiplied, or with float samples if it is deep. Other pictures stay as they are.

    libvips reduces 16 bits with factors of 12 bits that are rounded down, so that white would become 65,407 of 65,535.

    Args:
        picture: the picture.
        spare: whether to append columns if the rows would be at a slow distance.
    """
    if not picture.is_deep and not picture.image.hasalpha():
        return picture
    image = picture.image
    if spare and image.width * image.bands * _FLOAT_NBYTES % _SLOW_ROW_NBYTES == 0:
        picture = picture.with_image(image.embed(0, 0, image.width + _SPARE_COLUMNS, image.height, extend="copy"))
    return picture.premultiplied() if image.hasalpha() else picture.with_image(picture.image.cast("float"))


def _reduced(image: Image, width: int, size: Size, kernel: str, gap: float) -> Image:
    """Reduces the first `width` columns of a picture to `size`, as far as that is smaller."""
    horizontal, vertical = width / size.width, image.height / size.height
    image = image.reducev(max(vertical, 1), kernel=kernel, gap=gap)
    if image.width > width:
        image = image.crop(0, 0, width, image.height)
    return image.reduceh(max(horizontal, 1), kernel=kernel, gap=gap)


def _enlarged(image: Image, size: Size, kernel: str) -> Image:
    """Returns a picture of `size`. `resize` of libvips would shift an enlarged picture by half a pixel."""
    if (image.width, image.height) == size:
        return image
    horizontal, vertical = size.width / image.width, size.height / image.height
    centre = {"odx": -0.5, "ody": -0.5} if kernel == "nearest" else {"odx": (horizontal - 1) / 2, "ody": (vertical - 1) / 2}
    return image.affine(
        [horizontal, 0, 0, vertical],
        interpolate=interpolator(_INTERPOLATORS.get(kernel, "bicubic")),
        oarea=[0, 0, *size],
        extend="copy",
        premultiplied=True,
        **centre,
    )


def _reduced_to_edges(image: Image, extent: tuple[float, float], size: Size, kernel: str) -> Image:
    """Reduces a picture that a decoder shrunk from a size that its factor does not divide, so that the picture does not shift.

    The last column or row of the original is a part of a pixel, or missing. libvips reduces whole pixels, and centres the
    result on them. Copies of the last column are appended until both centres are the same but for some hundredths of a pixel.
    """
    horizontal, vertical = extent[0] / size.width, extent[1] / size.height
    padded = image.embed(0, 0, _aligned_length(image.width, horizontal), _aligned_length(image.height, vertical), extend="copy")
    reduced = padded.reducev(vertical, kernel=kernel, gap=_GAP).reduceh(horizontal, kernel=kernel, gap=_GAP)
    return reduced.crop(0, 0, size.width, size.height)


def _aligned_length(length: int, factor: float) -> int:
    """Returns the length, greater than `length`, that is nearest to a multiple of `factor`."""
    return min(range(length + 1, length + 1 + _MAX_PADDING), key=lambda padded: abs(padded - round(padded / factor) * factor))


def _embed(picture: Picture, canvas: Size, resize: Resize) -> Picture:
    colour = rgba(resize.background)
    picture = picture.with_bands_for(colour)
    background = picture.samples_of(colour)
    left, top = offset(picture.page_size, canvas, resize.position, cropping=False)
    return picture.map_pages(
        lambda page: page.embed(left, top, canvas.width, canvas.height, extend="background", background=background)
    )


def _crop_by_content(picture: Picture, canvas: Size, strategy: str) -> Picture:
    picture = picture.straight().with_random_access()
    cropped = picture.evaluation.watch(picture.image).smartcrop(canvas.width, canvas.height, interesting=strategy)
    return picture.with_image(cropped, crop_left=-cropped.xoffset, crop_top=-cropped.yoffset)
