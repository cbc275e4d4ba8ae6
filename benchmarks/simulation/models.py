"""Plain models of the policies that schedulers are held against."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf

from .schedule import Schedule
from .traces import Arrival, Trace

__all__ = ["first_come_first_served", "processor_sharing", "shortest_first"]


def first_come_first_served(trace: Trace, budget_bytes: int | None = None) -> Schedule:
    """As any pool does it. What does not fit into the budget waits, and so does all behind it."""
    return _one_after_another("first come", trace, lambda _: 0.0, budget_bytes)


def shortest_first(trace: Trace, budget_bytes: int | None = None) -> Schedule:
    """By the true cost, not interrupting what runs; what is large may wait for ever."""
    return _one_after_another("shortest first", trace, lambda arrival: arrival.cost_s, budget_bytes)


def processor_sharing(trace: Trace) -> Schedule:
    """All that are there run at once, each with an equal share of the workers, and with one worker at most.

    Every task gets the same, so it is enough to count what each has got since the beginning: a task ends when that has
    grown by its cost.
    """
    schedule = Schedule.empty("processor sharing", len(trace.arrivals))
    present: list[tuple[float, int]] = []  # a heap: what everyone will have got when the task ends
    now = got = 0.0
    for number, arrival in enumerate(trace.arrivals):
        now, got = _share_until(arrival.at, now, got, present, trace.workers, schedule)
        schedule.began[number] = arrival.at
        heappush(present, (got + arrival.cost_s, number))
    _share_until(inf, now, got, present, trace.workers, schedule)
    return schedule


def _share_until(
    until: float, now: float, got: float, present: list[tuple[float, int]], workers: int, schedule: Schedule
) -> tuple[float, float]:
    """Time passes; who has got enough leaves. Returns the time, and what everyone has got since the beginning."""
    while present:
        share = min(1.0, workers / len(present))
        ends = now + (present[0][0] - got) / share
        if ends > until:
            return until, got + (until - now) * share
        now, (got, number) = ends, heappop(present)
        schedule.ended[number] = now
    return until, got


def _one_after_another(policy: str, trace: Trace, rank: Callable[[Arrival], float], budget_bytes: int | None) -> Schedule:
    schedule = Schedule.empty(policy, len(trace.arrivals), budget_bytes)
    waiting: list[tuple[float, int]] = []
    running: list[tuple[float, int]] = []
    room = inf if budget_bytes is None else budget_bytes
    coming = 0
    while coming < len(trace.arrivals) or running:
        comes = trace.arrivals[coming].at if coming < len(trace.arrivals) else inf
        if running and running[0][0] <= comes:
            now, number = heappop(running)
            room += trace.arrivals[number].peak_bytes
        else:
            now, number = comes, coming
            heappush(waiting, (rank(trace.arrivals[number]), number))
            coming += 1
        while waiting and len(running) < trace.workers and trace.arrivals[waiting[0][1]].peak_bytes <= room:
            number = heappop(waiting)[1]
            arrival = trace.arrivals[number]
            room -= arrival.peak_bytes
            schedule.began[number], schedule.ended[number] = now, now + arrival.cost_s
            heappush(running, (now + arrival.cost_s, number))
    return schedule
