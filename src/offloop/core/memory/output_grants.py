"""Grants with credit: the worker of a stream gets the memory of its next outputs before it requests it.

So a frame does not wait for a request and its answer. The blocks have pages that were reserved before, and no request waits for
them. If there are too few such pages, more are reserved for the blocks that come with later credit.
"""

from __future__ import annotations

from ...wire.handles import OUTBOX, Handle
from ..model.blocks import Holder
from ..model.commands import Command
from ..model.task_record import TaskRecord
from .arena import Arena
from .broker import MemoryBroker

__all__ = ["grant_next_outputs"]

_MAX_SHARE = 1 / 16  # share of the capacity that one stream may have in advance, because it may need larger blocks


def grant_next_outputs(
    arena: Arena, broker: MemoryBroker, outbox_id: int, task: TaskRecord, count: int
) -> tuple[list[Handle], list[Command]]:
    """Grant blocks for the next outputs of a stream, of the size that it last requested.

    Args:
        arena: the arena.
        broker: the requests for memory.
        outbox_id: outbox of its worker.
        task: the stream.
        count: number of outputs for which it has got credit. With so many blocks, and the one that it is writing to, it need
            not wait for memory before it gets more credit.

    Returns:
        The granted blocks, and the commands that reserve pages for later ones.
    """
    nbytes, handles = task.last_request_bytes, list[Handle]()
    if not nbytes or broker.has_waiters:
        return handles, []
    wanted = min(count + 1 - len(task.granted), int(arena.capacity_bytes * _MAX_SHARE) // nbytes)
    while len(handles) < wanted:
        block = arena.try_allocate_reserved(outbox_id, nbytes, Holder.WORKER, task.task_id)
        if block is None:
            return handles, broker.prefetch(outbox_id, nbytes)
        task.granted.append(block)
        handles.append(Handle(OUTBOX, block.offset, nbytes, block.generation))
    return handles, []
