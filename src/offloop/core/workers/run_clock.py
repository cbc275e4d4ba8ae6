"""The clock of a task's `timeout`: it stands still while the task waits for result memory, which is no fault of the task."""

from __future__ import annotations

from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerState
from .worker_table import WorkerTable

__all__ = ["RunClock"]


class RunClock:
    """Stops the timers of busy slots, and lets them run again."""

    def __init__(self, worker_table: WorkerTable) -> None:
        self._worker_table = worker_table

    def pause(self, slot: WorkerSlot, task: TaskRecord, now: float) -> None:
        """The task waits for memory from now on."""
        task.memory_wait_since = now
        task.left_s = None if slot.timer is None else slot.timer - now
        self._worker_table.set_timer(slot, None)

    def resume(self, slot: WorkerSlot, now: float) -> None:
        """The wait is over: the task has the time left that it had. A task that was told to stop meanwhile has its grace."""
        task = slot.task
        if task is None or task.memory_wait_since is None:
            return
        self.end_wait(task, now)
        if slot.state is WorkerState.BUSY and task.left_s is not None:
            self._worker_table.set_timer(slot, now + task.left_s)

    @staticmethod
    def end_wait(task: TaskRecord, now: float) -> None:
        """The task waits no more. The wait is no part of the duration of its run."""
        if task.memory_wait_since is not None:
            task.memory_wait_s += now - task.memory_wait_since
            task.memory_wait_since = None
