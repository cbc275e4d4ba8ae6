"""Measurements of a schedule: slowdown, wait, total time, fairness, memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import ceil, isnan

import msgspec

from .checks import passed_by_equals
from .schedule import Schedule
from .traces import SIZES, Arrival, Trace, size_of

__all__ = ["Figures", "GroupFigures", "figures_of", "memory_over_time", "percentile", "slowdowns"]


class GroupFigures(msgspec.Struct, frozen=True):
    """Measurements of one group of tasks. The slowdown of a task is its time from arrival to end, divided by its cost."""

    tasks: int
    refused: int
    stopped: int
    mean_slowdown: float
    p95_slowdown: float
    max_slowdown: float
    mean_wait_s: float
    p95_wait_s: float
    max_wait_s: float
    max_passed: int  # maximum number of equal later tasks that passed one task


class Figures(msgspec.Struct, frozen=True):
    """Measurements of one schedule."""

    policy: str
    groups: dict[str, GroupFigures]
    total_s: float  # seconds from the first arrival to the last end
    fairness: float | None  # Jain's index; 1: service in proportion to the weights; None: tenants never compete
    peak_bytes: int  # maximum memory of the running tasks
    budget_bytes: int | None  # memory budget; None: no limit


def figures_of(trace: Trace, schedule: Schedule) -> Figures:
    passed = passed_by_equals(trace, schedule)
    numbers: dict[str, list[int]] = {size: [] for size in SIZES}
    for number, arrival in enumerate(trace.arrivals):
        for group in _groups_of(arrival):
            numbers.setdefault(group, []).append(number)
    return Figures(
        schedule.policy,
        {group: _group_figures(trace, schedule, members, passed) for group, members in numbers.items() if members},
        max(ended for ended in schedule.ended if not isnan(ended)) - trace.arrivals[0].at,
        _fairness(trace, schedule),
        max(nbytes for _, nbytes in memory_over_time(trace, schedule)),
        schedule.budget_bytes,
    )


def slowdowns(trace: Trace, schedule: Schedule, numbers: Sequence[int]) -> list[float]:
    """Returns the slowdowns of the completed tasks, in rising order."""
    return sorted(
        (schedule.ended[number] - trace.arrivals[number].at) / trace.arrivals[number].cost_s
        for number in numbers
        if not isnan(schedule.ended[number]) and number not in schedule.stopped
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the value that `percent` of the values do not exceed. The values are in rising order."""
    return values[max(ceil(len(values) * percent / 100.0), 1) - 1]


def memory_over_time(trace: Trace, schedule: Schedule) -> list[tuple[float, int]]:
    """Returns the memory of the running tasks in bytes, from each of these times on."""
    steps: list[tuple[float, int]] = [(trace.arrivals[0].at, 0)]
    for number, (arrival, began, ended) in enumerate(zip(trace.arrivals, schedule.began, schedule.ended, strict=True)):
        if not isnan(ended):
            nbytes = schedule.stopped.get(number, arrival.peak_bytes)
            steps += [(began, nbytes), (ended, -nbytes)]
    steps.sort()  # at the same time, ends go before starts
    total = 0
    return [(at, total := total + nbytes) for at, nbytes in steps]


def _groups_of(arrival: Arrival) -> list[str]:
    groups = [size_of(arrival.cost_s)]
    if arrival.tenant is not None:
        groups.append(arrival.tenant)
    if arrival.priority:
        groups.append(f"class {arrival.priority:+d}")
    return groups


def _group_figures(trace: Trace, schedule: Schedule, numbers: list[int], passed: Mapping[int, int]) -> GroupFigures:
    slow = slowdowns(trace, schedule, numbers)
    waits = sorted(
        schedule.began[number] - trace.arrivals[number].at for number in numbers if not isnan(schedule.ended[number])
    )
    stopped = sum(number in schedule.stopped for number in numbers)
    if not slow:
        return GroupFigures(len(numbers), len(numbers) - stopped, stopped, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    return GroupFigures(
        len(numbers),
        len(numbers) - len(waits),
        stopped,
        sum(slow) / len(slow),
        percentile(slow, 95),
        slow[-1],
        sum(waits) / len(waits),
        percentile(waits, 95),
        waits[-1],
        max((passed.get(number, 0) for number in numbers), default=0),
    )


def _fairness(trace: Trace, schedule: Schedule) -> float | None:
    """Returns Jain's index of the tenants' service, relative to their weights, while each has enough tasks for all workers."""
    steps: list[tuple[float, str, int, float]] = []  # time, tenant, change of its tasks, change of its workers
    for arrival, began, ended in zip(trace.arrivals, schedule.began, schedule.ended, strict=True):
        if arrival.tenant is not None and not isnan(ended):
            rate = min(arrival.cost_s / (ended - began), 1.0)  # below 1 if the task shares a worker
            steps += [
                (arrival.at, arrival.tenant, 1, 0.0),
                (began, arrival.tenant, 0, rate),
                (ended, arrival.tenant, -1, -rate),
            ]
    steps.sort()
    present, rates, served_s = defaultdict[str, int](int), defaultdict[str, float](float), defaultdict[str, float](float)
    before = 0.0
    for at, tenant, more, rate in steps:
        if all(present[each] >= trace.workers for each in trace.weights):
            for each in trace.weights:
                served_s[each] += rates[each] * (at - before)
        present[tenant] += more
        rates[tenant] += rate
        before = at
    shares = [served_s[tenant] / weight for tenant, weight in trace.weights.items()]
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) if any(shares) else None
