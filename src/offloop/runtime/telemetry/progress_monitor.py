"""Progress monitor: reads the status pages of workers whose tasks have a listener, twenty times a second.

Of a waiting task it says what the task waits for.

A worker writes the progress of its task into its status page, which costs no message. The page is read only while there is a
listener. The task id in it is the worker's word, so it is compared with the task that the slot has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import anyio
import msgspec

from ...core.model.task_record import TaskRecord
from ...core.model.task_state import TaskState
from ...core.pool_state import PoolState
from ...core.tasks.task_status import checked_status, operation_names
from ...wire.status import Status
from ..loop.background import BackgroundTasks

__all__ = ["Progress", "ProgressMonitor"]

_INTERVAL_S = 0.05
_SHARE_AT_ESTIMATE = 0.9  # share of a silent task that counts as done when its estimated time is over


class Progress(msgspec.Struct, frozen=True):
    """Progress of a task at one moment: of one that runs, or that was admitted and waits."""

    fraction: float
    """Share of the work that is done, from 0 to 1. It never decreases, and is 1 only after success."""

    stage: str
    """Name of the plugin that runs; empty while the task waits."""

    operation: str
    """Names of its operations, separated by commas; empty while the task waits."""

    eta_s: float | None
    """Expected seconds until the end; None: unknown."""

    waits_for: Literal["worker", "memory"] | None = None
    """worker: the task waits for its turn. memory: other tasks have to end first, because there is too little memory for it.
    None: it runs."""

    cost_s: float | None = None
    """Expected seconds of a worker's time for the whole task; None: unknown."""


class _Listener(Protocol):
    @property
    def task_id(self) -> int: ...

    def update(self, progress: Progress) -> None: ...


class ProgressMonitor:
    """The listeners of running tasks. A task may have several, and a listener may change its task."""

    def __init__(
        self,
        core: PoolState,
        read_status: Callable[[int], Status | None],
        background: BackgroundTasks,
        clock: Callable[[], float],
    ) -> None:
        self._core = core
        self._read_status = read_status  # status page of an outbox; None: the outbox was released
        self._background = background
        self._clock = clock
        self._listeners: dict[int, _Listener] = {}  # by the listener's own id
        self._is_watching = False

    def add(self, listener: _Listener) -> None:
        """Call `update` of the listener at each change of the progress of its task, until `remove`."""
        self._listeners[id(listener)] = listener
        if not self._is_watching:
            self._is_watching = True
            self._background.run(self._watch, until_closed=True)

    def remove(self, listener: _Listener) -> None:
        """Do not call the listener any more."""
        self._listeners.pop(id(listener), None)

    async def _watch(self) -> None:
        while self._listeners:
            for listener in tuple(self._listeners.values()):
                progress = self._measure(listener.task_id)
                if progress is not None:
                    listener.update(progress)
            await anyio.sleep(_INTERVAL_S)
        self._is_watching = False

    def _measure(self, task_id: int) -> Progress | None:
        """The progress of a running or waiting task; None if it is in another state."""
        task = self._core.task_table.get(task_id)
        if task is None or task.slot is None:
            return self._waiting(task) if task is not None and task.state is TaskState.WAITING else None
        outbox_id = self._core.worker_table[task.slot].outbox_id
        status = None if outbox_id is None else checked_status(task, self._read_status(outbox_id))
        if status is None:
            return None
        elapsed_s = max(self._clock() - task.dispatched_at - task.paused_s, 0.0)
        fraction = _fraction_of(task, status, elapsed_s)
        eta_s = elapsed_s * (1 - fraction) / fraction if fraction else None
        stage = task.spec.stages[status.stage]
        return Progress(fraction, stage.plugin, operation_names(stage), eta_s, cost_s=_known_cost_s(task))

    def _waiting(self, task: TaskRecord) -> Progress:
        waits_for = "worker" if self._core.dispatcher.budget.fits(task) else "memory"
        return Progress(0.0, "", "", None, waits_for, _known_cost_s(task))


def _known_cost_s(task: TaskRecord) -> float | None:
    """Expected seconds of a worker's time; None if neither an estimate nor an earlier task says so."""
    is_known = task.spec.estimate is not None or task.cost_factor is not None
    return task.cost_s if is_known and task.cost_s else None


def _fraction_of(task: TaskRecord, status: Status, elapsed_s: float) -> float:
    """The share of a task that is done: as its worker says, or by its estimated time while the worker says nothing.

    Some encoders say nothing, or say at their start that they are done. The time model is at nine tenths when the estimated
    time is over, and approaches 1 after that.
    """
    stages = len(task.spec.stages)
    if 0.0 < status.progress < 1.0:
        return (status.stage + status.progress) / stages
    cost_s = _known_cost_s(task)
    if cost_s is None:
        return status.stage / stages
    share = elapsed_s / cost_s
    by_time = share * _SHARE_AT_ESTIMATE if share < 1 else 1 - (1 - _SHARE_AT_ESTIMATE) / share
    return max(status.stage / stages, by_time)
