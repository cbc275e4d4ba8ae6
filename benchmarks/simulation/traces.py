"""Tasks that come: each trace is a function of a seed, and the same seed gives the same trace.

A task's memory is proportional to its cost within a class of size, and not across: a large picture is held whole for longer.
The numbers are about those of libvips: a thumbnail takes 5 ms and 4 MiB, a panorama of 120 megapixels 2.3 s and 1 GiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, log
from random import Random

import msgspec

__all__ = ["SIZES", "TRACES", "Arrival", "Trace", "misjudged", "size_of", "steady_mix"]

MIB = 1024 * 1024
SIZES = {"small": 0.05, "medium": 0.5, "large": float("inf")}  # by cost: each is below so many seconds
_BYTES_PER_S = {"small": 800 * MIB, "medium": 400 * MIB, "large": 450 * MIB}
_CHEAPEST_S, _DEAREST_S = 0.005, 3.0  # a thumbnail, a panorama
_TAIL = 1.1  # of the bounded Pareto distribution: two tasks in three are thumbnails, one in 160 large, with a fifth of the load


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One task. What it takes is one thing, what the pool is told beforehand is another."""

    at: float
    cost_s: float  # of a worker
    peak_bytes: int  # while it runs
    tenant: str | None = None
    priority: int = 0
    estimated_s: float = 0.0
    estimated_bytes: int = 0
    kind: str = ""  # of pipeline; by size if empty


class Trace(msgspec.Struct, frozen=True):
    """Tasks in the order in which they come, and for whom."""

    name: str
    arrivals: list[Arrival]
    workers: int
    weights: dict[str, float] = {}

    @property
    def largest_bytes(self) -> int:
        return max(arrival.peak_bytes for arrival in self.arrivals)


def size_of(cost_s: float) -> str:
    """The class of size of a task that takes so long."""
    return next(size for size, limit in SIZES.items() if cost_s < limit)


def panoramas_then_thumbnails(tasks: int, seed: int) -> Trace:
    """Six panoramas, and at once sixty thumbnails; two workers; again every fifteen seconds, when all are long done."""
    random = Random(seed)
    arrivals: list[Arrival] = []
    for burst in range(max(tasks // 66, 1)):
        arrivals += [_arrival(15.0 * burst, random.uniform(2.1, 2.5)) for _ in range(6)]
        arrivals += [_arrival(15.0 * burst, random.uniform(0.010, 0.014)) for _ in range(60)]
    return Trace("panoramas then thumbnails", arrivals, workers=2)


def steady_mix(tasks: int, seed: int, *, load: float = 0.8, workers: int = 4) -> Trace:
    """Poisson arrivals, costs with a heavy tail, so many of the workers busy in the mean."""
    random = Random(seed)
    moments = _poisson(random, lambda _: load * workers / _mean_cost_s())
    arrivals = [_arrival(next(moments), _cost_s(random)) for _ in range(tasks)]
    return Trace(f"steady mix, load {load:g}", arrivals, workers)


def tenants(tasks: int, seed: int) -> Trace:
    """A greedy tenant with all its tasks at the start; two modest ones with two hundred at a time, one of them of weight 2."""
    random = Random(seed)
    workers, batches = 4, max(tasks // 1000, 1)
    greedy = tasks - 400 * batches
    period_s = tasks * _mean_cost_s() / workers / batches  # the last batch comes before the backlog is done
    arrivals = [_arrival(0.0, _cost_s(random), "greedy") for _ in range(greedy)]
    for batch in range(batches):
        arrivals += [
            _arrival((batch + 0.1) * period_s, _cost_s(random), random.choice(("modest", "weighty"))) for _ in range(400)
        ]
    arrivals.sort(key=lambda arrival: arrival.at)
    return Trace("tenants", arrivals, workers, {"greedy": 1.0, "modest": 1.0, "weighty": 2.0})


def underestimated(tasks: int, seed: int) -> Trace:
    """The tenants, and the greedy one's tasks look as if they took a quarter of what they do: headers that lie, say."""
    trace = tenants(tasks, seed)
    arrivals = [
        msgspec.structs.replace(arrival, estimated_s=arrival.cost_s / 4) if arrival.tenant == "greedy" else arrival
        for arrival in trace.arrivals
    ]
    return msgspec.structs.replace(trace, name="tenants, the greedy one underestimated", arrivals=arrivals)


def diurnal_burst(tasks: int, seed: int) -> Trace:
    """Half the load that the workers bear, then 1.3 times of it for a fifth of the tasks, then half of it again."""
    random = Random(seed)
    workers = 4
    rate = workers / _mean_cost_s()
    begins = 0.4 * tasks / (0.5 * rate)
    ends = begins + 0.2 * tasks / (1.3 * rate)
    moments = _poisson(random, lambda at: rate * (1.3 if begins <= at < ends else 0.5))
    return Trace("diurnal burst", [_arrival(next(moments), _cost_s(random)) for _ in range(tasks)], workers)


def priorities(tasks: int, seed: int) -> Trace:
    """The steady mix at load 0.95; one task in ten is in the class above, one in five in the class below."""
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
    """The same tasks with wrong estimates: lognormal, two of three within that factor."""
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
    """Bounded Pareto, by inversion."""
    ratio = (_CHEAPEST_S / _DEAREST_S) ** _TAIL
    return _CHEAPEST_S / (1.0 - random.random() * (1.0 - ratio)) ** (1.0 / _TAIL)


def _mean_cost_s() -> float:
    ratio = (_CHEAPEST_S / _DEAREST_S) ** _TAIL
    powers = _CHEAPEST_S ** (1.0 - _TAIL) - _DEAREST_S ** (1.0 - _TAIL)
    return _CHEAPEST_S**_TAIL / (1.0 - ratio) * _TAIL / (_TAIL - 1.0) * powers
