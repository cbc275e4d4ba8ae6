"""Batch of tasks: `pool.map(sources, pipeline)`, an async iterator of outcomes as the tasks finish.

A few tasks of the loop pull the sources and run them, so that a million sources cost no more than a few. A source is pulled
when fewer than `max_in_flight` of the batch's tasks run or are unread, and fewer of them wait for memory or a worker than twice
the tasks that may run at once. The tasks of the loop belong to the pool, so the iterator may be left at any point.
"""

from __future__ import annotations

import contextvars
import logging
import os
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

import anyio

from ...core.model.pool_phase import PoolPhase
from ...errors import PoolClosed, PoolMisused
from ...operation import Operation
from ...runtime.loop.futures import OneShotEvent
from ...runtime.supervisor import Supervisor
from ..outcome import Outcome
from ..results import Result
from ..single_flight.shared_submission import SharedSubmission
from ..submission import Submission
from .batch_progress import BatchProgress, ProgressMeter
from .source_puller import Item, SourcePuller

__all__ = ["Batch", "SubmissionFactory"]

SourceT = TypeVar("SourceT")

SubmissionFactory: TypeAlias = Callable[
    [Any, Iterable[Operation], "str | os.PathLike[str] | None"], Submission | SharedSubmission
]
"""Makes the submission of a source and a pipeline, with the path of the result's file."""

_log = logging.getLogger("offloop.batch")

_MIN_IN_FLIGHT = 8  # unread tasks of a batch, so that small tasks do not wait for the reader


class _State(Enum):
    NEW = "new"
    RUNNING = "running"
    LEAVING = "leaving"


class Batch(AsyncIterator[Outcome[SourceT]]):
    """The outcomes of `pool.map`, as the tasks finish, or in the order of the sources.

    Leave it with `async with`, which cancels the tasks that still run and returns when their memory is free. A loop without
    `async with` is allowed, too: the tasks are then cancelled when the iterator is deleted. One task of the loop may read it.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        puller: SourcePuller,
        make_submission: SubmissionFactory,
        *,
        ordered: bool,
        max_in_flight: int | None,
    ) -> None:
        self._run = _BatchRun(supervisor, puller, make_submission, max_in_flight, ordered=ordered)
        self._abandoned = weakref.finalize(self, self._run.abandon)
        self._abandoned.atexit = False
        self._is_reading = False

    @property
    def progress(self) -> BatchProgress:
        """Number of tasks, share of the work that is done, and expected time until the end."""
        return self._run.meter.progress

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
    """The tasks of a batch. Does not refer to the `Batch`, so that a forgotten one is found."""

    def __init__(
        self,
        supervisor: Supervisor,
        puller: SourcePuller,
        make_submission: SubmissionFactory,
        max_in_flight: int | None,
        *,
        ordered: bool,
    ) -> None:
        self.meter = ProgressMeter(puller.total, supervisor.core.task_table.get, supervisor.now)
        self._supervisor = supervisor
        self._puller = puller
        self._make_submission = make_submission
        self._ordered = ordered
        self._context = contextvars.copy_context()
        self._max_in_flight = max_in_flight or max(2 * supervisor.concurrency, _MIN_IN_FLIGHT)
        self._room = anyio.Semaphore(self._max_in_flight)  # for tasks that run or are unread
        self._pulling = anyio.Lock()
        self._finished: deque[Outcome[Any]] = deque()
        self._early: dict[int, Outcome[Any]] = {}  # outcomes that have to wait for those of earlier sources, by index
        self._delivered = 0  # number of outcomes that were delivered in order
        self._running: set[int] = set()  # ids of the batch's tasks
        self._scopes: set[anyio.CancelScope] = set()  # of the tasks of the loop that pull and run; empty after the end
        self._state = _State.NEW
        self._error: BaseException | None = None  # error that ended the batch: of the iterator of the sources, or `PoolClosed`
        self._changed = OneShotEvent(supervisor.affinity.loop)  # set when there is an outcome, or the batch has ended
        self._task_ended = OneShotEvent(supervisor.affinity.loop)  # set when a task of the batch has ended

    def start(self) -> None:
        """Start to pull sources. Does nothing if that was done, or the batch is being left."""
        if self._state is not _State.NEW:
            return
        self._state = _State.RUNNING
        background = self._supervisor.background
        if background.closed:
            self._error = PoolClosed()
        for _ in range(0 if background.closed else self._max_in_flight):
            scope = anyio.CancelScope()
            self._scopes.add(scope)
            background.run(partial(self._work, scope), until_closed=True, context=self._context)

    def abandon(self) -> None:
        """Stop, because nothing reads the batch any more.

        In another thread, which the garbage collector may use, running tasks end by themselves, and the rest with the pool.
        """
        self._state = _State.LEAVING
        if self._supervisor.affinity.is_current:
            self._cancel()

    def _cancel(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def aclose(self) -> None:
        """Cancel all tasks of the batch; return when all have ended."""
        self._state = _State.LEAVING
        self._cancel()
        while self._scopes:
            self._changed = OneShotEvent(self._supervisor.affinity.loop)
            await self._changed.wait_uncancellable()
        self._finished.clear()
        self._early.clear()

    async def next_outcome(self) -> Outcome[Any]:
        while not self._finished and self._scopes:
            self._changed = OneShotEvent(self._supervisor.affinity.loop)
            await self._changed.wait()
        if self._finished:
            outcome = self._finished.popleft()
            if not outcome.preview:
                self._room.release()
            return outcome
        error, self._error = self._error, None
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            del error  # because the error's traceback refers to this frame: a reference cycle otherwise

    async def _work(self, scope: anyio.CancelScope) -> None:
        """Pull one source after the other, and run it."""
        try:
            with scope:
                while True:
                    await self._room.acquire()
                    item = await self._pull()
                    if item is None or self._state is _State.LEAVING:
                        break
                    self._add(await self._run(item))
        except BaseException:  # the pool is closing
            self._error = self._error or PoolClosed()
            raise
        finally:
            if len(self._scopes) == 1:
                await self._close_sources()
            self._scopes.discard(scope)
            self._changed.set()

    async def _close_sources(self) -> None:
        """Close the iterator of the sources. Its error reaches the reader, or the log if the batch is being left."""
        try:
            with anyio.CancelScope(shield=True):
                await self._puller.aclose()
        except Exception as error:
            if self._state is _State.LEAVING:
                _log.warning("the iterator of a batch's sources raised when it was closed", exc_info=True)
            self._error = self._error or error

    async def _pull(self) -> Item | None:
        """Wait until few of the batch's tasks wait, and pull the next source. None: there is none."""
        async with self._pulling:
            while self._waiting >= max(2 * self._supervisor.concurrency, 1):
                self._task_ended = OneShotEvent(self._supervisor.affinity.loop)
                await self._task_ended.wait()
            if self._error is not None:
                return None
            if self._supervisor.core.phase is not PoolPhase.OPEN:
                self._error = PoolClosed()
                return None
            try:
                item = await self._puller.pull()
            except Exception as error:
                self._error = error
                return None
            if item is None:
                self.meter.total = self._puller.pulled
            return item

    @property
    def _waiting(self) -> int:
        """Number of the batch's tasks that no worker has yet: their source is being read or copied, or they wait."""
        records = map(self._supervisor.core.task_table.get, self._running)
        return sum(record is not None and record.slot is None for record in records)

    async def _run(self, item: Item) -> Outcome[Any]:
        task_id: int | None = None
        result, error = None, None
        try:
            submission = self._make_submission(item.source, item.pipeline, item.to)
            submission.on_preview = partial(self._add_preview, item)
            task_id = submission.task_id
            self._running.add(task_id)
            self.meter.begin(task_id)
            result = await submission.run()
        except Exception as caught:
            error = caught
        finally:
            if task_id is not None:
                self._running.discard(task_id)
            self.meter.end(task_id, None if result is None else result.timings.ran)
            self._task_ended.set()
        return Outcome(item.index, item.source, result, error)

    async def _add_preview(self, item: Item, preview: Result) -> None:
        """Add a preview for the reader. It is not kept back for the order of the sources."""
        self._finished.append(Outcome(item.index, item.source, preview, preview=True))
        self._changed.set()

    def _add(self, outcome: Outcome[Any]) -> None:
        if not self._ordered:
            self._finished.append(outcome)
        else:
            self._early[outcome.index] = outcome
            while (following := self._early.pop(self._delivered, None)) is not None:
                self._delivered += 1
                self._finished.append(following)
        if self._finished:
            self._changed.set()
