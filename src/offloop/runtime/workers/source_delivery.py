"""Copies the sources of a task into the own inbox of its worker, so that no other worker can read them.

Sources wait in the caller's own memory (`bytes`, which cannot change) or in the pool's inbox. No worker maps either. A small
source is copied on the loop when its task is sent. A thread copies a larger one; the task, and later messages, are sent after
that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic_ns
from typing import TypeVar

import anyio
import anyio.to_thread

from ...core.model.blocks import CALLER_MEMORY
from ...core.model.settings import KEPT_INBOX_NBYTES
from ...errors import PoolClosed
from ...wire.messages import Failed, FromSupervisor, Run
from ..loop.background import BackgroundTasks
from ..memory.page_manager import INLINE_NBYTES
from ..memory.segments import Segment
from .worker_inbox import SourceCopy, WorkerInbox

__all__ = ["SourceDelivery"]

_T = TypeVar("_T")

_KEEP_S = 1.0  # seconds without a large source after which its pages are released


class SourceDelivery:
    """Sends messages to a worker with an inbox of its own. All methods are called in the loop's thread."""

    def __init__(
        self,
        inbox: WorkerInbox,
        pool_inbox: Segment,
        background: BackgroundTasks,
        find_memory: Callable[[int], Sequence[memoryview] | None],
        send: Callable[[FromSupervisor], None],
        fail: Callable[[Failed], None],
    ) -> None:
        """Connect the parts.

        Args:
            inbox: the worker's own inbox.
            pool_inbox: the segment that the handles in messages refer to.
            background: the pool's tasks and threads.
            find_memory: returns the sources of a task that lie in its caller's memory; None: the task is settled.
            send: sends a message to the worker.
            fail: reports that a task fails which the worker will never see.
        """
        self._inbox = inbox
        self._pool_inbox = pool_inbox
        self._background = background
        self._find_memory = find_memory
        self._send = send
        self._fail = fail
        self._delayed: deque[FromSupervisor] | None = None  # messages behind a task whose sources are copied; None: no copy
        self._copying_id: int | None = None  # the task whose sources a thread copies; None: none, or it was withdrawn
        self._large_tasks = 0  # number of tasks whose sources were copied in a thread
        self._is_watching = False  # whether a background task will release pages
        self._released: anyio.Event | None = None  # set when a thread has released pages; None: none does

    def send(self, message: FromSupervisor) -> None:
        """Send a message, and before it the sources of a task. Messages stay in their order."""
        if self._delayed is not None:
            self._delayed.append(message)
        elif isinstance(message, Run):
            self.send_run(message, self._send)
        else:
            self._send(message)

    def send_run(self, run: Run, send: Callable[[FromSupervisor], None]) -> None:
        """Send a task by this function, and before it its sources."""
        if self._delayed is not None:
            self._delayed.append(run)
        elif has_source(run):
            self._copy_and_send(run, send)
        else:
            send(run)

    def withdraw(self, run: Run) -> None:
        """The worker will not begin this task: its sources are not needed. They keep their place while a thread copies them."""
        if run.task_id == self._copying_id:
            self._copying_id = None
        elif self._delayed is not None and run in self._delayed:
            self._delayed.remove(run)
        else:
            self._inbox.forget(run.task_id)

    def note_end(self, task_id: int) -> None:
        """The worker has answered for a task: it does not read its sources any more."""
        self._inbox.forget(task_id)
        if self._inbox.has_excess and not self._is_watching:
            self._is_watching = True
            self._background.run(self._release_when_unused, until_closed=True)

    def release_kept(self) -> None:
        """Release the pages that large sources have left, because the pool needs their memory."""
        if self._inbox.has_excess and self._released is None:
            self._background.run(self._release)

    def _copy_and_send(self, run: Run, send: Callable[[FromSupervisor], None]) -> None:
        memory = self._find_memory(run.task_id) if _is_of_caller(run) else ()
        if memory is None:
            return
        placed, copies = self._inbox.place(run, memory)
        is_small = sum([copy.nbytes for copy, _ in copies]) <= INLINE_NBYTES
        if self._background.closed or (is_small and not self._must_wait(copies)):
            self._send_copied(placed, self._copy(self._inbox.copy_in, copies), send)
            return
        self._delayed = deque()
        self._copying_id = run.task_id
        self._large_tasks += 1
        self._background.run(partial(self._copy_in_thread_and_send, placed, copies))

    def _must_wait(self, copies: Sequence[SourceCopy]) -> bool:
        """Whether a thread releases pages, and the copies may go where it does."""
        return self._released is not None and any(copy.target + copy.nbytes > KEPT_INBOX_NBYTES for copy, _ in copies)

    async def _copy_in_thread_and_send(self, run: Run, copies: Sequence[SourceCopy]) -> None:
        """Copy the sources of a task in a thread. Then send the task, and the messages that were delayed."""
        while self._released is not None:
            await self._released.wait()
        copy = partial(self._copy, self._inbox.copy_in_thread, copies)
        error = await _in_thread(copy, self._background.source_threads)
        delayed, self._delayed = self._delayed or (), None
        copied_id, self._copying_id = self._copying_id, None
        if copied_id is None:
            self._inbox.forget(run.task_id)
        else:
            self._send_copied(run, error, self._send)
        for message in delayed:
            self.send(message)

    def _copy(self, copy_in: Callable[[Segment, Sequence[SourceCopy]], None], copies: Sequence[SourceCopy]) -> str | None:
        """Copy sources. Returns the text of the error if the system has no memory, or the pool was closed."""
        try:
            copy_in(self._pool_inbox, copies)
        except (OSError, PoolClosed) as error:
            return str(error)
        return None

    def _send_copied(self, run: Run, error: str | None, send: Callable[[FromSupervisor], None]) -> None:
        """Send a task whose sources were copied; or with an error, let it fail."""
        if error is None:
            send(run)
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
        self._is_watching = False
        await self._release()

    async def _release(self) -> None:
        if self._released is not None or not self._inbox.has_excess:
            return
        self._released = anyio.Event()
        start, end = self._inbox.take_excess()
        try:
            await _in_thread(partial(self._inbox.release_range, start, end), self._background.own_threads)
        finally:
            released, self._released = self._released, None
            released.set()


async def _in_thread(function: Callable[[], _T], threads: anyio.CapacityLimiter) -> _T:
    """Run a function that does not raise in a thread; or here, if no thread can be started."""
    try:
        return await anyio.to_thread.run_sync(function, limiter=threads)
    except RuntimeError:
        return function()


def has_source(run: Run) -> bool:
    """Whether a task has a source of at least one byte."""
    for source in run.sources:  # noqa: SIM110 (a generator takes three times as long, and this runs for each task)
        if source.block is not None:
            return True
    return False


def _is_of_caller(run: Run) -> bool:
    """Whether all sources of a task lie in its caller's memory."""
    return all(source.block is None or source.block.segment == CALLER_MEMORY for source in run.sources)
