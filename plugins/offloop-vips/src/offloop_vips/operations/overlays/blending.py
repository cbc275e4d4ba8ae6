"""Lays one image over another, with the blend modes of libvips, in premultiplied float so that colours under alpha survive."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ...geometry import Size
from ...picture import Image, Picture, rounded

__all__ = ["Blend", "blend_over", "tiled", "with_opacity"]

Blend: TypeAlias = Literal[
    "clear",
    "source",
    "over",
    "in",
    "out",
    "atop",
    "dest",
    "dest-over",
    "dest-in",
    "dest-out",
    "dest-atop",
    "xor",
    "add",
    "saturate",
    "multiply",
    "screen",
    "overlay",
    "darken",
    "lighten",
    "colour-dodge",
    "color-dodge",
    "colour-burn",
    "color-burn",
    "hard-light",
    "soft-light",
    "difference",
    "exclusion",
]

_KEEPS_OPAQUE = ("over", "atop", "dest", "dest-over", "add", "saturate", "multiply", "screen", "overlay", "darken", "lighten",
                 "colour-dodge", "color-dodge", "colour-burn", "color-burn", "hard-light", "soft-light", "difference",
                 "exclusion")  # fmt: skip


def blend_over(picture: Picture, overlay: Picture, blend: Blend, left: int, top: int) -> Picture:
    """Returns the picture with the overlay on each page, at this place.

    Args:
        picture: the picture below, of any depth.
        overlay: a picture of one page, with the same depth.
        blend: how colours are combined. Outside of the overlay the picture is combined with transparency.
        left: pixels from the left edge of the picture to that of the overlay; may be negative.
        top: pixels from the top edge; may be negative.
    """
    overlay = _with_alpha(overlay.in_colour()).premultiplied()
    was_opaque = not picture.image.hasalpha()
    picture = _with_alpha(picture.in_colour()).premultiplied()
    name, mode = picture.image.interpretation, blend.replace("color-", "colour-")

    def blended(page: Image) -> Image:
        made = page.composite2(overlay.image, mode, x=left, y=top, premultiplied=True, compositing_space=name)
        return made.copy(interpretation=name)

    picture = picture.map_pages(blended)
    if not was_opaque or blend not in _KEEPS_OPAQUE:
        return picture
    colours = rounded(picture.image[:3], is_deep=picture.is_deep).copy(interpretation=name)
    return picture.with_straight_image(colours)


def with_opacity(overlay: Picture, opacity: float) -> Picture:
    """Returns an overlay whose alpha is multiplied by a factor, 0 to 1."""
    if opacity == 1:
        return overlay
    overlay = _with_alpha(overlay).premultiplied()
    return overlay.with_image(overlay.image.linear(opacity, 0))


def tiled(overlay: Picture, size: Size, left: int, top: int) -> tuple[Picture, int, int]:
    """Returns an overlay that is repeated until it covers `size`, and its place: left and top, neither of which is positive."""
    width, height = overlay.page_size
    left, top = left % width - width, top % height - height
    across, down = -(-(size.width - left) // width), -(-(size.height - top) // height)
    return overlay.with_image(overlay.image.replicate(across, down)), left, top


def _with_alpha(picture: Picture) -> Picture:
    return picture if picture.image.hasalpha() else picture.with_image(picture.image.addalpha())
