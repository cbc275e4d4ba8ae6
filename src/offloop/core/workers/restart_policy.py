"""Restart policy: when the replacement of a dead worker may start. Back-off after deaths in a row, and a circuit breaker.

- A worker that crashed is replaced at once. If the replacement dies before it has accepted a task, the next one starts after a
  pause,
  which doubles each time.
- Workers that die before they are ready have a pause and a count of their own, because the cause is the installation, not a
  task.
- When more workers crash within a period than the intensity allows (both terms are those of Erlang's supervisors), the circuit
  breaker
  opens. No worker starts for a while. Then one worker starts (half-open slot), and the others follow when it has answered for a
  task.
  If the pool has no task for it, it must stay ready, and no other worker may crash, for a while. No state of the breaker is
  permanent.

A worker that the pool kills because its task ran too long, or that it retires, has not crashed, and is not reported here.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from math import inf

from .jitter import Jitter

__all__ = ["CircuitBreaker", "RestartPolicy"]

_PAUSE_S = 0.1  # seconds after the second death in a row; doubles with each death
_MAX_PAUSE_S = 5.0  # seconds
_COOL_DOWN_S = 1.0  # seconds for which the breaker stays open; doubles with each opening in a row
_MAX_COOL_DOWN_S = 30.0  # seconds
_MAX_HALF_OPEN_S = 30.0  # seconds without a task and a crash until the breaker closes; the period, if that is shorter


class CircuitBreaker(Enum):
    """Whether dead workers are replaced."""

    CLOSED = "closed"  # all are
    OPEN = "open"  # none is
    HALF_OPEN = "half-open"  # one is, and its success decides about the others


class RestartPolicy:
    """Counts deaths, and returns when the next worker may start. More than `intensity` crashes in `period_s` open the
    breaker."""

    def __init__(self, intensity: int, period_s: float, jitter: Jitter) -> None:
        self.breaker = CircuitBreaker.CLOSED
        self.crashes = 0  # number of all crashes, for statistics
        self.start_deaths = 0  # failed starts in a row
        self._intensity = intensity
        self._period_s = period_s
        self._jitter = jitter
        self._recent: deque[float] = deque()  # times of the crashes within the period
        self.unaccepted = 0  # deaths in a row of workers that had accepted no task; read only
        self._openings = 0  # openings of the breaker since it was last closed
        self.wake_at = inf  # when `advance` must be called, because the breaker becomes half-open or closes
        self.half_open_slot: int | None = None  # slot of the one worker that starts while the breaker is half-open

    def advance(self, now: float) -> None:
        """Time has passed: change the breaker's state if its time has come."""
        if self.breaker is CircuitBreaker.OPEN and now >= self.wake_at:
            self.breaker = CircuitBreaker.HALF_OPEN
            self._close_after_pause(now)
        elif self.breaker is CircuitBreaker.HALF_OPEN and now >= self.wake_at:
            self._close()

    def crashed(self, now: float, *, accepted: bool) -> float:
        """A worker that had been ready has crashed. Returns when its replacement may start."""
        self.advance(now)
        self.crashes += 1
        self.unaccepted = 0 if accepted else self.unaccepted + 1
        self._recent.append(now)
        while self._recent[0] < now - self._period_s:
            self._recent.popleft()
        if self.breaker is CircuitBreaker.HALF_OPEN or (
            self.breaker is CircuitBreaker.CLOSED and len(self._recent) > self._intensity
        ):
            self._open(now)
        return now + self._pause(self.unaccepted - 1)

    def died_at_start(self, slot: int, now: float) -> float:
        """A worker has died before it was ready. Returns when the next one may start."""
        self.start_deaths += 1
        if slot == self.half_open_slot:
            self._open(now)
        return now + self._pause(self.start_deaths)

    def became_ready(self, slot: int, now: float) -> None:
        """A worker has become ready."""
        self.start_deaths = 0
        if slot == self.half_open_slot:
            self._close_after_pause(now)

    def accepted(self, slot: int) -> None:
        """A worker has answered for a task, so starts, messages and tasks work."""
        self.unaccepted = 0
        if slot == self.half_open_slot:
            self._close()

    def on_worker_removed(self, slot: int, now: float) -> None:
        """The slot's worker is gone, but has not crashed. If it was the half-open slot, the next slot that starts is."""
        if slot == self.half_open_slot:
            self.half_open_slot = None
            self._close_after_pause(now)

    def may_start(self, slot: int, now: float) -> bool:
        """Whether a worker may start in the slot now. If the breaker is half-open, the slot becomes the half-open slot."""
        self.advance(now)
        if self.breaker is CircuitBreaker.HALF_OPEN and self.half_open_slot is None:
            self.half_open_slot = slot
            self.wake_at = inf  # until the worker is ready
            return True
        return self.breaker is CircuitBreaker.CLOSED

    @property
    def ask_again_at(self) -> float | None:
        """When to call `may_start` again after it returned False; None: after the half-open slot's success or failure."""
        return self.wake_at if self.breaker is CircuitBreaker.OPEN else None

    def _open(self, now: float) -> None:
        self.breaker = CircuitBreaker.OPEN
        self.half_open_slot = None
        self.wake_at = now + self._jitter.around(min(_COOL_DOWN_S * 2 ** min(self._openings, 10), _MAX_COOL_DOWN_S))
        self._openings += 1

    def _close(self) -> None:
        self.breaker = CircuitBreaker.CLOSED
        self.half_open_slot = None
        self.wake_at = inf
        self._openings = 0
        self._recent.clear()

    def _close_after_pause(self, now: float) -> None:
        self.wake_at = now + min(self._period_s, _MAX_HALF_OPEN_S)

    def _pause(self, deaths: int) -> float:
        """Seconds of pause after so many deaths: 0 for none, doubling from the first."""
        if deaths < 1:
            return 0.0
        return self._jitter.around(min(_PAUSE_S * 2 ** min(deaths - 1, 10), _MAX_PAUSE_S))
