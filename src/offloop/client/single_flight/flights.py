"""Single flight: calls with `coalesce=True` that would do the same at the same time share one task.

The first call starts a flight, which runs the task in a background task of the loop, so that any call may leave. Each call
waits with its own limits, and has its own `Result` over the same memory. When the last call leaves, the task is cancelled.
"""

from __future__ import annotations

import contextvars
from collections.abc import Hashable
from copy import copy
from typing import TypeAlias

import anyio

from ...errors import PoolClosed
from ...runtime.loop.futures import OneShotEvent
from ...runtime.supervisor import Supervisor
from ...task_options import TaskOptions
from ..results import Result
from ..submission import Submission

__all__ = ["Flight", "FlightTable", "Key"]

Key: TypeAlias = tuple[Hashable, ...]


class FlightTable:
    """The flights of one pool that calls can join, by what their tasks do."""

    def __init__(self) -> None:
        self.joined = 0
        """Number of calls that joined the task of another call, for statistics."""
        self._flights: dict[Key, Flight] = {}

    def find(self, key: Key, options: TaskOptions) -> Flight | None:
        """Return the flight that a call can join: its limits are not shorter than those of the call."""
        flight = self._flights.get(key)
        if flight is None or not _covers(flight.options.timeout_s, options.timeout_s):
            return None
        return flight if _covers(flight.options.queue_timeout_s, options.queue_timeout_s) else None

    def add(self, key: Key, flight: Flight) -> None:
        """Let calls join a flight, and no earlier one with the same key."""
        self._flights[key] = flight

    def discard(self, key: Key, flight: Flight) -> None:
        """Let no call join a flight any more."""
        if self._flights.get(key) is flight:
            del self._flights[key]


class Flight:
    """One task that several calls wait for."""

    def __init__(
        self, supervisor: Supervisor, flights: FlightTable, key: Key, submission: Submission, options: TaskOptions
    ) -> None:
        self.submission = submission
        self.options = options
        self.waiters = 0  # number of calls that wait
        self.previews: list[Result] = []
        loop = supervisor.affinity.loop
        self.ended = OneShotEvent(loop)  # set when the task has its outcome
        self.changed = OneShotEvent(loop)  # set at the next preview, and at the end
        self._supervisor = supervisor
        self._flights = flights
        self._key = key
        self._scope = anyio.CancelScope()
        self._has_begun = False
        self._result: Result | None = None
        self._error: Exception | None = None

    def start(self) -> None:
        """Start the task of the loop that runs the task, in the context of the caller.

        Raises:
            PoolClosed: the pool is closing.
        """
        background = self._supervisor.background
        if background.closed:
            raise PoolClosed
        if self.options.previews:
            self.submission.on_preview = self._add_preview
        self._flights.add(self._key, self)
        background.run(self._run, context=contextvars.copy_context())

    async def leave(self) -> None:
        """A call does not wait any more. The last one cancels the task, and returns when its memory is free."""
        self.waiters -= 1
        if self.waiters or self.ended.is_set:
            return
        self._flights.discard(self._key, self)
        self._scope.cancel()
        if self._has_begun:
            await self.ended.wait_uncancellable()

    def result_for(self, queued: float) -> Result:
        """Return a result for one call, or raise a copy of the error, because raising changes the traceback."""
        if self._result is not None:
            return self._result.shared(queued)
        assert self._error is not None, "a task that was cancelled has no call that waits"
        raise copy(self._error)

    async def _run(self) -> None:
        self._has_begun = True
        try:
            with self._scope:
                if self.waiters:
                    self._result = await self.submission.run()
        except Exception as error:
            self._error = copy(error)  # without its traceback, which refers to this frame: a reference cycle otherwise
        except BaseException:  # the event loop ends
            self._error = PoolClosed()
            raise
        finally:
            self._flights.discard(self._key, self)
            self.ended.set()
            self._notify()

    async def _add_preview(self, preview: Result) -> None:
        self.previews.append(preview)
        self._notify()

    def _notify(self) -> None:
        changed, self.changed = self.changed, OneShotEvent(self._supervisor.affinity.loop)
        changed.set()


def _covers(limit_s: float | None, own_s: float | None) -> bool:
    """Whether the limit of a task is not shorter than that of a call. None: no limit."""
    return limit_s is None or (own_s is not None and own_s <= limit_s)
