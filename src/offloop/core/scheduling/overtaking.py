"""Overtaking limit: how much later work of its tenant may pass a task, and the stable cost that it follows from.

The duration of equal tasks varies by a factor of four and more on a busy machine. If the limit followed each new measurement,
equal tasks would pass each other. So the factor between estimated and measured cost of a kind changes only when several tasks
in a row show that it is wrong. Tasks of one kind and size are served in the order of their submission even then.
"""

from __future__ import annotations

from math import exp, inf, log

__all__ = ["MAX_OVERTAKING_S", "StableCostFactor", "overtaking_limit_s"]

MAX_OVERTAKING_S = 30.0  # seconds of the whole pool's work that may pass any task
_LIMIT_PER_COST = 8.0  # seconds of the whole pool's work that may pass a task, for each second of its cost
_LIMIT_PER_SQUARED_COST = 100.0  # the same, for each squared second of its cost

_MIN_AGREEING_TASKS = 6  # tasks in a row that must deviate in one direction before the factor of their kind changes
_CHANGE_RATIO = 2.0  # smallest deviation that counts, as a ratio
_MIN_FACTOR = 1e-9  # because a clock that is too coarse measures zero


def overtaking_limit_s(cost_s: float) -> float:
    """Seconds of the whole pool's work that may be submitted after a task and start before it.

    The limit of a small task is nearly in proportion to its cost, so tasks of similar cost start almost in the order of their
    submission. The limit of a large task grows with the square of its cost, so that thumbnails pass panoramas.
    """
    return min(cost_s * (_LIMIT_PER_COST + _LIMIT_PER_SQUARED_COST * cost_s), MAX_OVERTAKING_S)


class StableCostFactor:
    """Ratio of measured to estimated cost of the tasks of one kind. It changes only on strong evidence.

    It changes at most once in `MAX_OVERTAKING_S` of the work clock. So no waiting task has a place by an earlier factor than
    the last two, and these two are enough to place equal tasks in order.
    """

    def __init__(self) -> None:
        self.now = 1.0
        self._before = 1.0  # factor before the last change
        self._changed_at_s = -inf  # time of the last change on the work clock
        self._side: int = 0  # direction in which the last tasks deviated: 1 more, -1 less, 0 neither
        self._run = 0  # number of tasks in a row that deviated in that direction
        self._run_log = 0.0  # sum of the logarithms of their factors

    def observe(self, factor: float, clock_s: float) -> None:
        """Take in a finished task's ratio of measured to estimated cost."""
        ratio = factor / self.now
        side = int(ratio > _CHANGE_RATIO) - int(ratio * _CHANGE_RATIO < 1.0)
        if side != self._side:
            self._side, self._run, self._run_log = side, 0, 0.0
        if not side:
            return
        self._run += 1
        self._run_log += log(max(factor, _MIN_FACTOR))
        if self._run >= _MIN_AGREEING_TASKS and clock_s >= self._changed_at_s + MAX_OVERTAKING_S:
            self._before, self.now = self.now, exp(self._run_log / self._run)
            self._changed_at_s = clock_s
            self._side, self._run, self._run_log = 0, 0, 0.0

    def place_s(self, arrived_s: float, estimated_s: float) -> float:
        """The place of a task on the work clock.

        It is never before the place of an equal task that was submitted earlier, even if the factor has decreased in between.

        Args:
            arrived_s: the time of its submission on the work clock.
            estimated_s: its estimated cost in seconds.
        """
        before = overtaking_limit_s(estimated_s * self._before)
        if arrived_s < self._changed_at_s:
            return arrived_s + before
        return max(arrived_s + overtaking_limit_s(estimated_s * self.now), self._changed_at_s + before)
