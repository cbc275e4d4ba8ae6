"""Settles tasks with their workers' answers, and transfers or frees the memory of the answers."""

from __future__ import annotations

from ...wire.messages import Done, Failed
from ..memory.arena import Arena
from ..memory.input_queue import caller_lease
from ..model.blocks import Block, Holder, Lease
from ..model.commands import Command
from ..model.task import Completed, TaskRecord
from ..model.worker_slot import WorkerSlot
from .answer_checks import block_nbytes
from .outcomes import error_of_failure, outcome_of_stop
from .quarantine import Quarantine
from .task_table import TaskTable

__all__ = ["TaskCompletion"]


class TaskCompletion:
    """Settles tasks from `Done` and `Failed` messages."""

    def __init__(self, arena: Arena, task_table: TaskTable, quarantine: Quarantine) -> None:
        self._arena = arena
        self._task_table = task_table
        self._quarantine = quarantine

    def settle(self, slot: WorkerSlot, task: TaskRecord, answer: Done | Failed, block: Block | None) -> list[Command]:
        """Settle the task with this answer. `block` is the validated block of its output."""
        if block is not None:
            self._arena.acquire(block, caller_lease(block))
            if block is slot.preallocated_block:
                self.release_preallocated(slot)
        if task.stop is not None:
            outcome = outcome_of_stop(task, obeyed=True)
        elif isinstance(answer, Failed):
            outcome = error_of_failure(task, answer)
        else:
            outcome = Completed(answer.output, block, answer.info, answer.started_ns, answer.finished_ns)
        if block is not None and isinstance(outcome, Completed):
            self._arena.shrink(block, block_nbytes(outcome.output))
        elif block is not None:
            self._arena.release(block, caller_lease(block))  # the result is dropped, because the task was told to stop before
        if task.digest is not None and task.stop is None:
            self._quarantine.clear(task.spec, task.digest)
        return self._task_table.settle(task, outcome)

    def release_preallocated(self, slot: WorkerSlot) -> None:
        """Release the preallocated block of a worker that has used it, or is dead."""
        if slot.preallocated_block is not None:
            self._arena.release(slot.preallocated_block, Lease(Holder.STANDING, slot.preallocated_block.segment_id))
            slot.preallocated_block = None
