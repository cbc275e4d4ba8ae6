"""Resize."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..colours import Colour, check_colour, rgba
from ..geometry import Fit, Fitting, Position, Size, fit_size, is_strategy, offset
from ..picture import Image, Picture, check_pixels, over, premultiplied

__all__ = ["Resize", "fitting"]

Side: TypeAlias = Annotated[int, Meta(ge=1, le=10_000_000)]  # libvips allows no more; how many pixels is for Decode to limit


class Resize(Operation, frozen=True):
    """Scale the picture, then crop it or put it on a canvas, as `fit` tells. One side may be left to follow from the other."""

    width: Side | None = None
    """In pixels; None keeps the proportions."""

    height: Side | None = None
    """In pixels; None keeps the proportions."""

    fit: Fit = "cover"
    """cover: fill the size and cut off what is beyond it. contain: show all, on a canvas of the size. fill: stretch.
    inside: as large as fits into the size. outside: as small as covers it, nothing cut off."""

    position: Position = "centre"
    """Which part cover keeps and where contain puts the picture: a gravity, a side, or for cover "entropy" (the busiest part)
    or "attention" (what an eye would go to)."""

    kernel: Literal["nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3"] = "lanczos3"
    """How pixels are mixed when there are to be fewer of them; enlarging uses nearest, linear or cubic, the closest."""

    background: Colour = "black"
    """What contain puts around the picture; a colour with alpha gives the picture an alpha band."""

    without_enlargement: bool = False
    """Leave the scale alone rather than enlarge; the result may be smaller than asked for."""

    without_reduction: bool = False
    """Leave the scale alone rather than reduce; the result may be larger than asked for, or more of it cut off."""

    def check(self) -> None:
        if self.width is None and self.height is None:
            raise InvalidTask("Resize(width=None, height=None): give one of them at least")
        if is_strategy(self.position) and self.fit != "cover":
            raise InvalidTask(f"Resize(position={self.position!r}, fit={self.fit!r}): a strategy chooses what cover keeps")
        check_colour(self, "background")


def fitting(resize: Resize, size: Size) -> Fitting:
    """The sizes that a picture of `size` takes."""
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
        raise InvalidTask(f"Resize(position={resize.position!r}): every page would be cropped elsewhere; choose a gravity")
    scaled, canvas = fitting(resize, picture.size)
    check_pixels(canvas, picture.pages, picture.max_pixels)  # of what is scaled, only the part that is kept is ever computed
    picture = _scale(picture, scaled, resize.kernel).upright()
    if canvas == scaled:
        return picture
    if resize.fit == "contain":
        return picture.each_page(lambda page: _embed(page, canvas, resize))
    if is_strategy(resize.position):
        return _crop_by_content(picture, canvas, resize.position)
    left, top = offset(canvas, scaled, resize.position, cropping=True)
    return picture.each_page(lambda page: page.crop(left, top, canvas.width, canvas.height))


def _scale(picture: Picture, scaled: Size, kernel: str) -> Picture:
    """Scale before turning upright: the same picture comes out, and there are fewer pixels to turn."""
    stored = scaled.turned if picture.turns else scaled
    picture = replace(picture, loaded_from=None)
    if stored == picture.page_size:
        return picture
    across, down = stored.width / picture.page_size.width, stored.height / picture.page_size.height

    def work(image: Image) -> Image:
        return image.resize(across, vscale=down, kernel=kernel)

    return picture.each_page(lambda page: premultiplied(page, work))


def _embed(image: Image, canvas: Size, resize: Resize) -> Image:
    image, ground = over(image, rgba(resize.background))
    left, top = offset(Size(image.width, image.height), canvas, resize.position, cropping=False)
    return image.embed(left, top, canvas.width, canvas.height, extend="background", background=ground)


def _crop_by_content(picture: Picture, canvas: Size, strategy: str) -> Picture:
    picture = picture.settled()
    cropped = picture.evaluation.watch(picture.image).smartcrop(canvas.width, canvas.height, interesting=strategy)
    return picture.with_image(cropped, crop_left=-cropped.xoffset, crop_top=-cropped.yoffset)
