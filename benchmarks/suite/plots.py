"""Bars of one figure of all contenders, as SVG for light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from suite.questions.base import Figure
from suite.summary import Spread

__all__ = ["THEMES", "draw"]

_LOGARITHMIC_FROM = 20  # ratio of the longest bar to the shortest


class Theme(NamedTuple):
    text: str
    ours: str
    other: str
    line: str


THEMES = {
    "light": Theme("#1f2328", "#0a7d5a", "#9aa4b2", "#d0d7de"),
    "dark": Theme("#e6edf3", "#3fd6a0", "#6e7681", "#30363d"),
}


def draw(folder: Path, name: str, figure: Figure, values: Mapping[str, Spread]) -> None:
    """Write `NAME-light.svg` and `NAME-dark.svg`: the best contender first, its median as a bar and the extremes as a line."""
    ranked = sorted(values.items(), key=lambda item: item[1].median, reverse=figure.is_rate)
    for theme_name, theme in THEMES.items():
        # the same figures give the same file
        with mpl.rc_context({"svg.hashsalt": "offloop", "svg.fonttype": "none", "font.family": "sans-serif"}):
            canvas = Canvas(figsize=(8, 0.34 * len(ranked) + 0.7))
            axes = canvas.add_axes((0.27, 0.6 / (0.34 * len(ranked) + 0.7), 0.62, 1 - 0.75 / (0.34 * len(ranked) + 0.7)))
            _bars(axes, figure, ranked, theme)
            canvas.savefig(folder / f"{name}-{theme_name}.svg", transparent=True, metadata={"Date": None})


def _bars(axes, figure: Figure, ranked: list[tuple[str, Spread]], theme: Theme) -> None:
    places = range(len(ranked))
    medians = [spread.median for _, spread in ranked]
    colours = [theme.ours if contender.startswith("offloop") else theme.other for contender, _ in ranked]
    axes.barh(places, medians, color=colours, height=0.68)
    for place, (_, spread) in zip(places, ranked, strict=True):
        axes.plot((spread.low, spread.high), (place, place), color=theme.text, linewidth=1)
        axes.annotate(
            f"{spread.median:,.{figure.digits}f}",
            (max(spread.high, spread.median), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=theme.text,
            fontsize=9,
        )
    positive = [value for value in medians if value > 0]
    if positive and max(positive) / min(positive) > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
    axes.set_yticks(list(places), [contender for contender, _ in ranked], color=theme.text, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(figure.label, color=theme.text, fontsize=9)
    axes.tick_params(colors=theme.text, labelsize=8, length=0)
    axes.xaxis.grid(visible=True, color=theme.line, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
