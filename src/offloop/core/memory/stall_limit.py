"""Stall limit: how long a request waits for memory that only callers can release."""

from __future__ import annotations

from math import inf

__all__ = ["MEMORY_WAIT_S", "StallLimit"]

MEMORY_WAIT_S = 30.0  # seconds without released memory after which a request fails


class StallLimit:
    """The time of the last released memory, and of the last failed request.

    The limit starts again with each released block, so a wait is not limited while callers release memory. It does not run
    while the pool's own tasks may release memory. After a request has failed, tasks that were submitted before do not wait for
    the same time again, one after the other: they fail at once until memory is released.
    """

    def __init__(self) -> None:
        self.moved_at = -inf  # last time at which callers released memory, or a task was granted some; set by the broker
        self._failed_at = -inf  # time of the last failed request
        self._begins_at = -inf  # last time at which the pool's own tasks could have released memory
        self._pool_can_help = True

    def note_help(self, now: float, *, pool_can_help: bool) -> None:
        """Set whether the pool's own tasks may release memory, or only callers can."""
        if pool_can_help or self._pool_can_help:
            self._begins_at = now
        self._pool_can_help = pool_can_help

    def request_failed(self, now: float) -> None:
        """A request has failed because of the limit."""
        self._failed_at = now

    def ends_at(self, since: float, submitted_at: float) -> float:
        """When a request fails that has waited since `since`, for a task that was submitted at `submitted_at`."""
        if submitted_at <= self._failed_at and self.moved_at <= self._failed_at:
            return -inf
        return max(since, self.moved_at, self._begins_at) + MEMORY_WAIT_S
