"""BlurHash: a placeholder in about 30 characters (https://blurha.sh)."""

from __future__ import annotations

from math import cos, pi
from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from ...colours import Colour, check_colour
from ...picture import Picture
from ..alpha.flatten import Flatten
from ..geometry.resize import Resize
from ..step import Step
from .answer import Answer
from .pixels import cosine_coefficients, rows_of

__all__ = ["BlurHash"]

Components: TypeAlias = Annotated[int, Meta(ge=1, le=9)]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
_SIDE = 32  # pixels; a component has at most four and a half waves
_SRGB_BEND, _LINEAR_BEND = 0.04045, 0.0031308


class BlurHash(Answer, frozen=True):
    """Makes a placeholder: `info.blurhash`, a short text that clients turn into a blurred picture."""

    x_components: Components = 4
    """Number of horizontal waves, 1 to 9."""

    y_components: Components = 3
    """Number of vertical waves, 1 to 9."""

    background: Colour = "white"
    """Opaque colour behind transparent pixels."""

    def check(self) -> None:
        check_colour(self, "background")
        Flatten(self.background)

    @property
    def steps(self) -> tuple[Step, ...]:
        return Resize(_SIDE, _SIDE, fit="inside", without_enlargement=True), Flatten(self.background)

    def answer(self, picture: Picture) -> dict[str, Any]:
        bands = [[[_to_linear(sample / 255) for sample in row] for row in rows] for rows in rows_of(picture.in_colour())]
        return {"blurhash": encode(bands, self.x_components, self.y_components)}


def encode(bands: list[list[list[float]]], x_components: int, y_components: int) -> str:
    """Returns the hash of linear light, 0 to 1, of three bands of rows."""
    height, width = len(bands[0]), len(bands[0][0])
    columns = [[cos(pi * number * x / width) for x in range(width)] for number in range(x_components)]
    lines = [[cos(pi * number * y / height) for y in range(height)] for number in range(y_components)]
    red, green, blue = (cosine_coefficients(rows, columns, lines) for rows in bands)
    factors = [
        tuple((1 if x == y == 0 else 2) / (width * height) * band[y][x] for band in (red, green, blue))
        for y in range(y_components)
        for x in range(x_components)
    ]
    mean, waves = factors[0], factors[1:]
    text = _base83(x_components - 1 + (y_components - 1) * 9, 1)
    largest = max((abs(value) for wave in waves for value in wave), default=0.0)
    quantised = max(0, min(82, int(largest * 166 - 0.5)))
    text += _base83(quantised if waves else 0, 1)
    red_level, green_level, blue_level = (_to_level(value) for value in mean)
    text += _base83((red_level << 16) + (green_level << 8) + blue_level, 4)
    return text + "".join(_wave(wave, (quantised + 1) / 166) for wave in waves)


def _wave(factors: tuple[float, ...], largest: float) -> str:
    number = 0
    for factor in factors:
        share = factor / largest
        root = abs(share) ** 0.5 * (1 if share >= 0 else -1)
        number = number * 19 + max(0, min(18, int(root * 9 + 9.5)))
    return _base83(number, 2)


def _base83(number: int, length: int) -> str:
    return "".join(_DIGITS[number // 83**place % 83] for place in reversed(range(length)))


def _to_linear(value: float) -> float:
    return value / 12.92 if value <= _SRGB_BEND else ((value + 0.055) / 1.055) ** 2.4


def _to_level(value: float) -> int:
    value = max(0.0, min(1.0, value))
    encoded = value * 12.92 if value <= _LINEAR_BEND else 1.055 * value ** (1 / 2.4) - 0.055
    return int(encoded * 255 + 0.5)
