"""Sources that are being read, so that they are known by their digest.

The reader is a thread of ours, which cannot be stopped: its block stays held until it is through, whatever becomes of the task
meanwhile. A reading for a strike keeps what the strike is entered against, because the task may have its outcome before that.
"""

from __future__ import annotations

from typing import NamedTuple

from ...wire.handles import INBOX
from ..memory.arena import Arena
from ..model.blocks import Block, Holder, Lease
from ..model.commands import HashSource
from ..model.task import TaskRecord, TaskSpec

__all__ = ["SourceHashing"]


class _Reading(NamedTuple):
    """One source that a thread reads."""

    block: Block
    strike: TaskSpec | None  # the task that killed its worker; None: the source is only compared with those that did


class SourceHashing:
    """The sources that are being read, by their task's number."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._readings: dict[int, _Reading] = {}

    def begin(self, task: TaskRecord, *, strike: bool = False) -> HashSource:
        """Have the task's source read; it lies in the inbox. With `strike`, because the task killed its worker."""
        assert task.spec.source.block is not None
        assert task.spec.source.block.segment == INBOX
        assert task.source_block is not None
        self._readings[task.task_id] = _Reading(task.source_block, task.spec if strike else None)
        self._arena.acquire(task.source_block, Lease(Holder.READER, task.task_id))
        return HashSource(task.task_id, task.spec.source.block)

    def end(self, task_id: int) -> TaskSpec | None:
        """The source was read, or could not be. Returns what a strike is to be entered against, if one is."""
        reading = self._readings.pop(task_id)
        self._arena.release(reading.block, Lease(Holder.READER, task_id))
        return reading.strike
