"""What a pool tells those who watch it: each step of each worker with its cause, and a report on each crash."""

from __future__ import annotations

import msgspec

from .errors import CrashReport

__all__ = ["BreakerMoved", "PoolEvent", "TaskRetried", "WorkerCrashed", "WorkerMemoryTooSmall", "WorkerMoved"]


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    at: float  # seconds on the clock of the pool's loop


class WorkerMoved(_Record, frozen=True, kw_only=True):
    """A worker slot went from one state to another."""

    slot: int  # the place of the worker; processes come and go in it
    pid: int | None  # of the process in it; None: there is none
    before: str  # a state of the table: "starting", "idle", "busy", "timed-out", "failed", "restarting", "retiring", "gone"
    event: str  # of the table: "Ready", "Dispatched", "TaskFinished", ...
    after: str
    cause: str  # why, in words; empty where the event says it all
    task_id: int | None  # the task that the worker has, or had until now


class WorkerCrashed(_Record, frozen=True, kw_only=True):
    """A worker process ended that should not have, or came to nothing before it was ready."""

    slot: int
    report: CrashReport


class TaskRetried(_Record, frozen=True, kw_only=True):
    """A task that killed its worker, or whose worker died before it began, is given to another."""

    task_id: int
    deaths: int  # of workers that had begun it


class BreakerMoved(_Record, frozen=True, kw_only=True):
    """Dead workers are replaced no more, on probation, or again."""

    before: str  # "closed", "open" or "half-open"
    after: str


class WorkerMemoryTooSmall(_Record, frozen=True, kw_only=True):
    """A worker had more private memory than it may keep after its first task, so workers are replaced all the time.

    Reported once in a pool's life.
    """

    slot: int
    private_bytes: int  # of the worker, after its first task
    limit_bytes: int  # what it may keep between two tasks
    limited_by: str  # "max_worker_memory", or "a worker's share of memory_limit"


PoolEvent = WorkerMoved | WorkerCrashed | TaskRetried | BreakerMoved | WorkerMemoryTooSmall
