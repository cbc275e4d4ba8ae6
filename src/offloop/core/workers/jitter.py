"""Random variation of pauses and limits, so that workers and pools do not all act at the same moment."""

from __future__ import annotations

from random import Random

__all__ = ["Jitter"]

_SHARE = 0.2


class Jitter:
    """A seeded source of variation by up to a fifth."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 (nothing is gained by guessing a pause)

    def around(self, amount: float) -> float:
        """The amount, up to a fifth more or less."""
        return amount * self._random.uniform(1 - _SHARE, 1 + _SHARE)

    def below(self, limit: float) -> float:
        """The limit, or up to a fifth less: for limits that must not be exceeded."""
        return limit * self._random.uniform(1 - _SHARE, 1)
