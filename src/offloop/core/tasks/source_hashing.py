"""Sources that a thread of the supervisor is hashing.

The thread cannot be stopped, so the block stays leased until it is done, even if the task is settled meanwhile. A reading for a
strike keeps the specification that the strike counts against, because the task may be settled before.
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
    strike: TaskSpec | None  # specification of the task that killed its worker; None: no strike


class SourceHashing:
    """The sources that are being hashed, by task id."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._readings: dict[int, _Reading] = {}

    def begin(self, task: TaskRecord, *, strike: bool = False) -> HashSource:
        """Lease the task's source in the inbox; return the command to hash it. `strike`: the task killed its worker."""
        assert task.spec.source.block is not None
        assert task.spec.source.block.segment == INBOX
        assert task.source_block is not None
        self._readings[task.task_id] = _Reading(task.source_block, task.spec if strike else None)
        self._arena.acquire(task.source_block, Lease(Holder.READER, task.task_id))
        return HashSource(task.task_id, task.spec.source.block)

    def end(self, task_id: int) -> TaskSpec | None:
        """Release a source that was hashed or could not be read. Returns the specification of the strike, or None."""
        reading = self._readings.pop(task_id)
        self._arena.release(reading.block, Lease(Holder.READER, task_id))
        return reading.strike
