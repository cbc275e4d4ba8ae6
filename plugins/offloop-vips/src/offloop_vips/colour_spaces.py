"""Colour spaces of a picture between two steps, and conversions between them by ICC profiles.

The space "source" is that of the profile in the image's metadata: colours are as they are in the file. Nothing can be converted
to it, because libvips takes only profiles that it has, or that are files.
"""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias, cast

from .colours import Rgba

__all__ = ["NAMES", "ColourSpace", "colour_in_p3", "convert_colours", "profile_of"]

ColourSpace: TypeAlias = Literal["srgb", "p3", "source"]

NAMES: dict[ColourSpace, str] = {"srgb": "sRGB", "p3": "Display P3", "source": "the profile of the source"}


def convert_colours(image: Any, source: ColourSpace, target: Literal["srgb", "p3"]) -> Any:
    """Returns an image of 8 or 16 bits without alpha, converted to another colour space. Colours outside of it are clipped."""
    profile = {"embedded": True} if source == "source" else {"input_profile": source}
    depth = 16 if image.format == "ushort" else 8
    return image.icc_transform(target, intent="perceptual", depth=depth, **profile)


def colour_in_p3(images: Any, colour: Rgba) -> Rgba:
    """Returns a colour of sRGB with the levels, 0 to 255, that Display P3 has for it.

    Args:
        images: the class `pyvips.Image`.
        colour: the colour.
    """
    levels = [level * 257 for level in colour[:3]]
    pixel = images.black(1, 1).linear([1, 1, 1], levels).cast("ushort").copy(interpretation="rgb16")
    red, green, blue = (level / 257 for level in convert_colours(pixel, "srgb", "p3")(0, 0))
    return Rgba(red, green, blue, colour.alpha)


def profile_of(space: Literal["srgb", "p3"]) -> bytes:
    """Returns the ICC profile of a colour space."""
    return cast("Any", sys.modules["pyvips"]).Operation.call("profile_load", space)  # the server imports this module, too
