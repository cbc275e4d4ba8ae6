"""A pool's numbers for Prometheus, looked up when they are scraped: a task costs nothing more for it.

    REGISTRY.register(PoolCollector(pool))

Every metric is a line of the table below. It needs prometheus-client, which comes with the extra `offloop[prometheus]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

import msgspec

from .core.model.worker_state import WorkerState
from .core.workers.restart_policy import CircuitBreaker
from .errors import PoolClosed
from .histogram import Histogram
from .pool import Pool
from .statistics import Statistics

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
except ImportError as missing:
    raise ImportError('offloop.prometheus needs prometheus-client: pip install "offloop[prometheus]"') from missing

__all__ = ["PoolCollector"]

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_BOUNDS = tuple(2.0**power for power in range(-10, 10))  # a millisecond to nine minutes; the pool counts at these exactly
_OTHERS = "(others)"
_OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "worker_died", "refused")


class _Line(msgspec.Struct, frozen=True):
    """One metric: what it is, and where its value is found; with a label, the value for each of that label's."""

    family: type[_Family]
    name: str
    help: str
    read: Callable[[Statistics], float | Mapping[str, float] | Histogram]
    label: str | None = None


def _by_outcome(now: Statistics) -> dict[str, float]:
    return {name: getattr(now, name) for name in _OUTCOMES}


def _by_state(now: Statistics) -> dict[str, float]:
    return {state.value: now.workers.get(state.value, 0) for state in WorkerState}  # all of them: a series that ends is no zero


def _by_priority(now: Statistics) -> dict[str, float]:
    return {str(priority): waiting for priority, waiting in now.waiting_by_priority.items()}


def _by_breaker(now: Statistics) -> dict[str, float]:
    return {breaker.value: now.breaker == breaker.value for breaker in CircuitBreaker}


_COUNTER, _GAUGE, _HISTOGRAM = CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

_TABLE = (
    _Line(_COUNTER, "tasks_submitted", "Tasks that came.", lambda now: now.submitted),
    _Line(_COUNTER, "tasks", "Tasks that ended.", _by_outcome, "outcome"),
    _Line(_COUNTER, "task_retries", "Tasks given to another worker after theirs had died.", lambda now: now.retried),
    _Line(_GAUGE, "tasks_waiting", "Tasks that are being prepared or wait for a worker.", lambda now: now.waiting),
    _Line(_GAUGE, "tasks_running", "Tasks that a worker has.", lambda now: now.running),
    _Line(_GAUGE, "tenant_tasks_waiting", "Tasks that wait for a worker.", lambda now: now.waiting_by_tenant, "tenant"),
    _Line(_HISTOGRAM, "task_wait_seconds", "From a task's submission to its first worker.", lambda now: now.wait),
    _Line(_HISTOGRAM, "task_run_seconds", "How long a worker had a task.", lambda now: now.run),
    _Line(_GAUGE, "concurrency", "Tasks that may run at once.", lambda now: now.concurrency),
    _Line(_GAUGE, "spares", "Workers wanted beyond that.", lambda now: now.spares),
    _Line(_GAUGE, "helpers", "Workers wanted for small tasks beside large ones.", lambda now: now.helpers),
    _Line(_GAUGE, "workers", "Worker slots.", _by_state, "state"),
    _Line(_COUNTER, "worker_starts", "Processes started.", lambda now: now.worker_starts),
    _Line(_COUNTER, "worker_crashes", "Workers that died and should not have.", lambda now: now.worker_crashes),
    _Line(_COUNTER, "workers_recycled", "Workers replaced for age, memory or tasks done.", lambda now: now.worker_recycled),
    _Line(_GAUGE, "workers_abandoned", "Processes that could not be killed and are there.", lambda now: now.workers_abandoned),
    _Line(_GAUGE, "worker_start_failures", "Starts in a row that came to nothing.", lambda now: now.start_failures),
    _Line(_GAUGE, "breaker_state", "1 for whether dead workers are replaced: closed is yes.", _by_breaker, "state"),
    _Line(_GAUGE, "quarantined_sources", "Sources remembered for having killed a worker.", lambda now: now.quarantined),
    _Line(_GAUGE, "class_tasks_waiting", "Tasks that wait for a worker.", _by_priority, "priority"),
    _Line(_GAUGE, "waiting_bytes", "Length of the sources of tasks that wait.", lambda now: now.waiting_bytes),
    _Line(_GAUGE, "waiting_cost_seconds", "Workers' time that waiting tasks will take.", lambda now: now.waiting_cost_s),
    _Line(_HISTOGRAM, "estimate_time_ratio", "Time that tasks took, by what was estimated.", lambda now: now.time_by_estimate),
    _Line(_HISTOGRAM, "estimate_memory_ratio", "The same of their memory.", lambda now: now.memory_by_estimate),
    _Line(_GAUGE, "memory_limit_bytes", "Memory that all of the pool may have.", lambda now: now.memory_limit_bytes),
    _Line(_GAUGE, "memory_running_bytes", "Estimates of what running tasks will take.", lambda now: now.memory_running_bytes),
    _Line(_GAUGE, "memory_workers_bytes", "Private memory of idle workers.", lambda now: now.memory_workers_bytes),
    _Line(_GAUGE, "shared_memory_limit_bytes", "Shared memory that it may have.", lambda now: now.shared_memory_limit_bytes),
    _Line(_GAUGE, "shared_memory_reserved_bytes", "Shared memory that it has.", lambda now: now.memory_reserved_bytes),
    _Line(_GAUGE, "shared_memory_used_bytes", "Shared memory with a source or a result.", lambda now: now.memory_used_bytes),
    _Line(_COUNTER, "shadow_waits", "Tasks that would have waited for memory.", lambda now: now.would_have_waited),
    _Line(_COUNTER, "shadow_refusals", "Tasks that would have been refused.", lambda now: now.would_have_been_refused),
    _Line(_GAUGE, "leases", "Holds on blocks of shared memory.", lambda now: now.leases, "holder"),
)


class PoolCollector:
    """A collector for a registry of prometheus-client: `REGISTRY.register(PoolCollector(pool))`.

    A scrape may come in any thread, and never fails for the pool's sake: a pool that was not entered yet has no samples, and
    one that was closed has its last numbers. Unregister the collector if the process outlives the pool.

    Args:
        pools: a pool; or several by name, `{"images": images, "models": models}`, and each sample says which in its label
            `pool`. A registry takes only one collector of a namespace, so this is how it gets several pools.
        namespace: what the names of all metrics begin with.
        max_tenants: how many tenants have a sample of their own, those with most tasks waiting; the others are taken together
            under "(others)", so that a scrape stays short whoever comes.

    Raises:
        ValueError: `max_tenants` is negative, or the namespace cannot begin a name.
    """

    def __init__(self, pools: Pool | Mapping[str, Pool], *, namespace: str = "offloop", max_tenants: int = 20) -> None:
        if max_tenants < 0:
            raise ValueError(f"max_tenants={max_tenants!r}: must be at least 0")
        if not (namespace.isascii() and namespace.isidentifier()):
            raise ValueError(
                f"namespace={namespace!r}: must be ASCII letters, digits and underscores, and not begin with a digit"
            )
        self._named = not isinstance(pools, Pool)
        self._pools = {"": pools} if isinstance(pools, Pool) else {_text(name): pool for name, pool in pools.items()}
        self._namespace = namespace
        self._max_tenants = max_tenants

    def describe(self) -> Iterable[Metric]:
        """The metrics without samples, for a registry that makes sure that no name is taken twice."""
        return [self._family(line) for line in _TABLE]

    def collect(self) -> Iterator[Metric]:
        """The metrics, as of now."""
        numbers = {name: now for name, pool in self._pools.items() if (now := _try_statistics(pool)) is not None}
        for line in _TABLE:
            family = self._family(line)
            for name, now in numbers.items():
                self._add(family, line, [name] if self._named else [], now)
            yield family

    def _family(self, line: _Line) -> _Family:
        labels = ["pool"] * self._named + ([line.label] if line.label else [])
        last = line.name.rpartition("_")[2]
        unit = last if last in {"seconds", "bytes"} else ""
        return line.family(f"{self._namespace}_{line.name}", line.help, labels=labels, unit=unit)

    def _add(self, family: _Family, line: _Line, labels: list[str], now: Statistics) -> None:
        value = line.read(now)
        if isinstance(family, HistogramMetricFamily):
            histogram = cast("Histogram", value)
            buckets = [*((str(bound), histogram.below(bound)) for bound in _BOUNDS), ("+Inf", histogram.count)]
            family.add_metric(labels, buckets, histogram.sum_s)
        elif line.label is None:
            family.add_metric(labels, cast("float", value))
        else:
            values = cast("Mapping[str, float]", value)
            for key, number in (self._capped(values) if line.label == "tenant" else values).items():
                family.add_metric([*labels, _text(key)], number)

    def _capped(self, tenants: Mapping[str, float]) -> Mapping[str, float]:
        if len(tenants) <= self._max_tenants:
            return tenants
        by_number = sorted(tenants.items(), key=lambda tenant: (-tenant[1], tenant[0]))
        shown = dict(by_number[: self._max_tenants])
        shown[_OTHERS] = shown.get(_OTHERS, 0) + sum(number for _, number in by_number[self._max_tenants :])
        return shown


def _try_statistics(pool: Pool) -> Statistics | None:
    try:
        return pool.statistics()
    except PoolClosed:
        return None  # it was never entered


def _text(value: str) -> str:
    """What can be written: a lone surrogate in one tenant's name would fail every scrape."""
    return value.encode(errors="backslashreplace").decode()
