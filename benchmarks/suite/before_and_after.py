"""The table of the articles on web workers, before and after, from the results of the questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from suite.contenders import IN_SERVER, OFFLOOP
from suite.summary import Spread

__all__ = ["Summaries", "before_and_after"]

Summaries: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Spread]]]
"""By question, contender and figure."""


class Row(NamedTuple):
    what: str
    question: str
    figure: str
    before: str  # contender
    after: str
    unit: str
    digits: int = 1


_TIGHT = "offloop, memory_limit of 350 MiB"
ROWS = (
    Row("24 tasks: one after another, in a pool", "article", "seconds", IN_SERVER, OFFLOOP, "s"),
    Row("the same, each source decoded once", "article", "seconds", OFFLOOP, "offloop, run_many", "s"),
    Row("36 MiB there and back: pickled, in shared memory", "payload", "us_37748736", "ProcessPoolExecutor", OFFLOOP, "us", 0),
    Row("bytes through pipes for it", "payload", "piped_mib", "ProcessPoolExecutor", OFFLOOP, "MiB", 2),
    Row("bytes that the server copies for it", "payload", "copied_mib", "ProcessPoolExecutor", OFFLOOP, "MiB", 0),
    Row("lag of the loop, p99: blocked, free", "article", "lag_p99_ms", IN_SERVER, OFFLOOP, "ms"),
    Row(
        "small behind large pictures, p95: in order, scheduled",
        "order",
        "small_p95_ms",
        "ProcessPoolExecutor",
        OFFLOOP,
        "ms",
        0,
    ),
    Row("48 others beside 2 that hang: done in 6 s", "stuck", "returned", "ProcessPoolExecutor", OFFLOOP, "tasks", 0),
    Row("a crash among 50 tasks: others lost", "crash", "lost", "ProcessPoolExecutor", OFFLOOP, "tasks", 0),
    Row("peak memory: without and with a budget", "order", "peak_mib", "ProcessPoolExecutor", _TIGHT, "MiB", 0),
)


def before_and_after(found: Summaries) -> list[str]:
    """Returns the lines of a section; none if a result is missing."""
    shown = [
        row
        for row in ROWS
        if all(row.figure in found.get(row.question, {}).get(contender, {}) for contender in (row.before, row.after))
    ]
    if not shown:
        return []
    lines = ["## Before and after", "", "| | before | | after | |", "| --- | ---: | --- | ---: | --- |"]
    for row in shown:
        cells = [
            f"{found[row.question][name][row.figure].median:,.{row.digits}f} {row.unit}" for name in (row.before, row.after)
        ]
        lines.append(f"| [{row.what}]({row.question}.md) | {cells[0]} | {row.before} | {cells[1]} | {row.after} |")
    return lines
