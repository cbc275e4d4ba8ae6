"""Table of all metrics: name, help text, and the function that reads the value from `Statistics`.

Names are those of Prometheus without prefix, and without "_total" for counters. A name that ends with "seconds" or "bytes" has
that unit.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Literal, TypeAlias

import msgspec

from ..core import pool_state
from ..core.model.worker_state import WorkerState
from ..core.workers.group_slots import READY_STATES
from ..core.workers.restart_policy import CircuitBreaker
from ..histogram import Histogram
from ..statistics import GroupStatistics, Statistics

__all__ = ["BOUNDS", "INFOS", "METRICS", "OTHERS", "Info", "Metric", "capped"]

BOUNDS = tuple(2.0**power for power in range(-10, 10))
"""Upper bounds of the buckets: a millisecond to nine minutes. They are also bounds of `Histogram`, so counts are exact."""

OTHERS = "(others)"
"""Label value of what has no time series of its own."""

_OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "worker_died", "refused")

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


class Metric(msgspec.Struct, frozen=True):
    """One metric."""

    kind: Kind
    name: str
    help: str
    read: Callable[[Statistics], float | Mapping[str, float] | Histogram]  # the value, or with a label the values by label
    label: str | None = None

    @property
    def unit(self) -> str:
        """The unit: "seconds", "bytes", or empty."""
        last = self.name.rpartition("_")[2]
        return last if last in {"seconds", "bytes"} else ""


class Info(msgspec.Struct, frozen=True):
    """Facts as labels of time series whose value is 1."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Statistics], Iterable[tuple[str, ...]]]  # values of the labels of each time series


def capped(values: Mapping[str, float], limit: int) -> Mapping[str, float]:
    """Return the `limit` largest values; the others are added up as "(others)"."""
    if len(values) <= limit:
        return values
    by_number = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    shown = dict(by_number[:limit])
    shown[OTHERS] = shown.get(OTHERS, 0) + sum(number for _, number in by_number[limit:])
    return shown


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


def _sandboxes(now: Statistics) -> list[tuple[str, ...]]:
    postures = [(name, group.sandbox) for name, group in now.groups.items() if group.sandbox is not None]
    return [
        (name, posture.mode, ",".join(posture.layers), ",".join(posture.missing), str(posture.landlock_abi))
        for name, posture in postures
    ]


def _build(_now: Statistics) -> list[tuple[str, ...]]:
    compiled = not str(pool_state.__file__).endswith(".py")
    return [(version("offloop"), str(compiled).lower(), platform.python_version())]


METRICS = (
    Metric("counter", "tasks_submitted", "Tasks submitted.", lambda now: now.submitted),
    Metric("counter", "calls_coalesced", "Calls that shared the task of another call.", lambda now: now.coalesced),
    Metric("counter", "tasks", "Tasks that ended.", _by_outcome, "outcome"),
    Metric("counter", "task_errors", "Tasks without a result, by code of their error.", lambda now: now.errors, "code"),
    Metric("counter", "task_retries", "Tasks given to another worker after theirs had died.", lambda now: now.retried),
    Metric("gauge", "tasks_waiting", "Tasks that are being staged or wait for a worker.", lambda now: now.waiting),
    Metric("gauge", "tasks_running", "Tasks in a worker.", lambda now: now.running),
    Metric("gauge", "tenant_tasks_waiting", "Waiting tasks by tenant.", lambda now: now.waiting_by_tenant, "tenant"),
    Metric("histogram", "task_wait_seconds", "From a task's submission to its first worker.", lambda now: now.wait),
    Metric("histogram", "task_run_seconds", "How long a worker had a task.", lambda now: now.run),
    Metric("gauge", "concurrency", "Maximum number of running tasks.", lambda now: now.concurrency),
    Metric("gauge", "spares", "Desired workers beyond the concurrency.", lambda now: now.spares),
    Metric("gauge", "workers", "Worker slots by state.", _by_state, "state"),
    Metric("gauge", "group_concurrency", "Maximum running tasks of a group.", _of_groups(lambda g: g.concurrency), "group"),
    Metric("gauge", "group_desired_workers", "Workers that a group should have.", _of_groups(lambda g: g.desired), "group"),
    Metric("gauge", "group_workers_ready", "Ready workers of a group.", _of_groups(_ready_workers), "group"),
    Metric("gauge", "group_tasks_waiting", "Tasks that wait for a group.", _of_groups(lambda g: g.waiting), "group"),
    Metric("counter", "group_worker_crashes", "Workers of a group that crashed.", _of_groups(lambda g: g.crashes), "group"),
    Metric("counter", "worker_starts", "Processes started.", lambda now: now.worker_starts),
    Metric("counter", "worker_crashes", "Workers that crashed.", lambda now: now.worker_crashes),
    Metric("counter", "workers_recycled", "Workers replaced for age, memory or tasks done.", lambda now: now.worker_recycled),
    Metric("gauge", "workers_abandoned", "Killed processes that have not exited.", lambda now: now.workers_abandoned),
    Metric("gauge", "worker_start_failures", "Consecutive failed worker starts.", lambda now: now.start_failures),
    Metric("gauge", "breaker_state", "1 for the state of the circuit breaker of restarts.", _by_breaker, "state"),
    Metric("gauge", "quarantined_sources", "Sources that have killed a worker.", lambda now: now.quarantined),
    Metric("gauge", "class_tasks_waiting", "Tasks that wait for a worker, by priority.", _by_priority, "priority"),
    Metric("gauge", "waiting_bytes", "Length of the sources of waiting tasks.", lambda now: now.waiting_bytes),
    Metric("gauge", "waiting_cost_seconds", "Estimated worker time of waiting tasks.", lambda now: now.waiting_cost_s),
    Metric("histogram", "estimate_time_ratio", "Time of tasks divided by its estimate.", lambda now: now.time_by_estimate),
    Metric("histogram", "estimate_memory_ratio", "Peak memory divided by its estimate.", lambda now: now.memory_by_estimate),
    Metric("gauge", "memory_limit_bytes", "Memory limit of the whole pool.", lambda now: now.memory_limit_bytes),
    Metric("gauge", "memory_running_bytes", "Estimated memory of running tasks.", lambda now: now.memory_running_bytes),
    Metric("gauge", "memory_workers_bytes", "Private memory of idle workers.", lambda now: now.memory_workers_bytes),
    Metric(
        "gauge", "shared_memory_limit_bytes", "Maximum shared memory of the pool.", lambda now: now.shared_memory_limit_bytes
    ),
    Metric("gauge", "shared_memory_reserved_bytes", "Shared memory with pages.", lambda now: now.memory_reserved_bytes),
    Metric("gauge", "shared_memory_used_bytes", "Shared memory in sources and results.", lambda now: now.memory_used_bytes),
    Metric("counter", "shadow_waits", "Tasks that would have waited for memory.", lambda now: now.would_have_waited),
    Metric("counter", "shadow_refusals", "Tasks that could never have fitted.", lambda now: now.would_have_been_refused),
    Metric("gauge", "leases", "Leases on blocks of shared memory.", lambda now: now.leases, "holder"),
)

INFOS = (
    Info(
        "sandbox",
        "Isolation of a group's workers.",
        ("group", "mode", "layers", "missing", "landlock_abi"),
        _sandboxes,
    ),
    Info("build", "Version of offloop and of Python.", ("version", "compiled", "python"), _build),
)
