"""Perceptual hash: finds pictures that look alike."""

from __future__ import annotations

from math import cos, pi
from statistics import median
from typing import Any

from ...picture import Picture
from ..alpha.flatten import Flatten
from ..colour.grayscale import Grayscale
from ..geometry.resize import Resize
from ..step import Step
from .answer import Answer
from .pixels import cosine_coefficients, rows_of

__all__ = ["PerceptualHash"]

_SIDE, _FREQUENCIES = 32, 8


class PerceptualHash(Answer, frozen=True):
    """Makes 64 bits of which pictures that look alike share most: `info.perceptual_hash`, 16 hexadecimal digits.

    The bits are the signs of the lowest 8 x 8 frequencies of the greys (pHash), relative to their median. The number of
    different bits is `(int(a, 16) ^ int(b, 16)).bit_count()`: up to about 10 for the same picture in another size or quality,
    about 32 for unrelated ones.
    """

    @property
    def steps(self) -> tuple[Step, ...]:
        return Resize(_SIDE, _SIDE, fit="fill"), Flatten("white"), Grayscale()

    def answer(self, picture: Picture) -> dict[str, Any]:
        (rows,) = rows_of(picture)
        waves = [[cos(pi * number * (2 * at + 1) / (2 * _SIDE)) for at in range(_SIDE)] for number in range(_FREQUENCIES)]
        values = [value for line in cosine_coefficients(rows, waves, waves) for value in line]
        middle = median(values)
        bits = "".join("1" if value > middle else "0" for value in values)
        return {"perceptual_hash": f"{int(bits, 2):016x}"}
