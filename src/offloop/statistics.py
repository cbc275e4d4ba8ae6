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
    failed: int  # the processor said no
    timed_out: int  # `TaskTimeout`
    cancelled: int  # the caller left
    worker_died: int  # `WorkerDied`
    refused: int  # never run: `QueueFull`, `QueueTimeout`, `MemoryLimitExceeded`, `InvalidTask`, `PoolClosed`
    workers: dict[str, int]  # slots by state: "idle", "busy", ...
    worker_starts: int  # processes started since the pool was entered
    memory_limit_bytes: int  # of shared memory
    memory_reserved_bytes: int  # pages that the pool has now, in use or kept for reuse
    memory_used_bytes: int  # pages that belong to a source or a result
    leases: dict[str, int]  # who holds blocks: "caller", "task", "worker", "standing", "reservation"


def snapshot(core: PoolState) -> Statistics:
    """The numbers of this moment."""
    ended = core.ledger.tally.ended
    running = core.crew.running
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
        workers={state.value: n for state in WorkerState if (n := core.crew.count(state))},
        worker_starts=core.hiring.starts,
        memory_limit_bytes=core.arena.limit_bytes,
        memory_reserved_bytes=core.arena.reserved_bytes,
        memory_used_bytes=core.arena.used_bytes,
        leases={holder.value: core.arena.leases[holder] for holder in Holder},
    )
