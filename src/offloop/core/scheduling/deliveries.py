"""Deliveries of sources: threads of the supervisor that copy or read a task's sources into the own inbox of an idle worker.

A small copy in memory is made by the loop when its task is sent. Everything else takes too long for the loop, and a file may
take any time. Until its sources are there, the worker does not have the task: its time limit does not run, and its caller can
cancel it without the worker. A thread cannot be stopped, so blocks that it copies from stay leased until it has ended.
"""

from __future__ import annotations

from typing import NamedTuple

from ..memory.arena import Arena
from ..model.blocks import Block, Holder, Lease
from ..model.commands import DeliverSources
from ..model.settings import INLINE_COPY_NBYTES
from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot

__all__ = ["MAX_READ_S", "Deliveries", "needs_delivery"]

MAX_READ_S = 2.0  # seconds that a worker waits for files: from memory it takes milliseconds. Then they are read without it


class _Delivery(NamedTuple):
    task: TaskRecord
    blocks: tuple[Block, ...]  # blocks that the thread copies from


def needs_delivery(task: TaskRecord) -> bool:
    """Whether a thread has to copy or read the sources of a task into the inbox of its worker."""
    return task.copy_bytes > INLINE_COPY_NBYTES or task.spec.in_files


class Deliveries:
    """The deliveries whose threads have not ended, by id."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._last_id = 0
        self._under_way: dict[int, _Delivery] = {}

    def begin(self, slot: WorkerSlot, task: TaskRecord) -> DeliverSources:
        """Lease the blocks of a task's sources, and return the command to deliver them to the worker in the slot."""
        self._last_id += 1
        task.delivery_id = self._last_id
        self._under_way[self._last_id] = _Delivery(task, task.source_blocks)
        for block in task.source_blocks:
            self._arena.acquire(block, Lease(Holder.DELIVERY, self._last_id))
        return DeliverSources(slot.index, self._last_id, task.task_id, task.spec.sources)

    def end(self, delivery_id: int) -> TaskRecord | None:
        """The thread has ended: release the blocks. Returns the task, or None if the delivery was stopped."""
        task, blocks = self._under_way.pop(delivery_id)
        for block in blocks:
            self._arena.release(block, Lease(Holder.DELIVERY, delivery_id))
        return task if task.delivery_id == delivery_id else None
