"""Hands over the outputs of tasks, and settles tasks with their workers' answers.

The two are independent: a task may hand over outputs before its end, and only `Done` or `Failed` ends it. The last output may
come with `Done`. In both cases `_transfer` gives the block of the output from the worker to the caller.
"""

from __future__ import annotations

from ...wire.messages import Done, Failed, Output, OutputFailed
from ..memory.arena import Arena
from ..memory.broker import worker_lease
from ..memory.input_queue import caller_lease
from ..model.blocks import Block, Holder, Lease
from ..model.commands import Command, DeliverOutput
from ..model.task import Completed, FailedOutput, TaskOutput
from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot
from .answer_checks import block_nbytes
from .outcomes import add_labels, error_of_failure, outcome_of_stop
from .quarantine import Quarantine
from .task_table import TaskTable

__all__ = ["TaskCompletion"]


class TaskCompletion:
    """Delivers outputs from `Output` messages, and settles tasks from `Done` and `Failed` messages."""

    def __init__(self, arena: Arena, task_table: TaskTable, quarantine: Quarantine) -> None:
        self._arena = arena
        self._task_table = task_table
        self._quarantine = quarantine

    def deliver(self, slot: WorkerSlot, task: TaskRecord, message: Output | OutputFailed, block: Block | None) -> list[Command]:
        """Deliver an output, or its failure, before the end of its task. `block` is the validated block of the output.

        The output of a task that was told to stop is dropped.
        """
        task.outputs += 1
        task.request_count = 0
        if isinstance(message, OutputFailed) or message.last:
            task.finished += (message.name,)
        if isinstance(message, OutputFailed):
            error = error_of_failure(task, message)
            add_labels(task.spec.labels, error)
            return [] if task.stop is not None else [DeliverOutput(task.task_id, FailedOutput(message.name, error))]
        if block is not None:
            self._transfer(slot, task, block, block_nbytes(message.output))
        if task.stop is None:
            start, end = message.started_ns, message.finished_ns
            output = TaskOutput(message.output, block, message.info, start, end, message.name, message.last)
            return [DeliverOutput(task.task_id, output)]
        if block is not None:
            self._arena.release(block, caller_lease(block))
        return []

    def settle(self, slot: WorkerSlot, task: TaskRecord, answer: Done | Failed, block: Block | None) -> list[Command]:
        """Settle the task with this answer. `block` is the validated block of its last output."""
        if task.stop is not None:
            outcome = outcome_of_stop(task, obeyed=True)
        elif isinstance(answer, Failed):
            outcome = error_of_failure(task, answer)
        elif answer.output is None:
            outcome = Completed(None)
        else:
            outcome = Completed(TaskOutput(answer.output, block, answer.info, answer.started_ns, answer.finished_ns))
        if block is not None and isinstance(answer, Done) and answer.output is not None:
            self._transfer(slot, task, block, block_nbytes(answer.output))
            if not isinstance(outcome, Completed):
                self._arena.release(block, caller_lease(block))  # because the task was told to stop before its result came
        if task.digest is not None and task.stop is None:
            self._quarantine.clear(task.spec, task.digest)
        return self._task_table.settle(task, outcome)

    def _transfer(self, slot: WorkerSlot, task: TaskRecord, block: Block, nbytes: int) -> None:
        """Give the first bytes of a block from the worker to the caller, and free the rest."""
        self._arena.acquire(block, caller_lease(block))
        if block is slot.preallocated_block:
            self.release_preallocated(slot)
        else:
            task.granted.remove(block)
            self._arena.release(block, worker_lease(task))
        self._arena.shrink(block, nbytes)

    def release_preallocated(self, slot: WorkerSlot) -> None:
        """Release the preallocated block of a worker that has used it, or is dead."""
        if slot.preallocated_block is not None:
            self._arena.release(slot.preallocated_block, Lease(Holder.PREALLOCATED, slot.preallocated_block.segment_id))
            slot.preallocated_block = None
