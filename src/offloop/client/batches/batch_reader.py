"""The reader of a batch: entered, iterated by one task of the loop, and left. Shared by `Batch` and the pools of plugins.

A pool brings the other side, a `BatchRun`, which pulls sources, runs them, and adds outcomes to its `OutcomeQueue`.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar

from ...errors import PoolMisused
from ..outcome import Outcome
from .batch_progress import BatchProgress
from .source_puller import SourcePuller

__all__ = ["MIN_IN_FLIGHT", "BatchReader", "BatchRun", "OutcomeQueue"]

SourceT = TypeVar("SourceT")

MIN_IN_FLIGHT = 8  # unread tasks of a batch, so that small tasks do not wait for the reader

_log = logging.getLogger("offloop.batch")


class BatchRun(Protocol):
    """The tasks of one batch. Must not refer to the `BatchReader`, so that the garbage collector finds a forgotten one."""

    @property
    def progress(self) -> BatchProgress:
        """The progress at this moment."""
        ...

    def start(self) -> None:
        """Start to pull sources. Does nothing if that was done, or the batch is being left."""
        ...

    async def next_outcome(self) -> Outcome[Any]:
        """Wait for the next outcome.

        Raises:
            StopAsyncIteration: there is none.
            Exception: the error that ended the batch.
        """
        ...

    async def aclose(self) -> None:
        """Cancel all tasks of the batch; return when all have ended."""
        ...


class BatchReader(AsyncIterator[Outcome[SourceT]]):
    """The outcomes of a batch."""

    def __init__(self, run: BatchRun, abandon: Callable[[], object]) -> None:
        """Read a run.

        Args:
            run: the tasks.
            abandon: stops the run; called when the reader is deleted without having been left, in any thread.
        """
        self._run = run
        self._abandoned = weakref.finalize(self, abandon)
        self._abandoned.atexit = False
        self._is_reading = False

    @property
    def progress(self) -> BatchProgress:
        """Number of tasks, share of the work that is done, and expected time until the end."""
        return self._run.progress

    async def __aenter__(self) -> Self:
        self._run.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._abandoned.detach()
        await self._run.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome[SourceT]:
        """The next outcome. A task that fails is an outcome with an error.

        Raises:
            PoolMisused: another task of the loop reads.
            Exception: the iterator of the sources raised it. It comes after the outcomes of the sources before it.
        """
        if self._is_reading:
            raise PoolMisused("stream", "one batch with one reader", "two tasks read the same batch")
        self._is_reading = True
        try:
            self._run.start()
            return await self._run.next_outcome()
        finally:
            self._is_reading = False


class OutcomeQueue:
    """Outcomes that were not read yet, as they came or in the order of the sources, and the error that ended the batch."""

    def __init__(self, *, ordered: bool) -> None:
        self.error: BaseException | None = None
        """Error that ended the batch: of the iterator of the sources, or `PoolClosed`."""
        self._ordered = ordered
        self._ready: deque[Outcome[Any]] = deque()
        self._early: dict[int, Outcome[Any]] = {}  # outcomes that wait for those of earlier sources, by index
        self._delivered = 0  # number of outcomes that became ready in order

    def __bool__(self) -> bool:
        """Whether an outcome is ready."""
        return bool(self._ready)

    def add(self, outcome: Outcome[Any]) -> None:
        """Add an outcome. A preview is not kept back for the order of the sources."""
        if not self._ordered or outcome.preview:
            self._ready.append(outcome)
            return
        self._early[outcome.index] = outcome
        while (following := self._early.pop(self._delivered, None)) is not None:
            self._delivered += 1
            self._ready.append(following)

    def pop(self) -> Outcome[Any]:
        """Take the first outcome that is ready."""
        return self._ready.popleft()

    def clear(self) -> None:
        """Drop all outcomes."""
        self._ready.clear()
        self._early.clear()

    def raise_end(self) -> NoReturn:
        """End the iteration: raise the error that ended the batch, once, and `StopAsyncIteration` after that."""
        error, self.error = self.error, None
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            del error  # because the error's traceback refers to this frame: a reference cycle otherwise

    async def close_sources(self, puller: SourcePuller, *, is_leaving: bool) -> None:
        """Close the iterator of the sources. Its error reaches the reader, or the log if the batch is being left."""
        try:
            await puller.aclose()
        except Exception as error:
            if is_leaving:
                _log.warning("the iterator of a batch's sources raised when it was closed", exc_info=True)
            self.error = self.error or error
