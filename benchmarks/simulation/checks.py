"""What must hold of every schedule of the core's; each check returns what broke it, in words."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from itertools import accumulate
from math import isnan

from .schedule import Schedule
from .the_core import OVERTAKEN_S, OVERTAKEN_S_PER_CLASS, RESERVATION_S
from .traces import Arrival, Trace

__all__ = ["overtaken_for_too_long", "passed_by_equals"]


def overtaken_for_too_long(trace: Trace, schedule: Schedule, *, wrong: float = 1.0) -> list[str]:
    """No task begins after one of its tenant that came after more work than the bound; tenants pass each other by their shares.

    Work is counted as the pool is told it, in seconds of all workers. A task that waits for memory is passed for longer: for a
    while by any, then until the tasks that run by then have ended. The factor `wrong` is how far told work may be off.
    """
    held_s = 0.0 if schedule.budget_bytes is None else RESERVATION_S + max(arrival.cost_s for arrival in trace.arrivals)
    clock = [0.0, *accumulate(arrival.estimated_s / trace.workers for arrival in trace.arrivals)]  # before each arrival
    by_start = sorted((began, number) for number, began in enumerate(schedule.began) if not isnan(began))
    latest: dict[str | None, dict[int, int]] = defaultdict(dict)  # number of the last task to come among those that have begun
    broken: list[str] = []
    for _, number in by_start:
        arrival = trace.arrivals[number]
        for priority, other in latest[arrival.tenant].items():
            bound_s = wrong * (OVERTAKEN_S + OVERTAKEN_S_PER_CLASS * max(priority - arrival.priority, 0))
            passed_s = clock[other] - clock[number]
            if passed_s <= bound_s:
                continue
            reached = trace.arrivals[bisect_left(clock, clock[number] + bound_s) - 1].at  # when the bound was reached
            if trace.arrivals[other].at - reached > held_s:
                broken.append(f"task {number} was overtaken by one that came after {passed_s:.1f} s more work, not {bound_s:g}")
                break
        if number in schedule.beyond:
            continue
        last = latest[arrival.tenant]
        last[arrival.priority] = max(last.get(arrival.priority, -1), number)
    return broken


def passed_by_equals(trace: Trace, schedule: Schedule) -> dict[int, int]:
    """How many equal tasks came after a task and began before it, by its number; tasks that were not passed are left out.

    Tasks are equal if the pool is told the same about them.
    """
    equals: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, arrival in enumerate(trace.arrivals):
        if not isnan(schedule.began[number]):
            equals[_told(arrival)].append(number)
    passed: dict[int, int] = {}
    for numbers in equals.values():
        later: list[float] = []  # when those that came later began
        for number in reversed(numbers):
            if count := bisect_left(later, schedule.began[number]):
                passed[number] = count
            insort(later, schedule.began[number])
    return passed


def _told(arrival: Arrival) -> tuple[object, ...]:
    return arrival.kind, arrival.estimated_s, arrival.estimated_bytes, arrival.tenant, arrival.priority
