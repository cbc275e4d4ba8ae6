"""Output reader: `async with`, `async for` and closing for a task whose outputs are received while it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from ...core.model.task import Completed
from ...errors import PoolMisused
from ...runtime.loop.futures import DeliveredOutput, TaskFuture
from ...runtime.supervisor import Supervisor
from ..progress_listener import ProgressCallback, ProgressListener
from ..submission import Submission

__all__ = ["OutputReader"]

ItemT = TypeVar("ItemT")


class OutputReader(AsyncIterator[ItemT], ABC):
    """Reads the outputs of one task, each as soon as it is ready. One task of the loop may read.

    Leaving the block cancels the task, if it still runs, and returns when its memory is free, except that of outputs which are
    still referred to.
    """

    _call: ClassVar[str]  # the call that returned the reader, for error texts

    def __init__(self, supervisor: Supervisor, submission: Submission, on_progress: ProgressCallback | None) -> None:
        self._submission = submission
        self._progress = None if on_progress is None else ProgressListener(supervisor, submission, on_progress)  # None: ended
        self._future: TaskFuture | None = None  # None: the block was not entered
        self._unread: deque[DeliveredOutput] = deque()
        self._is_reading = False

    async def __aenter__(self) -> Self:
        """Submit the task, and copy its source. Returns when the task waits for a worker.

        Raises:
            PoolMisused: the block was entered before.
        """
        if self._future is not None:
            raise self._misused(f"{self._call} can be entered only once")
        self._future = future = self._submission.submit()
        self._attach(future)
        if self._progress is not None:
            self._progress.start()
        try:
            await self._submission.stage(future)
        except BaseException:
            await self._close(future)
            raise
        return self

    def _attach(self, future: TaskFuture) -> None:
        """Let the task's future collect outputs for this reader."""
        future.outputs = self._unread

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._future is not None:
            await self._close(self._future)

    async def _close(self, future: TaskFuture) -> None:
        future.outputs, future.on_output = None, None
        try:
            await self._submission.withdraw(future)
        finally:
            await self._end_progress(succeeded=False)
        self._unread.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        """The next item, as soon as it is ready.

        Raises:
            PoolMisused: the block was not entered, or another task of the loop reads.
            What the subclass names.
        """
        if self._future is None:
            raise self._misused(f"read {self._call} inside its block (async with)")
        if self._is_reading:
            raise self._misused(f"two tasks read the same {self._call}")
        self._is_reading = True
        try:
            return await self._next(self._future)
        finally:
            self._is_reading = False

    @abstractmethod
    async def _next(self, future: TaskFuture) -> ItemT:
        """The next item. Raises StopAsyncIteration after the last one."""

    async def _wait_for_output(self, future: TaskFuture) -> DeliveredOutput | None:
        """The next unread output; None when the task has its outcome and all outputs were read."""
        while not self._unread and not future.settled:
            await self._submission.wait(future)
        if self._unread:
            return self._unread.popleft()
        await self._end_progress(succeeded=isinstance(future.outcome, Completed))
        return None

    async def _end_progress(self, *, succeeded: bool) -> None:
        progress, self._progress = self._progress, None
        if progress is not None:
            await (progress.finish() if succeeded else progress.cancel())

    @staticmethod
    def _misused(reason: str) -> PoolMisused:
        return PoolMisused("stream", "one block with one reader", reason)
