"""Run clock: a task's `timeout` does not run while the task waits for result memory."""

from __future__ import annotations

from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerState
from .worker_table import WorkerTable

__all__ = ["RunClock"]


class RunClock:
    """Pauses and resumes the timers of busy slots."""

    def __init__(self, worker_table: WorkerTable) -> None:
        self._worker_table = worker_table

    def pause(self, slot: WorkerSlot, task: TaskRecord, now: float) -> None:
        """The task begins to wait for memory."""
        task.memory_wait_since = now
        task.remaining_timeout_s = None if slot.timer is None else slot.timer - now
        self._worker_table.set_timer(slot, None)

    def resume(self, slot: WorkerSlot, now: float) -> None:
        """The wait has ended: run the rest of the timeout. A task that was stopped in the wait keeps the timer of its grace."""
        task = slot.task
        if task is None or task.memory_wait_since is None:
            return
        self.end_wait(task, now)
        if slot.state is WorkerState.BUSY and task.remaining_timeout_s is not None:
            self._worker_table.set_timer(slot, now + task.remaining_timeout_s)

    @staticmethod
    def end_wait(task: TaskRecord, now: float) -> None:
        """The task does not wait any more. Its wait is not counted in the duration of its run."""
        if task.memory_wait_since is not None:
            task.memory_wait_s += now - task.memory_wait_since
            task.memory_wait_since = None
