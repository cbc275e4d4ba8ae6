"""What the arena deals in: blocks, who holds them, and the pages that they need."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

__all__ = ["Block", "Holder", "Lease", "Reservation", "Span"]


class Holder(Enum):
    __hash__ = object.__hash__  # as in `worker_state`

    CALLER = "caller"  # a source on its way in, a `Buffer`, or a view of a result
    TASK = "task"  # a task that is queued or runs
    WORKER = "worker"  # granted: the worker may write there
    READER = "reader"  # a thread of ours reads it, to know it by its digest
    STANDING = "standing"  # granted ahead: an idle worker's memory to begin the next task with
    RESERVATION = "reservation"  # the host is fetching pages for it
    ABANDONED = "abandoned"  # a worker that could not be killed may still write there


class Lease(NamedTuple):
    """One holder's claim on one block."""

    holder: Holder
    owner: int  # the task's id, or the block's own generation where the holder needs no telling apart


class Block(msgspec.Struct, eq=False):
    """A piece of a segment that somebody holds."""

    generation: int
    segment_id: int
    offset: int
    nbytes: int  # whole pages, each with memory
    leases: set[Lease]
    addresses_nbytes: int  # that are kept for it; more than `nbytes` while it may grow
    busy_leases: int = 0  # all but a standing grant


class Span(NamedTuple):
    """A range of a segment."""

    segment_id: int
    start: int
    end: int


class Reservation(msgspec.Struct, frozen=True):
    """A plan to move pages: first give those back, then fetch these, for this block."""

    block: Block
    to_release: tuple[Span, ...]
    to_reserve: tuple[Span, ...]
