"""What must hold of every schedule of the core's; each check returns what broke it, in words."""

from __future__ import annotations

from collections import defaultdict
from math import inf, isnan

from .schedule import Schedule
from .the_core import HELD_S, OVERTAKEN_S, OVERTAKEN_S_PER_CLASS
from .traces import Trace

__all__ = ["overtaken_for_too_long"]


def overtaken_for_too_long(trace: Trace, schedule: Schedule) -> list[str]:
    """No task begins after one of its tenant's that came more than the bound later; tenants pass each other by their shares.

    One that waits for memory is passed by others for longer: for a while by any, then until what runs by then has ended.
    """
    held_s = 0.0 if schedule.budget_bytes is None else HELD_S + max(arrival.cost_s for arrival in trace.arrivals)
    by_start = sorted((began, number) for number, began in enumerate(schedule.began) if not isnan(began))
    latest: dict[str | None, dict[int, float]] = defaultdict(dict)  # when the last that has begun had come
    broken: list[str] = []
    for _, number in by_start:
        arrival = trace.arrivals[number]
        for priority, came in latest[arrival.tenant].items():
            late_s = came - arrival.at - OVERTAKEN_S - held_s - OVERTAKEN_S_PER_CLASS * max(priority - arrival.priority, 0)
            if late_s > 0:
                broken.append(
                    f"task {number} was overtaken by one that came {came - arrival.at:.1f} s later, {late_s:.1f} too many"
                )
                break
        if number in schedule.beyond:
            continue
        classes = latest[arrival.tenant]
        classes[arrival.priority] = max(classes.get(arrival.priority, -inf), arrival.at)
    return broken
