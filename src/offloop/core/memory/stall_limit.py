"""Stall limit: how long a request waits for memory that only callers can release."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

__all__ = ["MEMORY_WAIT_S", "StallLimit", "WaitStart"]

MEMORY_WAIT_S = 30.0  # seconds without released memory after which a request fails


class WaitStart(NamedTuple):
    """The time at which a request has begun to wait. `StallLimit.begin` makes it."""

    at: float  # time in seconds
    helped_s: float  # seconds before in which the pool's own tasks could have released memory


class StallLimit:
    """The time of the last released memory, and of the last failed request.

    The limit starts again with each released block, so a wait is not limited while callers release memory. It stands still
    while the pool's own tasks may release memory, and goes on after that, because a short task now and then is no progress.
    After a request has failed, tasks that were submitted before do not wait for the same time again, one after the other: they
    fail at once until memory is released.
    """

    def __init__(self) -> None:
        self.moved_at = -inf  # last time at which callers released memory, or a task was granted some; set by the broker
        self._moved_helped_s = 0.0  # as `WaitStart.helped_s`, at that time
        self._failed_at = -inf  # time of the last failed request
        self._noted_at = 0.0  # time of the last `note_help`
        self._pool_can_help = False  # whether the pool's own tasks may release memory since then
        self._helped_s = 0.0  # seconds until then in which they could have released memory

    def begin(self, now: float) -> WaitStart:
        """The start of a request's wait."""
        return WaitStart(now, self._helped_until(now))

    def note_help(self, now: float, *, pool_can_help: bool) -> None:
        """Set whether the pool's own tasks may release memory from now on, or only callers can."""
        self._moved_helped_s = self._helped_until_moved()
        self._helped_s = self._helped_until(now)
        self._noted_at, self._pool_can_help = now, pool_can_help

    def request_failed(self, now: float) -> None:
        """A request has failed because of the limit."""
        self._failed_at = now

    def ends_at(self, since: WaitStart, submitted_at: float) -> float:
        """When a request fails that waits since then, for a task that was submitted at `submitted_at`, if from now on only
        callers can release memory."""
        if submitted_at <= self._failed_at and self.moved_at <= self._failed_at:
            return -inf
        if since.at > self.moved_at:
            return since.at + MEMORY_WAIT_S + self._helped_s - since.helped_s
        return self.moved_at + MEMORY_WAIT_S + self._helped_s - self._helped_until_moved()

    def _helped_until(self, now: float) -> float:
        return self._helped_s + now - self._noted_at if self._pool_can_help else self._helped_s

    def _helped_until_moved(self) -> float:
        return self._helped_until(self.moved_at) if self.moved_at >= self._noted_at else self._moved_helped_s
