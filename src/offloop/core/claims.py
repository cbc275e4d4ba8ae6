"""What a worker says of memory, held against what it was given.

A handle that comes from a worker is a claim. Only a block that this worker holds for this task passes, and only from
its start and within its length; the supervisor maps nothing else.
"""

from __future__ import annotations

from ..wire.handles import OUTBOX, EncodedAt, Handle, RasterAt, WrittenTo
from ..wire.messages import Done, Failed
from .arena import Block, Holder
from .crew import Slot
from .tasks import TaskRecord

__all__ = ["ForgedClaim", "block_nbytes", "claimed_block"]


class ForgedClaim(Exception):
    """The worker named memory that is not its own, or a file that nobody asked for."""


def claimed_block(slot: Slot, task: TaskRecord, answer: Done | Failed) -> Block | None:
    """The block that the output lies in; None if it needs none.

    Raises:
        ForgedClaim: it is not one that the worker holds for this task, or not wholly inside.
    """
    if isinstance(answer, Failed):
        return None
    assert task.spec is not None
    if isinstance(answer.output, WrittenTo) is not (task.spec.destination is not None):
        raise ForgedClaim("it wrote a file that was not asked for, or did not write one that was")
    if isinstance(answer.output, WrittenTo) or answer.output.block is None:
        return None
    handle = answer.output.block
    for block in (slot.standing, *task.granted):
        if block is not None and block.generation == handle.generation and _was_given(block) and _lies_in(handle, block):
            return block
    raise ForgedClaim("it named a block that it does not hold")


def block_nbytes(output: EncodedAt | RasterAt | WrittenTo) -> int:
    """How many bytes of its block an output takes."""
    return 0 if isinstance(output, WrittenTo) or output.block is None else output.block.nbytes


def _was_given(block: Block) -> bool:
    """Its pages are there, and the worker was told of it; before that it could only have guessed the handle."""
    return all(lease.holder is not Holder.RESERVATION for lease in block.leases)


def _lies_in(handle: Handle, block: Block) -> bool:
    """A result starts where its block does."""
    return handle.segment == OUTBOX and handle.offset == block.offset and 0 < handle.nbytes <= block.nbytes
