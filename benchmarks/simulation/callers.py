"""Closed loops: callers that submit their next task when they have a result, through the core and first come first served.

The cost of a task varies around its estimate, so the pool's learned corrections vary, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from math import exp, log, nan
from random import Random

import msgspec

from offloop.core.model.events import Event, TaskSubmitted, WorkerReported
from offloop.wire.messages import Done, Failed

from .schedule import Schedule
from .the_core import Replay, spec_of
from .traces import Arrival, Trace

__all__ = ["CROWDS", "Crowd", "first_come", "offloop"]

_BYTES_PER_S = 400 << 20


class Crowd(msgspec.Struct, frozen=True):
    """Callers, and the pictures that they submit."""

    name: str
    callers: int
    pictures: Mapping[str, tuple[float, float]]  # name -> share of all tasks, median cost in seconds
    workers: int = 2
    noise: float = 2.0  # factor within which two of three costs lie around the median
    memory_noise: float = 1.0  # the same factor for peaks of memory
    budget_bytes: int | None = None  # memory budget of the pool; None: no limit

    def arrivals(self, tasks: int, seed: int) -> Iterator[Arrival]:
        """Returns the tasks that the callers submit. The time of submission has no influence on them."""
        random = Random(seed)
        names, shares = list(self.pictures), [share for share, _ in self.pictures.values()]
        for _ in range(tasks):
            name = random.choices(names, shares)[0]
            estimated_s = self.pictures[name][1]
            cost_s = estimated_s * exp(random.gauss(0.0, log(self.noise)))
            estimated_bytes = round(estimated_s * _BYTES_PER_S)
            peak_bytes = round(estimated_bytes * exp(random.gauss(0.0, log(self.memory_noise))))
            yield Arrival(0.0, cost_s, peak_bytes, kind=name, estimated_s=estimated_s, estimated_bytes=estimated_bytes)


class _ClosedLoop(Replay):
    """The core, and callers that submit another task at each end of a task."""

    def __init__(self, crowd: Crowd, tasks: int, seed: int) -> None:
        self._arrivals = crowd.arrivals(tasks, seed)
        first = [arrival for _, arrival in zip(range(crowd.callers), self._arrivals, strict=False)]
        super().__init__(Trace(crowd.name, first, crowd.workers), crowd.budget_bytes)

    def _note_end(self, event: Event, now: float) -> None:
        super()._note_end(event, now)
        if isinstance(event, WorkerReported) and isinstance(event.message, Done | Failed):
            self._submit_next(now)

    def _submit_next(self, now: float) -> None:
        arrival = next(self._arrivals, None)
        if arrival is None:
            return
        number = len(self.trace.arrivals)
        arrival = msgspec.structs.replace(arrival, at=now)
        self.trace.arrivals.append(arrival)
        self.schedule.began.append(nan)
        self.schedule.ended.append(nan)
        self._expect(now, TaskSubmitted(number, spec_of(arrival)))


def offloop(crowd: Crowd, tasks: int, seed: int) -> tuple[Trace, Schedule]:
    """Returns the trace of the submitted tasks, and the core's schedule."""
    loop = _ClosedLoop(crowd, tasks, seed)
    return loop.trace, loop.run()


def first_come(crowd: Crowd, tasks: int, seed: int) -> tuple[Trace, Schedule]:
    """Returns the same for a semaphore, which serves in the order of arrival."""
    arrivals = crowd.arrivals(tasks, seed)
    trace, schedule = Trace(crowd.name, [], crowd.workers), Schedule.empty("first come", 0)
    free = [0.0] * crowd.workers
    submits = [(0.0, caller) for caller in range(crowd.callers)]
    for arrival in arrivals:
        at, caller = heappop(submits)
        began = max(at, heappop(free))
        trace.arrivals.append(msgspec.structs.replace(arrival, at=at))
        schedule.began.append(began)
        schedule.ended.append(began + arrival.cost_s)
        heappush(free, began + arrival.cost_s)
        heappush(submits, (began + arrival.cost_s, caller))
    return trace, schedule


_ONE = {"picture": (1.0, 0.02)}
_PHOTOS = {"1 MP": (0.4, 0.01), "4 MP": (0.4, 0.03), "12 MP": (0.2, 0.08)}
_MIX = {"thumbnail": (0.95, 0.015), "panorama": (0.05, 1.5)}

CROWDS = [
    Crowd("20 callers, one picture", 20, _ONE),
    Crowd("200 callers, one picture", 200, _ONE),
    Crowd("20 callers, photographs", 20, _PHOTOS),
    Crowd("200 callers, photographs", 200, _PHOTOS),
    Crowd("20 callers, one of 20 a panorama", 20, _MIX),
    Crowd("200 callers, one of 20 a panorama", 200, _MIX),
]
