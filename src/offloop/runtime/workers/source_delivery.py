"""Copies the sources of a task into the own inbox of its worker, so that no other worker can read them.

Sources wait in the pool's inbox, which no worker maps. A small source is copied on the loop when its task is sent. A thread
copies a larger one; the task, and later messages, are sent after that.

A worker's inbox keeps the pages of its first bytes, because a copy onto new pages takes four times as long. Further pages are
released when no large source has come for a second, as a worker's own free memory is. It is a file in memory beside /dev/shm,
because its copies are charged to the memory budget as memory of the task, not of the arena.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic_ns
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from ...core.model.settings import KEPT_INBOX_NBYTES
from ...errors import PoolClosed
from ...wire.handles import INBOX, EncodedAt, Handle, RasterAt
from ...wire.messages import Failed, FromSupervisor, Run
from ..loop.background import BackgroundTasks
from ..memory.page_manager import INLINE_NBYTES
from ..memory.segments import Copy, Segment

__all__ = ["SourceDelivery", "WorkerInbox"]

_T = TypeVar("_T")

_KEEP_S = 1.0  # seconds without a large source after which its pages are released


class WorkerInbox(Segment):
    """The own inbox of one worker: the supervisor writes, this worker reads."""

    def __init__(self, nbytes: int) -> None:
        """Make an inbox of so many addresses, without pages.

        Raises:
            OSError: no descriptor or address space is available.
        """
        super().__init__(nbytes, workers_write=False, in_shared_memory=False)
        self._ranges: dict[int, tuple[int, int]] = {}  # start and end of the sources of each task of the worker
        self._filled_nbytes = KEPT_INBOX_NBYTES  # end of the pages that it may have
        self._pages_lock = threading.Lock()  # held by threads that fill or release pages beyond the kept ones

    def place(self, run: Run) -> tuple[Run, list[Copy]]:
        """Choose places for a task's sources that lie in the pool's inbox, until `forget`.

        Returns the task with the handles for its worker, and the copies to make.
        """
        start = at = self._find_place(run.sources) if self._ranges else 0
        placed: list[EncodedAt | RasterAt] = []
        copies: list[Copy] = []
        for source in run.sources:
            block = source.block
            if block is None or block.segment != INBOX:
                placed.append(source)
                continue
            copies.append(Copy(block.offset, at, block.nbytes))
            handle = Handle(INBOX, at, block.nbytes, block.generation)
            placed.append(EncodedAt(handle) if isinstance(source, EncodedAt) else RasterAt(handle, source.shape, source.dtype))
            at += _whole_pages(block.nbytes)
        if not copies:
            return run, copies
        self._ranges[run.task_id] = (start, at)
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

    def copy_in(self, pool_inbox: Segment, copies: Iterable[Copy]) -> None:
        """Copy sources from the pool's inbox. Blocks: about 0.1 ms for a mebibyte.

        Raises:
            OSError: the system has no memory.
            PoolClosed: one of the segments was closed.
        """
        for copy in copies:
            pool_inbox.copy_to(self, copy)

    def copy_in_thread(self, pool_inbox: Segment, copies: list[Copy]) -> None:
        """As `copy_in`, for threads and for sources of any length."""
        with self._pages_lock:
            self._filled_nbytes = max(self._filled_nbytes, _whole_pages(copies[-1].target + copies[-1].nbytes))
            for copy in copies:
                pool_inbox.copy_large_to(self, copy)

    def forget(self, task_id: int) -> bool:
        """The worker has answered for the task: its place is free. Returns whether pages are to be released."""
        return self._ranges.pop(task_id, None) is not None and self._filled_nbytes > KEPT_INBOX_NBYTES and not self._ranges

    def release_excess(self) -> None:
        """Release the pages beyond the kept ones, unless the worker has another task by now. For threads."""
        with self._pages_lock, suppress(PoolClosed):
            if not self._ranges:
                self.discard_pages(KEPT_INBOX_NBYTES, self._filled_nbytes)
                self._filled_nbytes = KEPT_INBOX_NBYTES


class SourceDelivery:
    """Sends messages to a worker with an inbox of its own. All methods are called in the loop's thread."""

    def __init__(
        self,
        inbox: WorkerInbox,
        pool_inbox: Segment,
        background: BackgroundTasks,
        send: Callable[[FromSupervisor], None],
        fail: Callable[[Failed], None],
    ) -> None:
        """Connect the parts.

        Args:
            inbox: the worker's own inbox.
            pool_inbox: the segment that the handles in messages refer to.
            background: the pool's tasks and threads.
            send: sends a message to the worker.
            fail: reports that a task fails which the worker will never see.
        """
        self._inbox = inbox
        self._pool_inbox = pool_inbox
        self._background = background
        self._send = send
        self._fail = fail
        self._delayed: deque[FromSupervisor] | None = None  # messages behind a task whose sources are copied; None: no copy
        self._large_tasks = 0  # number of tasks whose sources were copied in a thread
        self._is_releasing = False  # whether a background task will release pages

    def send(self, message: FromSupervisor) -> None:
        """Send a message, and before it the sources of a task. Messages stay in their order."""
        if self._delayed is not None:
            self._delayed.append(message)
        elif isinstance(message, Run):
            self._send_run(message)
        else:
            self._send(message)

    @property
    def is_copying(self) -> bool:
        """Whether messages wait for copies of sources."""
        return self._delayed is not None

    def note_answer(self, task_id: int) -> None:
        """The worker has answered for a task: it does not read its sources any more."""
        if self._inbox.forget(task_id) and not self._is_releasing:
            self._is_releasing = True
            self._background.run(self._release_when_unused, until_closed=True)

    def _send_run(self, run: Run) -> None:
        placed, copies = self._inbox.place(run)
        if not copies:
            self._send(run)
            return
        if sum([copy.nbytes for copy in copies]) <= INLINE_NBYTES or self._background.closed:
            self._send_copied(placed, self._copy(self._inbox.copy_in, copies))
            return
        self._delayed = deque()
        self._large_tasks += 1
        self._background.run(partial(self._copy_and_send, placed, copies))

    async def _copy_and_send(self, run: Run, copies: list[Copy]) -> None:
        """Copy the sources of a task in a thread. Then send the task, and the messages that were delayed."""
        copy = partial(self._copy, self._inbox.copy_in_thread, copies)
        error = await _in_thread(copy, self._background.source_threads)
        delayed, self._delayed = self._delayed or (), None
        self._send_copied(run, error)
        for message in delayed:
            self.send(message)

    def _copy(self, copy_in: Callable[[Segment, list[Copy]], None], copies: list[Copy]) -> str | None:
        """Copy sources. Returns the text of the error if the system has no memory, or the pool was closed."""
        try:
            copy_in(self._pool_inbox, copies)
        except (OSError, PoolClosed) as error:
            return str(error)
        return None

    def _send_copied(self, run: Run, error: str | None) -> None:
        """Send a task whose sources were copied; or with an error, let it fail."""
        if error is None:
            self._send(run)
            return
        self._inbox.forget(run.task_id)
        now_ns = monotonic_ns()
        text = f"there is no memory for a copy of its sources: {error}"
        self._fail(Failed(run.task_id, "memory_limit", text, None, now_ns, now_ns))

    async def _release_when_unused(self) -> None:
        """Release the pages beyond the kept ones when no large source has come for a second."""
        seen = -1
        while seen != self._large_tasks:
            seen = self._large_tasks
            await anyio.sleep(_KEEP_S)
        self._is_releasing = False
        await _in_thread(self._inbox.release_excess, self._background.own_threads)


async def _in_thread(function: Callable[[], _T], threads: anyio.CapacityLimiter) -> _T:
    """Run a function that does not raise in a thread; or here, if no thread can be started."""
    try:
        return await anyio.to_thread.run_sync(function, limiter=threads)
    except RuntimeError:
        return function()


def _whole_pages(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
