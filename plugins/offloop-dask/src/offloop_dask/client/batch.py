"""Batch of tasks on a cluster: `pool.map(sources, pipeline)`, an async iterator of outcomes in order of readiness.

One task of the loop pulls the sources. It pulls the next one when fewer than `max_in_flight` of the batch's tasks run or are
unread. The default follows the number of nodes, so a batch uses nodes that join while it runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from offloop import BatchProgress, Operation, Outcome, PoolClosed, PoolMisused, Result
from offloop.client.batches.source_puller import Item, SourcePuller

from .nodes.placement import MAX_IN_FLIGHT_FACTOR

__all__ = ["ClusterBatch", "RunItem"]

SourceT = TypeVar("SourceT")

RunItem: TypeAlias = Callable[
    [Any, Iterable[Operation], "str | os.PathLike[str] | None", Callable[[Result], None]], Awaitable[Result]
]
"""Runs one source with its pipeline, its destination, and a callback for previews."""

_log = logging.getLogger("offloop.batch")

_MIN_IN_FLIGHT = 8  # as in a batch of one machine


class ClusterBatch(AsyncIterator[Outcome[SourceT]]):
    """The outcomes of `ClusterPool.map`, as the tasks finish, or in the order of the sources.

    Leave it with `async with`, which cancels the tasks that still run and returns when they have ended on their nodes. Without
    it, they are cancelled when the iterator is deleted. One task of the loop may read it.
    """

    def __init__(
        self,
        puller: SourcePuller,
        run: RunItem,
        concurrency: Callable[[], int],
        *,
        ordered: bool,
        max_in_flight: int | None,
    ) -> None:
        self._run = _BatchRun(puller, run, concurrency, max_in_flight, ordered=ordered)
        self._abandoned = weakref.finalize(self, self._run.abandon, asyncio.get_running_loop())
        self._abandoned.atexit = False
        self._is_reading = False

    @property
    def progress(self) -> BatchProgress:
        """Number of tasks, share of them that has ended, and expected time until the end."""
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


class _BatchRun:
    """The tasks of a batch. Does not refer to the `ClusterBatch`, so that a forgotten one is found."""

    def __init__(
        self,
        puller: SourcePuller,
        run: RunItem,
        concurrency: Callable[[], int],
        max_in_flight: int | None,
        *,
        ordered: bool,
    ) -> None:
        self._puller = puller
        self._run_item = run
        self._concurrency = concurrency
        self._max_in_flight = max_in_flight
        self._ordered = ordered
        self._finished: deque[Outcome[Any]] = deque()
        self._early: dict[int, Outcome[Any]] = {}  # outcomes that wait for those of earlier sources, by index
        self._delivered = 0  # number of outcomes that were delivered in order
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulling: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._unread = 0  # outcomes, without previews, that were not read yet
        self._error: BaseException | None = None
        self._is_leaving = False
        self._total = puller.total
        self._done = self._failed = 0
        self._begun_at = 0.0
        self._fraction = 0.0

    @property
    def progress(self) -> BatchProgress:
        ended = self._done + self._failed
        if self._total is None:
            return BatchProgress(None, self._done, self._failed, None, None)
        if ended >= self._total:
            return BatchProgress(self._total, self._done, self._failed, 1.0, 0.0)
        self._fraction = max(self._fraction, ended / self._total)
        eta_s = (monotonic() - self._begun_at) * (1 - self._fraction) / self._fraction if self._fraction else None
        return BatchProgress(self._total, self._done, self._failed, self._fraction, eta_s)

    def start(self) -> None:
        """Start to pull sources, unless that was done."""
        if self._pulling is None and not self._is_leaving:
            self._begun_at = monotonic()
            self._pulling = asyncio.create_task(self._pull())

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop, because nothing reads the batch any more. Any thread may call it, because the garbage collector does."""
        self._is_leaving = True
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._cancel)

    async def aclose(self) -> None:
        """Cancel all tasks; return when all have ended."""
        self._is_leaving = True
        self._cancel()
        while tasks := {*self._tasks, *([self._pulling] if self._pulling and not self._pulling.done() else [])}:
            await asyncio.wait(tasks)
        self._finished.clear()
        self._early.clear()

    async def next_outcome(self) -> Outcome[Any]:
        while not self._finished and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        if self._finished:
            outcome = self._finished.popleft()
            if not outcome.preview:
                self._unread -= 1
                self._changed.set()
            return outcome
        error, self._error = self._error, None
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            del error  # because the error's traceback refers to this frame: a reference cycle otherwise

    @property
    def _is_over(self) -> bool:
        return self._is_leaving or (self._pulling is not None and self._pulling.done() and not self._tasks)

    @property
    def _room(self) -> int:
        limit = self._max_in_flight or max(MAX_IN_FLIGHT_FACTOR * self._concurrency(), _MIN_IN_FLIGHT)
        return limit - len(self._tasks) - self._unread

    def _cancel(self) -> None:
        for task in (*self._tasks, *([self._pulling] if self._pulling else [])):
            task.cancel()

    async def _pull(self) -> None:
        try:
            while True:
                while self._room <= 0:
                    self._changed.clear()
                    await self._changed.wait()
                item = await self._puller.pull()
                if item is None:
                    self._total = self._puller.pulled
                    break
                task = asyncio.create_task(self._run(item))
                self._tasks.add(task)
                task.add_done_callback(self._end)
        except Exception as error:  # of the iterator
            self._error = error
        finally:
            await self._close_sources()
            asyncio.get_running_loop().call_soon(self._changed.set)  # when this task is done

    async def _close_sources(self) -> None:
        """Close the iterator of the sources. Its error reaches the reader, or the log if the batch is being left."""
        try:
            await self._puller.aclose()
        except Exception as error:
            if self._is_leaving:
                _log.warning("the iterator of a batch's sources raised when it was closed", exc_info=True)
            self._error = self._error or error

    async def _run(self, item: Item) -> None:
        def add_preview(preview: Result) -> None:
            self._finished.append(Outcome(item.index, item.source, preview, preview=True))
            self._changed.set()

        result, error = None, None
        try:
            result = await self._run_item(item.source, item.pipeline, item.to, add_preview)
        except PoolClosed as caught:
            error = self._error = caught
        except Exception as caught:
            error = caught
        self._done += error is None
        self._failed += error is not None
        if not self._is_leaving:
            self._add(Outcome(item.index, item.source, result, error))

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()

    def _add(self, outcome: Outcome[Any]) -> None:
        self._unread += 1
        if not self._ordered:
            self._finished.append(outcome)
        else:
            self._early[outcome.index] = outcome
            while (following := self._early.pop(self._delivered, None)) is not None:
                self._delivered += 1
                self._finished.append(following)
        self._changed.set()
