"""A fake clock that a test moves."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """A monotonic clock in seconds, for code that takes the time as an argument or as a function.

    core.handle(event, clock())

    It does not work for a running pool, because a pool uses its loop's timers and clock. On trio, give the loop a
    `trio.testing.MockClock` instead; the pool then uses it.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    @property
    def now(self) -> float:
        return self._now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move the clock forward by `seconds`. Returns the new time.

        Raises:
            ValueError: `seconds` is negative, and a monotonic clock never goes back.
        """
        return self.advance_to(self._now + seconds)

    def advance_to(self, now: float) -> float:
        """Move the clock forward to `now`. Returns `now`.

        Raises:
            ValueError: `now` is in the past.
        """
        if not now >= self._now:
            raise ValueError(f"it is {self._now:g} s, and a monotonic clock never goes back to {now:g} s")
        self._now = now
        return now
