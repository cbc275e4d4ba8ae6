"""Validates the handles and memory requests in workers' messages against the blocks that the workers were granted.

A handle from a worker is not trusted. It is valid only if it names a block that this worker holds for this task, starts where
the block starts, and ends within it. The supervisor maps nothing else.
"""

from __future__ import annotations

from ...wire.handles import OUTBOX, EncodedAt, Handle, RasterAt, WrittenTo
from ...wire.messages import Done, Failed, Need, NeedFile, Output, OutputFailed
from ..model.blocks import Block, Holder
from ..model.settings import MAX_NEEDS
from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot

__all__ = ["InvalidHandle", "block_nbytes", "validate_answer", "validate_file_request", "validate_output", "validate_request"]


class InvalidHandle(Exception):
    """The worker named memory that it does not hold, a file that was not requested, or sent a request that is not allowed."""


def validate_output(
    slot: WorkerSlot, task: TaskRecord | None, message: Output | OutputFailed
) -> tuple[TaskRecord, Block | None]:
    """Return the task that hands over an output, or its failure, before its end; and the block of the output, or None.

    Raises:
        InvalidHandle: the worker does not have the task, the task waits for memory or has no credit, the worker does not hold
            the block for this task, or the output is not wholly inside.
    """
    if task is None or task.task_id != message.task_id or task.requested_bytes is not None:
        raise InvalidHandle(f"it handed over an output of task {message.task_id} out of turn")
    if task.outputs >= task.credit:
        raise InvalidHandle(f"it handed over output {task.outputs + 1} of a task that may hand over {task.credit}")
    ends_pipeline = isinstance(message, OutputFailed) or message.last
    if (ends_pipeline or task.spec.pipelines) and (message.name not in task.spec.pipelines or message.name in task.finished):
        raise InvalidHandle("it named a pipeline that the task does not have, or that has ended")
    return task, None if isinstance(message, OutputFailed) else _find_block(slot, task, message.output)


def validate_answer(slot: WorkerSlot, task: TaskRecord, answer: Done | Failed) -> Block | None:
    """Return the block that the last output lies in; None if it has none.

    Raises:
        InvalidHandle: the worker does not hold the block for this task, the output is not wholly inside, or is missing.
    """
    if isinstance(answer, Failed):
        return None
    output, to_file = answer.output, task.spec.to_file
    if len(task.finished) < len(task.spec.pipelines):
        raise InvalidHandle("it ended the task before all of its pipelines")
    if output is None:
        if task.credit <= task.spec.previews:
            raise InvalidHandle("it handed over no output")
        return None
    if isinstance(output, WrittenTo):
        if not to_file:
            raise InvalidHandle("it wrote a file that was not asked for")
        return None
    if to_file:
        raise InvalidHandle("it did not write the file that was asked for")
    return _find_block(slot, task, output)


def validate_request(slot: WorkerSlot, need: Need) -> TaskRecord:
    """Return the task that requests memory.

    Raises:
        InvalidHandle: the worker does not have the task, the task waits for memory already, or has requested it too often.
    """
    task = slot.task
    if task is None or task.task_id != need.task_id or task.requested_bytes is not None or need.nbytes < 1:
        raise InvalidHandle(f"it asked for {need.nbytes} bytes for task {need.task_id} out of turn")
    task.request_count += 1
    if task.request_count > MAX_NEEDS:
        raise InvalidHandle(f"it asked for memory more than {MAX_NEEDS:,} times for one task")
    return task


def validate_file_request(slot: WorkerSlot, need: NeedFile) -> TaskRecord:
    """Return the task that requests its output file.

    Raises:
        InvalidHandle: the worker does not have the task, the task has no file, waits for memory, or has requested it before.
    """
    task = slot.task
    if task is None or task.task_id != need.task_id or task.requested_bytes is not None:
        raise InvalidHandle(f"it asked for the file of task {need.task_id} out of turn")
    if not task.spec.to_file or task.file_dispatch == task.dispatches:
        raise InvalidHandle(f"it asked for a file that task {need.task_id} does not have, or has already")
    task.file_dispatch = task.dispatches
    return task


def block_nbytes(output: EncodedAt | RasterAt | WrittenTo) -> int:
    """Return the number of bytes of its block that an output takes."""
    return 0 if isinstance(output, WrittenTo) or output.block is None else output.block.nbytes


def _find_block(slot: WorkerSlot, task: TaskRecord, output: EncodedAt | RasterAt) -> Block | None:
    handle = output.block
    if handle is None:
        return None
    for block in (slot.preallocated_block, *task.granted):
        if block is not None and block.generation == handle.generation and _is_granted(block) and _is_within(handle, block):
            return block
    raise InvalidHandle("it named a block that it does not hold")


def _is_granted(block: Block) -> bool:
    """Whether the block's pages are reserved and its handle was sent to the worker. Before that, a handle is a guess."""
    return all(lease.holder is not Holder.RESERVATION for lease in block.leases)


def _is_within(handle: Handle, block: Block) -> bool:
    """Whether the handle starts where the block starts and ends within it."""
    return handle.segment == OUTBOX and handle.offset == block.offset and 0 < handle.nbytes <= block.nbytes
