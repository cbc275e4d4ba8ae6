"""One call of `Pool.run`: from a source to a result, with nothing left behind however it ends.

The task is in the supervisor's tables before the first await, and whatever interrupts the call, it leaves only when the
task has its outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic

import anyio
import msgspec

from ..core.model.events import TaskEstimated, TaskStaged, StagingFailed
from ..core.model.task import Completed, TaskSpec
from ..errors import InvalidTask, OffloopError, QueueTimeout
from ..plugins.planner import Plan
from ..runtime.files.output_files import OutputFile
from ..runtime.loop.futures import TaskFuture
from ..runtime.supervisor import Supervisor
from ..wire.handles import EncodedAt, RasterAt
from .buffers import Buffer
from .preflight import run_preflight
from .results import Result
from .sources import ArrayObject, Bytes, File, Material, Samples, samples_of
from .staging import SourceStager, StagedSource, in_inbox, in_outbox

__all__ = ["Submission"]

_NO_BYTES = EncodedAt(None)


class Submission:
    """One task's way through the pool, from its caller's side."""

    _file_contents: memoryview | None = None  # the contents of a file that was short enough to be read with its header
    _source_view: memoryview | None = None  # of a result that is the source where it lies, so that nobody else takes it away

    def __init__(
        self,
        supervisor: Supervisor,
        intake: SourceStager,
        plan: Plan,
        timeout_s: float | None,
        queue_timeout_s: float | None,
        retries: int,
        priority: int,
        tenant: str | None,
        output: OutputFile | None,
    ) -> None:
        self._supervisor = supervisor
        self._intake = intake
        self._forecaster = plan.forecaster
        self._output = output
        self._task_id = supervisor.new_task_id()
        # where its source lies, and what it is likely to take, are filled in when they are known
        self._spec = TaskSpec(
            source=_NO_BYTES,
            stages=plan.stages,
            timeout_s=timeout_s,
            queue_timeout_s=queue_timeout_s,
            retries=retries,
            priority=priority,
            tenant=tenant,
            to_file=output is not None,
        )

    async def run_to_file(self, material: Material, output: OutputFile) -> Result:
        """As `carry_out`; the result goes into a file, which has its name when this returns."""
        errands = self._supervisor.errands
        self._supervisor.outputs.add(self._task_id, output)
        try:
            result = await self.run(material)
            await errands.run_in_thread(output.publish, result.nbytes, limiter=errands.file_threads)
        finally:
            self._supervisor.outputs.discard(self._task_id)
        return result

    async def run(self, material: Material) -> Result:
        """Bring the source in, wait for the outcome, and return or raise it."""
        queued = monotonic()
        known = self._forecaster is None and self._output is None
        spec = self._spec_if_in_place(material) if known else None
        nbytes = _nbytes_if_known(material) if spec is None else 0
        ticket = self._supervisor.submit(self._task_id, spec, nbytes)
        self._source_view = None  # the task holds its source itself now
        try:
            if spec is None and not ticket.is_set:
                await self._prepare(partial(self._stage_source, material, ticket))
            await ticket.wait()
            while not ticket.settled:  # its source had to make way for a running task's result
                ticket.rearm()
                await self._prepare(partial(self._stage_again, material))
                await ticket.wait()
        finally:
            if not ticket.settled:
                await self._supervisor.withdraw(self._task_id, ticket)
        outcome = ticket.take_outcome()
        if isinstance(outcome, Completed):
            return Result(outcome, ticket.view, queued, None if self._output is None else Path(self._output.path))
        assert outcome is not None, "a cancelled task's caller is not here any more"
        try:
            raise outcome
        finally:
            del outcome  # else this frame, which the error's traceback refers to, would refer to the error

    def _specify(self, **known: object) -> TaskSpec:
        """Fill in what is known by now."""
        self._spec = msgspec.structs.replace(self._spec, **known)
        return self._spec

    def _spec_if_in_place(self, material: Material) -> TaskSpec | None:
        """The task with its source, if a worker can read it where it is; None if it must be brought in."""
        if isinstance(material, Bytes):
            return None if material.data.nbytes else self._spec
        placed = self._find_in_place(material) if isinstance(material, Result) else None
        if placed is None:
            return None
        self._source_view = placed.view
        return self._specify(source=placed.source, outbox_id=placed.outbox_id)

    async def _prepare(self, bring_in: Callable[[], Awaitable[StagedSource | None]]) -> None:
        """Bring the source to where a worker can read it, and queue the task; unless it is refused before."""
        queue_timeout = self._spec.queue_timeout_s
        try:
            if queue_timeout is None:  # no scope to pay for
                placed = await bring_in()
            else:
                placed = await _in_time(queue_timeout, bring_in)
        except OffloopError as error:
            self._supervisor.apply(StagingFailed(self._task_id, error))
            return
        if placed is None:
            return
        spec = self._specify(source=placed.source, outbox_id=placed.outbox_id, stageable_again=placed.block is not None)
        self._supervisor.apply(TaskStaged(self._task_id, spec))
        self._intake.release(placed)

    async def _stage_source(self, material: Material, ticket: TaskFuture) -> StagedSource | None:
        """The source where a worker can read it; None if the task was refused for what it would take."""
        if self._output is not None:
            errands = self._supervisor.errands
            await errands.run_in_thread(self._output.check, limiter=errands.file_threads)
        material = await self._materialize(material)
        if isinstance(material, Buffer):
            placed = self._move(material)  # at once: whatever comes, its owner has it no more
            if placed.view is None or await self._is_admitted(Bytes(placed.view, private=True), ticket):
                return placed
            return None
        if not await self._is_admitted(material, ticket):
            return None
        if self._forecaster is not None and isinstance(material, Result):
            in_place = self._find_in_place(material)
            if in_place is not None:
                return in_place
        return await self._stage(material)

    async def _stage_again(self, material: Material) -> StagedSource:
        """The source in memory a second time, of a task that was accepted."""
        material = await self._materialize(material)
        assert not isinstance(material, Buffer), "a buffer has no second copy"
        return await self._stage(material)

    async def _materialize(self, material: Material) -> Bytes | File | Samples | Buffer | Result:
        """The source itself; of an array-like object, its samples."""
        if not isinstance(material, ArrayObject):
            return material
        errands = self._supervisor.errands
        return await errands.run_in_thread(samples_of, material, limiter=errands.source_threads)

    async def _is_admitted(self, material: Bytes | File | Samples | Result, ticket: TaskFuture) -> bool:
        """Whether the task may be run, by what it is likely to take."""
        if self._forecaster is None:
            return True
        appraisal = await run_preflight(self._forecaster, material, self._supervisor.errands)
        self._file_contents = appraisal.file_contents
        spec = self._specify(estimate=appraisal.estimate, media_type=appraisal.media_type)
        self._supervisor.apply(TaskEstimated(self._task_id, spec, appraisal.nbytes))
        return not ticket.is_set

    async def _stage(self, material: Bytes | File | Samples | Result) -> StagedSource:
        match material:
            case Bytes(data, private):
                return await self._intake.stage(self._task_id, data, private=private)
            case File(path):
                whole, self._file_contents = self._file_contents, None
                if whole is not None and not self._supervisor.core.broker.has_waiters:
                    return await self._intake.stage(self._task_id, whole, private=True)
                del whole  # else a crowd that waits for room in the inbox would fill the server's own memory instead
                return await self._intake.stage_file(self._task_id, path)
            case Samples(data, shape, dtype, private):
                return await self._intake.stage_raster(self._task_id, data, shape, dtype, private=private)
            case Result():
                return await self._copy_result(material)

    def _move(self, buffer: Buffer) -> StagedSource:
        if not buffer.belongs_to(self._supervisor):
            raise InvalidTask("this buffer belongs to another pool")
        block, view = buffer.move()
        return StagedSource(EncodedAt(in_inbox(block, view.nbytes) if view.nbytes else None), view=view)

    def _find_in_place(self, result: Result) -> StagedSource | None:
        """The result where it lies, if the worker that made it is free this moment."""
        block, raster = result.block, result.raster
        if block is None or not self._supervisor.can_run_in_place(self._task_id, block):
            return None
        try:
            view = result.data[:]
        except ValueError:
            return None  # it was released; whoever tries to copy it says so
        handle = in_outbox(block, view.nbytes)
        source = EncodedAt(handle) if raster is None else RasterAt(handle, raster.shape, raster.dtype)
        return StagedSource(source, view=view, outbox_id=block.segment_id)

    async def _copy_result(self, result: Result) -> StagedSource:
        try:
            data = result.data[:]
        except ValueError:
            raise InvalidTask("this result's data was released; nothing is left to be a source") from None
        if result.path is not None:
            return await self._intake.stage_file(self._task_id, str(result.path))
        raster = result.raster
        if raster is None:
            return await self._intake.stage(self._task_id, data, private=True)
        return await self._intake.stage_raster(self._task_id, data, raster.shape, raster.dtype, private=True)


async def _in_time(queue_timeout: float, bring_in: Callable[[], Awaitable[StagedSource | None]]) -> StagedSource | None:
    with anyio.move_on_after(queue_timeout):
        return await bring_in()
    raise QueueTimeout(queue_timeout, "memory")


def _nbytes_if_known(material: Material) -> int:
    if isinstance(material, File | ArrayObject):
        return 0
    try:
        return material.nbytes
    except ValueError:
        return 0  # it was released; whoever tries to bring it in says so
