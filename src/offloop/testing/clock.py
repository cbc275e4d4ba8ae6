"""Time that stands still until a test moves it."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """A monotonic clock in seconds, for whatever takes the time as an argument or as a function.

    core.handle(event, clock())

    It is not for a running pool: that waits for its loop's timers, and they know their own clock only. On trio, give the loop
    a `trio.testing.MockClock`, and the pool lives by it.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    @property
    def now(self) -> float:
        return self._now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Let so many seconds pass; returns the new time.

        Raises:
            ValueError: they are negative: a monotonic clock never goes back.
        """
        return self.advance_to(self._now + seconds)

    def advance_to(self, now: float) -> float:
        """Let time pass until then; returns it.

        Raises:
            ValueError: that is over already.
        """
        if not now >= self._now:
            raise ValueError(f"it is {self._now:g} s, and a monotonic clock never goes back to {now:g} s")
        self._now = now
        return now
