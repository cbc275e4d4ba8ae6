"""Sources that are being read, so that they are known by their digest.

The reader is a thread of ours, which cannot be stopped: its block stays held until it is through, whatever becomes of the task
meanwhile.
"""

from __future__ import annotations

from ..wire.handles import INBOX
from .arena import Arena
from .blocks import Block, Holder, Lease
from .commands import IdentifySource
from .tasks import TaskRecord

__all__ = ["Identification"]


class Identification:
    """The blocks that are being read, by their task's number."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._blocks: dict[int, Block] = {}

    def begin(self, task: TaskRecord) -> IdentifySource:
        """Have the task's source read; it lies in the inbox."""
        assert task.spec is not None
        assert task.spec.source.block is not None
        assert task.spec.source.block.segment == INBOX
        assert task.source_block is not None
        self._blocks[task.task_id] = task.source_block
        self._arena.take(task.source_block, Lease(Holder.READER, task.task_id))
        return IdentifySource(task.task_id, task.spec.source.block)

    def end(self, task_id: int) -> None:
        """It was read, or could not be."""
        self._arena.release(self._blocks.pop(task_id), Lease(Holder.READER, task_id))
