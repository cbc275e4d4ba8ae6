"""How long a task lets later tasks of its tenant pass, and the steady cost that decides it.

Patience follows a cost that does not move with every measurement. What tasks of one kind take varies by a factor of four and
more on a busy machine. If each new measurement changed the patience of the next task, tasks that are equal would pass each
other. So the factor between what is said beforehand and what a kind really takes changes only when several tasks in a row
agree that it is wrong, and tasks of one kind and size are served in the order of their submission even then.
"""

from __future__ import annotations

from math import exp, inf, log

__all__ = ["MAX_OVERTAKING_S", "StableCostFactor", "overtaking_limit_s"]

MAX_OVERTAKING_S = 30.0  # seconds of the whole pool's work that may pass any task
_LIMIT_PER_COST = 8.0  # a task lets work pass that takes the pool so many times as long as the task takes itself...
_LIMIT_PER_SQUARED_COST = 100.0  # ...and so many times more for each second that it takes

_MIN_AGREEING_TASKS = 6  # tasks in a row that must agree before the factor of their kind changes
_CHANGE_RATIO = 2.0  # by how much they must be off
_LEAST_FACTOR = 1e-9  # a clock that is too coarse says zero


def overtaking_limit_s(cost_s: float) -> float:
    """Seconds of the whole pool's work that may come after a task and still go before it.

    Nearly in proportion to the cost for small tasks, so that tasks of similar cost go almost in the order of their submission.
    With the square of it for larger ones, so that thumbnails pass panoramas for as long as that can matter.
    """
    return min(cost_s * (_LIMIT_PER_COST + _LIMIT_PER_SQUARED_COST * cost_s), MAX_OVERTAKING_S)


class StableCostFactor:
    """Ratio of what tasks of a kind take to what was said beforehand, changed on strong evidence only.

    It changes at most once in `MAX_PATIENCE_S` of the work clock. So no place from before the last change but one is still
    ahead, and two factors are enough to place each equal task.
    """

    def __init__(self) -> None:
        self.now = 1.0
        self._before = 1.0  # until the last change
        self._changed_at_s = -inf  # work clock at the last change
        self._side: int = 0  # of the tasks in a row: 1 took more than _WRONG times as much, -1 less than that part of it
        self._run = 0  # length of that row
        self._run_log = 0.0  # sum of the logarithms of its ratios

    def observe(self, factor: float, clock_s: float) -> None:
        """A task took so many times what was said."""
        ratio = factor / self.now
        side = int(ratio > _CHANGE_RATIO) - int(ratio * _CHANGE_RATIO < 1.0)
        if side != self._side:
            self._side, self._run, self._run_log = side, 0, 0.0
        if not side:
            return
        self._run += 1
        self._run_log += log(max(factor, _LEAST_FACTOR))
        if self._run >= _MIN_AGREEING_TASKS and clock_s >= self._changed_at_s + MAX_OVERTAKING_S:
            self._before, self.now = self.now, exp(self._run_log / self._run)
            self._changed_at_s = clock_s
            self._side, self._run, self._run_log = 0, 0, 0.0

    def place_s(self, arrived_s: float, said_s: float) -> float:
        """The place on the work clock of a task that was submitted at `arrived_s` there: never before that of an equal task
        that was submitted earlier, even if the factor became smaller in between."""
        before = overtaking_limit_s(said_s * self._before)
        if arrived_s < self._changed_at_s:
            return arrived_s + before
        return max(arrived_s + overtaking_limit_s(said_s * self.now), self._changed_at_s + before)
