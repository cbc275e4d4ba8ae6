"""Blocks of shared memory, their leases, and reservations of pages."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

__all__ = ["CALLER_MEMORY", "Block", "Holder", "Lease", "Reservation", "Span"]

CALLER_MEMORY = -1
"""Segment number of sources in the caller's own memory or in open files, which no message contains. The offset is the number of
the source."""


class Holder(Enum):
    __hash__ = object.__hash__  # members are singletons; Enum's own hash runs in Python

    CALLER = "caller"  # a `Buffer`, a stream that is received, or a view of a result
    TASK = "task"  # an unsettled task whose sources lie in the block
    STAGER = "stager"  # the caller's side of a task, which copies sources into the block
    WORKER = "worker"  # a granted block, which the worker may write to
    READER = "reader"  # a thread of the supervisor, which hashes the block
    DELIVERY = "delivery"  # a thread of the supervisor, which copies the block into the inbox of a worker
    PREALLOCATED = "preallocated"  # a block for the results of a worker's next task
    RESERVATION = "reservation"  # pages are being reserved for the block
    ABANDONED = "abandoned"  # a worker that could not be killed and may still write to the block


class Lease(NamedTuple):
    """One holder's claim on one block."""

    holder: Holder
    owner: int
    """Task id. Segment id for PREALLOCATED and ABANDONED, delivery id for DELIVERY, the block's generation for CALLER and
    RESERVATION."""


class Block(msgspec.Struct, eq=False):
    """A piece of a segment with at least one lease."""

    generation: int
    segment_id: int
    offset: int
    nbytes: int  # length in bytes: whole pages, all reserved
    leases: set[Lease]
    addresses_nbytes: int  # length of the reserved address range in bytes; more than `nbytes` while the block may grow
    busy_leases: int = 0  # number of leases except PREALLOCATED


class Span(NamedTuple):
    """A range of a segment."""

    segment_id: int
    start: int
    end: int


class Reservation(msgspec.Struct, frozen=True):
    """A plan to move pages: release the first spans, then reserve the second spans for the block."""

    block: Block
    to_release: tuple[Span, ...]
    to_reserve: tuple[Span, ...]
