"""EASY backfilling (Lifka 1995): which waiting tasks may pass a blocked task, for which there is no memory yet.

The blocked task has a reservation. Its shadow time is when enough running tasks will have ended, by their estimates. A task may
pass if it will have ended by then, or if there will be memory for it beside the blocked task. After `RESERVATION_S` estimates
have been wrong for long enough, and only tasks that cannot delay the blocked task may pass.

Memory is shared by all worker groups. So the reservation of a task also holds against the tasks of other groups.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

from ..memory.budget import Budget
from ..model.task_record import TaskRecord
from ..workers.worker_table import WorkerTable
from .cost_model import CostModel
from .policy import SchedulingPolicy

__all__ = ["BACKFILL_CANDIDATES", "RESERVATION_S", "Backfill"]

RESERVATION_S = 10.0  # seconds for which tasks may pass a blocked task that delay it if they take longer than estimated
BACKFILL_CANDIDATES = 16  # tasks of each tenant that may pass the first task


class _Reservation(NamedTuple):
    """Limits for tasks that pass a blocked task."""

    shadow_time: float  # when there will be memory for the blocked task
    spare_bytes: float  # memory that will be free beside it then


class Backfill:
    """Finds tasks that may start before the first waiting task."""

    def __init__(self, worker_table: WorkerTable, budget: Budget, cost_model: CostModel) -> None:
        self._worker_table = worker_table
        self._budget = budget
        self._cost_model = cost_model

    def find(
        self, policy: SchedulingPolicy, blocked: TaskRecord | None, max_cost_s: float | None, now: float
    ) -> TaskRecord | None:
        """The best task of a group that may start before the blocked one, or before the first one; None if there is none.

        Args:
            policy: the waiting tasks of the group.
            blocked: the task for which there is no memory yet; None if the first task must wait for another reason.
            max_cost_s: only tasks that cost at most so many seconds of a worker's time; None for any.
            now: seconds.
        """
        reservation = None if blocked is None else self._reserve(blocked, now)
        first = policy.first()
        others = policy.after_first(BACKFILL_CANDIDATES)
        for task in others if blocked is None or blocked is first else chain((first,), others):
            if (max_cost_s is not None and task.stable_cost_s > max_cost_s) or not self._budget.fits(task):
                continue
            if reservation is None or (self._ends_in_time(task, reservation, now) and self.fits_as_learned(task)):
                return task
        return None

    def may_pass(self, task: TaskRecord, blocked: TaskRecord, now: float) -> bool:
        """Whether a task may start before a blocked one, because there is memory for it and it does not delay that one."""
        return (
            self._budget.fits(task)
            and self._ends_in_time(task, self._reserve(blocked, now), now)
            and self.fits_as_learned(task)
        )

    def fits_as_learned(self, task: TaskRecord) -> bool:
        """Whether there is memory for a task by the corrections that were learned while the task waited.

        Equal tasks may have different estimates because they were submitted at different times. Without this correction, they
        would pass each other.
        """
        if self._cost_model.fill_in_memory(task):
            self._budget.admit(task)
        return self._budget.fits(task)

    def _ends_in_time(self, task: TaskRecord, reservation: _Reservation, now: float) -> bool:
        """Whether a task ends before the shadow time, or leaves the memory that the blocked task needs."""
        return now + task.cost_s <= reservation.shadow_time or self._budget.needed_bytes(task) <= reservation.spare_bytes

    def _reserve(self, task: TaskRecord, now: float) -> _Reservation:
        """The reservation of a blocked task, by the estimates of the running tasks."""
        task.blocked_since = now if task.blocked_since is None else task.blocked_since
        free_bytes, shadow_time, needed_bytes = self._budget.room_bytes, now, self._budget.needed_bytes(task)
        running = [other for slot in self._worker_table if (other := slot.assigned) is not None]
        ends = sorted((_expected_end(other, now), other.charged_bytes) for other in running)
        for end, charged_bytes in ends:
            if free_bytes >= needed_bytes:
                break
            free_bytes += charged_bytes
            shadow_time = end
        return _Reservation(shadow_time if now - task.blocked_since < RESERVATION_S else now, free_bytes - needed_bytes)


def _expected_end(task: TaskRecord, now: float) -> float:
    """When a running task ends, by its estimate. A task that has exceeded its estimate counts as half done."""
    elapsed_s = now - task.dispatched_at
    return task.dispatched_at + (task.cost_s if elapsed_s < task.cost_s else 2 * elapsed_s)
