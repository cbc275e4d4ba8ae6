"""Sizes and positions of a resize: the size of the scaled picture, and its offset in the canvas. No pixels.

Names and rounding follow sharp, so that a service that moves from sharp to offloop gets pictures of the same size.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeAlias

from msgspec import Meta

__all__ = ["Fit", "Fitting", "Position", "Side", "Size", "fit_size", "is_strategy", "offset"]

Fit: TypeAlias = Literal["cover", "contain", "fill", "inside", "outside"]
Position: TypeAlias = Literal[
    "centre",
    "center",
    "north",
    "northeast",
    "east",
    "southeast",
    "south",
    "southwest",
    "west",
    "northwest",
    "top",
    "right top",
    "right",
    "right bottom",
    "bottom",
    "left bottom",
    "left",
    "left top",
    "entropy",
    "attention",
]

Side: TypeAlias = Annotated[int, Meta(ge=1, le=10_000_000)]
"""Width or height in pixels. The limit is that of libvips; `Decode.max_pixels` limits the number of pixels."""

# position along (x, y): 0 is the left or top edge, 1 the middle, 2 the right or bottom edge
_ANCHORS: dict[str, tuple[int, int]] = {
    "centre": (1, 1),
    "center": (1, 1),
    "north": (1, 0),
    "top": (1, 0),
    "northeast": (2, 0),
    "right top": (2, 0),
    "east": (2, 1),
    "right": (2, 1),
    "southeast": (2, 2),
    "right bottom": (2, 2),
    "south": (1, 2),
    "bottom": (1, 2),
    "southwest": (0, 2),
    "left bottom": (0, 2),
    "west": (0, 1),
    "left": (0, 1),
    "northwest": (0, 0),
    "left top": (0, 0),
}


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def transposed(self) -> Size:
        return Size(self.height, self.width)

    @property
    def pixels(self) -> int:
        return self.width * self.height


class Fitting(NamedTuple):
    """The two sizes of a resize."""

    scaled: Size  # size of the whole picture after scaling
    canvas: Size  # size of the result, after a crop or with a margin


def is_strategy(position: Position) -> bool:
    """Whether the position depends on the picture's content: "entropy" or "attention"."""
    return position not in _ANCHORS


def fit_size(
    size: Size,
    width: int | None,
    height: int | None,
    *,
    fit: Fit = "cover",
    without_enlargement: bool = False,
    without_reduction: bool = False,
) -> Fitting:
    """Returns the sizes for a resize of a picture of `size` to `width` x `height`. One of `width` and `height` may be None."""
    horizontal, vertical = _shrink_factors(size, width, height, fit)
    if without_enlargement:
        horizontal, vertical = max(horizontal, 1.0), max(vertical, 1.0)
    if without_reduction:
        horizontal, vertical = min(horizontal, 1.0), min(vertical, 1.0)
    scaled = Size(max(1, round(size.width / horizontal)), max(1, round(size.height / vertical)))
    return Fitting(scaled, _canvas(scaled, Size(width or scaled.width, height or scaled.height), fit))


def offset(inner: Size, outer: Size, position: Position | tuple[float, float], *, cropping: bool) -> tuple[int, int]:
    """Returns left and top of `inner` within `outer`. Half an odd gap is rounded as in sharp: up for a crop, else down.

    A pair of fractions of `outer` is the point that gets as near to the centre of `inner` as it can.
    """
    if isinstance(position, tuple):
        return _offset_of_focus(inner, outer, position)
    rounding = 1 if cropping else 0
    gaps = (outer.width - inner.width, outer.height - inner.height)
    left, top = ((0, (gap + rounding) // 2, gap)[anchor] for gap, anchor in zip(gaps, _ANCHORS[position], strict=True))
    return left, top


def _offset_of_focus(inner: Size, outer: Size, focus: tuple[float, float]) -> tuple[int, int]:
    left, top = (
        min(max(round(fraction * whole - part / 2), 0), whole - part)
        for fraction, whole, part in zip(focus, outer, inner, strict=True)
    )
    return left, top


def _shrink_factors(size: Size, width: int | None, height: int | None, fit: Fit) -> tuple[float, float]:
    """Returns the divisors of width and height."""
    horizontal = size.width / width if width else None
    vertical = size.height / height if height else None
    if fit == "fill":
        return horizontal or 1.0, vertical or 1.0
    if horizontal and vertical:
        factor = min(horizontal, vertical) if fit in ("cover", "outside") else max(horizontal, vertical)
    else:
        factor = horizontal or vertical or 1.0
    return factor, factor


def _canvas(scaled: Size, requested: Size, fit: Fit) -> Size:
    if fit == "cover":
        return Size(min(scaled.width, requested.width), min(scaled.height, requested.height))
    if fit == "contain":
        return Size(max(scaled.width, requested.width), max(scaled.height, requested.height))
    return scaled
