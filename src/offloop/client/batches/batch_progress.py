"""Progress of a batch: the share of its work that is done, weighted by the cost of the tasks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...core.model.task_record import TaskRecord

__all__ = ["BatchProgress", "ProgressMeter"]

_MAX_RUNNING_SHARE = 0.95  # share of a running task that counts as done at most, because its cost is an estimate


class BatchProgress(msgspec.Struct, frozen=True):
    """Progress of a batch at one moment."""

    total: int | None
    """Number of sources; None: unknown until the last one was pulled."""

    done: int
    """Number of tasks that succeeded."""

    failed: int
    """Number of tasks that failed."""

    fraction: float | None
    """Share of the work that is done, from 0 to 1, weighted by cost. It never decreases. None: the total is unknown."""

    eta_s: float | None
    """Expected seconds until the end; None: unknown."""


class ProgressMeter:
    """Counts the tasks of a batch, and sums their cost in seconds of a worker's time."""

    def __init__(self, total: int | None, find_task: Callable[[int], TaskRecord | None], clock: Callable[[], float]) -> None:
        self.total = total
        self._find_task = find_task
        self._clock = clock
        self._begun_at: float | None = None  # seconds
        self._done = self._failed = 0
        self._ended_cost_s = 0.0  # cost of the tasks that have ended
        self._costs_s: dict[int, float] = {}  # last known cost of each running task, by task id; 0: not estimated yet
        self._fraction = 0.0

    def begin(self, task_id: int) -> None:
        """A task was submitted."""
        if self._begun_at is None:
            self._begun_at = self._clock()
        self._costs_s[task_id] = 0.0

    def end(self, task_id: int | None, seconds: float | None) -> None:
        """A task has ended.

        Args:
            task_id: the task; None: it was refused before it had an id.
            seconds: time that a worker took for it; None: it failed.
        """
        if task_id is not None:
            del self._costs_s[task_id]
        self._ended_cost_s += self._mean_cost_s if seconds is None else seconds
        self._done += seconds is not None
        self._failed += seconds is None

    @property
    def progress(self) -> BatchProgress:
        """The progress at this moment."""
        if self.total is None:
            return BatchProgress(None, self._done, self._failed, None, None)
        ended = self._done + self._failed
        if ended >= self.total:
            return BatchProgress(self.total, self._done, self._failed, 1.0, 0.0)
        done_s, running_s = self._ended_cost_s, 0.0
        for task_id in self._costs_s:
            record = self._find_task(task_id)
            cost_s = self._costs_s[task_id] = record.cost_s if record is not None and record.cost_s else self._mean_cost_s
            running_s += cost_s
            done_s += cost_s * self._share_of(task_id)
        unpulled = self.total - ended - len(self._costs_s)
        total_s = self._ended_cost_s + running_s + unpulled * self._mean_cost_s
        self._fraction = max(self._fraction, min(done_s / total_s, 1.0))
        return BatchProgress(self.total, self._done, self._failed, self._fraction, self._eta_s)

    @property
    def _eta_s(self) -> float | None:
        if self._begun_at is None or not self._fraction:
            return None
        return (self._clock() - self._begun_at) * (1 - self._fraction) / self._fraction

    @property
    def _mean_cost_s(self) -> float:
        """Mean cost of the tasks that have ended, or else of those that run; 1 if no cost is known."""
        ended = self._done + self._failed
        if self._ended_cost_s:
            return self._ended_cost_s / ended
        known = [cost_s for cost_s in self._costs_s.values() if cost_s]
        return sum(known) / len(known) if known else 1.0

    def _share_of(self, task_id: int) -> float:
        """Share of a task that is done, by its running time and its cost."""
        record = self._find_task(task_id)
        if record is None or record.slot is None or not record.cost_s:
            return 0.0
        return min((self._clock() - record.dispatched_at) / record.cost_s, _MAX_RUNNING_SHARE)
