"""Statistics of a pool: counts, gauges and histograms at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal

import msgspec

from .core.model.blocks import Holder
from .core.model.worker_state import WorkerState
from .core.pool_state import PoolState
from .core.workers.worker_group import WorkerGroup
from .histogram import Histogram
from .operation import DEFAULT_GROUP
from .sandbox import Posture

__all__ = ["GroupStatistics", "Health", "Statistics"]

_BREAKERS = ("closed", "half-open", "open")  # the worst one last
_MAX_ATTEMPTS = 100  # in another thread; an attempt takes microseconds, so the pool's thread rarely interferes


class Health(msgspec.Struct, frozen=True):
    """A verdict about a pool, for health checks."""

    # "degraded": some tasks fail or wait longer; "failing": no task of the default group can run
    status: Literal["ok", "degraded", "failing"]
    reasons: tuple[str, ...]  # what is wrong, in sentences for operators; none: the pool is well


class GroupStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one worker group."""

    concurrency: int  # maximum number of its running tasks
    desired: int  # workers that there should be now, with spares; 0: it starts with its next task
    workers: dict[str, int]  # its worker slots by state: "idle", "busy", ...
    waiting: int  # tasks that wait for one of its workers; sources that are being staged are not counted
    starts: int  # processes started since the pool was entered
    crashes: int  # workers that crashed, or were killed for a fault of theirs, after they had been ready
    recycled: int  # workers replaced because of age, memory or number of tasks, or for a task that needs an unused one
    breaker: str  # circuit breaker of its restarts: "closed", "open" or "half-open"
    start_failures: int  # consecutive failed worker starts
    last_start_failure: str | None  # reason of the last failed worker start
    switched_off: dict[str, str]  # reasons by name of the plugins that its workers are started without
    sandbox: Posture | None  # isolation of its workers; None: no worker has become ready yet


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one consistent moment. Always: submitted == waiting + running + all outcomes."""

    submitted: int  # tasks submitted
    coalesced: int  # calls with `coalesce=True` that had no task of their own, because they shared that of another call
    waiting: int  # tasks whose source is being staged, or that wait for a worker
    running: int  # tasks in a worker
    # tasks with a result of a worker. A task whose `to=` file then cannot be named, so that `run` raises `TaskFailed` or
    # `InvalidTask`, counts here, too, because its worker has succeeded
    completed: int
    failed: int  # tasks that their processor refused or failed, or whose processor cannot be used
    timed_out: int  # tasks that ended with `TaskTimeout`
    cancelled: int  # tasks whose caller was cancelled
    worker_died: int  # tasks that ended with `WorkerDied`
    # tasks that the pool refused: `QueueFull`, `QueueTimeout`, `TaskQuarantined`, `MemoryLimitExceeded`, `InvalidTask`,
    # `PoolClosed`
    refused: int
    # tasks without a result by the code of their `TaskFailed`, or by the type of any other error: "QueueFull". The 60 that came
    # first; the others together as "(others)". Cancelled tasks have no error
    errors: dict[str, int]
    waiting_by_tenant: dict[str, int]  # tasks that wait for a worker, by tenant; "": tasks without a tenant
    waiting_by_priority: dict[int, int]  # tasks that wait for a worker, by priority
    waiting_bytes: int  # known bytes of the sources of all waiting tasks
    waiting_cost_s: float  # estimated seconds of worker time of the tasks that wait for a worker
    wait: Histogram  # seconds from submission to the first worker; counted when that worker has finished the task
    run: Histogram  # seconds that a worker had a task; a retried task counts again
    time_by_estimate: Histogram  # ratios: actual time of a task divided by its estimate; without the shortest tasks
    memory_by_estimate: Histogram  # ratios: peak private memory of a task divided by its estimate
    retried: int  # retries: tasks given to another worker after theirs had died
    quarantined: int  # sources in the quarantine's table, because they have killed a worker
    concurrency: int  # maximum number of running tasks, without small tasks beside large ones
    spares: int  # desired workers beyond those for tasks
    workers: dict[str, int]  # worker slots by state: "idle", "busy", ...; empty before the pool is entered and after it
    groups: dict[str, GroupStatistics]  # worker groups by name; "default", and "small" for small tasks beside large ones
    worker_starts: int  # processes started since the pool was entered
    worker_crashes: int  # workers that crashed, or were killed for a fault of theirs, after they had been ready
    workers_abandoned: int  # processes that were killed and have not exited yet; they have no slot
    worker_recycled: int  # workers replaced because of age, memory or number of tasks, or for a task that needs an unused one
    # circuit breaker of restarts: "closed": dead workers are replaced; "open": those of a group are not; "half-open": one is
    breaker: str
    start_failures: int  # consecutive failed worker starts, of all groups together
    last_start_failure: str | None  # reason of the last failed worker start in the first group with one
    memory_limit_bytes: int  # bytes for the whole pool; for shared memory only, if the limit is too small for idle workers
    memory_running_bytes: int  # estimated bytes that running tasks have yet to allocate
    memory_workers_bytes: int  # bytes of private memory of idle workers
    memory_reserved_bytes: int  # bytes of shared memory with pages, in use or kept for reuse
    memory_used_bytes: int  # bytes of shared memory in sources and results
    shared_memory_limit_bytes: int  # maximum of memory_reserved_bytes and memory_used_bytes
    would_have_waited: int  # tasks that would have waited for memory, with admission="shadow"
    would_have_been_refused: int  # tasks that could never have fitted, with admission="shadow"
    # leases on blocks by holder: "caller", "task", "stager", "worker", "reader", "delivery", "preallocated", "reservation",
    # "abandoned"
    leases: dict[str, int]

    @property
    def health(self) -> Health:
        """Whether the pool can do its work: "failing" if it is closed, or no worker of the default group is ready."""
        if not self.workers:
            return Health("failing", ("the pool is closed",))
        reasons = [reason for name, group in self.groups.items() for reason in _reasons_against(name, group)]
        if self.workers_abandoned:
            reasons.append(f"{self.workers_abandoned} killed processes have not exited")
        if not _ready_workers(self.groups[DEFAULT_GROUP]):
            return Health("failing", (*reasons, "no worker of the default group is ready"))
        return Health("degraded" if reasons else "ok", tuple(reasons))

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types, histograms as by `Histogram.to_dict`; for `json.dumps` and JSON responses."""
        return msgspec.to_builtins(self, str_keys=True)


def _ready_workers(group: GroupStatistics) -> int:
    return sum(group.workers.get(state.value, 0) for state in (WorkerState.IDLE, WorkerState.BUSY, WorkerState.TIMED_OUT))


def _reasons_against(name: str, group: GroupStatistics) -> Iterator[str]:
    if group.breaker != "closed":
        yield f"the circuit breaker of the group {name!r} is {group.breaker}, because its workers crash too often"
    if group.start_failures:
        yield f"{group.start_failures} workers of the group {name!r} could not be started: {group.last_start_failure}"
    for plugin, why in group.switched_off.items():
        yield f"the plugin {plugin!r} of the group {name!r} is switched off: {why}"


def snapshot(core: PoolState, coalesced: int = 0) -> Statistics:
    """The statistics of this moment. In another thread than the pool's, the numbers may be of two moments.

    Args:
        core: the state of the pool.
        coalesced: number of calls that shared the task of another call.
    """
    for _ in range(_MAX_ATTEMPTS):
        with suppress(RuntimeError):  # a dictionary changed its size during the iteration
            return _read(core, coalesced)
    return _read(core, coalesced)


def _read(core: PoolState, coalesced: int) -> Statistics:
    ended = core.task_table.outcome_counter.ended
    counts = core.task_table.counts
    groups = {group.name: _read_group(core, group) for group in core.groups}
    return Statistics(
        submitted=core.task_table.outcome_counter.submitted,
        coalesced=coalesced,
        waiting=max(counts.waiting, 0),  # numbers of two moments may give less than 0
        running=counts.running,
        completed=ended["completed"],
        failed=ended["failed"],
        timed_out=ended["timed_out"],
        cancelled=ended["cancelled"],
        worker_died=ended["worker_died"],
        refused=ended["refused"],
        errors=dict(core.task_table.outcome_counter.errors),
        waiting_by_tenant=core.queue.waiting_by_tenant,
        waiting_by_priority=core.queue.waiting_by_priority,
        waiting_bytes=core.queue.nbytes,
        waiting_cost_s=core.queue.waiting_cost_s,
        wait=core.dispatcher.waits.snapshot(),
        run=core.dispatcher.runs.snapshot(),
        time_by_estimate=core.dispatcher.cost_model.time_ratios.snapshot(),
        memory_by_estimate=core.dispatcher.cost_model.memory_ratios.snapshot(),
        retried=core.crash_recovery.retries,
        quarantined=len(core.quarantine),
        concurrency=sum(group.slots.concurrency_limit for group in core.groups if group is not core.groups.small),
        spares=sum(group.autoscaler.spares for group in core.groups),
        workers={state.value: n for state in WorkerState if (n := core.worker_table.count(state))},
        groups=groups,
        worker_starts=sum(group.starts for group in groups.values()),
        worker_crashes=sum(group.crashes for group in groups.values()),
        workers_abandoned=len(core.abandoned),
        worker_recycled=sum(group.recycled for group in groups.values()),
        breaker=max((group.breaker for group in groups.values()), key=_BREAKERS.index),
        start_failures=sum(group.start_failures for group in groups.values()),
        last_start_failure=next((group.last_start_failure for group in groups.values() if group.last_start_failure), None),
        memory_limit_bytes=core.settings.budget_bytes or core.arena.capacity_bytes,
        memory_running_bytes=core.budget.running_bytes,
        memory_workers_bytes=core.budget.workers_bytes,
        memory_reserved_bytes=core.arena.reserved_bytes,
        memory_used_bytes=core.arena.used_bytes,
        shared_memory_limit_bytes=core.arena.capacity_bytes,
        would_have_waited=core.budget.would_have_waited,
        would_have_been_refused=core.budget.would_have_been_refused,
        leases={holder.value: core.arena.leases[holder] for holder in Holder},
    )


def _read_group(core: PoolState, group: WorkerGroup) -> GroupStatistics:
    reconciler = group.reconciler
    failure = reconciler.last_failure
    lane = core.queue.lanes.get(group.name)
    return GroupStatistics(
        concurrency=group.slots.concurrency_limit,
        desired=reconciler.wanted,
        workers={state.value: n for state in WorkerState if (n := group.slots.count(state))},
        waiting=0 if lane is None else len(lane),
        starts=reconciler.starts,
        crashes=reconciler.restart_policy.crashes,
        recycled=reconciler.recycled,
        breaker=reconciler.restart_policy.breaker.value,
        start_failures=reconciler.restart_policy.start_deaths,
        last_start_failure=None if failure is None else failure.cause,
        switched_off=dict(group.plugin_loads.switched_off),
        sandbox=group.sandbox_reports.posture,
    )
