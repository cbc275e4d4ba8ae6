"""One call of `Pool.run`: from a source to a result, with nothing left behind however it ends.

The task is in the supervisor's tables before the first await, and whatever interrupts the call, it leaves only when the
task has its outcome.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

import anyio
import msgspec

from .buffers import Buffer
from .core.events import TaskPrepared, TaskRefused
from .core.tasks import Completed, TaskSpec
from .errors import InvalidTask, OffloopError, QueueTimeout
from .host.intake import Intake, Placed, in_inbox, in_outbox
from .host.supervisor import Supervisor
from .results import Result
from .sources import Bytes, File, Samples
from .wire.handles import EncodedAt, RasterAt
from .wire.messages import Stage

__all__ = ["Request", "Submission"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a task, beside its source."""

    stages: list[Stage]
    timeout_s: float | None
    queue_timeout_s: float | None
    retries: int
    destination: Path | None  # absolute


class Submission:
    """One task's way through the pool, from its caller's side."""

    def __init__(self, supervisor: Supervisor, intake: Intake, request: Request) -> None:
        self._supervisor = supervisor
        self._intake = intake
        self._request = request
        self._queued = monotonic()
        self._task_id, self._ticket = supervisor.submit()
        destination = request.destination
        self._temporary = destination and destination.with_name(f".offloop-{os.getpid()}-{id(supervisor):x}-{self._task_id}")

    async def carry_out(self, material: Bytes | File | Samples | Buffer | Result) -> Result:
        """Bring the source in, wait for the outcome, and return or raise it."""
        try:
            if not self._ticket.settled:
                await self._prepare(material)
            await self._ticket.wait()
        finally:
            if not self._ticket.settled:
                await self._supervisor.withdraw(self._task_id, self._ticket)
            if self._temporary is not None:
                await self._remove_leftover(self._temporary)
        outcome = self._ticket.outcome
        if isinstance(outcome, Completed):
            return Result(outcome, self._ticket.view, self._queued, self._request.destination)
        assert outcome is not None, "a cancelled task's caller is not here any more"
        raise outcome

    async def _prepare(self, material: Bytes | File | Samples | Buffer | Result) -> None:
        """Bring the source to where a worker can read it, and queue the task."""
        queue_timeout = self._request.queue_timeout_s
        try:
            if queue_timeout is None:  # no scope to pay for
                placed, held = await self._place(material)
            else:
                placed, held = await self._place_in_time(queue_timeout, material)
        except OffloopError as error:
            self._supervisor.apply(TaskRefused(self._task_id, error))
            return
        self._supervisor.apply(TaskPrepared(self._task_id, self._spec(placed)))
        self._intake.release(placed)
        del held  # the task holds the block itself now

    def _spec(self, placed: Placed) -> TaskSpec:
        request = self._request
        return TaskSpec(
            source=placed.source,
            stages=request.stages,
            timeout_s=request.timeout_s,
            queue_timeout_s=request.queue_timeout_s,
            destination=request.destination and os.fsencode(request.destination),
            temporary=self._temporary and os.fsencode(self._temporary),
            outbox_id=placed.outbox_id,
            retries=request.retries,
        )

    async def _place_in_time(
        self, queue_timeout: float, material: Bytes | File | Samples | Buffer | Result
    ) -> tuple[Placed, memoryview | None]:
        with anyio.move_on_after(queue_timeout):
            return await self._place(material)
        raise QueueTimeout(queue_timeout, "memory")

    async def _place(self, material: Bytes | File | Samples | Buffer | Result) -> tuple[Placed, memoryview | None]:
        """The placed source, and a view that must live until the task holds the block."""
        match material:
            case Bytes(data):
                return await self._intake.place(data), None
            case File(path):
                return await self._intake.place_file(path), None
            case Samples(data, shape, dtype):
                return await self._intake.place_raster(data, shape, dtype), None
            case Buffer():
                return self._move(material)
            case Result():
                return await self._place_result(material)

    def _move(self, buffer: Buffer) -> tuple[Placed, memoryview | None]:
        if not buffer.belongs_to(self._supervisor):
            raise InvalidTask("this buffer belongs to another pool")
        block, view = buffer.move()
        source = EncodedAt(in_inbox(block, view.nbytes) if view.nbytes else None)
        return Placed(source, None), view

    async def _place_result(self, result: Result) -> tuple[Placed, memoryview | None]:
        """In place where the worker that made it is free this moment, else one copy."""
        try:
            data = result.data[:]
        except ValueError:
            raise InvalidTask("this result's data was released; nothing is left to be a source") from None
        if result.path is not None:
            return await self._intake.place_file(str(result.path)), None
        block, raster = result.block, result.raster
        if block is not None and self._supervisor.can_run_in_place(block):
            handle = in_outbox(block, data.nbytes)
            source = EncodedAt(handle) if raster is None else RasterAt(handle, raster.shape, raster.dtype)
            return Placed(source, None, block.segment_id), data
        if raster is None:
            return await self._intake.place(data), None
        return await self._intake.place_raster(data, raster.shape, raster.dtype), None

    async def _remove_leftover(self, temporary: Path) -> None:
        """A worker that was killed while it wrote a file leaves its temporary name behind."""
        if not isinstance(self._ticket.outcome, Completed):
            errands = self._supervisor.errands
            await errands.in_thread(_remove_if_there, temporary, limiter=errands.source_threads)


def _remove_if_there(path: Path) -> None:
    with suppress(OSError):  # its directory is gone too, or was never there
        path.unlink()
