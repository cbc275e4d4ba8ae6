"""Workers that were killed and are not dead: a process in an uninterruptible sleep, or in a frozen cgroup.

The pool waits for waitid's word for a bounded time. After that the task has its outcome and the slot has another process, but
what the old process may still write to is not reused: its outbox stays, and each block that it was granted has a lease until
the process is dead, or the pool is closed. Its private memory stays in the budget for as long.
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
    """What one process may still use."""

    blocks: tuple[Block, ...]  # that it may write to
    private_bytes: int  # that it is counted with


class AbandonedWorkers:
    """The processes that could not be killed, by their outbox's number."""

    def __init__(self, arena: Arena, budget: Budget) -> None:
        self._arena = arena
        self._budget = budget
        self._processes: dict[int, _AbandonedProcess] = {}

    def __len__(self) -> int:
        return len(self._processes)

    def add(self, slot: WorkerSlot) -> None:
        """The slot's process is given up. To be called before its task is settled: its grants are held from now on."""
        assert slot.outbox_id is not None
        granted = slot.task.granted if slot.task is not None else []
        blocks = tuple(block for block in (slot.preallocated_block, *granted) if block is not None and not _is_reserving(block))
        for block in blocks:
            self._arena.acquire(block, Lease(Holder.ABANDONED, slot.outbox_id))
        private_bytes = slot.idle_bytes + (0 if slot.task is None else slot.task.charged_bytes)
        self._budget.count_abandoned(private_bytes)
        self._processes[slot.outbox_id] = _AbandonedProcess(blocks, private_bytes)

    def remove(self, outbox_id: int) -> DropOutbox:
        """The process is dead at last: nothing writes to its outbox any more."""
        process = self._processes.pop(outbox_id)
        self._budget.count_abandoned(-process.private_bytes)
        for block in process.blocks:
            self._arena.release(block, Lease(Holder.ABANDONED, outbox_id))
        return DropOutbox(outbox_id, self._arena.drop_segment(outbox_id))


def _is_reserving(block: Block) -> bool:
    """Whether the pages of a block are still being reserved, so that the worker was never told of the block."""
    return Lease(Holder.RESERVATION, block.generation) in block.leases
