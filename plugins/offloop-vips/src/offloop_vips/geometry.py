"""The arithmetic of resizing: which size a picture takes, and where it sits in what was asked for. No pixels here.

Names and rounding are sharp's, so that a service that moves from sharp to offloop gets pictures of the same size.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Fit", "Fitting", "Position", "Size", "fit_size", "is_strategy", "offset"]

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

# where the picture's own point sits along (x, y): 0 is the near edge, 1 the middle, 2 the far edge
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
    """In pixels."""

    width: int
    height: int

    @property
    def turned(self) -> Size:
        return Size(self.height, self.width)

    @property
    def pixels(self) -> int:
        return self.width * self.height


class Fitting(NamedTuple):
    """The two sizes of a resize."""

    scaled: Size  # the whole picture after it was scaled
    canvas: Size  # what is left of it, or around it, in the end


def is_strategy(position: Position) -> bool:
    """Whether the place depends on what the picture shows."""
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
    """The sizes that a picture of `size` takes when it is resized to `width` by `height`, either of which may be None."""
    across, down = _shrinks(size, width, height, fit)
    if without_enlargement:
        across, down = max(across, 1.0), max(down, 1.0)
    if without_reduction:
        across, down = min(across, 1.0), min(down, 1.0)
    scaled = Size(max(1, round(size.width / across)), max(1, round(size.height / down)))
    return Fitting(scaled, _canvas(scaled, Size(width or scaled.width, height or scaled.height), fit))


def offset(inner: Size, outer: Size, position: Position, *, cropping: bool) -> tuple[int, int]:
    """Left and top of `inner` within `outer`; an odd pixel in the middle goes right or below the way sharp has it go."""
    odd = 1 if cropping else 0
    gaps = (outer.width - inner.width, outer.height - inner.height)
    places = [(0, (gap + odd) // 2, gap)[anchor] for gap, anchor in zip(gaps, _ANCHORS[position], strict=True)]
    return places[0], places[1]


def _shrinks(size: Size, width: int | None, height: int | None, fit: Fit) -> tuple[float, float]:
    """By how much each side is divided."""
    across = size.width / width if width else None
    down = size.height / height if height else None
    if fit == "fill":
        return across or 1.0, down or 1.0
    if across and down:
        both = min(across, down) if fit in ("cover", "outside") else max(across, down)
    else:
        both = across or down or 1.0
    return both, both


def _canvas(scaled: Size, asked: Size, fit: Fit) -> Size:
    if fit == "cover":
        return Size(min(scaled.width, asked.width), min(scaled.height, asked.height))
    if fit == "contain":
        return Size(max(scaled.width, asked.width), max(scaled.height, asked.height))
    return scaled
