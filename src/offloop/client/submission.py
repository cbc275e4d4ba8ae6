"""One call of `Pool.run`: stages the source, waits for the outcome, releases all resources in every case.

The task is in the supervisor's tables before the first await. A call that is interrupted returns only after the task has
its outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic

import anyio
import msgspec

from ..core.model.events import StagingFailed, TaskEstimated, TaskStaged
from ..core.model.task import Completed, TaskOutput, TaskSpec
from ..errors import InvalidTask, OffloopError, QueueTimeout
from ..plugins.planner import Plan
from ..runtime.files.output_files import OutputFile
from ..runtime.loop.futures import DeliveredOutput, TaskFuture
from ..runtime.supervisor import Supervisor
from ..task_options import TaskOptions
from ..wire.handles import EncodedAt, RasterAt
from .buffers import Buffer
from .preflight import run_preflight
from .results import Result
from .sources import ArrayObject, Bytes, File, Material, Samples, samples_of
from .staging import SourceStager, StagedSource, in_inbox, in_outbox

__all__ = ["Submission"]

_NO_BYTES = EncodedAt(None)


class Submission:
    """One task from submission to result, on its caller's side."""

    _file_contents: memoryview | None = None  # contents of a file that was short enough to be read whole with its header
    _is_staged = False  # whether the source lay where a worker can read it when the task was submitted
    on_preview: Callable[[Result], Awaitable[None]] | None = None  # called with each preview, in the task that runs it
    _source_view: memoryview | None = None  # view of a result that is the source in place; keeps its block until submission

    def __init__(self, supervisor: Supervisor, stager: SourceStager, plan: Plan, options: TaskOptions) -> None:
        self._supervisor = supervisor
        self._stager = stager
        self._estimator = plan.estimator
        self._output = options.output
        self.task_id = supervisor.new_task_id()
        self.credit = options.credit
        self.queued = 0.0  # time of the submission, on the system's monotonic clock
        # `source` and `estimate` are set when they are known
        self._spec = TaskSpec(
            source=_NO_BYTES,
            stages=plan.stages,
            group=plan.group,
            pipelines=plan.pipelines,
            estimate=plan.estimate,
            kind=plan.kind,
            timeout_s=options.timeout_s,
            queue_timeout_s=options.queue_timeout_s,
            retries=options.retries,
            priority=options.priority,
            tenant=options.tenant,
            to_file=options.output is not None,
            credit=options.credit + options.previews,
            previews=options.previews,
            stream=options.stream,
        )

    async def run(self, source: Material) -> Result:
        """Stage the source, wait for the outcome, and return or raise it. A file has its name when this returns."""
        return await (self._run(source) if self._output is None else self._run_to_file(source, self._output))

    async def _run_to_file(self, source: Material, output: OutputFile) -> Result:
        background = self._supervisor.background
        self._supervisor.outputs.add(self.task_id, output)
        try:
            result = await self._run(source)
            await background.run_in_thread(output.publish, result.nbytes, limiter=background.file_threads)
        finally:
            self._supervisor.outputs.discard(self.task_id)
        return result

    async def _run(self, source: Material) -> Result:
        future = self.submit(source)
        if self.on_preview is not None:
            future.outputs = deque()
        try:
            if not self._is_staged and not future.is_set:
                await self.stage(source, future)
            await future.wait()
            while not future.settled or future.outputs:
                if future.outputs:
                    await self._hand_over_previews(future.outputs)
                else:
                    await self.wait(source, future)
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

    def submit(self, source: Material) -> TaskFuture:
        """Submit the task. `stage` follows, then `wait`, and in every case `withdraw`."""
        self.queued = monotonic()
        staged = self._is_staged = self._estimator is None and self._output is None and self._is_in_place(source)
        nbytes = 0 if staged else _nbytes_if_known(source)
        future = self._supervisor.submit(self.task_id, self._spec, nbytes, staged=staged)
        self._source_view = None  # the submitted task holds its source itself
        return future

    async def stage(self, source: Material, future: TaskFuture) -> None:
        """Copy the source to where a worker can read it, if it is not there. An error of that is the task's outcome."""
        if not self._is_staged and not future.is_set:
            await self._prepare(partial(self._stage_source, source, future))

    async def wait(self, source: Material, future: TaskFuture) -> None:
        """Return at the next change of an unsettled task. If its source was removed from memory, stage it again before.

        A source is removed to make room for a running task's result.
        """
        must_stage = future.must_stage
        future.rearm()
        if must_stage:
            await self._prepare(partial(self._stage_again, source))
        await future.wait()

    async def withdraw(self, future: TaskFuture) -> None:
        """Cancel the task if it has no outcome yet. Returns when its memory is free."""
        if not future.settled:
            await self._supervisor.withdraw(self.task_id, future)

    def _specify(self, **known: object) -> TaskSpec:
        """Return the task's specification with these fields set."""
        self._spec = msgspec.structs.replace(self._spec, **known)
        return self._spec

    def _is_in_place(self, source: Material) -> bool:
        """Whether the source lies where a worker can read it; then the spec says where."""
        if isinstance(source, Bytes):
            return not source.data.nbytes
        staged = self._find_in_place(source) if isinstance(source, Result) else None
        if staged is None:
            return False
        self._source_view = staged.view
        self._specify(source=staged.source, outbox_id=staged.outbox_id)
        return True

    async def _prepare(self, stage: Callable[[], Awaitable[StagedSource | None]]) -> None:
        """Stage the source and queue the task. An error of the staging settles the task."""
        queue_timeout = self._spec.queue_timeout_s
        try:
            if queue_timeout is None:  # saves the cost of a cancel scope
                staged = await stage()
            else:
                staged = await _in_time(queue_timeout, stage)
        except OffloopError as error:
            self._supervisor.apply(StagingFailed(self.task_id, error))
            return
        if staged is None:
            return
        spec = self._specify(source=staged.source, outbox_id=staged.outbox_id, stageable_again=staged.block is not None)
        self._supervisor.apply(TaskStaged(self.task_id, spec))
        self._stager.release(staged)

    async def _stage_source(self, source: Material, future: TaskFuture) -> StagedSource | None:
        """Stage the source. None: the task was refused because of its estimate."""
        if self._output is not None:
            background = self._supervisor.background
            await background.run_in_thread(self._output.check, limiter=background.file_threads)
        source = await self._materialize(source)
        if isinstance(source, Buffer):
            staged = self._move(source)  # first, because the owner loses the buffer even if the task is refused
            if staged.view is None or await self._is_admitted(Bytes(staged.view, private=True), future):
                return staged
            return None
        if not await self._is_admitted(source, future):
            return None
        if self._estimator is not None and isinstance(source, Result):
            in_place = self._find_in_place(source)
            if in_place is not None:
                return in_place
        return await self._stage(source)

    async def _stage_again(self, source: Material) -> StagedSource:
        """Stage the source of an accepted task a second time."""
        source = await self._materialize(source)
        assert not isinstance(source, Buffer), "a buffer has no second copy"
        return await self._stage(source)

    async def _materialize(self, source: Material) -> Bytes | File | Samples | Buffer | Result:
        """Return the source, or the samples of an array-like object."""
        if not isinstance(source, ArrayObject):
            return source
        background = self._supervisor.background
        return await background.run_in_thread(samples_of, source, limiter=background.source_threads)

    async def _is_admitted(self, source: Bytes | File | Samples | Result, future: TaskFuture) -> bool:
        """Whether the task may run, given its estimate."""
        if self._estimator is None:
            return True
        preflight = await run_preflight(self._estimator, source, self._supervisor.background)
        self._file_contents = preflight.file_contents
        spec = self._specify(estimate=preflight.estimate, media_type=preflight.media_type)
        self._supervisor.apply(TaskEstimated(self.task_id, spec, preflight.nbytes))
        return not future.is_set

    async def _stage(self, source: Bytes | File | Samples | Result) -> StagedSource:
        match source:
            case Bytes(data, private):
                return await self._stager.stage(self.task_id, data, private=private)
            case File(path):
                whole, self._file_contents = self._file_contents, None
                if whole is not None and not self._supervisor.core.broker.has_waiters:
                    return await self._stager.stage(self.task_id, whole, private=True)
                del whole  # because tasks that wait for inbox memory must not keep file contents in the server's own memory
                return await self._stager.stage_file(self.task_id, path)
            case Samples(data, shape, dtype, private):
                return await self._stager.stage_raster(self.task_id, data, shape, dtype, private=private)
            case Result():
                return await self._copy_result(source)

    def _move(self, buffer: Buffer) -> StagedSource:
        if not buffer.belongs_to(self._supervisor):
            raise InvalidTask("this buffer belongs to another pool")
        block, view = buffer.move()
        return StagedSource(EncodedAt(in_inbox(block, view.nbytes) if view.nbytes else None), view=view)

    def _find_in_place(self, result: Result) -> StagedSource | None:
        """Return the result as a source in its worker's outbox; None if it has no memory of this pool."""
        block, raster = result.block, result.raster
        if block is None or not self._supervisor.owns(block):
            return None
        try:
            view = result.data[:]
        except ValueError:
            return None  # the result was released; `_copy_result` raises the error
        handle = in_outbox(block, view.nbytes)
        source = EncodedAt(handle) if raster is None else RasterAt(handle, raster.shape, raster.dtype)
        return StagedSource(source, view=view, outbox_id=block.segment_id)

    async def _copy_result(self, result: Result) -> StagedSource:
        try:
            data = result.data[:]
        except ValueError:
            raise InvalidTask("this result cannot be a source, because its data was released") from None
        if result.path is not None:
            return await self._stager.stage_file(self.task_id, str(result.path))
        raster = result.raster
        if raster is None:
            return await self._stager.stage(self.task_id, data, private=True)
        return await self._stager.stage_raster(self.task_id, data, raster.shape, raster.dtype, private=True)


async def _in_time(queue_timeout: float, stage: Callable[[], Awaitable[StagedSource | None]]) -> StagedSource | None:
    with anyio.move_on_after(queue_timeout):
        return await stage()
    raise QueueTimeout(queue_timeout, "memory")


def _nbytes_if_known(source: Material) -> int:
    if isinstance(source, File | ArrayObject):
        return 0
    try:
        return source.nbytes
    except ValueError:
        return 0  # it was released; staging raises the error
