"""Closes a pool, or aborts it when its event loop ends first.

`Lifecycle.close` needs a running loop. `Lifecycle.abort` does not, because the loop may be at its end: asyncio.run and trio.run
cancel every task when the main task has ended, background tasks of the pool included, and a loop that is closed or garbage
collected runs nothing. So `abort` kills all workers, waits for their exits with a time limit, and has the core settle every
task, in one call.
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
from .loop.futures import OneShotEvent
from .telemetry.safe_logging import SafeLogger

__all__ = ["Lifecycle"]

_log = SafeLogger("offloop.supervisor")

_REAP_LIMIT_S = 0.5  # a killed process exits in milliseconds, unless it sleeps uninterruptibly in the kernel
_REMEDY = "leave it before the event loop ends, with `async with Pool() as pool`, an AsyncExitStack, or your server's lifespan"


class _Worker(Protocol):
    def kill(self) -> None: ...
    def reap(self, deadline: float) -> object: ...
    def end(self, deadline: float) -> None: ...


class _Supervisor(Protocol):
    """The part of `Supervisor` that a lifecycle uses."""

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
    def stop_waiting_for_abandoned(self) -> None: ...
    def release(self) -> None: ...


class _State(Enum):
    RUNNING = "running"  # open or opening
    CLOSING = "closing"  # `close` was called
    ABORTED = "aborted"  # the loop ended first; `close` was not called yet
    CLOSED = "closed"


class Lifecycle:
    """State machine that closes or aborts one pool, and observes how its background tasks end."""

    def __init__(self, supervisor: _Supervisor) -> None:
        self._supervisor = supervisor
        self._state = _State.RUNNING
        self._closed = OneShotEvent(supervisor.affinity.loop)
        for other in list(_unfinished):
            other.abandon_if_loop_is_closed()  # because closing a loop cancels no tasks
        _unfinished.add(self)

    async def close(self) -> None:
        """End all tasks and workers and release the memory. Any task of the loop may call it, any number of times.

        A cancellation is raised when the pool is closed: after the grace, and the time that the system needs to kill.

        Raises:
            InternalError: a defect in offloop has ended the pool.
        """
        if self._state is _State.RUNNING:
            self._state = _State.CLOSING
            self._supervisor.background.run(self._close)
        elif self._state is _State.ABORTED:
            self._state = _State.CLOSED  # no warning: the pool was left, if late
        await self._closed.wait_uncancellable()
        if not self._supervisor.gate.was_interrupted:
            self._supervisor.gate.raise_if_failed()

    async def _close(self) -> None:
        supervisor = self._supervisor
        supervisor.apply(CloseRequested())
        await supervisor.conditions.closed.wait()
        supervisor.stop_waiting_for_abandoned()
        supervisor.background.close()

    def abort(self) -> None:
        """End the pool at once, because its loop ends or its tasks were cancelled. Every waiting caller gets `PoolClosed`.

        Blocks until the workers have exited, for half a second at most.
        """
        if self._is_over:
            return
        was_exited = self._was_exited
        self._end_workers()
        self._state = _State.CLOSED if was_exited else _State.ABORTED
        if self._supervisor.affinity.entering_task_is_done:
            self.warn_if_forgotten("the event loop ended")

    def abandon(self, reason: str) -> None:
        """As `abort`, for a loop that will never run again: the workers are killed, and no caller can be notified."""
        if self._is_over:
            return
        supervisor = self._supervisor
        was_exited = self._was_exited
        self._kill_workers()
        if not supervisor.affinity.loop_runs:
            supervisor.release()
        self._state = _State.CLOSED if was_exited else _State.ABORTED
        self.warn_if_forgotten(reason)

    def abandon_if_loop_is_closed(self) -> None:
        """Abandon the pool if its asyncio loop is closed. A trio loop cancels its tasks before it is closed."""
        loop = self._supervisor.affinity.loop
        if loop is not None and loop.is_closed():
            self.abandon("its event loop was closed")

    def warn_if_forgotten(self, reason: str) -> None:
        """Log once that the pool's block was never left."""
        if self._state is _State.ABORTED:
            self._state = _State.CLOSED
            _log.log(logging.WARNING, "a pool was never left: its workers were killed when %s; %s", reason, _REMEDY)

    # Reports of `BackgroundTasks`

    def task_cancelled(self) -> None:
        self.abort()

    def task_disposed(self) -> None:
        self.abandon("its event loop was thrown away")

    def task_failed(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._supervisor.fail(error)
        else:
            self.abort()  # KeyboardInterrupt or SystemExit stops the loop

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
    def _was_exited(self) -> bool:
        return self._state is _State.CLOSING or self._supervisor.core.closed  # a drained pool needs no warning

    def _end_workers(self) -> None:
        supervisor = self._supervisor
        workers = tuple(supervisor.workers)
        for worker in workers:
            worker.kill()
        supervisor.apply(CloseRequested())  # so no worker is replaced, and each task is settled when its worker exits
        deadline = monotonic() + _REAP_LIMIT_S
        for worker in workers:
            worker.end(deadline)
        supervisor.fail_all(PoolClosed("the event loop ended while the pool was open"))  # callers are left only after a defect
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


_unfinished: weakref.WeakSet[Lifecycle] = weakref.WeakSet()  # lifecycles of all pools of this process


def _end_unfinished() -> None:
    """Abandon every pool of this process when the interpreter exits."""
    for lifecycle in list(_unfinished):
        lifecycle.abandon("the interpreter ended")
        lifecycle.warn_if_forgotten("the event loop ended")


atexit.register(_end_unfinished)
