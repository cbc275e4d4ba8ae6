"""Checks of the properties that every schedule of the core must have. Each returns descriptions of the violations."""

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
    """Check that no task begins after a task of its tenant that arrived after more work than the bound. Fair shares decide
    between tenants.

    Work is the sum of estimates, in seconds of all workers. More work may pass a task that waits for memory: for a while, any
    task may pass it, and then it waits until the running tasks have ended.

    Args:
        trace: the tasks.
        schedule: the core's schedule of them.
        wrong: factor by which the estimates may be wrong.
    """
    blocked_s = 0.0 if schedule.budget_bytes is None else RESERVATION_S + max(arrival.cost_s for arrival in trace.arrivals)
    clock = [0.0, *accumulate(arrival.estimated_s / trace.workers for arrival in trace.arrivals)]  # before each arrival
    by_start = sorted((began, number) for number, began in enumerate(schedule.began) if not isnan(began))
    latest: dict[str | None, dict[int, int]] = defaultdict(dict)  # tenant -> priority -> last arrived task that has begun
    violations: list[str] = []
    for _, number in by_start:
        arrival = trace.arrivals[number]
        for priority, other in latest[arrival.tenant].items():
            bound_s = wrong * (OVERTAKEN_S + OVERTAKEN_S_PER_CLASS * max(priority - arrival.priority, 0))
            passed_s = clock[other] - clock[number]
            if passed_s <= bound_s:
                continue
            reached = trace.arrivals[bisect_left(clock, clock[number] + bound_s) - 1].at  # when the bound was reached
            if trace.arrivals[other].at - reached > blocked_s:
                violations.append(
                    f"task {number} was overtaken by a task that came {passed_s:.1f} s of work later; the bound is {bound_s:g}"
                )
                break
        if number in schedule.beyond:
            continue
        last = latest[arrival.tenant]
        last[arrival.priority] = max(last.get(arrival.priority, -1), number)
    return violations


def passed_by_equals(trace: Trace, schedule: Schedule) -> dict[int, int]:
    """Returns for each task the number of equal tasks that arrived after it and began before it. Tasks that were not passed are
    left out.

    Tasks are equal if the pool has the same estimates, tenant and priority for them.
    """
    equals: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, arrival in enumerate(trace.arrivals):
        if not isnan(schedule.began[number]):
            equals[_known_to_pool(arrival)].append(number)
    passed: dict[int, int] = {}
    for numbers in equals.values():
        later: list[float] = []  # starts of the equal tasks that arrived later
        for number in reversed(numbers):
            if count := bisect_left(later, schedule.began[number]):
                passed[number] = count
            insort(later, schedule.began[number])
    return passed


def _known_to_pool(arrival: Arrival) -> tuple[object, ...]:
    return arrival.kind, arrival.estimated_s, arrival.estimated_bytes, arrival.tenant, arrival.priority
