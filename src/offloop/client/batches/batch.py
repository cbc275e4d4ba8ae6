"""Batch of tasks: `pool.map(sources, pipeline)`, an async iterator of outcomes as the tasks finish.

A few tasks of the loop pull the sources and run them, so that a million sources cost no more than a few. A source is pulled
when fewer than `max_in_flight` of the batch's tasks run or are unread, and fewer of them wait for memory or a worker than twice
the tasks that may run at once. The tasks of the loop belong to the pool, so the iterator may be left at any point.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio

from ...core.model.pool_phase import PoolPhase
from ...errors import PoolClosed
from ...operation import Operation
from ...runtime.loop.futures import OneShotEvent
from ...runtime.supervisor import Supervisor
from ..outcome import Outcome
from ..results import Result
from ..single_flight.shared_submission import SharedSubmission
from ..submission import Submission
from .batch_progress import BatchProgress, ProgressMeter
from .batch_reader import MIN_IN_FLIGHT, BatchReader, OutcomeQueue
from .source_puller import Item, SourcePuller

__all__ = ["Batch", "SubmissionFactory"]

SourceT = TypeVar("SourceT")

SubmissionFactory: TypeAlias = Callable[
    [Any, Iterable[Operation], "str | os.PathLike[str] | None"], Submission | SharedSubmission
]
"""Makes the submission of a source and a pipeline, with the path of the result's file."""


class _State(Enum):
    NEW = "new"
    RUNNING = "running"
    LEAVING = "leaving"


class Batch(BatchReader[SourceT]):
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
        run = _BatchRun(supervisor, puller, make_submission, max_in_flight, ordered=ordered)
        super().__init__(run, run.abandon)


class _BatchRun:
    """The tasks of a batch."""

    def __init__(
        self,
        supervisor: Supervisor,
        puller: SourcePuller,
        make_submission: SubmissionFactory,
        max_in_flight: int | None,
        *,
        ordered: bool,
    ) -> None:
        self._meter = ProgressMeter(puller.total, supervisor.core.task_table.get, supervisor.now)
        self._supervisor = supervisor
        self._puller = puller
        self._make_submission = make_submission
        self._context = contextvars.copy_context()
        self._max_in_flight = max_in_flight or max(2 * supervisor.concurrency, MIN_IN_FLIGHT)
        self._room = anyio.Semaphore(self._max_in_flight)  # for tasks that run or are unread
        self._pulling = anyio.Lock()
        self._outcomes = OutcomeQueue(ordered=ordered)
        self._running: set[int] = set()  # ids of the batch's tasks
        self._scopes: set[anyio.CancelScope] = set()  # of the tasks of the loop that pull and run; empty after the end
        self._state = _State.NEW
        self._changed = OneShotEvent(supervisor.affinity.loop)  # set when there is an outcome, or the batch has ended
        self._task_ended = OneShotEvent(supervisor.affinity.loop)  # set when a task of the batch has ended

    @property
    def progress(self) -> BatchProgress:
        return self._meter.progress

    def start(self) -> None:
        if self._state is not _State.NEW:
            return
        self._state = _State.RUNNING
        background = self._supervisor.background
        if background.closed:
            self._outcomes.error = PoolClosed()
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
        self._state = _State.LEAVING
        self._cancel()
        while self._scopes:
            self._changed = OneShotEvent(self._supervisor.affinity.loop)
            await self._changed.wait_uncancellable()
        self._outcomes.clear()

    async def next_outcome(self) -> Outcome[Any]:
        while not self._outcomes and self._scopes:
            self._changed = OneShotEvent(self._supervisor.affinity.loop)
            await self._changed.wait()
        if not self._outcomes:
            self._outcomes.raise_end()
        outcome = self._outcomes.pop()
        if not outcome.preview:
            self._room.release()
        return outcome

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
            self._outcomes.error = self._outcomes.error or PoolClosed()
            raise
        finally:
            if len(self._scopes) == 1:
                with anyio.CancelScope(shield=True):
                    await self._outcomes.close_sources(self._puller, is_leaving=self._state is _State.LEAVING)
            self._scopes.discard(scope)
            self._changed.set()

    async def _pull(self) -> Item | None:
        """Wait until few of the batch's tasks wait, and pull the next source. None: there is none."""
        async with self._pulling:
            while self._waiting >= max(2 * self._supervisor.concurrency, 1):
                self._task_ended = OneShotEvent(self._supervisor.affinity.loop)
                await self._task_ended.wait()
            if self._outcomes.error is not None:
                return None
            if self._supervisor.core.phase is not PoolPhase.OPEN:
                self._outcomes.error = PoolClosed()
                return None
            try:
                item = await self._puller.pull()
            except Exception as error:
                self._outcomes.error = error
                return None
            if item is None:
                self._meter.total = self._puller.pulled
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
            self._meter.begin(task_id)
            result = await submission.run()
        except Exception as caught:
            error = caught
        finally:
            if task_id is not None:
                self._running.discard(task_id)
            self._meter.end(task_id, None if result is None else result.timings.ran)
            self._task_ended.set()
        return Outcome(item.index, item.source, result, error)

    async def _add_preview(self, item: Item, preview: Result) -> None:
        self._add(Outcome(item.index, item.source, preview, preview=True))

    def _add(self, outcome: Outcome[Any]) -> None:
        self._outcomes.add(outcome)
        if self._outcomes:
            self._changed.set()
