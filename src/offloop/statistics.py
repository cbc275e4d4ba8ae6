"""A snapshot of a pool in numbers."""

from __future__ import annotations

import msgspec

from .core.arena import Holder
from .core.pool_state import PoolState
from .core.worker_state import WorkerState

__all__ = ["Statistics"]


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What `pool.statistics()` returns: one consistent moment. Always: submitted == waiting + running + all outcomes."""

    submitted: int  # tasks that came
    waiting: int  # tasks whose source is being prepared, or that wait for a worker
    running: int  # tasks that a worker has
    completed: int  # outcomes: a result
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
    retried: int  # tasks that were given to another worker after theirs had died
    quarantined: int  # sources that are remembered for having killed a worker
    concurrency: int  # tasks that may run at once
    spares: int  # workers wanted beyond that
    workers: dict[str, int]  # worker slots by state: "idle", "busy", ...; empty before the pool is entered and after it
    worker_starts: int  # processes started since the pool was entered
    worker_crashes: int  # workers that died by themselves, or for their own fault, after they had been ready
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


def snapshot(core: PoolState) -> Statistics:
    """The numbers of this moment."""
    ended = core.ledger.tally.ended
    running = core.crew.running
    failure = core.hiring.last_failure
    return Statistics(
        submitted=core.ledger.tally.submitted,
        waiting=len(core.queue) + core.preparing,
        running=running,
        completed=ended["completed"],
        failed=ended["failed"],
        timed_out=ended["timed_out"],
        cancelled=ended["cancelled"],
        worker_died=ended["worker_died"],
        refused=ended["refused"],
        waiting_by_tenant=core.queue.order.waiting,
        waiting_by_priority={priority: n for priority, n in sorted(core.queue.order.by_priority.items()) if n},
        waiting_bytes=core.queue.nbytes,
        waiting_cost_s=core.queue.order.cost_s,
        retried=core.deaths.retries,
        quarantined=len(core.quarantine),
        concurrency=core.crew.limit,
        spares=core.hiring.spares,
        workers={state.value: n for state in WorkerState if (n := core.crew.count(state))},
        worker_starts=core.hiring.starts,
        worker_crashes=core.hiring.policy.crashes,
        worker_recycled=core.hiring.recycled,
        breaker=core.hiring.policy.breaker.value,
        start_failures=core.hiring.policy.start_deaths,
        last_start_failure=None if failure is None else failure.cause,
        memory_limit_bytes=core.settings.budget_bytes or core.arena.limit_bytes,
        memory_running_bytes=core.budget.running_bytes,
        memory_workers_bytes=core.budget.workers_bytes,
        memory_reserved_bytes=core.arena.reserved_bytes,
        memory_used_bytes=core.arena.used_bytes,
        shared_memory_limit_bytes=core.arena.limit_bytes,
        would_have_waited=core.budget.would_have_waited,
        would_have_been_refused=core.budget.would_have_been_refused,
        leases={holder.value: core.arena.leases[holder] for holder in Holder},
    )
