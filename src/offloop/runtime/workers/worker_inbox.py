"""The own inbox of one worker: the supervisor writes, this worker reads.

An inbox keeps the pages of its first bytes, because a copy onto new pages takes four times as long. Further pages are released
when no large source has come for a second, or when the pool needs their memory. It is a file in memory beside /dev/shm, because
its copies are charged to the memory budget as memory of the task, not of the arena.

Which ranges are in use is known to the loop's thread only. Threads that copy or release pages get offsets, and return.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from ...core.model.blocks import CALLER_MEMORY
from ...core.model.settings import KEPT_INBOX_NBYTES
from ...errors import PoolClosed
from ...wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt
from ..memory.segments import Copy, Segment
from ..memory.source_file import CallerMemory, SourceFile

__all__ = ["Place", "SourceCopy", "WorkerInbox"]

_ROOM_NBYTES = 16 * 1024 * 1024  # addresses for small sources only, so that large ones cannot take all places


class SourceCopy(NamedTuple):
    """One source of a task, and its place in the inbox."""

    copy: Copy  # its source offset is one in the pool's inbox
    memory: CallerMemory | None  # what is copied or read instead; None: the source lies in the pool's inbox


class Place:
    """A range of the inbox for the sources of one task."""

    def __init__(self, start: int, sources: tuple[EncodedAt | RasterAt, ...], copies: Sequence[SourceCopy], end: int) -> None:
        self.start, self.end = start, end
        self.sources = sources  # their handles for the worker
        self.copies = copies  # copies to make


class WorkerInbox(Segment):
    """Places for the sources of a worker's tasks. All methods but those that copy or release are for the loop's thread."""

    def __init__(self, nbytes: int) -> None:
        """Make an inbox of so many addresses for large sources, and some for small ones, without pages.

        Raises:
            OSError: no descriptor or address space is available.
        """
        super().__init__(nbytes + _ROOM_NBYTES, workers_write=False, in_shared_memory=False)
        self._large_nbytes = nbytes
        self._places: list[Place] = []  # of the sources that the worker may read, or a thread writes
        self._releasing = (0, 0)  # start and end of the pages that a thread releases
        self._filled_nbytes = KEPT_INBOX_NBYTES  # end of the pages that it may have

    def place_small(self, sources: Sequence[EncodedAt | RasterAt], memory: Sequence[CallerMemory]) -> Place:
        """Choose a place for sources that the loop copies, except those in an outbox, until `forget`.

        Args:
            sources: sources of a task.
            memory: those in the caller's memory, in the order of their handles' offsets.
        """
        is_empty = not (self._places or self.is_releasing)
        place = _place_at(0, sources, memory) if is_empty else self._place(sources, memory, self.nbytes)
        assert place is not None, "small sources have addresses of their own"
        return self._take(place)

    def find_place(self, sources: Sequence[EncodedAt | RasterAt], memory: Sequence[CallerMemory]) -> Place | None:
        """As `place_small`, for sources of any length. None: there is no place now, or a thread releases pages."""
        place = None if self.is_releasing else self._place(sources, memory, self._large_nbytes)
        return None if place is None else self._take(place)

    def _place(
        self, sources: Sequence[EncodedAt | RasterAt], memory: Sequence[CallerMemory], limit_nbytes: int
    ) -> Place | None:
        """Find the first free range that is long enough, below the limit."""
        place = _place_at(0, sources, memory)
        nbytes, start = place.end, 0
        for low, high in sorted([self._releasing, *((other.start, other.end) for other in self._places)]):
            if start + nbytes <= low:
                break
            start = max(start, high)
        if start + nbytes > limit_nbytes:
            return None
        return _place_at(start, sources, memory) if start else place

    def _take(self, place: Place) -> Place:
        self._places.append(place)
        self._filled_nbytes = max(self._filled_nbytes, min(place.end, self._large_nbytes))
        return place

    def forget(self, place: Place) -> None:
        """Nothing reads or writes the sources there any more: the place is free."""
        self._places.remove(place)

    @property
    def is_releasing(self) -> bool:
        """Whether a thread releases pages."""
        return self._releasing[1] > 0

    @property
    def has_excess(self) -> bool:
        """Whether it may have pages beyond the kept ones that no task uses."""
        return self._filled_nbytes > KEPT_INBOX_NBYTES and self._end_of_use() < self._filled_nbytes

    def take_excess(self) -> tuple[int, int]:
        """Returns start and end of the pages that are to be released. No source gets a place there until `end_release`."""
        start, end = max(KEPT_INBOX_NBYTES, self._end_of_use()), self._filled_nbytes
        self._filled_nbytes = start
        self._releasing = (start, max(start, end))
        return self._releasing

    def end_release(self) -> None:
        """The thread has released the pages."""
        self._releasing = (0, 0)

    def _end_of_use(self) -> int:
        return max([place.end for place in self._places], default=0)

    def copy_in(self, pool_inbox: Segment, copies: Iterable[SourceCopy]) -> None:
        """Copy sources into their places. Blocks: about 0.1 ms for a mebibyte.

        Raises:
            OSError: the system has no memory.
            PoolClosed: one of the segments was closed.
        """
        for copy, memory in copies:
            assert not isinstance(memory, SourceFile), "a thread reads files"
            if memory is None:
                pool_inbox.copy_to(self, copy)
            else:
                self.write(copy.target, memory)

    def copy_in_thread(self, pool_inbox: Segment, copies: Iterable[SourceCopy], is_wanted: Callable[[], bool]) -> None:
        """As `copy_in`, for threads, for sources of any length, and for files. Ends early when they are not wanted any more.

        Raises:
            InvalidTask: a file cannot be read, or has changed.
        """
        for copy, memory in copies:
            if not is_wanted():
                return
            if memory is None:
                pool_inbox.copy_large_to(self, copy)
            elif isinstance(memory, SourceFile):
                memory.read_into(self, copy.target, is_wanted)
            else:
                self.write_large(copy.target, memory, private=True)

    def release_range(self, start: int, end: int) -> None:
        """Release the pages that `take_excess` has returned, unless the inbox was closed. For threads."""
        with suppress(PoolClosed):
            self.discard_pages(start, end)


def _place_at(start: int, sources: Sequence[EncodedAt | RasterAt], memory: Sequence[CallerMemory]) -> Place:
    """The place of these sources at an offset of the inbox."""
    at = start
    placed: list[EncodedAt | RasterAt] = []
    copies: list[SourceCopy] = []
    for source in sources:
        block = source.block
        if block is None or block.segment == OUTBOX:
            placed.append(source)
            continue
        own = memory[block.offset] if block.segment == CALLER_MEMORY else None
        copies.append(SourceCopy(Copy(block.offset, at, block.nbytes), own))
        handle = Handle(INBOX, at, block.nbytes, block.generation)
        placed.append(EncodedAt(handle) if isinstance(source, EncodedAt) else RasterAt(handle, source.shape, source.dtype))
        at += _whole_pages(block.nbytes)
    return Place(start, tuple(placed), copies, at)


def _whole_pages(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
