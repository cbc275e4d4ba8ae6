"""Puts the sources of a task into the own inbox of its worker, so that no other worker can read them.

Sources wait in the caller's own memory (`bytes`, which cannot change), in open files, or in the pool's inbox. No worker maps
these. A small source in memory is copied on the loop when its task is sent. A thread copies or reads all others before that,
when the core has chosen the worker: a delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic_ns
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from ...core.model.blocks import CALLER_MEMORY
from ...core.model.commands import DeliverSources
from ...core.model.events import SourcesDelivered
from ...errors import InvalidTask, OffloopError, PoolClosed, TaskFailed
from ...wire.messages import Failed, FromSupervisor, Run
from ..loop.background import BackgroundTasks
from ..memory.segments import Segment
from ..memory.source_file import CallerMemory, SourceFile
from .worker_inbox import Place, WorkerInbox

__all__ = ["SourceDelivery"]

_T = TypeVar("_T")

_KEEP_S = 1.0  # seconds without a large source after which its pages are released


class _Delivery:
    """A delivery whose thread has not ended."""

    def __init__(self, command: DeliverSources) -> None:
        self.delivery_id = command.delivery_id
        self.task_id = command.task_id
        self.sources = command.sources
        self.scope: anyio.CancelScope | None = None  # made by its own task, because anyio makes none in a callback of the loop
        self._is_stopped = False

    def is_wanted(self) -> bool:
        """Whether it was not stopped. Any thread may ask."""
        return not self._is_stopped

    def stop(self) -> None:
        """End it at once if its thread has not begun, otherwise as soon as possible."""
        self._is_stopped = True
        if self.scope is not None:
            self.scope.cancel()


class SourceDelivery:
    """The sources in the inbox of one worker. All methods are called in the loop's thread."""

    def __init__(
        self,
        inbox: WorkerInbox,
        pool_inbox: Segment,
        background: BackgroundTasks,
        find_memory: Callable[[int], Sequence[CallerMemory] | None],
        report: Callable[[SourcesDelivered], None],
        fail: Callable[[Failed], None],
    ) -> None:
        """Connect the parts.

        Args:
            inbox: the worker's own inbox.
            pool_inbox: the segment that the handles in messages refer to.
            background: the pool's tasks and threads.
            find_memory: returns the sources of a task that stay with its caller; None: the task is settled.
            report: reports the end of a delivery.
            fail: reports that a task fails which the worker will never see.
        """
        self._inbox = inbox
        self._pool_inbox = pool_inbox
        self._background = background
        self._find_memory = find_memory
        self._report = report
        self._fail = fail
        self._places: dict[int, Place] = {}  # places of the sources that the worker may read, by task id
        self._deliveries: dict[int, _Delivery] = {}  # deliveries that were not stopped, by id
        self._freed: anyio.Event | None = None  # set when a place is free again; None: no delivery waits for one
        self._large_tasks = 0  # number of deliveries
        self._is_watching = False  # whether a background task will release pages

    def deliver(self, command: DeliverSources) -> None:
        """Copy or read the sources of a task in a thread, and report it. `send_run` follows."""
        memory = self._find_memory(command.task_id)
        assert memory is not None, "a task is settled after its delivery was stopped"
        delivery = self._deliveries[command.delivery_id] = _Delivery(command)
        self._large_tasks += 1
        self._background.run(partial(self._deliver, delivery, memory))

    def stop(self, delivery_id: int) -> None:
        """The worker does not get the task of this delivery. Its sources keep their place while a thread writes."""
        delivery = self._deliveries.pop(delivery_id, None)
        if delivery is not None:
            delivery.stop()

    def send_run(self, run: Run, send: Callable[[FromSupervisor], None]) -> None:
        """Send a task by this function. Sources that were not delivered are copied before."""
        if has_source(run):
            place = self._places.get(run.task_id) or self._copy_small(run)
            if place is None:
                return
            run = msgspec.structs.replace(run, sources=place.sources)
        send(run)

    def note_end(self, task_id: int) -> None:
        """The worker does not read the sources of a task any more, because it has answered, or will not begin the task."""
        place = self._places.pop(task_id, None)
        if place is not None:
            self._forget(place)

    def release_kept(self) -> None:
        """Release the pages that large sources have left, because the pool needs their memory."""
        if self._inbox.has_excess and not self._inbox.is_releasing:
            self._background.run(self._release)

    def _copy_small(self, run: Run) -> Place | None:
        """Copy the sources of a task on the loop. None: the task is settled, or was not copied, and fails."""
        memory = self._find_memory(run.task_id) if _is_of_caller(run) else ()
        if memory is None:
            return None
        place = self._inbox.place_small(run.sources, memory)
        try:
            self._inbox.copy_in(self._pool_inbox, place.copies)
        except (OSError, PoolClosed) as error:
            self._inbox.forget(place)
            now_ns = monotonic_ns()
            self._fail(Failed(run.task_id, "memory_limit", _text_of(error), None, now_ns, now_ns))
            return None
        self._places[run.task_id] = place
        return place

    async def _deliver(self, delivery: _Delivery, memory: Sequence[CallerMemory]) -> None:
        place: Place | None = None
        error: OffloopError | None = None
        delivery.scope = anyio.CancelScope()
        if not delivery.is_wanted():
            delivery.scope.cancel()
        with delivery.scope:
            place = await self._find_place(delivery, memory)
            error = await _in_thread(partial(self._copy, place, delivery), self._threads_for(memory))
        if delivery.is_wanted():
            del self._deliveries[delivery.delivery_id]
        if place is not None:
            if delivery.is_wanted() and error is None:
                self._places[delivery.task_id] = place
            else:
                self._forget(place)
        self._report(SourcesDelivered(delivery.delivery_id, error))

    def _threads_for(self, memory: Sequence[CallerMemory]) -> anyio.CapacityLimiter:
        files = [source.nbytes for source in memory if isinstance(source, SourceFile)]
        return self._background.threads_to_read(sum(files)) if files else self._background.source_threads

    async def _find_place(self, delivery: _Delivery, memory: Sequence[CallerMemory]) -> Place:
        """Wait until there is a place: while pages are released, and while stopped deliveries take all addresses."""
        while (place := self._inbox.find_place(delivery.sources, memory)) is None:
            self._freed = self._freed or anyio.Event()
            await self._freed.wait()
        return place

    def _copy(self, place: Place, delivery: _Delivery) -> OffloopError | None:
        """Copy or read sources, in a thread. Returns the error of the task."""
        try:
            self._inbox.copy_in_thread(self._pool_inbox, place.copies, delivery.is_wanted)
        except InvalidTask as error:
            return error.with_traceback(None)
        except (OSError, PoolClosed) as error:
            return TaskFailed("memory_limit", _text_of(error))
        return None

    def _forget(self, place: Place) -> None:
        """A place is free again. Pages beyond the kept ones are released later."""
        self._inbox.forget(place)
        self._wake()
        if self._inbox.has_excess and not self._is_watching:
            self._is_watching = True
            self._background.run(self._release_when_unused, until_closed=True)

    def _wake(self) -> None:
        if self._freed is not None:
            freed, self._freed = self._freed, None
            freed.set()

    async def _release_when_unused(self) -> None:
        """Release the pages beyond the kept ones when no large source has come for a second."""
        seen = -1
        while seen != self._large_tasks:
            seen = self._large_tasks
            await anyio.sleep(_KEEP_S)
        self._is_watching = False
        await self._release()

    async def _release(self) -> None:
        if self._inbox.is_releasing or not self._inbox.has_excess:
            return
        start, end = self._inbox.take_excess()
        try:
            await _in_thread(partial(self._inbox.release_range, start, end), self._background.own_threads)
        finally:
            self._inbox.end_release()
            self._wake()


async def _in_thread(function: Callable[[], _T], threads: anyio.CapacityLimiter) -> _T:
    """Run a function that does not raise in a thread; or here, if no thread can be started."""
    try:
        return await anyio.to_thread.run_sync(function, limiter=threads)
    except RuntimeError:
        return function()


def has_source(run: Run) -> bool:
    """Whether a task has a source of at least one byte."""
    for source in run.sources:  # noqa: SIM110 (a generator takes three times as long, and this runs for each task)
        if source.block is not None:
            return True
    return False


def _is_of_caller(run: Run) -> bool:
    """Whether all sources of a task lie in its caller's memory."""
    return all(source.block is None or source.block.segment == CALLER_MEMORY for source in run.sources)


def _text_of(error: OSError | PoolClosed) -> str:
    return f"there is no memory for a copy of its sources: {error}"
