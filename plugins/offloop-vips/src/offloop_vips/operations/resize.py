"""Resize: scale, then crop or embed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..colours import Colour, check_colour, rgba
from ..geometry import Fit, Fitting, Position, Size, fit_size, is_strategy, offset
from ..picture import Image, Picture, check_pixels

__all__ = ["Resize", "fit_resize"]

Side: TypeAlias = Annotated[int, Meta(ge=1, le=10_000_000)]  # limit of libvips; `Decode.max_pixels` limits the number of pixels


class Resize(Operation, frozen=True):
    """Scales the picture, then crops it or embeds it in a canvas, according to `fit`. Width or height may be omitted."""

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

    def check(self) -> None:
        if self.width is None and self.height is None:
            raise InvalidTask("Resize(width=None, height=None): give at least one of them")
        if is_strategy(self.position) and self.fit != "cover":
            raise InvalidTask(f"Resize(position={self.position!r}, fit={self.fit!r}): this position needs fit='cover'")
        check_colour(self, "background")


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


def apply(picture: Picture, resize: Resize) -> Picture:
    if is_strategy(resize.position) and picture.pages > 1:
        raise InvalidTask(f"Resize(position={resize.position!r}): the crop would differ from page to page; use a gravity")
    scaled, canvas = fit_resize(resize, picture.logical_size)
    # the canvas is checked, because libvips computes only this part of the scaled picture
    check_pixels(canvas, picture.pages, picture.max_pixels)
    picture = _scale(picture, scaled, resize.kernel).upright()
    if canvas == scaled:
        return picture
    if resize.fit == "contain":
        return _embed(picture, canvas, resize)
    if is_strategy(resize.position):
        return _crop_by_content(picture, canvas, resize.position)
    left, top = offset(canvas, scaled, resize.position, cropping=True)
    return picture.map_pages(lambda page: page.crop(left, top, canvas.width, canvas.height))


def _scale(picture: Picture, scaled: Size, kernel: str) -> Picture:
    """Scales before the orientation is applied: the result is the same, and fewer pixels are turned."""
    stored = scaled.transposed if picture.is_sideways else scaled
    picture = replace(picture, unshrunk_size=None)
    if stored == picture.page_size:
        return picture
    horizontal, vertical = stored.width / picture.page_size.width, stored.height / picture.page_size.height

    def scale(image: Image) -> Image:
        return image.resize(horizontal, vscale=vertical, kernel=kernel)

    if kernel != "nearest":  # this kernel mixes no pixels
        picture = picture.premultiplied()
    return picture.map_pages(scale)


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
