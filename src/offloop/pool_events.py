"""Events of a pool, for `Pool.events` and observers: the end of every task, every transition of every worker with its cause,
and a report on every crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from .errors import CrashReport
from .sandbox import Posture

__all__ = [
    "BreakerMoved",
    "PluginUnavailable",
    "PoolEvent",
    "PoolObserver",
    "SandboxReported",
    "TaskEnded",
    "TaskRetried",
    "WorkerCrashed",
    "WorkerMemoryTooSmall",
    "WorkerMoved",
]


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    at: float  # time of the event in seconds on the clock of the pool's loop


class WorkerMoved(_Record, frozen=True, kw_only=True):
    """A worker slot went from one state to another."""

    slot: int  # index of the worker's slot, which outlives its processes
    group: str  # name of the worker group
    pid: int | None  # process id of the worker; None: the slot has no process
    before: str  # previous state: "starting", "idle", "busy", "timed-out", "failed", "restarting", "retiring", "gone"
    event: str  # event in the table of transitions: "Ready", "Dispatched", "TaskFinished", ...
    after: str  # new state, one of the states of `before`
    cause: str  # reason in words; empty if the event is the reason
    task_id: int | None  # id of the worker's task at the transition; None: it had no task
    labels: Mapping[str, str] = {}  # labels of that task


class WorkerCrashed(_Record, frozen=True, kw_only=True):
    """A worker process ended unexpectedly, or could not be started."""

    slot: int  # index of the worker's slot
    group: str  # name of the worker group
    report: CrashReport  # report on the process


class TaskRetried(_Record, frozen=True, kw_only=True):
    """A task is queued again, because it killed its worker, or its worker died before it began the task."""

    task_id: int  # id of the task
    deaths: int  # number of workers that died after they had begun the task
    dispatched_at: float  # time from which the worker that died had no earlier task, on the clock of `at`
    labels: Mapping[str, str] = {}  # labels of the task


class TaskEnded(_Record, frozen=True, kw_only=True):
    """A task has its outcome."""

    task_id: int  # id of the task
    group: str  # name of the worker group
    operations: tuple[str, ...]  # its operations in their order, as "plugin.Operation"
    tenant: str | None  # tenant of the task; None: it has none
    outcome: str  # counter of `Statistics`: "completed", "failed", "timed_out", "cancelled", "worker_died" or "refused"
    error: str | None  # code of a `TaskFailed`, name of the type of any other error; None: no error
    message: str | None  # text of the error for clients, as `OffloopError.public_message`; None: no error
    submitted_at: float  # time of the submission, on the clock of `at`
    ready_at: float | None  # time at which its sources were in place; None: they never were
    dispatched_at: float | None  # time from which its last worker had no earlier task; None: it had no worker
    slot: int | None  # index of the slot whose worker had the task at its end; None: no worker had it
    runs: int  # number of times that a worker was sent the task
    deaths: int  # number of workers that died after they had begun the task
    source_bytes: int  # length of its sources in bytes, as far as it is known; 0: unknown
    estimate_bytes: int  # predicted peak of private memory in bytes; 0: unknown
    labels: Mapping[str, str] = {}  # labels of the task


class BreakerMoved(_Record, frozen=True, kw_only=True):
    """The circuit breaker of a worker group changed its state. Open: dead workers are not replaced. Half-open: one is, as a
    test."""

    group: str  # name of the worker group
    before: str  # previous state: "closed", "open" or "half-open"
    after: str  # new state: "closed", "open" or "half-open"


class WorkerMemoryTooSmall(_Record, frozen=True, kw_only=True):
    """A worker had more private memory than it may keep after its first task, so every task replaces its worker.

    Reported once for each group.
    """

    slot: int  # index of the worker's slot
    group: str  # name of the worker group
    private_bytes: int  # private memory of the worker after its first task, in bytes
    limit_bytes: int  # maximum private memory of a worker between two tasks, in bytes
    limited_by: str  # name of the limit: "max_worker_memory", or "a worker's share of memory_limit"


class PluginUnavailable(_Record, frozen=True, kw_only=True):
    """A plugin could not be loaded by a worker, or was switched off because its load ended workers. Reported once for
    each group."""

    group: str  # name of the worker group
    plugin: str  # name of the plugin
    reason: str  # the error, or how the workers ended
    switched_off: bool  # workers start without the plugin, and its tasks are refused; False: its tasks fail in the worker


class SandboxReported(_Record, frozen=True, kw_only=True):
    """The sandbox of a group's workers is known, or is another one than before."""

    group: str  # name of the worker group
    posture: Posture  # layers in force, and reasons for the missing ones


PoolEvent = (
    WorkerMoved
    | WorkerCrashed
    | TaskRetried
    | TaskEnded
    | BreakerMoved
    | WorkerMemoryTooSmall
    | PluginUnavailable
    | SandboxReported
)


class PoolObserver:
    """Base of objects that `Pool.add_observer` takes. Override the methods that are needed.

    The methods are called in the thread of the pool's event loop, between two decisions of the pool. They must return at once,
    and must not call the pool. An exception is logged and changes nothing.
    """

    needs_worker_moves: ClassVar[bool] = True
    """Whether `event_published` needs `WorkerMoved`. If False, steps of workers cost less, and the event may be missing."""

    def task_submitted(self, task_id: int) -> None:
        """Called in the context of the caller (`contextvars`), before a task is submitted."""

    def task_shared(self, task_id: int) -> None:
        """Called in the context of a caller with `coalesce=True` that waits for the task of another call."""

    def event_published(self, event: PoolEvent) -> None:
        """Called for every event."""
