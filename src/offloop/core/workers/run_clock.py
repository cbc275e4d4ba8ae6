"""Run clock: the time limit of a task does not run while the task waits for result memory, or for credit for an output."""

from __future__ import annotations

from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerState
from .worker_table import WorkerTable

__all__ = ["RunClock"]


class RunClock:
    """Pauses, resumes and restarts the timers of busy slots."""

    def __init__(self, worker_table: WorkerTable) -> None:
        self._worker_table = worker_table

    def pause(self, slot: WorkerSlot, task: TaskRecord, now: float) -> None:
        """The task begins to wait. Does nothing if it waits already."""
        if task.paused_since is not None:
            return
        task.paused_since = now
        task.remaining_limit_s = None if slot.timer is None else slot.timer - now
        self._worker_table.set_timer(slot, None)

    def resume(self, slot: WorkerSlot, now: float) -> None:
        """A wait has ended: run the rest of the time limit, unless the task waits for something else.

        A task that was stopped in the wait keeps the timer of its grace.
        """
        task = slot.task
        if task is None or task.paused_since is None or task.requested_bytes is not None or task.awaits_credit:
            return
        self.end_wait(task, now)
        if slot.state is WorkerState.BUSY:
            self._worker_table.set_timer(slot, None if task.remaining_limit_s is None else now + task.remaining_limit_s)

    def restart(self, slot: WorkerSlot, task: TaskRecord, now: float) -> None:
        """The task has handed over an output: begin the time limit of the next one, as soon as there is credit for it.

        Until then the time limit of an idle receiver runs.
        """
        limits = task.spec.stream
        if limits is None or slot.state is not WorkerState.BUSY:
            return
        self._worker_table.set_timer(slot, None if limits.output_timeout_s is None else now + limits.output_timeout_s)
        if task.awaits_credit:
            self.pause(slot, task, now)
            self._worker_table.set_timer(slot, None if limits.idle_timeout_s is None else now + limits.idle_timeout_s)

    @staticmethod
    def end_wait(task: TaskRecord, now: float) -> None:
        """The task does not wait any more. Its wait is not counted in the duration of its run."""
        if task.paused_since is not None:
            task.paused_s += now - task.paused_since
            task.paused_since = None
