"""Colours as people write them: CSS strings, or (r, g, b) and (r, g, b, alpha) tuples. Parsed by tinycss2."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from tinycss2 import color4

from offloop.errors import InvalidTask
from offloop.operation import Operation

__all__ = ["Colour", "Rgba", "check_colour", "rgba"]

Colour: TypeAlias = str | tuple[float, ...]
"""CSS ("red", "#f008", "rgb(255 0 0 / 50%)", "hsl(120, 100%, 50%)") or numbers: red, green and blue 0 to 255, alpha 0 to 1."""

MAX_CSS_LENGTH = 100  # characters; the parser's time grows with the text, and no colour is longer
_FORMS = "a CSS colour, or (r, g, b[, a]) with r, g and b from 0 to 255 and a from 0 to 1"


class Rgba(NamedTuple):
    """A colour in sRGB, not premultiplied."""

    red: float  # 0 to 255
    green: float
    blue: float
    alpha: float  # 0 to 1

    @property
    def is_grey(self) -> bool:
        return self.red == self.green == self.blue


def check_colour(operation: Operation, field: str) -> None:
    """Refuse, with `InvalidTask`, an operation whose field is no colour."""
    value: Any = getattr(operation, field)
    try:
        rgba(value)
    except ValueError:
        raise InvalidTask(f"{type(operation).__name__}({field}={value!r}): not a colour; expected {_FORMS}") from None


@lru_cache(maxsize=256)  # a service uses a handful of colours, and each is read in the server and again in the worker
def rgba(colour: Colour) -> Rgba:
    """Read a colour.

    Raises:
        ValueError: it is none, or it is in a colour space other than sRGB, HSL or HWB.
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
    # CSS lets a colour lie outside of the gamut and has whoever shows it bring it back
    return Rgba(*(min(max(band, 0.0), 1.0) * 255 for band in (red, green, blue)), alpha=float(parsed.alpha))


def _from_numbers(numbers: tuple[float, ...]) -> Rgba:
    if len(numbers) not in (3, 4):
        raise ValueError(numbers)
    red, green, blue, alpha = numbers if len(numbers) == 4 else (*numbers, 1.0)  # noqa: PLR2004 (with alpha)
    if not all(0 <= band <= 255 for band in (red, green, blue)) or not 0 <= alpha <= 1:  # noqa: PLR2004 (8 bits)
        raise ValueError(numbers)
    return Rgba(red, green, blue, alpha)
