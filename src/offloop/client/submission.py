"""One call of `Pool.run`: stages the sources, waits for the outcome, releases all resources in every case.

The task is in the supervisor's tables before the first await. A call that is interrupted returns only after the task has
its outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Self, cast

import anyio
import msgspec

from ..core.model.events import StagingFailed, TaskEstimated, TaskStaged
from ..core.model.task import Completed, TaskOutput, TaskSpec
from ..errors import OffloopError, QueueTimeout
from ..plugins.estimator import Estimator
from ..plugins.planner import Plan
from ..runtime.files.open_files import TaskFiles
from ..runtime.files.output_files import OutputFile
from ..runtime.loop.futures import DeliveredOutput, TaskFuture
from ..runtime.supervisor import Supervisor
from ..task_options import TaskOptions
from ..wire.handles import EncodedAt
from ..wire.messages import Stage
from .results import Result
from .sources import ArrayObject, File, Material, TableObject
from .staging.preflight import run_preflight
from .staging.stager import Prepared, SourceStager, StagedSources, copy_lengths, copy_nbytes, lengths_in_memory, path_of

__all__ = ["Submission", "TaskTemplate"]

_NO_SOURCES = (EncodedAt(None),)


class TaskTemplate(NamedTuple):
    """What all tasks of one plan and with the same options share."""

    spec: TaskSpec
    estimator: Estimator | None  # estimates a task after its sources are known; None: the specification has the estimate
    output: OutputFile | None  # file for the result; None: the result stays in memory

    @classmethod
    def of(cls, plan: Plan, options: TaskOptions) -> Self:
        """Make the template from a plan and checked options."""
        spec = TaskSpec(
            sources=_NO_SOURCES,
            stages=plan.stages,
            group=plan.group,
            pipelines=dict(plan.pipelines),
            estimate=plan.estimate,
            memory_limit_bytes=options.memory_limit_bytes,
            kind=plan.kind,
            timeout_s=options.timeout_s,
            queue_timeout_s=options.queue_timeout_s,
            retries=options.retries,
            priority=options.priority,
            tenant=options.tenant,
            labels=options.labels,
            to_file=options.output is not None,
            credit=options.credit + options.previews,
            previews=options.previews,
            stream=options.stream,
        )
        return cls(spec, plan.estimator, options.output)


class Submission:
    """One task from submission to result, on its caller's side.

    Its sources are those of its call, in the order of their indices. The first one is the payload of the first stage.
    """

    on_preview: Callable[[Result], Awaitable[None]] | None = None  # called with each preview, in the task that runs it
    queued = 0.0  # time of the submission, on the system's monotonic clock

    _is_staged = False  # whether the sources lay where a worker can read them when the task was submitted
    _open_sources: Sequence[Prepared] | None = None  # its sources, if they are kept in open files
    _lengths: list[int] | None = None  # lengths of the sources, if memory for them was requested with the submission

    def __init__(
        self,
        supervisor: Supervisor,
        stager: SourceStager,
        template: TaskTemplate,
        sources: tuple[Material, ...],
        stages: list[Stage] | None = None,
    ) -> None:
        """A task with a new id. `stages`: its own, if they hold data of this task; None: those of the template."""
        spec = template.spec
        self._supervisor = supervisor
        self._stager = stager
        self._estimator = template.estimator
        self._output = template.output
        self.sources = sources
        self.task_id = supervisor.new_task_id()
        # `sources` and `estimate` are set when they are known
        self._spec = spec if stages is None else msgspec.structs.replace(spec, stages=stages)

    @property
    def credit(self) -> int:
        """Number of outputs that the task may hand over before its end, beside previews, until its receiver grants more."""
        return self._spec.credit - self._spec.previews

    def run(self) -> Coroutine[Any, Any, Result]:
        """Stage the sources, wait for the outcome, and return or raise it. A file has its name when this returns."""
        return self._run() if self._output is None else self._run_to_file(self._output)

    async def _run_to_file(self, output: OutputFile) -> Result:
        background = self._supervisor.background
        self._supervisor.outputs.add(self.task_id, output)
        try:
            result = await self._run()
            await background.run_in_thread(output.publish, result.nbytes, limiter=background.file_threads)
        finally:
            self._supervisor.outputs.discard(self.task_id)
        return result

    async def _run(self) -> Result:
        future = self.submit()
        if self.on_preview is not None:
            future.outputs = deque()
        try:
            if not self._is_staged:
                await self.stage(future)
            await future.wait()
            while not future.settled or future.outputs:
                if future.outputs:
                    await self._hand_over_previews(future.outputs)
                else:
                    await self.wait(future)
        finally:
            future.outputs = None
            if not future.settled:
                await self.withdraw(future)
        outcome = future.pop_outcome()
        if isinstance(outcome, Completed):
            assert outcome.output is not None, "only a task with credit may end without an output"
            return Result(outcome.output, future.view, self.queued, None if self._output is None else Path(self._output.path))
        assert outcome is not None, "only a cancelled task has no outcome, and its caller does not wait any more"
        try:
            raise outcome
        finally:
            del outcome  # because the error's traceback refers to this frame: a reference cycle otherwise

    async def _hand_over_previews(self, previews: deque[DeliveredOutput]) -> None:
        assert self.on_preview is not None
        while previews:
            output, view = previews.popleft()
            assert isinstance(output, TaskOutput), "only a task with named pipelines hands over failures"
            await self.on_preview(Result(output, view, self.queued, None))

    def refuse_previews(self) -> None:
        """Have the task hand over no previews. To be called before `submit`."""
        if self._spec.previews:
            self._specify(credit=self._spec.credit - self._spec.previews, previews=0)

    def submit(self) -> TaskFuture:
        """Submit the task. `stage` follows, then `wait`, and in every case `withdraw`."""
        self.queued = monotonic()
        needs_preflight = self._estimator is not None or self._output is not None
        in_place = None if needs_preflight else self._find_in_place(self.sources)
        if in_place is not None:
            self._is_staged = True
            if in_place.sources != _NO_SOURCES:
                self._specify(sources=in_place.sources, outbox_id=in_place.outbox_id)
            return self._supervisor.submit(self.task_id, self._spec, 0, staged=True, memory=in_place.memory)
        lengths = self._lengths = None if needs_preflight else lengths_in_memory(self.sources)
        if lengths is None:
            return self._supervisor.submit(self.task_id, self._spec, _nbytes_if_known(self.sources), staged=False)
        return self._supervisor.submit(self.task_id, self._spec, sum(lengths), staged=False, copy_nbytes=copy_nbytes(lengths))

    def _find_in_place(self, sources: Sequence[Material | Prepared]) -> StagedSources | None:
        """Return the sources if none of them has to be copied before the task is sent; otherwise None."""
        return self._stager.find_in_place(sources) or self._stager.find_in_caller_memory(sources, self._spec.group)

    async def stage(self, future: TaskFuture) -> None:
        """Copy the sources to where a worker can read them, if they are not there. An error of that is the task's outcome."""
        if not self._is_staged and not _is_over(future):
            await self._prepare(future, self._stage_sources)

    async def wait(self, future: TaskFuture) -> None:
        """Return at the next change of an unsettled task. If its sources were removed from memory, stage them again before.

        Sources are removed to make room for a running task's result.
        """
        must_stage = future.must_stage
        future.rearm()
        if must_stage:
            try:
                await self._prepare(future, self._stage_again)
            except BaseException:
                future.must_stage = True  # because the reader of a stream may come back after it was cancelled
                raise
        await future.wait()

    async def withdraw(self, future: TaskFuture) -> None:
        """Cancel the task if it has no outcome yet. Returns when its memory is free."""
        if not future.settled:
            await self._supervisor.withdraw(self.task_id, future)

    def _specify(self, **known: object) -> TaskSpec:
        """Return the task's specification with these fields set."""
        self._spec = msgspec.structs.replace(self._spec, **known)
        return self._spec

    async def _prepare(self, future: TaskFuture, stage: Callable[[TaskFuture], Awaitable[StagedSources | None]]) -> None:
        """Stage the sources and queue the task. An error of the staging settles the task."""
        queue_timeout = self._spec.queue_timeout_s
        try:
            if queue_timeout is None:  # saves the cost of a cancel scope
                staged = await stage(future)
            else:
                staged = await _in_time(queue_timeout, partial(stage, future))
        except OffloopError as error:
            # without the traceback, whose frames hold the memory of moved buffers
            self._supervisor.apply(StagingFailed(self.task_id, error.with_traceback(None)))
            return
        except BaseException:
            self._supervisor.apply(StagingFailed(self.task_id, None))
            raise
        if staged is not None:
            future.memory = staged.memory
            spec = self._specify(
                sources=staged.sources,
                outbox_id=staged.outbox_id,
                stageable_again=staged.can_repeat,
                in_files=staged.in_files,
            )
            self._supervisor.apply(TaskStaged(self.task_id, spec))

    async def _stage_sources(self, future: TaskFuture) -> StagedSources | None:
        """Stage the sources. None: the task was settled meanwhile."""
        if self._lengths is not None:
            return await self._stager.copy(cast("Sequence[Prepared]", self.sources), self._lengths, future)
        files: TaskFiles | None = None
        if self._stager.has_private_sources(self._spec.group) and any(map(_is_file, self.sources)):
            files = future.files = TaskFiles(self._supervisor.file_allowances)  # before the first await
        if self._output is not None:
            background = self._supervisor.background
            await background.run_in_thread(self._output.check, limiter=background.file_threads)
        sources = await self._stager.prepare(self.sources)
        if self._estimator is not None:
            return await self._stage_estimated(self._estimator, sources, files, future)
        opened = sources if files is None else await self._stager.open_files(sources, files)
        return self._find_kept(opened, future) or await self._stage_measured(sources, future)

    def _find_kept(self, sources: Sequence[Prepared], future: TaskFuture) -> StagedSources | None:
        """As `_find_in_place`, for sources whose files are open. Files are closed if they have to be copied."""
        found = self._find_in_place(sources)
        if found is not None and found.in_files:
            self._open_sources = sources
        elif future.files is not None and (found is None or not found.memory):
            future.files.close()
        return found

    async def _stage_estimated(
        self, estimator: Estimator, sources: list[Prepared], files: TaskFiles | None, future: TaskFuture
    ) -> StagedSources | None:
        """Ask the plugins for an estimate, then stage the sources if the task is admitted."""
        preflight = await run_preflight(estimator, sources, self._supervisor.background, files)
        spec = self._specify(estimate=preflight.estimate, media_type=preflight.media_type)
        opened = [preflight.kept.get(index, source) for index, source in enumerate(sources)]
        in_place = self._find_kept(opened, future)
        lengths = [] if in_place is not None else copy_lengths(sources, preflight.lengths)
        self._supervisor.apply(TaskEstimated(self.task_id, spec, sum(preflight.lengths), copy_nbytes(lengths)))
        if in_place is not None or _is_over(future):
            return in_place
        if not preflight.lengths:
            return await self._stage_measured(sources, future)
        if future.block is not None:
            for index, contents in preflight.file_contents.items():
                sources[index] = contents
        del preflight, opened  # because tasks that wait for inbox memory must not keep file contents in the server's own memory
        return await self._stager.copy(sources, lengths, future)

    async def _stage_measured(self, sources: Sequence[Prepared], future: TaskFuture) -> StagedSources | None:
        """Stage sources whose lengths have to be found out."""
        lengths = await self._stager.measure(sources)
        self._stager.request_memory(self.task_id, lengths)
        return await self._stager.copy(sources, lengths, future)

    async def _stage_again(self, future: TaskFuture) -> StagedSources | None:
        """Copy the sources of an accepted task, which were removed from memory, or are read too slowly for a worker."""
        sources = self._open_sources or await self._stager.prepare(self.sources)
        return await self._stage_measured(sources, future)


def _is_file(source: Material) -> bool:
    return isinstance(source, File | Result) and path_of(source) is not None


def _is_over(future: TaskFuture) -> bool:
    """Whether a task is settled and has no block that it must answer for."""
    return future.settled and future.block is None


async def _in_time(queue_timeout: float, stage: Callable[[], Awaitable[StagedSources | None]]) -> StagedSources | None:
    with anyio.move_on_after(queue_timeout):
        return await stage()
    raise QueueTimeout(queue_timeout, "memory")


def _nbytes_if_known(sources: Iterable[Material]) -> int:
    """Return the length of the sources in bytes; 0 if it is not known yet."""
    total = 0
    try:
        for source in sources:
            if isinstance(source, File | ArrayObject | TableObject):
                return 0
            total += source.nbytes
    except ValueError:
        return 0  # one was released; staging raises the error
    return total
