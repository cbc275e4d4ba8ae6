"""When a dead worker is replaced: at once, after a pause, or not before the storm is over.

Three things are told apart. A worker that crashed is replaced at once; if its replacement dies without ever having accepted a
task, after a pause that doubles. Workers that die before they are ready (start-up deaths) are spaced out by a count of their
own: something is wrong with the installation and not with a task. And when more crash within a period than the intensity allows
(the terms are those of Erlang's supervisors), a circuit breaker opens: nothing is started for a while, then one worker is, on
probation, and only when that one has answered for a task do the others follow. In a pool that has no task for it, it is enough
that the worker stays ready, and that no other crashes, for a while. No state lasts for ever.

Workers that we kill because their task ran too long, or that we retire, have not crashed, and are not reported here.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from math import inf

from .jitter import Jitter

__all__ = ["CircuitBreaker", "RestartPolicy"]

_PAUSE_S = 0.1  # after the second death in a row; doubles with each
_MAX_PAUSE_S = 5.0
_COOL_DOWN_S = 1.0  # that an opened breaker stays open; doubles with each failed probe
_MAX_COOL_DOWN_S = 30.0
_MAX_PROBATION_S = 30.0  # without a task and without a crash; the period, where that is shorter


class CircuitBreaker(Enum):
    """Whether dead workers are replaced."""

    CLOSED = "closed"  # yes
    OPEN = "open"  # not now
    HALF_OPEN = "half-open"  # one, to see how it fares


class RestartPolicy:
    """Counts deaths and says when the next start may be. `intensity` crashes within `period_s` are borne; one more is not."""

    def __init__(self, intensity: int, period_s: float, jitter: Jitter) -> None:
        self.breaker = CircuitBreaker.CLOSED
        self.crashes = 0  # in all, for statistics
        self.start_deaths = 0  # in a row
        self._intensity = intensity
        self._period_s = period_s
        self._jitter = jitter
        self._recent: deque[float] = deque()  # when workers crashed, within the period
        self._unaccepted = 0  # deaths in a row of workers that had accepted no task
        self._openings = 0  # of the breaker since it was last closed
        self.wake_at = inf  # when `notice` is to be called: the open breaker half-opens, or the half-open one closes
        self.half_open_slot: int | None = None  # the slot of the worker on probation

    def advance(self, now: float) -> None:
        """Time has passed: a cool-down, or a probation, may be over."""
        if self.breaker is CircuitBreaker.OPEN and now >= self.wake_at:
            self.breaker = CircuitBreaker.HALF_OPEN
            self._watch_from(now)
        elif self.breaker is CircuitBreaker.HALF_OPEN and now >= self.wake_at:
            self._close()

    def crashed(self, now: float, *, accepted: bool) -> float:
        """A worker that had been ready died. Returns when its replacement may be started."""
        self.advance(now)
        self.crashes += 1
        self._unaccepted = 0 if accepted else self._unaccepted + 1
        self._recent.append(now)
        while self._recent[0] < now - self._period_s:
            self._recent.popleft()
        if self.breaker is CircuitBreaker.HALF_OPEN or (
            self.breaker is CircuitBreaker.CLOSED and len(self._recent) > self._intensity
        ):
            self._open(now)
        return now + self._pause(self._unaccepted - 1)

    def died_at_start(self, slot: int, now: float) -> float:
        """A worker died before it was ready. Returns when the next may be started."""
        self.start_deaths += 1
        if slot == self.half_open_slot:
            self._open(now)
        return now + self._pause(self.start_deaths)

    def became_ready(self, slot: int, now: float) -> None:
        """A worker could be brought up."""
        self.start_deaths = 0
        if slot == self.half_open_slot:
            self._watch_from(now)

    def accepted(self, slot: int) -> None:
        """A worker has answered for a task, so it can be started, spoken to, and do its work."""
        self._unaccepted = 0
        if slot == self.half_open_slot:
            self._close()

    def on_worker_removed(self, slot: int, now: float) -> None:
        """The slot's worker is gone for another reason than a crash: if it was on probation, the next one is."""
        if slot == self.half_open_slot:
            self.half_open_slot = None
            self._watch_from(now)

    def may_start(self, slot: int, now: float) -> bool:
        """Whether a worker may be started in that slot now; if so, it counts as started."""
        self.advance(now)
        if self.breaker is CircuitBreaker.HALF_OPEN and self.half_open_slot is None:
            self.half_open_slot = slot
            self.wake_at = inf  # it has to be ready first
            return True
        return self.breaker is CircuitBreaker.CLOSED

    @property
    def ask_again_at(self) -> float | None:
        """When `may_start` is worth asking again, after it said no; None: when the worker on probation has passed or failed."""
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

    def _watch_from(self, now: float) -> None:
        self.wake_at = now + min(self._period_s, _MAX_PROBATION_S)

    def _pause(self, deaths: int) -> float:
        """None for the first, then doubling."""
        if deaths < 1:
            return 0.0
        return self._jitter.around(min(_PAUSE_S * 2 ** min(deaths - 1, 10), _MAX_PAUSE_S))
