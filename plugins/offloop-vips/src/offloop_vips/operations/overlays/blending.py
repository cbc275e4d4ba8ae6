"""Lays one image over another, in premultiplied float so that colours under alpha survive.

The blend modes are those of CSS and SVG (W3C, Compositing and Blending Level 1), with the names of libvips and sharp. libvips
computes them right for opaque pictures only: of translucent ones it blends colours that alpha has darkened.
"""

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


_BLENDS_COLOURS = frozenset(
    {
        "multiply",
        "screen",
        "overlay",
        "darken",
        "lighten",
        "colour-dodge",
        "colour-burn",
        "hard-light",
        "soft-light",
        "difference",
        "exclusion",
    }
)
_ATOP = frozenset(("atop", "dest-atop"))


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
        if mode in _BLENDS_COLOURS or mode in _ATOP:
            laid = overlay.image.embed(left, top, page.width, page.height, extend="background", background=[0, 0, 0, 0])
            return _mixed(page, laid, mode, picture.max_sample).copy(interpretation=name)
        made = page.composite2(overlay.image, mode, x=left, y=top, premultiplied=True, compositing_space=name)
        return made.copy(interpretation=name)

    picture = picture.map_pages(blended)
    if not was_opaque or blend not in _KEEPS_OPAQUE:
        return picture
    colours = rounded(picture.image[:3], is_deep=picture.is_deep).copy(interpretation=name)
    return picture.with_straight_image(colours)


def _mixed(page: Image, laid: Image, mode: str, white: float) -> Image:
    """Returns a page under an overlay of its size, both premultiplied. Each colour counts as far as it is visible."""
    below, above = page[3] / white, laid[3] / white
    not_below, not_above = below.linear(-1, 1), above.linear(-1, 1)
    if mode == "atop":
        return (laid[:3] * below + page[:3] * not_above).bandjoin(page[3])
    if mode == "dest-atop":
        return (page[:3] * above + laid[:3] * not_below).bandjoin(laid[3])
    space = page.interpretation
    colours = [image.unpremultiply(max_alpha=white)[:3].copy(interpretation=space) for image in (page, laid)]
    both = colours[0].composite2(colours[1], mode, premultiplied=True, compositing_space=space)[:3]
    mixed = laid[:3] * not_below + page[:3] * not_above + both * (below * above)
    return mixed.bandjoin(laid[3] + page[3] * not_above)


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
