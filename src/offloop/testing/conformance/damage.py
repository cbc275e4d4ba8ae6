"""Damaged copies of a source, for the conformance kits."""

from __future__ import annotations

import random

__all__ = ["damaged_copies"]


def damaged_copies(source: bytes, count: int) -> list[bytes]:
    """Returns copies with other bytes, pieces that are missing or repeated, and copies that are cut; always the same ones."""
    chance = random.Random(1)  # noqa: S311 (no secret)
    damaged: list[bytes] = []
    for number in range(count):
        at, length = chance.randrange(len(source)), chance.randrange(1, 40)
        replacement = (chance.randbytes(length), b"", source[at : at + length] * 2)[number % 3]
        damaged.append(source[:at] + replacement + source[at + length :] if number % 4 else source[:at])
    return damaged
