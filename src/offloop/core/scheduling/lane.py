"""Lane: the waiting tasks of one worker group in their order, and the workers that may run them."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.task_record import TaskRecord
from ..workers.group_slots import GroupSlots
from .policy import SchedulingPolicy
from .small_tasks import SmallTasks

__all__ = ["Lane"]


class Lane:
    """The tasks that wait for the workers of one group."""

    def __init__(
        self,
        workers: GroupSlots,
        small_tasks: SmallTasks | None = None,
        weights: Mapping[str, float] | None = None,
        tasks: dict[int, TaskRecord] | None = None,
    ) -> None:
        """Without waiting tasks.

        Args:
            workers: the slots of the group.
            small_tasks: the rule for small tasks beside the group's large ones; None: all tasks wait for the group's workers.
            weights: shares of tenants; 1 for other tenants.
            tasks: the tasks by id that wait for any worker; all lanes of a pool share it.
        """
        self.name = workers.name
        self.workers = workers
        self.small_tasks = small_tasks
        self.policy = SchedulingPolicy(weights, tasks)
        self.waiting_for_unused_worker: dict[int, TaskRecord] = {}
        """The tasks that wait for a worker that has had no task yet, by id, the first one first."""

    def __len__(self) -> int:
        return len(self.policy) + len(self.waiting_for_unused_worker)

    def __bool__(self) -> bool:
        return bool(self.policy.ranked or self.waiting_for_unused_worker)

    @property
    def first_for_unused_worker(self) -> TaskRecord:
        """The first task that waits for an unused worker."""
        return next(iter(self.waiting_for_unused_worker.values()))
