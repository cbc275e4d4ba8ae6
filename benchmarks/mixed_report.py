"""The tables of `bench_mixed.py`, and the expectations with the measured values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import TypeAlias

from mixed_driver import Arrival
from mixed_measuring import Turns
from mixed_work import Kind

from offloop.sizes import parse_size

__all__ = ["MIB", "Row", "report"]

MIB = 1 << 20
FIRST_SMALL_S = 0.050
P95_OF_FLOOR = 1.2
TOTAL_OF_FIFO = 1.05
P95_BESIDE_PANORAMAS_S = 1.0


@dataclass
class Row:
    """One contender in one scenario."""

    contender: str
    limit: str | None  # memory_limit of offloop; None: a peer
    turns: Turns = field(default_factory=Turns)

    @property
    def name(self) -> str:
        return self.contender if self.limit is None else f"{self.contender}, {self.limit}"


_Column: TypeAlias = tuple[str, Callable[[Row], str]]


def report(scenario: str, rows: Sequence[Row], arrivals: Sequence[Arrival]) -> None:
    """Print the tables of one scenario."""
    number = {kind: sum(arrival[1] == kind for arrival in arrivals) for kind in ("large", "small")}
    if not rows:
        return
    print(f"\n({scenario}) {number['large']} large, {number['small']} small; turns of each contender: {len(rows[0].turns)}")
    columns = {"a": _at_once(_fifo_s(rows)), "b": _beside(), "c": _steady()}[scenario]
    print(f"{'':22}" + "".join(f"{title:>{len(title) + 3}}" for title, _ in columns))
    for row in rows:
        print(f"{row.name:22}" + "".join(f"{cell(row):>{len(title) + 3}}" for title, cell in columns))
    for row in rows:
        for line in _failures(row):
            print(line)
    for row in (row for row in rows if row.limit is not None):
        for what, met in _expectations(scenario, row, _fifo_s(rows), number["large"]):
            print(f"{row.name}: {what}: {'met' if met else 'NOT MET'}")


def _fifo_s(rows: Sequence[Row]) -> float:
    """Returns the total of the fastest peer that runs the same code in the order of arrival; NaN if there is none."""
    totals = [row.turns.median("total_s") for row in rows if row.limit is None and "sharp" not in row.contender]
    return min(totals, default=float("nan"))


def _at_once(fifo_s: float) -> list[_Column]:
    return [
        ("first small, ms", lambda row: f"{row.turns.median('first_small_s') * 1000:,.0f}"),
        ("small p95, s", lambda row: f"{row.turns.percentile('small', 95):.2f}"),
        ("alone, s", lambda row: f"{row.turns.median('floor_p95_s'):.2f}"),
        ("p95 / alone", lambda row: f"{row.turns.percentile('small', 95) / row.turns.median('floor_p95_s'):.2f}"),
        *_totals(),
        ("total / FIFO", lambda row: f"{row.turns.median('total_s') / fifo_s:.2f}"),
        _peak(),
    ]


def _beside() -> list[_Column]:
    return [
        ("first small, ms", lambda row: f"{row.turns.median('first_small_s') * 1000:,.0f}"),
        ("small p50, s", lambda row: f"{row.turns.percentile('small', 50):.2f}"),
        ("small p95, s", lambda row: f"{row.turns.percentile('small', 95):.2f}"),
        ("a panorama, s", lambda row: f"{row.turns.percentile('large', 50):.2f}"),
        *_totals(),
        _peak(),
    ]


def _steady() -> list[_Column]:
    def quantile(kind: Kind, percent: int, unit: str, factor: int) -> _Column:
        def cell(row: Row) -> str:
            return f"{row.turns.percentile(kind, percent) * factor:,.{0 if factor > 1 else 2}f}"

        return f"{kind} p{percent}, {unit}", cell

    return [
        *(quantile("small", percent, "ms", 1000) for percent in (50, 95, 99)),
        *(quantile("large", percent, "s", 1) for percent in (50, 95, 99)),
        ("a second", lambda row: f"{len(row.turns[0].tasks) / row.turns.median('total_s'):.1f}"),
        *_totals(),
        _peak(),
    ]


def _totals() -> list[_Column]:
    return [
        ("total, s", lambda row: f"{row.turns.median('total_s'):.2f}"),
        ("CPU, s", lambda row: f"{row.turns.median('cpu_s'):.2f}"),
        ("others", lambda row: f"{row.turns.median('others'):.2f}"),
    ]


def _peak() -> _Column:
    return "peak, MiB", lambda row: f"{row.turns.peak_bytes / MIB:,.0f}"


def _failures(row: Row) -> Iterator[str]:
    if failures := row.turns.failures:
        latest = max(failure["seconds"] for failure in failures)
        kinds = ", ".join(sorted({failure["kind"] for failure in failures}))
        example = failures[0]["error"]
        yield f"{row.name}: {len(failures)} failed ({kinds}), after {latest * 1000:,.0f} ms at most; for example {example}"


def _expectations(scenario: str, row: Row, fifo_s: float, larges: int) -> Iterator[tuple[str, bool]]:
    turns = row.turns
    assert row.limit is not None
    limit = parse_size(row.limit)
    refused = sum(failure["error"].startswith("MemoryLimitExceeded") for failure in turns.failures)
    none_fits = limit < parse_size("1GiB")
    if scenario == "a":
        first, floor = turns.median("first_small_s"), turns.median("floor_p95_s")
        yield f"first small result after {first * 1000:,.0f} ms, at most {FIRST_SMALL_S * 1000:.0f}", first <= FIRST_SMALL_S
        ratio = turns.percentile("small", 95) / floor
        yield f"small p95 {ratio:.2f} times that of small ones alone, at most {P95_OF_FLOOR}", ratio <= P95_OF_FLOOR
    if scenario == "a" and limit > parse_size("2GiB") and not isnan(fifo_s):
        ratio = turns.median("total_s") / fifo_s
        yield f"total {ratio:.2f} times that of the fastest FIFO, at most {TOTAL_OF_FIFO}", ratio <= TOTAL_OF_FIFO
    if scenario == "b":
        p95 = turns.percentile("small", 95)
        yield f"small p95 {p95:.2f} s, at most {P95_BESIDE_PANORAMAS_S:.0f}", p95 <= P95_BESIDE_PANORAMAS_S
    expected = larges * len(turns) if none_fits else 0
    yield f"{refused} refused for their memory, {expected} expected", refused == expected == len(turns.failures)
    yield f"memory {turns.peak_bytes / MIB:,.0f} MiB at most, of {limit / MIB:,.0f}", turns.peak_bytes <= limit
