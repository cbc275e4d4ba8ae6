"""Plain models of scheduling policies, for comparison."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf

from .schedule import Schedule
from .traces import Arrival, Trace

__all__ = ["first_come_first_served", "processor_sharing", "shortest_first"]


def first_come_first_served(trace: Trace, budget_bytes: int | None = None) -> Schedule:
    """Returns the schedule of a plain queue. If a task does not fit into the budget, it waits, and so do all later tasks."""
    return _one_after_another("first come", trace, lambda _: 0.0, budget_bytes)


def shortest_first(trace: Trace, budget_bytes: int | None = None) -> Schedule:
    """Returns the schedule by true cost, without preemption. A large task may wait for ever."""
    return _one_after_another("shortest first", trace, lambda arrival: arrival.cost_s, budget_bytes)


def processor_sharing(trace: Trace) -> Schedule:
    """Returns the schedule in which all tasks run at once, each with an equal share of the workers, at most one worker.

    Every present task gets the same service. So the service of one task that is present from the start is counted, and a task
    ends when that count has grown by its cost.
    """
    schedule = Schedule.empty("processor sharing", len(trace.arrivals))
    present: list[tuple[float, int]] = []  # a heap: the count at which the task ends, its number
    now = served_s = 0.0
    for number, arrival in enumerate(trace.arrivals):
        now, served_s = _share_until(arrival.at, now, served_s, present, trace.workers, schedule)
        schedule.began[number] = arrival.at
        heappush(present, (served_s + arrival.cost_s, number))
    _share_until(inf, now, served_s, present, trace.workers, schedule)
    return schedule


def _share_until(
    until: float, now: float, served_s: float, present: list[tuple[float, int]], workers: int, schedule: Schedule
) -> tuple[float, float]:
    """Let time pass, and end the tasks that were served. Returns the time, and the count of service."""
    while present:
        share = min(1.0, workers / len(present))
        ends = now + (present[0][0] - served_s) / share
        if ends > until:
            return until, served_s + (until - now) * share
        now, (served_s, number) = ends, heappop(present)
        schedule.ended[number] = now
    return until, served_s


def _one_after_another(policy: str, trace: Trace, rank: Callable[[Arrival], float], budget_bytes: int | None) -> Schedule:
    schedule = Schedule.empty(policy, len(trace.arrivals), budget_bytes)
    waiting: list[tuple[float, int]] = []
    running: list[tuple[float, int]] = []
    room = inf if budget_bytes is None else budget_bytes
    next_number = 0
    while next_number < len(trace.arrivals) or running:
        arrives_at = trace.arrivals[next_number].at if next_number < len(trace.arrivals) else inf
        if running and running[0][0] <= arrives_at:
            now, number = heappop(running)
            room += trace.arrivals[number].peak_bytes
        else:
            now, number = arrives_at, next_number
            heappush(waiting, (rank(trace.arrivals[number]), number))
            next_number += 1
        while waiting and len(running) < trace.workers and trace.arrivals[waiting[0][1]].peak_bytes <= room:
            number = heappop(waiting)[1]
            arrival = trace.arrivals[number]
            room -= arrival.peak_bytes
            schedule.began[number], schedule.ended[number] = now, now + arrival.cost_s
            heappush(running, (now + arrival.cost_s, number))
    return schedule
