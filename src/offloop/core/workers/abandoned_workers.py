"""Abandoned workers: processes that were killed and are not dead, in an uninterruptible sleep or in a frozen cgroup.

The pool waits for the exit of a killed process for a bounded time. Then the task gets its outcome and the slot another process.
The memory that the old process may still write to is not reused: its outbox and a lease on each of its granted blocks are kept
until the process has exited or the pool is closed. Its private memory is counted in the budget for the same time.
"""

from __future__ import annotations

from typing import NamedTuple

from ..memory.arena import Arena
from ..memory.budget import Budget
from ..model.blocks import Block, Holder, Lease
from ..model.commands import DropOutbox
from ..model.worker_slot import WorkerSlot

__all__ = ["AbandonedWorkers"]


class _AbandonedProcess(NamedTuple):
    """Memory that one abandoned process may still use."""

    blocks: tuple[Block, ...]  # blocks that it may write to
    private_bytes: int  # its private memory in the budget, in bytes
    group: str  # name of its worker group


class AbandonedWorkers:
    """The abandoned processes, by the number of their outbox."""

    def __init__(self, arena: Arena, budget: Budget) -> None:
        self._arena = arena
        self._budget = budget
        self._processes: dict[int, _AbandonedProcess] = {}

    def __len__(self) -> int:
        return len(self._processes)

    def count(self, group: str) -> int:
        """Number of abandoned processes of a group."""
        return sum(process.group == group for process in self._processes.values())

    def add(self, slot: WorkerSlot) -> None:
        """Abandon the slot's process, and hold its granted blocks. Must be called before its task is settled."""
        assert slot.outbox_id is not None
        granted = slot.task.granted if slot.task is not None else []
        blocks = tuple(block for block in (slot.preallocated_block, *granted) if block is not None and not _is_reserving(block))
        for block in blocks:
            self._arena.acquire(block, Lease(Holder.ABANDONED, slot.outbox_id))
        private_bytes = slot.idle_bytes + slot.excess_bytes + (0 if slot.task is None else slot.task.charged_bytes)
        self._budget.count_abandoned(private_bytes)
        self._processes[slot.outbox_id] = _AbandonedProcess(blocks, private_bytes, slot.group)

    def group_of(self, outbox_id: int) -> str:
        """The name of the worker group of an abandoned process."""
        return self._processes[outbox_id].group

    def remove(self, outbox_id: int) -> DropOutbox:
        """An abandoned process has exited: release its memory."""
        process = self._processes.pop(outbox_id)
        self._budget.count_abandoned(-process.private_bytes)
        for block in process.blocks:
            self._arena.release(block, Lease(Holder.ABANDONED, outbox_id))
        return DropOutbox(outbox_id, self._arena.drop_segment(outbox_id))


def _is_reserving(block: Block) -> bool:
    """Whether the pages of a block are still being reserved, so that the worker was not granted the block yet."""
    return Lease(Holder.RESERVATION, block.generation) in block.leases
