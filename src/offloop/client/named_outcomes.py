"""Outcomes of several named pipelines on one source: `await pool.run_many(...)`, or one by one as each is ready."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator, Mapping
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from ..core.model.task import FailedOutput, TaskOutput
from ..errors import OffloopError, PoolMisused
from ..runtime.files.output_files import OutputFile
from ..runtime.loop.futures import DeliveredOutput, TaskFuture
from ..runtime.supervisor import Supervisor
from ..wire.handles import WrittenTo
from .outcome import Outcome
from .results import Result
from .submission import Submission

__all__ = ["NamedOutcomes"]

SourceT = TypeVar("SourceT")


class NamedOutcomes(AsyncIterator[tuple[str, Outcome[SourceT]]], Generic[SourceT]):
    """The outcomes of one task with named pipelines.

    Await it for a dict of all outcomes, by name. Or enter its block and iterate: each pair of a name and an outcome comes as
    soon as it is ready, and before it its previews. Leaving the block cancels what still runs, and returns when its memory is
    free. If the whole task fails, the pipelines without an outcome have its error.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        submission: Submission,
        names: tuple[str, ...],
        given: SourceT,
        paths: Mapping[str, str],
    ) -> None:
        self._supervisor = supervisor
        self._submission = submission
        self._indices = {name: index for index, name in enumerate(names)}
        self._given = given
        self._paths = paths  # absolute paths of the files for results, by name
        self._future: TaskFuture | None = None  # None: the block was not entered
        self._ready: deque[DeliveredOutput] = deque()
        self._missing = dict.fromkeys(names)  # names without an outcome
        self._is_reading = False

    def __await__(self) -> Generator[Any, Any, dict[str, Outcome[SourceT]]]:
        return self._collect().__await__()

    async def _collect(self) -> dict[str, Outcome[SourceT]]:
        self._submission.refuse_previews()
        async with self:
            found = {name: outcome async for name, outcome in self}
        return {name: found[name] for name in self._indices}

    async def __aenter__(self) -> Self:
        """Submit the task, and copy its source. Returns when the task waits for a worker.

        Raises:
            PoolMisused: it was entered or awaited before.
        """
        if self._future is not None:
            raise _misused("the outcomes of run_many can be awaited, or entered, only once")
        self._future = future = self._submission.submit()
        future.outputs = self._ready
        try:
            await self._submission.stage(future)
        except BaseException:
            await self._close(future)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._future is not None:
            await self._close(self._future)

    async def _close(self, future: TaskFuture) -> None:
        future.outputs = None
        await self._submission.withdraw(future)
        self._ready.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Outcome[SourceT]]:
        """The name and the outcome of the next pipeline that is ready.

        Raises:
            PoolMisused: the block was not entered, or another task of the loop reads.
        """
        if self._future is None:
            raise _misused("read run_many inside its block, or await it")
        if self._is_reading:
            raise _misused("two tasks read the same outcomes")
        self._is_reading = True
        try:
            return await self._next(self._future)
        finally:
            self._is_reading = False

    async def _next(self, future: TaskFuture) -> tuple[str, Outcome[SourceT]]:
        while self._missing:
            while not self._ready and not future.settled:
                await self._submission.wait(future)
            if not self._ready:
                name = next(iter(self._missing))
                outcome = future.outcome
                error = copy(outcome) if isinstance(outcome, OffloopError) else None
                assert error is not None, "a task that succeeds has handed over an output for each pipeline"
                return self._outcome(name, None, error)
            output, view = self._ready.popleft()
            if isinstance(output, FailedOutput):
                return self._outcome(output.name, None, output.error)
            if not output.last:
                preview = Result(output, view, self._submission.queued, None)
                return output.name, Outcome(self._indices[output.name], self._given, preview, None, output.name, preview=True)
            return await self._deliver(output, view)
        while not future.settled:  # the end of the task follows its last output
            await self._submission.wait(future)
        raise StopAsyncIteration

    async def _deliver(self, output: TaskOutput, view: memoryview | None) -> tuple[str, Outcome[SourceT]]:
        path = self._paths.get(output.name)
        if path is None:
            return self._outcome(output.name, Result(output, view, self._submission.queued, None), None)
        background, data = self._supervisor.background, view or memoryview(b"")
        try:
            await background.run_in_thread(OutputFile(path).write, data, limiter=background.file_threads)
        except OffloopError as error:
            return self._outcome(output.name, None, error)
        except BaseException:
            self._ready.appendleft(DeliveredOutput(output, view))  # a reader that was cancelled may read again
            raise
        written = msgspec.structs.replace(output, output=WrittenTo(data.nbytes), block=None)
        return self._outcome(output.name, Result(written, None, self._submission.queued, Path(path)), None)

    def _outcome(self, name: str, result: Result | None, error: OffloopError | None) -> tuple[str, Outcome[SourceT]]:
        del self._missing[name]
        return name, Outcome(self._indices[name], self._given, result, error, name)


def _misused(reason: str) -> PoolMisused:
    return PoolMisused("stream", "one block with one reader", reason)
