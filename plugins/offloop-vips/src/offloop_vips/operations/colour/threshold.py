"""Threshold: black and white."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ...picture import Image, Picture, interpretation_of
from ..step import Shape, Step

__all__ = ["Threshold"]


class Threshold(Step, frozen=True):
    """Makes each pixel white if it is at least as bright as the threshold, and black otherwise. Alpha does not change."""

    threshold: Annotated[float, Meta(ge=0, le=255)] = 128
    """Least level of white, of 255."""

    grayscale: bool = True
    """Convert the picture to grey first, which leaves one band. Otherwise each band is compared."""

    def apply(self, picture: Picture) -> Picture:
        picture = picture.in_colour_space("srgb")
        least = self.threshold * picture.max_sample / 255
        name = interpretation_of(1, is_deep=picture.is_deep)

        def compared(colours: Image) -> Image:
            image = colours.colourspace(name) if self.grayscale else colours
            white = (image >= least).linear(picture.max_sample / 255, 0)  # a comparison has 255 for true
            return white.cast(image.format).copy(interpretation=image.interpretation)

        return picture.map_colours(compared)

    def shape_after(self, shape: Shape) -> Shape:
        return shape.with_colours(1) if self.grayscale else shape
