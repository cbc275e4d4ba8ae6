"""Outcomes of several named pipelines on one source, on one node: awaited together, or one by one as each is ready."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from copy import copy
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from offloop import OffloopError, Outcome, PoolMisused, Result
from offloop.runtime.files.output_files import OutputFile

from .files import written_to_file
from .progress import ProgressCalls
from .remote_task import Received
from .results import result_of

__all__ = ["ClusterNamedOutcomes"]

SourceT = TypeVar("SourceT")

RunTask: TypeAlias = Callable[[Callable[[Received], None], bool], Awaitable[None]]
"""Runs the task: gets a callback for its outputs, and whether previews are wanted."""


class ClusterNamedOutcomes(AsyncIterator[tuple[str, Outcome[SourceT]]], Generic[SourceT]):
    """The outcomes of one task with named pipelines.

    Await it for a dict of all outcomes, by name. Or enter its block and iterate: each pair of a name and an outcome comes as
    soon as it is ready, and before it its previews. Leaving the block stops what still runs. If the whole task fails, the
    pipelines without an outcome have its error.
    """

    def __init__(
        self,
        run: RunTask,
        names: tuple[str, ...],
        given: SourceT,
        files: Mapping[str, OutputFile],
        progress: ProgressCalls | None,
    ) -> None:
        self._run = run
        self._indices = {name: index for index, name in enumerate(names)}
        self._given = given
        self._files = files  # files of this machine for results, by name
        self._progress = progress
        self._missing = dict.fromkeys(names)  # names without an outcome
        self._received: deque[Received] = deque()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._queued = 0.0
        self._is_over = False

    def __await__(self) -> Generator[Any, Any, dict[str, Outcome[SourceT]]]:
        return self._collect().__await__()

    async def __aenter__(self) -> Self:
        self._start(wants_previews=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if self._progress is not None and (error is not None or self._missing):
            await self._progress.cancel()
        self._received.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Outcome[SourceT]]:
        """The next pair of a name and an outcome, or a preview.

        Raises:
            PoolMisused: it is read outside its block.
        """
        task = self._task
        if task is None or self._is_over:
            raise PoolMisused("stream", "inside its block", "pool.run_many() is read outside its block")
        while self._missing:
            if self._received:
                return await self._outcome_of(self._received.popleft())
            if task.done():
                error = None if task.cancelled() else task.exception()
                name = next(iter(self._missing))
                return self._outcome(name, None, copy(error) if isinstance(error, Exception) else OffloopError("cancelled"))
            self._changed.clear()
            await self._changed.wait()
        await asyncio.wait({task})
        if self._progress is not None and not task.cancelled() and task.exception() is None:
            await self._progress.finish()
        raise StopAsyncIteration

    async def _collect(self) -> dict[str, Outcome[SourceT]]:
        self._start(wants_previews=False)
        async with _Block(self):
            found = {name: outcome async for name, outcome in self}
        return {name: found[name] for name in self._indices}

    def _start(self, *, wants_previews: bool) -> None:
        if self._task is not None:
            raise PoolMisused("stream", "once", "pool.run_many() was entered or awaited before")
        self._queued = monotonic()
        self._task = asyncio.ensure_future(self._run_task(wants_previews=wants_previews))
        self._task.add_done_callback(lambda _task: self._changed.set())

    async def _run_task(self, *, wants_previews: bool) -> None:
        await self._run(self._take, wants_previews)

    def _take(self, received: Received) -> None:
        self._received.append(received)
        self._changed.set()

    async def _outcome_of(self, received: Received) -> tuple[str, Outcome[SourceT]]:
        name = received.name
        if received.head is None:
            return self._outcome(name, None, received.error)
        result = result_of(received.head, received.data, received.node, self._queued)
        if received.is_preview:
            return name, Outcome(self._indices[name], self._given, result, None, name, preview=True)
        file = self._files.get(name)
        if file is not None:
            try:
                result = await written_to_file(result, file)
            except OffloopError as error:
                return self._outcome(name, None, error)
            except BaseException:
                self._received.appendleft(received)  # a reader that was cancelled may read again
                raise
        return self._outcome(name, result, None)

    def _outcome(self, name: str, result: Result | None, error: Exception | None) -> tuple[str, Outcome[SourceT]]:
        del self._missing[name]
        return name, Outcome(self._indices[name], self._given, result, error, name)


class _Block:
    """Leaves the outcomes without starting them again."""

    def __init__(self, outcomes: ClusterNamedOutcomes[Any]) -> None:
        self._outcomes = outcomes

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._outcomes.__aexit__(kind, error, traceback)
