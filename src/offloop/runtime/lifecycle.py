"""A pool's life: opened, closed, or ended at once where its event loop ends first.

Closing takes its turns of the loop. `Lifecycle.abort` takes none, because there may be none left: asyncio.run and trio.run
cancel every task when the main task has ended, the pool's own too, and a loop that is closed or forgotten runs nothing at all.
So it kills all workers, waits for their deaths with a bound, and has the core settle every task, in one call.
"""

from __future__ import annotations

import atexit
import logging
import weakref
from collections.abc import Collection
from enum import Enum
from time import monotonic
from typing import Protocol

from ..core.model.events import CloseRequested, Event
from ..core.pool_state import PoolState
from ..errors import OffloopError, PoolClosed
from .conditions import PoolConditions
from .loop.affinity import LoopAffinity
from .loop.background import BackgroundTasks
from .loop.decision_gate import DecisionGate, GateState
from .loop.oneshot_event import OneShotEvent
from .telemetry.safe_logging import SafeLogger

__all__ = ["Lifecycle"]

_log = SafeLogger("offloop.supervisor")

_REAP_LIMIT_S = 0.5  # a killed process is gone in milliseconds, unless it sleeps uninterruptibly in the kernel
_REMEDY = "leave it before the event loop ends, with `async with Pool() as pool`, an AsyncExitStack, or your server's lifespan"


class _Worker(Protocol):
    def kill(self) -> None: ...
    def reap(self, deadline: float) -> object: ...
    def end(self, deadline: float) -> None: ...


class _Supervisor(Protocol):
    """What is opened and closed."""

    affinity: LoopAffinity
    core: PoolState
    gate: DecisionGate
    conditions: PoolConditions
    background: BackgroundTasks

    @property
    def workers(self) -> Collection[_Worker]: ...
    def apply(self, event: Event) -> None: ...
    def fail(self, error: BaseException) -> None: ...
    def fail_all(self, error: OffloopError) -> None: ...
    def leave_abandoned(self) -> None: ...
    def release(self) -> None: ...


class _State(Enum):
    RUNNING = "running"  # opened, or being opened
    CLOSING = "closing"  # its block was left
    ABORTED = "aborted"  # its loop ended, and its block may still be left
    CLOSED = "closed"


class Lifecycle:
    """Closes one pool, and is told how the pool's own tasks end."""

    def __init__(self, supervisor: _Supervisor) -> None:
        self._supervisor = supervisor
        self._state = _State.RUNNING
        self._closed = OneShotEvent(supervisor.affinity.loop)
        for other in list(_unfinished):
            other.abandon_if_loop_is_closed()  # because closing a loop cancels no task
        _unfinished.add(self)

    async def close(self) -> None:
        """End all tasks and workers, and give the memory back; in any task of the loop, and any number of times.

        A cancellation meanwhile is raised when all is done: after the grace, and the time that the system needs to kill.

        Raises:
            InternalError: a defect of ours has ended the pool.
        """
        if self._state is _State.RUNNING:
            self._state = _State.CLOSING
            self._supervisor.background.run(self._close)
        elif self._state is _State.ABORTED:
            self._state = _State.CLOSED  # it was not forgotten
        await self._closed.wait_uncancellable()
        if not self._supervisor.gate.was_interrupted:
            self._supervisor.gate.raise_if_failed()

    async def _close(self) -> None:
        supervisor = self._supervisor
        supervisor.apply(CloseRequested())
        await supervisor.conditions.closed.wait()
        supervisor.leave_abandoned()
        supervisor.background.close()

    def abort(self) -> None:
        """End the pool at once: its loop ends, or its tasks were cancelled. Every caller that waits gets `PoolClosed`.

        Blocks until the workers are dead, for half a second at most.
        """
        if self._is_over:
            return
        left = self._is_left
        self._end_workers()
        self._state = _State.CLOSED if left else _State.ABORTED
        if self._supervisor.affinity.entering_task_is_done:
            self.warn_if_forgotten("the event loop ended")

    def abandon(self, reason: str) -> None:
        """As `abort` where the loop does not run, and never will again: the processes are ended, and no caller can be told."""
        if self._is_over:
            return
        supervisor = self._supervisor
        left = self._is_left
        self._kill_workers()
        if not supervisor.affinity.loop_runs:
            supervisor.release()
        self._state = _State.CLOSED if left else _State.ABORTED
        self.warn_if_forgotten(reason)

    def abandon_if_loop_is_closed(self) -> None:
        """Asyncio's loops only; trio's cancels its tasks before it is closed."""
        loop = self._supervisor.affinity.loop
        if loop is not None and loop.is_closed():
            self.abandon("its event loop was closed")

    def warn_if_forgotten(self, reason: str) -> None:
        """Log once that the pool was not left."""
        if self._state is _State.ABORTED:
            self._state = _State.CLOSED
            _log.log(logging.WARNING, "a pool was never left: its workers were killed when %s; %s", reason, _REMEDY)

    # What the pool's tasks report

    def task_cancelled(self) -> None:
        self.abort()

    def task_disposed(self) -> None:
        self.abandon("its event loop was thrown away")

    def task_failed(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._supervisor.fail(error)
        else:
            self.abort()  # KeyboardInterrupt or SystemExit: the loop has stopped

    def all_tasks_ended(self) -> None:
        try:
            self._supervisor.release()
        finally:
            if self._state is _State.CLOSING:
                self._state = _State.CLOSED
            self._closed.set()

    @property
    def _is_over(self) -> bool:
        return self._supervisor.affinity.forked or self._state in (_State.ABORTED, _State.CLOSED)

    @property
    def _is_left(self) -> bool:
        return self._state is _State.CLOSING or self._supervisor.core.closed  # a drained pool has nothing to forget

    def _end_workers(self) -> None:
        supervisor = self._supervisor
        workers = tuple(supervisor.workers)
        for worker in workers:
            worker.kill()
        supervisor.apply(CloseRequested())  # no worker is replaced, and each task ends with the report of its worker's end
        deadline = monotonic() + _REAP_LIMIT_S
        for worker in workers:
            worker.end(deadline)
        supervisor.fail_all(PoolClosed("the event loop ended while the pool was open"))  # none is left, but after a defect
        supervisor.background.cancel_all()

    def _kill_workers(self) -> None:
        supervisor = self._supervisor
        supervisor.gate.state = GateState.STOPPED
        workers = tuple(supervisor.workers)
        for worker in workers:
            worker.kill()
        deadline = monotonic() + _REAP_LIMIT_S
        for worker in workers:
            worker.reap(deadline)

    def __del__(self) -> None:
        self.warn_if_forgotten("the event loop ended")


_unfinished: weakref.WeakSet[Lifecycle] = weakref.WeakSet()  # every pool of this process that still has to be ended


def _end_unfinished() -> None:
    """At the interpreter's end."""
    for lifecycle in list(_unfinished):
        lifecycle.abandon("the interpreter ended")
        lifecycle.warn_if_forgotten("the event loop ended")


atexit.register(_end_unfinished)
