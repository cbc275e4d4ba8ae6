"""A snapshot of a pool in numbers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from .core.model.blocks import Holder
from .core.model.task_state import TaskState
from .core.model.worker_state import WorkerState
from .core.pool_state import PoolState
from .histogram import Histogram

__all__ = ["Statistics"]

_MAX_ATTEMPTS = 100  # each takes microseconds, so the pool's thread spoils few; whoever has none to spoil it needs one


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What `pool.statistics()` returns: one consistent moment. Always: submitted == waiting + running + all outcomes."""

    submitted: int  # tasks that came
    waiting: int  # tasks whose source is being prepared, or that wait for a worker
    running: int  # tasks that a worker has
    # outcomes: a result of a worker. It counts here also where a file of `to=` then cannot be named and `run` raises
    # `TaskFailed` or `InvalidTask`, because the worker has done its part
    completed: int
    failed: int  # the processor said no, or cannot be used
    timed_out: int  # `TaskTimeout`
    cancelled: int  # the caller left
    worker_died: int  # `WorkerDied`
    # by the pool: `QueueFull`, `QueueTimeout`, `TaskQuarantined`, `MemoryLimitExceeded`, `InvalidTask`, `PoolClosed`
    refused: int
    waiting_by_tenant: dict[str, int]  # of those that wait for a worker; "": on nobody's account
    waiting_by_priority: dict[int, int]  # the same by class
    waiting_bytes: int  # of the sources of all that wait, as far as known
    waiting_cost_s: float  # seconds of a worker's time that those waiting for one are likely to take
    wait: Histogram  # from a task's submission to its first worker; of tasks that had one, counted when it is done with them
    run: Histogram  # that a worker had a task; one that is tried again counts again
    time_by_estimate: Histogram  # ratios, not seconds: what tasks took, divided by what was estimated; not of the shortest ones
    memory_by_estimate: Histogram  # the same of their private memory at its highest
    retried: int  # tasks that were given to another worker after theirs had died
    quarantined: int  # sources that are remembered for having killed a worker
    concurrency: int  # tasks that may run at once
    spares: int  # workers wanted beyond that
    helpers: int  # and for small tasks beside large ones, for as long as these are there
    workers: dict[str, int]  # worker slots by state: "idle", "busy", ...; empty before the pool is entered and after it
    worker_starts: int  # processes started since the pool was entered
    worker_crashes: int  # workers that died by themselves, or for their own fault, after they had been ready
    workers_abandoned: int  # processes that could not be killed and have not ended yet; they are in no slot
    worker_recycled: int  # workers that were replaced for their age, their memory, their number of tasks, or for a fresh one
    breaker: str  # whether dead workers are replaced: "closed" is yes, "open" is not now, "half-open" is one on probation
    start_failures: int  # in a row: starts that came to nothing since the last that did not
    last_start_failure: str | None  # why the last start that failed did
    memory_limit_bytes: int  # of everything; of shared memory only, where the limit is too small for idle workers
    memory_running_bytes: int  # estimates of what running tasks will take yet
    memory_workers_bytes: int  # private memory of workers when they are idle
    memory_reserved_bytes: int  # shared memory: pages that the pool has now, in use or kept for reuse
    memory_used_bytes: int  # shared memory: pages that belong to a source or a result
    shared_memory_limit_bytes: int  # what the last two can be at most
    would_have_waited: int  # tasks, with admission="shadow": that would have waited for memory
    would_have_been_refused: int  # and that would never have fitted
    leases: dict[str, int]  # who holds blocks: "caller", "task", "worker", "reader", "standing", "reservation"

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types, histograms as by `Histogram.to_dict`; for `json.dumps` and JSON responses."""
        return msgspec.to_builtins(self, str_keys=True)


def snapshot(core: PoolState) -> Statistics:
    """The numbers of this moment; in another thread than the pool's, perhaps of two."""
    for _ in range(_MAX_ATTEMPTS):
        with suppress(RuntimeError):  # a table has changed its size while this walked it
            return _read(core)
    return _read(core)


def _read(core: PoolState) -> Statistics:
    ended = core.task_table.outcome_counter.ended
    counts = core.task_table.counts
    failure = core.reconciler.last_failure
    return Statistics(
        submitted=core.task_table.outcome_counter.submitted,
        waiting=max(counts.preparing + counts[TaskState.WAITING], 0),  # of two moments, it may come out as less
        running=counts.running,
        completed=ended["completed"],
        failed=ended["failed"],
        timed_out=ended["timed_out"],
        cancelled=ended["cancelled"],
        worker_died=ended["worker_died"],
        refused=ended["refused"],
        waiting_by_tenant=core.queue.policy.waiting,
        waiting_by_priority={priority: n for priority, n in sorted(core.queue.policy.by_priority.items()) if n},
        waiting_bytes=core.queue.nbytes,
        waiting_cost_s=core.queue.policy.cost_s,
        wait=core.task_table.waits.snapshot(),
        run=core.task_table.runs.snapshot(),
        time_by_estimate=core.dispatcher.cost_model.time_ratios.snapshot(),
        memory_by_estimate=core.dispatcher.cost_model.memory_ratios.snapshot(),
        retried=core.crash_recovery.retries,
        quarantined=len(core.quarantine),
        concurrency=core.worker_table.concurrency_limit,
        spares=core.autoscaler.spares,
        helpers=core.worker_table.helpers,
        workers={state.value: n for state in WorkerState if (n := core.worker_table.count(state))},
        worker_starts=core.reconciler.starts,
        worker_crashes=core.reconciler.restart_policy.crashes,
        workers_abandoned=len(core.abandoned),
        worker_recycled=core.reconciler.recycled,
        breaker=core.reconciler.restart_policy.breaker.value,
        start_failures=core.reconciler.restart_policy.start_deaths,
        last_start_failure=None if failure is None else failure.cause,
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
