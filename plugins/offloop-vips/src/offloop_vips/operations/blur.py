"""Blur: a box filter or a Gaussian."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offloop.operation import Operation

from ..picture import Image, Picture, rounded

__all__ = ["Blur"]

_BOX = [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


class Blur(Operation, frozen=True):
    """Blurs the picture, mildly and fast, or by a Gaussian."""

    sigma: Annotated[float, Meta(ge=0.3, le=1000)] | None = None
    """The Gaussian's standard deviation in pixels; None averages each pixel with its eight neighbours."""


def apply(picture: Picture, blur: Blur) -> Picture:
    picture = picture.premultiplied()
    return picture.map_pages(lambda page: _blurred(page, blur.sigma))


def _blurred(image: Image, sigma: float | None) -> Image:
    if sigma is not None:
        return image.gaussblur(sigma)
    blurred = image.conv(image.new_from_array(_BOX, scale=9))
    return blurred if image.format == "float" else rounded(blurred)
