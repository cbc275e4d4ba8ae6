"""The own inbox of one worker: the supervisor writes, this worker reads.

An inbox keeps the pages of its first bytes, because a copy onto new pages takes four times as long. Further pages are released
when no large source has come for a second, or when the pool needs their memory. It is a file in memory beside /dev/shm, because
its copies are charged to the memory budget as memory of the task, not of the arena.

Which ranges are in use is known to the loop's thread only. Threads that copy or release pages get offsets, and return.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from ...core.model.blocks import CALLER_MEMORY
from ...core.model.settings import KEPT_INBOX_NBYTES
from ...errors import PoolClosed
from ...wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt
from ...wire.messages import Run
from ..memory.segments import Copy, Segment

__all__ = ["SourceCopy", "WorkerInbox"]


class SourceCopy(NamedTuple):
    """One source of a task, and its place in the inbox."""

    copy: Copy  # its source offset is one in the pool's inbox
    memory: memoryview | None  # the caller's own memory, which is copied instead; None: the source lies in the pool's inbox


class WorkerInbox(Segment):
    """Places for the sources of a worker's tasks. All methods but those that copy or release are for the loop's thread."""

    def __init__(self, nbytes: int) -> None:
        """Make an inbox of so many addresses, without pages.

        Raises:
            OSError: no descriptor or address space is available.
        """
        super().__init__(nbytes, workers_write=False, in_shared_memory=False)
        self._ranges: dict[int, tuple[int, int]] = {}  # start and end of the sources of each task that the worker has
        self._filled_nbytes = KEPT_INBOX_NBYTES  # end of the pages that it may have

    def place(self, run: Run, memory: Sequence[memoryview]) -> tuple[Run, list[SourceCopy]]:
        """Choose places for a task's sources, except those in an outbox, until `forget`.

        Args:
            run: the task.
            memory: its sources in the caller's memory, in the order of their handles' offsets.

        Returns:
            The task with the handles for its worker, and the copies to make.
        """
        start = at = self._find_place(run.sources) if self._ranges else 0
        placed: list[EncodedAt | RasterAt] = []
        copies: list[SourceCopy] = []
        for source in run.sources:
            block = source.block
            if block is None or block.segment == OUTBOX:
                placed.append(source)
                continue
            copies.append(
                SourceCopy(
                    Copy(block.offset, at, block.nbytes), memory[block.offset] if block.segment == CALLER_MEMORY else None
                )
            )
            handle = Handle(INBOX, at, block.nbytes, block.generation)
            placed.append(EncodedAt(handle) if isinstance(source, EncodedAt) else RasterAt(handle, source.shape, source.dtype))
            at += _whole_pages(block.nbytes)
        if not copies:
            return run, copies
        self._ranges[run.task_id] = (start, at)
        self._filled_nbytes = max(self._filled_nbytes, at)
        return msgspec.structs.replace(run, sources=tuple(placed)), copies

    def _find_place(self, sources: Iterable[EncodedAt | RasterAt]) -> int:
        """The start of the first free range that is long enough for the sources."""
        nbytes = sum([_whole_pages(source.block.nbytes) for source in sources if source.block is not None])
        start = 0
        for low, high in sorted(self._ranges.values()):
            if start + nbytes <= low:
                break
            start = high
        return start

    def forget(self, task_id: int) -> None:
        """The worker does not read the sources of a task any more: their place is free."""
        self._ranges.pop(task_id, None)

    @property
    def has_excess(self) -> bool:
        """Whether it may have pages beyond the kept ones that no task uses."""
        return self._filled_nbytes > KEPT_INBOX_NBYTES and self._end_of_use() < self._filled_nbytes

    def take_excess(self) -> tuple[int, int]:
        """Returns start and end of the pages that are to be released. Until they are, no source may be copied there."""
        start, end = max(KEPT_INBOX_NBYTES, self._end_of_use()), self._filled_nbytes
        self._filled_nbytes = start
        return start, max(start, end)

    def _end_of_use(self) -> int:
        return max([end for _, end in self._ranges.values()], default=0)

    def copy_in(self, pool_inbox: Segment, copies: Iterable[SourceCopy]) -> None:
        """Copy sources into their places. Blocks: about 0.1 ms for a mebibyte.

        Raises:
            OSError: the system has no memory.
            PoolClosed: one of the segments was closed.
        """
        for copy, memory in copies:
            if memory is None:
                pool_inbox.copy_to(self, copy)
            else:
                self.write(copy.target, memory)

    def copy_in_thread(self, pool_inbox: Segment, copies: Iterable[SourceCopy]) -> None:
        """As `copy_in`, for threads and for sources of any length."""
        for copy, memory in copies:
            if memory is None:
                pool_inbox.copy_large_to(self, copy)
            else:
                self.write_large(copy.target, memory, private=True)

    def release_range(self, start: int, end: int) -> None:
        """Release the pages that `take_excess` has returned, unless the inbox was closed. For threads."""
        with suppress(PoolClosed):
            self.discard_pages(start, end)


def _whole_pages(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
