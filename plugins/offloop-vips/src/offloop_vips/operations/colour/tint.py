"""Tint with one hue."""

from __future__ import annotations

from typing import Any

from offloop.errors import InvalidTask

from ...colours import Colour, check_colour, rgba
from ...picture import Image, Picture, image_class, interpretation_of
from ..step import Shape, Step

__all__ = ["Tint"]


class Tint(Step, frozen=True):
    """Colours the picture in shades of one hue. Lightness and alpha do not change."""

    color: Colour
    """Opaque colour that gives hue and saturation."""

    def check(self) -> None:
        check_colour(self, "color")
        if rgba(self.color).alpha != 1:
            raise InvalidTask(f"Tint(color={self.color!r}): a tint cannot be transparent; give an opaque colour")

    def apply(self, picture: Picture) -> Picture:
        picture = picture.in_colour_space("srgb").straight()
        shades = _shades(image_class(picture.image), self.color, is_deep=picture.is_deep)
        return picture.with_image(_tinted(picture.image, shades))

    def shape_after(self, shape: Shape) -> Shape:
        return shape.with_colours(3)


def _tinted(image: Image, shades: Image) -> Image:
    lightness = image.colourspace(interpretation_of(1, is_deep=image.format == "ushort"))
    coloured = lightness[0].maplut(shades).copy(interpretation=shades.interpretation)
    return coloured.bandjoin(lightness[1]) if image.hasalpha() else coloured


def _shades(images: Any, color: Colour, *, is_deep: bool) -> Image:
    """Returns a lookup table of all greys with the tint's hue, whose saturation falls to zero towards black and white."""
    _, a, b = images.black(1, 1).linear([1, 1, 1], list(rgba(color)[:3])).copy(interpretation="srgb").colourspace("lab")(0, 0)
    greys = images.identity(ushort=is_deep).copy(interpretation=interpretation_of(1, is_deep=is_deep))
    lightness = greys.colourspace("lab")[0]
    strength = lightness * (100 - lightness) / 2500  # 1 at middle grey, 0 at either end
    shades = lightness.bandjoin([strength * a, strength * b]).copy(interpretation="lab")
    return shades.colourspace(interpretation_of(3, is_deep=is_deep))
