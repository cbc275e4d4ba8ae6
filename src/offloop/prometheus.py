"""Prometheus collector for pools. It reads `Pool.statistics()` at each scrape, so tasks have no extra cost.

    REGISTRY.register(PoolCollector(pool))

Every number is a row of `_TABLE`. Requires prometheus-client, which the extra `offloop[prometheus]` installs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

import msgspec

from .core.model.worker_state import WorkerState
from .core.workers.group_slots import READY_STATES
from .core.workers.restart_policy import CircuitBreaker
from .errors import PoolClosed
from .histogram import Histogram
from .pool import Pool
from .statistics import GroupStatistics, Statistics

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
except ImportError as missing:
    raise ImportError('offloop.prometheus needs prometheus-client: pip install "offloop[prometheus]"') from missing

__all__ = ["PoolCollector"]

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_BOUNDS = tuple(2.0**power for power in range(-10, 10))  # a millisecond to nine minutes; also bounds of `Histogram`, so exact
_OTHERS = "(others)"
_OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "worker_died", "refused")


class _Row(msgspec.Struct, frozen=True):
    """One metric: family, name, help text, and the function that reads its value or, with a label, its values by label."""

    family: type[_Family]
    name: str
    help: str
    read: Callable[[Statistics], float | Mapping[str, float] | Histogram]
    label: str | None = None


def _of_groups(read: Callable[[GroupStatistics], float]) -> Callable[[Statistics], dict[str, float]]:
    """Return a function that reads a number of each worker group."""
    return lambda now: {name: read(group) for name, group in now.groups.items()}


def _ready_workers(group: GroupStatistics) -> float:
    return sum(group.workers.get(state.value, 0) for state in READY_STATES)


def _by_outcome(now: Statistics) -> dict[str, float]:
    return {name: getattr(now, name) for name in _OUTCOMES}


def _by_state(now: Statistics) -> dict[str, float]:
    return {state.value: now.workers.get(state.value, 0) for state in WorkerState}  # all, because a missing series is not 0


def _by_priority(now: Statistics) -> dict[str, float]:
    return {str(priority): waiting for priority, waiting in now.waiting_by_priority.items()}


def _by_breaker(now: Statistics) -> dict[str, float]:
    return {breaker.value: now.breaker == breaker.value for breaker in CircuitBreaker}


_COUNTER, _GAUGE, _HISTOGRAM = CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

_TABLE = (
    _Row(_COUNTER, "tasks_submitted", "Tasks submitted.", lambda now: now.submitted),
    _Row(_COUNTER, "calls_coalesced", "Calls that shared the task of another call.", lambda now: now.coalesced),
    _Row(_COUNTER, "tasks", "Tasks that ended.", _by_outcome, "outcome"),
    _Row(_COUNTER, "task_retries", "Tasks given to another worker after theirs had died.", lambda now: now.retried),
    _Row(_GAUGE, "tasks_waiting", "Tasks that are being staged or wait for a worker.", lambda now: now.waiting),
    _Row(_GAUGE, "tasks_running", "Tasks in a worker.", lambda now: now.running),
    _Row(_GAUGE, "tenant_tasks_waiting", "Waiting tasks by tenant.", lambda now: now.waiting_by_tenant, "tenant"),
    _Row(_HISTOGRAM, "task_wait_seconds", "From a task's submission to its first worker.", lambda now: now.wait),
    _Row(_HISTOGRAM, "task_run_seconds", "How long a worker had a task.", lambda now: now.run),
    _Row(_GAUGE, "concurrency", "Maximum number of running tasks.", lambda now: now.concurrency),
    _Row(_GAUGE, "spares", "Desired workers beyond the concurrency.", lambda now: now.spares),
    _Row(_GAUGE, "workers", "Worker slots by state.", _by_state, "state"),
    _Row(_GAUGE, "group_concurrency", "Maximum running tasks of a group.", _of_groups(lambda g: g.concurrency), "group"),
    _Row(_GAUGE, "group_desired_workers", "Workers that a group should have.", _of_groups(lambda g: g.desired), "group"),
    _Row(_GAUGE, "group_workers_ready", "Ready workers of a group.", _of_groups(_ready_workers), "group"),
    _Row(_GAUGE, "group_tasks_waiting", "Tasks that wait for a group.", _of_groups(lambda g: g.waiting), "group"),
    _Row(_COUNTER, "group_worker_crashes", "Workers of a group that crashed.", _of_groups(lambda g: g.crashes), "group"),
    _Row(_COUNTER, "worker_starts", "Processes started.", lambda now: now.worker_starts),
    _Row(_COUNTER, "worker_crashes", "Workers that crashed.", lambda now: now.worker_crashes),
    _Row(_COUNTER, "workers_recycled", "Workers replaced for age, memory or tasks done.", lambda now: now.worker_recycled),
    _Row(_GAUGE, "workers_abandoned", "Killed processes that have not exited.", lambda now: now.workers_abandoned),
    _Row(_GAUGE, "worker_start_failures", "Consecutive failed worker starts.", lambda now: now.start_failures),
    _Row(_GAUGE, "breaker_state", "1 for the state of the circuit breaker of restarts.", _by_breaker, "state"),
    _Row(_GAUGE, "quarantined_sources", "Sources that have killed a worker.", lambda now: now.quarantined),
    _Row(_GAUGE, "class_tasks_waiting", "Tasks that wait for a worker, by priority.", _by_priority, "priority"),
    _Row(_GAUGE, "waiting_bytes", "Length of the sources of waiting tasks.", lambda now: now.waiting_bytes),
    _Row(_GAUGE, "waiting_cost_seconds", "Estimated worker time of waiting tasks.", lambda now: now.waiting_cost_s),
    _Row(_HISTOGRAM, "estimate_time_ratio", "Time of tasks divided by its estimate.", lambda now: now.time_by_estimate),
    _Row(_HISTOGRAM, "estimate_memory_ratio", "Peak memory divided by its estimate.", lambda now: now.memory_by_estimate),
    _Row(_GAUGE, "memory_limit_bytes", "Memory limit of the whole pool.", lambda now: now.memory_limit_bytes),
    _Row(_GAUGE, "memory_running_bytes", "Estimated memory of running tasks.", lambda now: now.memory_running_bytes),
    _Row(_GAUGE, "memory_workers_bytes", "Private memory of idle workers.", lambda now: now.memory_workers_bytes),
    _Row(_GAUGE, "shared_memory_limit_bytes", "Maximum shared memory of the pool.", lambda now: now.shared_memory_limit_bytes),
    _Row(_GAUGE, "shared_memory_reserved_bytes", "Shared memory with pages.", lambda now: now.memory_reserved_bytes),
    _Row(_GAUGE, "shared_memory_used_bytes", "Shared memory in sources and results.", lambda now: now.memory_used_bytes),
    _Row(_COUNTER, "shadow_waits", "Tasks that would have waited for memory.", lambda now: now.would_have_waited),
    _Row(_COUNTER, "shadow_refusals", "Tasks that could never have fitted.", lambda now: now.would_have_been_refused),
    _Row(_GAUGE, "leases", "Leases on blocks of shared memory.", lambda now: now.leases, "holder"),
)


class PoolCollector:
    """A collector for a registry of prometheus-client: `REGISTRY.register(PoolCollector(pool))`.

    A scrape may run in any thread, and never fails because of the pool: a pool that was not entered yet has no samples, and a
    closed pool has its last numbers. Unregister the collector if the process outlives the pool.

    Args:
        pools: a pool; or several by name, `{"images": images, "models": models}`: each sample then has the label `pool`. A
            registry accepts only one collector of a namespace, so several pools need one collector.
        namespace: prefix of all metric names.
        max_tenants: maximum number of tenants with a sample of their own: those with most waiting tasks. The others are added
            up as "(others)", so that the number of samples is bounded.

    Raises:
        ValueError: `max_tenants` is negative, or the namespace cannot begin a metric name.
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
        """The metrics without samples, so that a registry can refuse duplicate names."""
        return [*(self._family(row) for row in _TABLE), self._sandboxes({})]

    def collect(self) -> Iterator[Metric]:
        """The metrics with their present values."""
        numbers = {name: now for name, pool in self._pools.items() if (now := _try_statistics(pool)) is not None}
        for row in _TABLE:
            family = self._family(row)
            for name, now in numbers.items():
                self._add(family, row, [name] if self._named else [], now)
            yield family
        yield self._sandboxes(numbers)

    def _sandboxes(self, numbers: Mapping[str, Statistics]) -> Metric:
        labels = ["pool"] * self._named + ["group"]
        family = InfoMetricFamily(f"{self._namespace}_sandbox", "Isolation of a group's workers.", labels=labels)
        for name, now in numbers.items():
            for group, statistics in now.groups.items():
                posture = statistics.sandbox
                if posture is not None:
                    values = {
                        "mode": posture.mode,
                        "layers": ",".join(posture.layers),
                        "missing": ",".join(posture.missing),
                        "landlock_abi": str(posture.landlock_abi),
                    }
                    family.add_metric([*([name] if self._named else []), group], values)
        return family

    def _family(self, row: _Row) -> _Family:
        labels = ["pool"] * self._named + ([row.label] if row.label else [])
        last = row.name.rpartition("_")[2]
        unit = last if last in {"seconds", "bytes"} else ""
        return row.family(f"{self._namespace}_{row.name}", row.help, labels=labels, unit=unit)

    def _add(self, family: _Family, row: _Row, labels: list[str], now: Statistics) -> None:
        value = row.read(now)
        if isinstance(family, HistogramMetricFamily):
            histogram = cast("Histogram", value)
            buckets = [*((str(bound), histogram.below(bound)) for bound in _BOUNDS), ("+Inf", histogram.count)]
            family.add_metric(labels, buckets, histogram.sum_s)
        elif row.label is None:
            family.add_metric(labels, cast("float", value))
        else:
            values = cast("Mapping[str, float]", value)
            for key, number in (self._capped(values) if row.label == "tenant" else values).items():
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
        return None  # the pool was not entered yet


def _text(value: str) -> str:
    """The text with lone surrogates escaped, because one in a tenant's name would fail every scrape."""
    return value.encode(errors="backslashreplace").decode()
