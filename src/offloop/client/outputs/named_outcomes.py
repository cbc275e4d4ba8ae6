"""Outcomes of several named pipelines on one source: `await pool.run_many(...)`, or one by one as each is ready."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from ...core.model.task import FailedOutput, TaskOutput
from ...errors import OffloopError
from ...runtime.files.output_files import OutputFile
from ...runtime.loop.futures import DeliveredOutput, TaskFuture
from ...runtime.supervisor import Supervisor
from ...wire.handles import WrittenTo
from ..outcome import Outcome
from ..progress_listener import ProgressCallback
from ..results import Result
from ..submission import Submission
from .reader import OutputReader

__all__ = ["NamedOutcomes"]

SourceT = TypeVar("SourceT")


class NamedOutcomes(OutputReader[tuple[str, Outcome[SourceT]]], Generic[SourceT]):
    """The outcomes of one task with named pipelines.

    Await it for a dict of all outcomes, by name. Or enter its block and iterate: each pair of a name and an outcome comes as
    soon as it is ready, and before it its previews. Leaving the block cancels what still runs, and returns when its memory is
    free. If the whole task fails, the pipelines without an outcome have its error.
    """

    _call = "pool.run_many()"

    def __init__(
        self,
        supervisor: Supervisor,
        submission: Submission,
        names: tuple[str, ...],
        given: SourceT,
        paths: Mapping[str, str],
        on_progress: ProgressCallback | None,
    ) -> None:
        super().__init__(supervisor, submission, on_progress)
        self._background = supervisor.background
        self._indices = {name: index for index, name in enumerate(names)}
        self._given = given
        self._paths = paths  # absolute paths of the files for results, by name
        self._missing = dict.fromkeys(names)  # names without an outcome

    def __await__(self) -> Generator[Any, Any, dict[str, Outcome[SourceT]]]:
        return self._collect().__await__()

    async def _collect(self) -> dict[str, Outcome[SourceT]]:
        self._submission.refuse_previews()
        async with self:
            found = {name: outcome async for name, outcome in self}
        return {name: found[name] for name in self._indices}

    async def _next(self, future: TaskFuture) -> tuple[str, Outcome[SourceT]]:
        while self._missing:
            delivered = await self._wait_for_output(future)
            if delivered is None:
                name = next(iter(self._missing))
                outcome = future.outcome
                error = copy(outcome) if isinstance(outcome, OffloopError) else None
                assert error is not None, "a task that succeeds has handed over an output for each pipeline"
                return self._outcome(name, None, error)
            output, view = delivered
            if isinstance(output, FailedOutput):
                return self._outcome(output.name, None, output.error)
            if not output.last:
                preview = Result(output, view, self._submission.queued, None)
                return output.name, Outcome(self._indices[output.name], self._given, preview, None, output.name, preview=True)
            return await self._deliver(output, view)
        while await self._wait_for_output(future) is not None:  # the end of the task follows its last output
            pass
        raise StopAsyncIteration

    async def _deliver(self, output: TaskOutput, view: memoryview | None) -> tuple[str, Outcome[SourceT]]:
        path = self._paths.get(output.name)
        if path is None:
            return self._outcome(output.name, Result(output, view, self._submission.queued, None), None)
        background, data = self._background, view or memoryview(b"")
        try:
            await background.run_in_thread(OutputFile(path).write, data, limiter=background.file_threads)
        except OffloopError as error:
            return self._outcome(output.name, None, error)
        except BaseException:
            self._unread.appendleft(DeliveredOutput(output, view))  # a reader that was cancelled may read again
            raise
        written = msgspec.structs.replace(output, output=WrittenTo(data.nbytes), block=None)
        return self._outcome(output.name, Result(written, None, self._submission.queued, Path(path)), None)

    def _outcome(self, name: str, result: Result | None, error: OffloopError | None) -> tuple[str, Outcome[SourceT]]:
        del self._missing[name]
        return name, Outcome(self._indices[name], self._given, result, error, name)
