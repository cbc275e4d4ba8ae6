"""Colour parser: CSS strings, parsed by tinycss2, and (r, g, b) or (r, g, b, alpha) tuples."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from tinycss2 import color4

from offloop.errors import InvalidTask
from offloop.operation import Operation

__all__ = ["Colour", "Rgba", "check_colour", "rgba"]

Colour: TypeAlias = str | tuple[float, ...]
"""CSS ("red", "#f008", "rgb(255 0 0 / 50%)", "hsl(120, 100%, 50%)") or numbers: red, green and blue 0 to 255, alpha 0 to 1."""

MAX_CSS_LENGTH = 100  # characters; a longer text is refused, because the parser's time grows with the text
_EXPECTED = "a CSS colour, or (r, g, b[, a]) with r, g and b from 0 to 255 and a from 0 to 1"


class Rgba(NamedTuple):
    """A colour in sRGB, not premultiplied with alpha."""

    red: float  # 0 to 255
    green: float  # 0 to 255
    blue: float  # 0 to 255
    alpha: float  # 0 to 1

    @property
    def is_grey(self) -> bool:
        return self.red == self.green == self.blue


def check_colour(operation: Operation, field: str) -> None:
    """Raises `InvalidTask` if the operation's field is not a colour."""
    value: Any = getattr(operation, field)
    try:
        rgba(value)
    except ValueError:
        raise InvalidTask(f"{type(operation).__name__}({field}={value!r}): not a colour; expected {_EXPECTED}") from None


@lru_cache(maxsize=256)  # a service uses a handful of colours; server and worker both parse each of them
def rgba(colour: Colour) -> Rgba:
    """Parses a colour.

    Raises:
        ValueError: the value is not a colour, or is in a colour space other than sRGB, HSL or HWB.
    """
    return _from_css(colour) if isinstance(colour, str) else _from_numbers(colour)


def _from_css(text: str) -> Rgba:
    parsed: Any = color4.parse_color(text) if len(text) <= MAX_CSS_LENGTH else None
    if parsed is None or isinstance(parsed, str):  # "currentcolor" has no meaning without a page
        raise ValueError(text)
    try:
        red, green, blue = parsed.to("srgb").coordinates
    except NotImplementedError:
        raise ValueError(text) from None
    # CSS allows a colour outside of the gamut; it is clipped here
    return Rgba(*(min(max(band, 0.0), 1.0) * 255 for band in (red, green, blue)), alpha=float(parsed.alpha))


def _from_numbers(numbers: tuple[float, ...]) -> Rgba:
    if len(numbers) not in (3, 4):
        raise ValueError(numbers)
    red, green, blue, alpha = numbers if len(numbers) == 4 else (*numbers, 1.0)  # noqa: PLR2004 (with alpha)
    if not all(0 <= band <= 255 for band in (red, green, blue)) or not 0 <= alpha <= 1:  # noqa: PLR2004 (8 bits)
        raise ValueError(numbers)
    return Rgba(red, green, blue, alpha)
