"""One call with `coalesce=True`, from its caller's side: joins a flight or starts one, and waits with its own limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from time import monotonic

import anyio

from ...errors import QueueTimeout, TaskTimeout
from ...plugins.planner import Plan
from ...runtime.loop.futures import OneShotEvent
from ...runtime.supervisor import Supervisor
from ...task_options import TaskOptions
from ..buffers import Buffer
from ..results import Result
from ..sources import ArrayObject, Material, samples_of
from ..submission import Submission
from .flights import Flight, FlightTable, Key
from .source_identity import identify

__all__ = ["SharedSubmission", "error_of_shared_file"]


class SharedSubmission:
    """One call with `coalesce=True`: joins the task of an equal call, or submits its own task for others to join."""

    on_preview: Callable[[Result], Awaitable[None]] | None = None

    def __init__(
        self, supervisor: Supervisor, flights: FlightTable, submission: Submission, plan: Plan, options: TaskOptions
    ) -> None:
        """Prepare a call.

        Raises:
            ValueError: the result goes into a file.
        """
        if options.output is not None:
            raise error_of_shared_file()
        self._supervisor = supervisor
        self._flights = flights
        self._submission = submission
        self._plan = plan
        self._options = options

    @property
    def task_id(self) -> int:
        """Id of the task that the call waits for. It changes when the call joins another one's task."""
        return self._submission.task_id

    async def run(self) -> Result:
        """Wait for the outcome of the shared task, and return or raise it.

        Raises:
            QueueTimeout, TaskTimeout: the limit of this call is over; the task goes on for the other calls.
        """
        queued = monotonic()
        sources = self._submission.sources = await self._with_samples(self._submission.sources)
        identity = await identify(sources, self._supervisor)
        if identity is None:
            self._submission.on_preview = self.on_preview
            return await self._submission.run()
        flight = self._join(self._key(identity))
        try:
            await self._wait(flight, queued)
        finally:
            await flight.leave()
        return flight.result_for(queued)

    async def _with_samples(self, sources: Sequence[Material]) -> tuple[Material, ...]:
        """Return the sources with the samples of array-like objects, which are read once."""
        background = self._supervisor.background
        return tuple(
            [
                await background.run_in_thread(samples_of, source, limiter=background.source_threads)
                if isinstance(source, ArrayObject)
                else source
                for source in sources
            ]
        )

    def _key(self, identity: Hashable) -> Key:
        options = self._options
        stages = tuple((stage.plugin, bytes(stage.operations)) for stage in self._plan.stages)
        limit = options.memory_limit_bytes
        return identity, stages, options.tenant, options.priority, options.retries, options.previews, limit

    def _join(self, key: Key) -> Flight:
        flight = self._flights.find(key, self._options)
        if flight is None:
            flight = Flight(self._supervisor, self._flights, key, self._submission, self._options)
            flight.start()
        else:
            for source in self._submission.sources:
                if isinstance(source, Buffer):
                    source.move()  # because a buffer that is passed belongs to the pool, and its memory is returned now
            self._flights.joined += 1
            self._submission = flight.submission
            self._supervisor.event_stream.observers.task_shared(self._submission.task_id)
        flight.waiters += 1
        return flight

    async def _wait(self, flight: Flight, queued: float) -> None:
        """Wait until the flight has ended, and hand over its previews, also those from before this call."""
        limits = _OwnLimits(self._supervisor, flight, self._options)
        handed_over = 0
        while True:
            while self.on_preview is not None and handed_over < len(flight.previews):
                await self.on_preview(flight.previews[handed_over].shared(queued))
                handed_over += 1
            if flight.ended.is_set:
                return
            await limits.wait(flight.changed)


class _OwnLimits:
    """The limits of one call that are shorter than those of the task that it has joined."""

    def __init__(self, supervisor: Supervisor, flight: Flight, options: TaskOptions) -> None:
        task = flight.options
        self._supervisor = supervisor
        self._task_id = flight.submission.task_id
        self._joined_at = supervisor.now()
        self._timeout_s = None if options.timeout_s == task.timeout_s else options.timeout_s
        self._queue_timeout_s = None if options.queue_timeout_s == task.queue_timeout_s else options.queue_timeout_s

    async def wait(self, changed: OneShotEvent) -> None:
        """Wait for the event, as long as the limits allow.

        Raises:
            QueueTimeout, TaskTimeout: a limit of this call is over.
        """
        if self._timeout_s is None and self._queue_timeout_s is None:
            await changed.wait()
            return
        while not changed.is_set:
            with anyio.CancelScope(deadline=self._next_check()):
                await changed.wait()

    def _next_check(self) -> float:
        """Time at which the next limit may be over. Its running time is counted from the call on, without waits for memory."""
        now = self._supervisor.now()
        task = self._supervisor.core.task_table.get(self._task_id)
        ends = [anyio.current_time() + 3600.0]
        if self._queue_timeout_s is not None and (task is None or not task.dispatches):
            end = self._joined_at + self._queue_timeout_s
            if end <= now:
                raise QueueTimeout(self._queue_timeout_s, "a worker")
            ends.append(end)
        if self._timeout_s is not None:
            end = now + self._timeout_s
            if task is not None and task.slot is not None and not task.delivery_id:
                paused_s = task.paused_s + (0.0 if task.paused_since is None else now - task.paused_since)
                end = max(task.dispatched_at, self._joined_at) + paused_s + self._timeout_s
            if end <= now:
                raise TaskTimeout(self._timeout_s, is_shared=True)
            ends.append(end)
        return min(ends)


def error_of_shared_file() -> ValueError:
    """The error for a call that is to share a task, and to have its result in a file."""
    return ValueError("coalesce=True and to=: calls cannot share a task that writes a file of one of them")
