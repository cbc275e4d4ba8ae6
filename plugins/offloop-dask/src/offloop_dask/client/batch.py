"""Batch of tasks on a cluster: `pool.map(sources, pipeline)`, an async iterator of outcomes in order of readiness.

One task of the loop pulls the sources. It pulls the next one when fewer than `max_in_flight` of the batch's tasks run or are
unread. The default follows the number of nodes, so a batch uses nodes that join while it runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from offloop import BatchProgress, Operation, Outcome, PoolClosed, Result
from offloop.client.batches.batch_reader import MIN_IN_FLIGHT, BatchReader, OutcomeQueue
from offloop.client.batches.source_puller import Item, SourcePuller

from .nodes.placement import MAX_IN_FLIGHT_FACTOR

__all__ = ["ClusterBatch", "RunItem"]

SourceT = TypeVar("SourceT")

RunItem: TypeAlias = Callable[
    [Any, Iterable[Operation], "str | os.PathLike[str] | None", Callable[[Result], None]], Awaitable[Result]
]
"""Runs one source with its pipeline, its destination, and a callback for previews."""


class ClusterBatch(BatchReader[SourceT]):
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
        tasks = _BatchRun(puller, run, concurrency, max_in_flight, ordered=ordered)
        super().__init__(tasks, partial(tasks.abandon, asyncio.get_running_loop()))


class _BatchRun:
    """The tasks of a batch."""

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
        self._outcomes = OutcomeQueue(ordered=ordered)
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulling: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._unread = 0  # outcomes, without previews, that were not read yet
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
        if self._pulling is None and not self._is_leaving:
            self._begun_at = monotonic()
            self._pulling = asyncio.create_task(self._pull())

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop, because nothing reads the batch any more. Any thread may call it, because the garbage collector does."""
        self._is_leaving = True
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._cancel)

    async def aclose(self) -> None:
        self._is_leaving = True
        self._cancel()
        while tasks := {*self._tasks, *([self._pulling] if self._pulling and not self._pulling.done() else [])}:
            await asyncio.wait(tasks)
        self._outcomes.clear()

    async def next_outcome(self) -> Outcome[Any]:
        while not self._outcomes and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        if not self._outcomes:
            self._outcomes.raise_end()
        outcome = self._outcomes.pop()
        if not outcome.preview:
            self._unread -= 1
            self._changed.set()
        return outcome

    @property
    def _is_over(self) -> bool:
        return self._is_leaving or (self._pulling is not None and self._pulling.done() and not self._tasks)

    @property
    def _room(self) -> int:
        limit = self._max_in_flight or max(MAX_IN_FLIGHT_FACTOR * self._concurrency(), MIN_IN_FLIGHT)
        return limit - len(self._tasks) - self._unread

    def _cancel(self) -> None:
        for task in (*self._tasks, *([self._pulling] if self._pulling else [])):
            task.cancel()

    async def _pull(self) -> None:
        try:
            while self._outcomes.error is None:  # otherwise the pool is closed
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
            self._outcomes.error = error
        finally:
            await self._outcomes.close_sources(self._puller, is_leaving=self._is_leaving)
            asyncio.get_running_loop().call_soon(self._changed.set)  # when this task is done

    async def _run(self, item: Item) -> None:
        def add_preview(preview: Result) -> None:
            self._outcomes.add(Outcome(item.index, item.source, preview, preview=True))
            self._changed.set()

        result, error = None, None
        try:
            result = await self._run_item(item.source, item.pipeline, item.to, add_preview)
        except PoolClosed as caught:
            error = self._outcomes.error = caught
        except Exception as caught:
            error = caught
        self._done += error is None
        self._failed += error is not None
        if not self._is_leaving:
            self._unread += 1
            self._outcomes.add(Outcome(item.index, item.source, result, error))
            self._changed.set()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
