"""Traces of tasks: each is a function of a seed, and the same seed gives the same trace.

The memory of a task is proportional to its cost within a class of size. The factor differs between the classes, because a large
picture is held whole for longer. The numbers are close to those of libvips: a thumbnail takes 5 ms and 4 MiB, a panorama of 120
megapixels 2.3 s and 1 GiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, log
from random import Random

import msgspec

__all__ = ["SIZES", "TRACES", "Arrival", "Trace", "misjudged", "size_of", "steady_mix"]

MIB = 1024 * 1024
SIZES = {"small": 0.05, "medium": 0.5, "large": float("inf")}  # upper limits of the cost in seconds
_BYTES_PER_S = {"small": 800 * MIB, "medium": 400 * MIB, "large": 450 * MIB}
_MIN_COST_S, _MAX_COST_S = 0.005, 3.0  # a thumbnail, a panorama
_TAIL = 1.1  # exponent of the bounded Pareto distribution: 2 of 3 tasks are thumbnails, 1 of 160 is large, with 1/5 of the load


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One task: its true cost and memory, and the estimates that the pool gets."""

    at: float  # time of arrival in seconds
    cost_s: float  # seconds of a worker's time
    peak_bytes: int  # peak of its memory while it runs
    tenant: str | None = None
    priority: int = 0
    estimated_s: float = 0.0
    estimated_bytes: int = 0
    kind: str = ""  # name of its pipeline; "": its class of size


class Trace(msgspec.Struct, frozen=True):
    """Tasks in the order of their arrival, and the pool that gets them."""

    name: str
    arrivals: list[Arrival]
    workers: int
    weights: dict[str, float] = {}

    @property
    def largest_bytes(self) -> int:
        return max(arrival.peak_bytes for arrival in self.arrivals)


def size_of(cost_s: float) -> str:
    """Returns the class of size of a task with this cost."""
    return next(size for size, limit in SIZES.items() if cost_s < limit)


def panoramas_then_thumbnails(tasks: int, seed: int) -> Trace:
    """Six panoramas, and at the same time sixty thumbnails, on two workers. This repeats every fifteen seconds, when all tasks
    have ended for long."""
    random = Random(seed)
    arrivals: list[Arrival] = []
    for burst in range(max(tasks // 66, 1)):
        arrivals += [_arrival(15.0 * burst, random.uniform(2.1, 2.5)) for _ in range(6)]
        arrivals += [_arrival(15.0 * burst, random.uniform(0.010, 0.014)) for _ in range(60)]
    return Trace("panoramas then thumbnails", arrivals, workers=2)


def steady_mix(tasks: int, seed: int, *, load: float = 0.8, workers: int = 4) -> Trace:
    """Poisson arrivals and costs with a heavy tail. `load` is the mean share of busy workers."""
    random = Random(seed)
    times = _poisson(random, lambda _: load * workers / _mean_cost_s())
    arrivals = [_arrival(next(times), _cost_s(random)) for _ in range(tasks)]
    return Trace(f"steady mix, load {load:g}", arrivals, workers)


def tenants(tasks: int, seed: int) -> Trace:
    """One tenant submits all its tasks at the start. Two others, one of them with weight 2, submit two hundred at a time."""
    random = Random(seed)
    workers, batches = 4, max(tasks // 1000, 1)
    greedy = tasks - 400 * batches
    period_s = tasks * _mean_cost_s() / workers / batches  # the last batch arrives before the backlog is done
    arrivals = [_arrival(0.0, _cost_s(random), "greedy") for _ in range(greedy)]
    for batch in range(batches):
        arrivals += [
            _arrival((batch + 0.1) * period_s, _cost_s(random), random.choice(("modest", "weighty"))) for _ in range(400)
        ]
    arrivals.sort(key=lambda arrival: arrival.at)
    return Trace("tenants", arrivals, workers, {"greedy": 1.0, "modest": 1.0, "weighty": 2.0})


def underestimated(tasks: int, seed: int) -> Trace:
    """The trace of tenants. The estimates of the greedy tenant are a quarter of the costs, as with false headers."""
    trace = tenants(tasks, seed)
    arrivals = [
        msgspec.structs.replace(arrival, estimated_s=arrival.cost_s / 4) if arrival.tenant == "greedy" else arrival
        for arrival in trace.arrivals
    ]
    return msgspec.structs.replace(trace, name="tenants, the greedy one underestimated", arrivals=arrivals)


def diurnal_burst(tasks: int, seed: int) -> Trace:
    """Half of the workers' capacity, then 1.3 times the capacity for a fifth of the tasks, then half of it again."""
    random = Random(seed)
    workers = 4
    rate = workers / _mean_cost_s()
    begins = 0.4 * tasks / (0.5 * rate)
    ends = begins + 0.2 * tasks / (1.3 * rate)
    times = _poisson(random, lambda at: rate * (1.3 if begins <= at < ends else 0.5))
    return Trace("diurnal burst", [_arrival(next(times), _cost_s(random)) for _ in range(tasks)], workers)


def priorities(tasks: int, seed: int) -> Trace:
    """The steady mix at load 0.95. One task in ten has the priority 1, one in five the priority -1."""
    random = Random(seed + 1)
    mix = steady_mix(tasks, seed, load=0.95)
    classes = random.choices((1, 0, -1), (0.1, 0.7, 0.2), k=tasks)
    arrivals = [msgspec.structs.replace(arrival, priority=each) for arrival, each in zip(mix.arrivals, classes, strict=True)]
    return Trace("priorities, load 0.95", arrivals, mix.workers)


TRACES: dict[str, Callable[[int, int], Trace]] = {
    "burst": panoramas_then_thumbnails,
    "mix50": lambda tasks, seed: steady_mix(tasks, seed, load=0.5),
    "mix80": lambda tasks, seed: steady_mix(tasks, seed, load=0.8),
    "mix95": lambda tasks, seed: steady_mix(tasks, seed, load=0.95),
    "tenants": tenants,
    "underestimated": underestimated,
    "diurnal": diurnal_burst,
    "priorities": priorities,
}


def misjudged(trace: Trace, factor: float, seed: int) -> Trace:
    """Returns the same tasks with wrong estimates: lognormal errors, two of three within this factor."""
    random = Random(seed)
    sigma = log(factor)
    arrivals = [
        msgspec.structs.replace(
            arrival,
            estimated_s=arrival.estimated_s * exp(random.gauss(0.0, sigma)),
            estimated_bytes=round(arrival.estimated_bytes * exp(random.gauss(0.0, sigma))),
        )
        for arrival in trace.arrivals
    ]
    return msgspec.structs.replace(trace, arrivals=arrivals)


def _arrival(at: float, cost_s: float, tenant: str | None = None) -> Arrival:
    peak_bytes = round(cost_s * _BYTES_PER_S[size_of(cost_s)])
    return Arrival(at, cost_s, peak_bytes, tenant, estimated_s=cost_s, estimated_bytes=peak_bytes)


def _poisson(random: Random, rate: Callable[[float], float]) -> Iterator[float]:
    at = 0.0
    while True:
        at += random.expovariate(rate(at))
        yield at


def _cost_s(random: Random) -> float:
    """Returns a cost from the bounded Pareto distribution, by inversion."""
    ratio = (_MIN_COST_S / _MAX_COST_S) ** _TAIL
    return _MIN_COST_S / (1.0 - random.random() * (1.0 - ratio)) ** (1.0 / _TAIL)


def _mean_cost_s() -> float:
    ratio = (_MIN_COST_S / _MAX_COST_S) ** _TAIL
    powers = _MIN_COST_S ** (1.0 - _TAIL) - _MAX_COST_S ** (1.0 - _TAIL)
    return _MIN_COST_S**_TAIL / (1.0 - ratio) * _TAIL / (_TAIL - 1.0) * powers
