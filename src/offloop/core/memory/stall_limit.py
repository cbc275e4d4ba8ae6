"""The limit of waiting for memory that only callers can give back."""

from __future__ import annotations

from math import inf

__all__ = ["MEMORY_WAIT_S", "StallLimit"]

MEMORY_WAIT_S = 30.0  # without any memory that came back, until a wait for it ends with an error


class StallLimit:
    """When callers last gave memory back, and whether waiting for more of it was given up since.

    The limit starts anew with each block that comes back, so a wait that gets on is not limited. It does not run while the
    pool's own tasks may give memory back. Once a wait was given up, tasks that were submitted before are not left to wait as
    long, one after the other, until something comes back.
    """

    def __init__(self) -> None:
        self._moved_at = -inf  # the last time at which callers gave memory back, or a task was granted some
        self._failed_at = -inf
        self._begins_at = -inf  # the last time at which the pool's own tasks could have given memory back
        self._pool_can_help = True

    def memory_moved(self, now: float) -> None:
        """Memory came back, or a wait for it was met."""
        self._moved_at = max(self._moved_at, now)

    def note_help(self, now: float, *, pool_can_help: bool) -> None:
        """From now on, the pool's own tasks may give memory back, or only callers can."""
        if pool_can_help or self._pool_can_help:
            self._begins_at = now
        self._pool_can_help = pool_can_help

    def request_failed(self, now: float) -> None:
        """A wait ended with an error."""
        self._failed_at = now

    def ends_at(self, since: float, submitted_at: float) -> float:
        """When a wait that began at `since`, of a task that was submitted then, is to end."""
        if submitted_at <= self._failed_at and self._moved_at <= self._failed_at:
            return -inf
        return max(since, self._moved_at, self._begins_at) + MEMORY_WAIT_S
