"""Medians and spreads of the turns."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from suite.records import Turn

__all__ = ["Spread", "summary"]


class Spread(NamedTuple):
    median: float
    low: float
    high: float


def summary(turns: Sequence[Turn]) -> dict[str, dict[str, Spread]]:
    """Returns the spread of each figure, by contender and figure. Contenders are in the order of their first turn."""
    values: dict[str, dict[str, list[float]]] = {}
    for turn in turns:
        for key, value in turn.figures.items():
            values.setdefault(turn.contender, {}).setdefault(key, []).append(value)
    return {
        contender: {key: Spread(median(found), min(found), max(found)) for key, found in figures.items()}
        for contender, figures in values.items()
    }
