"""Sources that a thread of the supervisor is hashing.

The thread cannot be stopped, so the blocks stay leased until it is done, even if the task is settled meanwhile. A reading for a
strike keeps the specification that the strike counts against, because the task may be settled before.
"""

from __future__ import annotations

from typing import NamedTuple

from ...wire.handles import OUTBOX
from ..memory.arena import Arena
from ..model.blocks import Block, Holder, Lease
from ..model.commands import HashSource
from ..model.task import TaskSpec
from ..model.task_record import TaskRecord

__all__ = ["SourceHashing"]


class _Reading(NamedTuple):
    """The sources of one task, which a thread reads."""

    blocks: tuple[Block, ...]
    strike: TaskSpec | None  # specification of the task that killed its worker; None: no strike


class SourceHashing:
    """The sources that are being hashed, by task id."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._readings: dict[int, _Reading] = {}

    def begin(self, task: TaskRecord, *, strike: bool = False) -> HashSource:
        """Lease the task's sources, unless they lie in the caller's memory; return the command to hash them. `strike`: the task
        killed its worker."""
        handles = tuple([source.block for source in task.spec.sources if source.block is not None])
        assert handles
        assert all(handle.segment != OUTBOX for handle in handles)
        self._readings[task.task_id] = _Reading(task.source_blocks, task.spec if strike else None)
        for block in task.source_blocks:
            self._arena.acquire(block, Lease(Holder.READER, task.task_id))
        return HashSource(task.task_id, handles)

    def end(self, task_id: int) -> TaskSpec | None:
        """Release sources that were hashed or could not be read. Returns the specification of the strike, or None."""
        reading = self._readings.pop(task_id)
        for block in reading.blocks:
            self._arena.release(block, Lease(Holder.READER, task_id))
        return reading.strike
