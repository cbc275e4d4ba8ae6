"""ThumbHash: a placeholder in about 25 bytes, with alpha and the aspect ratio (https://evanw.github.io/thumbhash)."""

from __future__ import annotations

from base64 import b64encode
from math import cos, pi
from typing import Any, NamedTuple

from ...picture import Picture
from ..alpha.ensure_alpha import EnsureAlpha
from ..geometry.resize import Resize
from ..step import Step
from .answer import Answer
from .pixels import Rows, cosine_coefficients, rows_of

__all__ = ["ThumbHash"]

_SIDE = 100  # pixels; the limit of the format


class ThumbHash(Answer, frozen=True):
    """Makes a placeholder: `info.thumbhash`, some bytes in base64 that clients turn into a blurred picture."""

    @property
    def steps(self) -> tuple[Step, ...]:
        return Resize(_SIDE, _SIDE, fit="inside", without_enlargement=True), EnsureAlpha()

    def answer(self, picture: Picture) -> dict[str, Any]:
        return {"thumbhash": b64encode(encode(rows_of(picture.in_colour()))).decode()}


class _Channel(NamedTuple):
    constant: float
    waves: list[float]
    scale: float


def encode(bands: list[Rows]) -> bytes:
    """Returns the hash of four bands of rows, 0 to 255."""
    height, width = len(bands[0]), len(bands[0][0])
    alphas = [[value / 255 for value in row] for row in bands[3]]
    total = sum(map(sum, alphas))
    means = [_weighted_sum(band, alphas) / 255 / total if total else 0.0 for band in bands[:3]]
    has_alpha = total < width * height
    limit = 5 if has_alpha else 7
    longest = max(width, height)
    lx, ly = max(1, _rounded(limit * width / longest)), max(1, _rounded(limit * height / longest))
    red, green, blue = (
        [
            [mean * (1 - a) + a / 255 * value for value, a in zip(row, alpha, strict=True)]
            for row, alpha in zip(band, alphas, strict=True)
        ]
        for band, mean in zip(bands[:3], means, strict=True)
    )
    luminance = _mixed((red, green, blue), (1 / 3, 1 / 3, 1 / 3))
    l_channel = _encoded(luminance, max(3, lx), max(3, ly))
    p_channel = _encoded(_mixed((red, green, blue), (0.5, 0.5, -1)), 3, 3)
    q_channel = _encoded(_mixed((red, green, blue), (1, -1, 0)), 3, 3)
    a_channel = _encoded(alphas, 5, 5) if has_alpha else None
    header = (
        _rounded(63 * l_channel.constant)
        | _rounded(31.5 + 31.5 * p_channel.constant) << 6
        | _rounded(31.5 + 31.5 * q_channel.constant) << 12
        | _rounded(31 * l_channel.scale) << 18
        | has_alpha << 23
    )
    is_landscape = width > height
    header16 = (
        (ly if is_landscape else lx)
        | _rounded(63 * p_channel.scale) << 3
        | _rounded(63 * q_channel.scale) << 9
        | is_landscape << 15
    )
    data = bytearray(header.to_bytes(3, "little") + header16.to_bytes(2, "little"))
    waves = l_channel.waves + p_channel.waves + q_channel.waves
    if a_channel is not None:
        data.append(_rounded(15 * a_channel.constant) | _rounded(15 * a_channel.scale) << 4)
        waves += a_channel.waves
    nibbles = [_rounded(15 * wave) for wave in waves]
    nibbles += [0] * (len(nibbles) % 2)
    return bytes(data) + bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))


def _encoded(rows: Rows, nx: int, ny: int) -> _Channel:
    """Returns the mean and the scaled waves of a triangle of frequencies."""
    height, width = len(rows), len(rows[0])
    columns = [[cos(pi / width * number * (x + 0.5)) for x in range(width)] for number in range(nx)]
    lines = [[cos(pi / height * number * (y + 0.5)) for y in range(height)] for number in range(ny)]
    sums = cosine_coefficients(rows, columns, lines)
    values = {(x, y): sums[y][x] / (width * height) for y in range(ny) for x in range(nx) if x * ny < nx * (ny - y)}
    constant = values.pop((0, 0))
    scale = max(map(abs, values.values()), default=0.0)
    waves = [0.5 + 0.5 / scale * value if scale else 0.0 for value in values.values()]
    return _Channel(constant, waves, scale)


def _mixed(bands: tuple[Rows, Rows, Rows], factors: tuple[float, float, float]) -> Rows:
    first, second, third = factors
    return [[first * r + second * g + third * b for r, g, b in zip(*rows, strict=True)] for rows in zip(*bands, strict=True)]


def _weighted_sum(rows: Rows, weights: Rows) -> float:
    return sum(sum(map(float.__mul__, row, weight)) for row, weight in zip(rows, weights, strict=True))


def _rounded(value: float) -> int:
    return int(value + 0.5)  # because `round` of Python rounds halves to even numbers
