"""Grayscale conversion."""

from __future__ import annotations

from ...picture import Picture, interpretation_of
from ..step import Shape, Step

__all__ = ["Grayscale"]


class Grayscale(Step, frozen=True):
    """Converts the picture to grey by its luminance: one band, and alpha if the picture has it."""

    def apply(self, picture: Picture) -> Picture:
        picture = picture.in_colour_space("srgb").straight()
        return picture.with_image(picture.image.colourspace(interpretation_of(1, is_deep=picture.is_deep)))

    def shape_after(self, shape: Shape) -> Shape:
        return shape.with_colours(1)
