"""The answer to a question in two sentences, and the goals that are not reached, both from the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from suite.contenders import OFFLOOP
from suite.questions.base import Figure, Goal, Question
from suite.summary import Spread

__all__ = ["Found", "answer", "goal_lines", "not_reached"]

Found: TypeAlias = Mapping[str, Mapping[str, Spread]]
"""By contender and figure."""

_NOTEWORTHY = 1.05  # ratio from which offloop counts as behind: less is noise


def answer(question: Question, found: Found) -> str:
    """Returns what the first figure says, and in which figures another contender is ahead of offloop; empty without results."""
    ours = found.get(OFFLOOP, {})
    first, behind = "", list[str]()
    for figure in question.figures:
        others = _others(question, found, figure)
        if figure.key not in ours or not others:
            continue
        best = (max if figure.is_rate else min)(others, key=lambda name: others[name])
        mine = ours[figure.key].median
        compared = f"{figure.label}: {_shown(mine, figure)} against {_shown(others[best], figure)} of {best}"
        if not first:
            first = f"{compared}, the best of {len(others)} others."
        elif (others[best] > mine * _NOTEWORTHY) if figure.is_rate else (mine > others[best] * _NOTEWORTHY):
            behind.append(compared)
    if not first:
        return ""
    return f"{first} offloop is behind in " + ("; ".join(behind) if behind else "no other column") + "."


def goal_lines(question: Question, found: Found) -> list[str]:
    """Returns a table of the goals that were measured."""
    rows = [
        f"| {goal.what} | {'at least' if goal.is_least else 'at most'} {goal.limit:g} | {value:,.{goal.digits}f} | "
        f"{'reached' if goal.is_reached(value) else 'not reached'} |"
        for goal, value in _measured(question, found)
    ]
    return ["| goal | expected | measured | |", "| --- | ---: | ---: | --- |", *rows, ""] if rows else []


def not_reached(question: Question, found: Found) -> list[str]:
    """Returns a line for each goal that is not reached: by how much, and what the limit is."""
    return [
        f"- [{question.title}]({question.name}.md): {goal.what}: {value:,.{goal.digits}f}, where "
        f"{'at least' if goal.is_least else 'at most'} {goal.limit:g} was expected. {goal.reason}"
        for goal, value in _measured(question, found)
        if not goal.is_reached(value)
    ]


def _measured(question: Question, found: Found) -> Iterator[tuple[Goal, float]]:
    medians = {name: {key: spread.median for key, spread in figures.items()} for name, figures in found.items()}
    for goal in question.goals:
        try:
            yield goal, goal.measured(medians)
        except (KeyError, ValueError, ZeroDivisionError):  # a contender was not there, or an older run has no such figure
            continue


def _others(question: Question, found: Found, figure: Figure) -> dict[str, float]:
    """The values of contenders that are neither offloop nor a floor."""
    return {
        name: figures[figure.key].median
        for name, figures in found.items()
        if not name.startswith(OFFLOOP) and name not in question.floors and figure.key in figures
    }


def _shown(value: float, figure: Figure) -> str:
    return f"{value:,.{figure.digits}f}"
