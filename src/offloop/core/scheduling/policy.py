"""Scheduling policy: the order of waiting tasks, within a tenant by rank, and between tenants by `FairQueue`.

The work clock counts the work that was submitted to the pool: each task advances it by the task's cost, divided by the number
of tasks that may run at once. So it is as fast as a real clock while work is submitted as fast as it is done. The place of a
task is the time of its submission on the work clock, plus its overtaking limit, which grows with its cost (see `overtaking`).
The rank of a task is its place minus the head start of its priority. The task with the lowest rank of its tenant is first. So a
thumbnail passes a panorama that was submitted before it, and only a bounded amount of later work passes a task: its overtaking
limit, and `PRIORITY_HEAD_START_S` more for each priority above its own. Tasks of the same cost and priority are served in the
order of their submission.

Tasks wait only while no worker is idle or there is no memory. `Dispatcher` decides whether the first task can start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, islice, zip_longest
from math import inf

from ..model.task_record import TaskRecord
from .fair_queue import FairQueue
from .ranked_tasks import RankedTasks

__all__ = ["PRIORITY_HEAD_START_S", "SchedulingPolicy"]

_MAX_TENANTS_EXAMINED = 32  # tenants whose tasks may pass the first task

PRIORITY_HEAD_START_S = 10.0  # seconds on the work clock by which a priority is before the next lower one


class SchedulingPolicy:
    """The tasks that wait for any worker of one group, in order."""

    def __init__(self, weights: Mapping[str, float] | None = None, tasks: dict[int, TaskRecord] | None = None) -> None:
        """Without tasks.

        Args:
            weights: shares of tenants; 1 for other tenants.
            tasks: waiting tasks by id; the groups of a pool share it.
        """
        self._fair_queue = FairQueue(weights)
        self.work_clock_s = 0.0  # the work clock: submitted work, in seconds of the whole group
        self.by_priority: Counter[int] = Counter()  # number of waiting tasks of each priority
        self._tasks: dict[int, TaskRecord] = {} if tasks is None else tasks
        self.ranked: dict[str | None, RankedTasks] = {}
        """Waiting tasks of each tenant that has any. Read only."""

    def __len__(self) -> int:
        return sum(len(ranked) for ranked in self.ranked.values())

    def __bool__(self) -> bool:
        return bool(self.ranked)

    @property
    def waiting(self) -> dict[str, int]:
        """Number of waiting tasks of each tenant; tasks without a tenant under ""."""
        return {tenant or "": len(ranked) for tenant, ranked in self.ranked.items()}

    @property
    def cost_s(self) -> float:
        """Estimated cost of all waiting tasks, in seconds of a worker's time."""
        return sum((ranked.cost_s for ranked in self.ranked.values()), 0.0)

    def ahead_s(self, task: TaskRecord) -> float:
        """Estimated cost of its tenant's waiting tasks that are before this task, in seconds of a worker's time."""
        ranked = self.ranked.get(task.spec.tenant)
        return 0.0 if ranked is None else ranked.ahead_s(_rank(task))

    def add(self, task: TaskRecord) -> None:
        """Add a waiting task."""
        task.rank = _rank(task)
        self._insert(task)

    def requeue_first(self, task: TaskRecord) -> None:
        """Add a task that was dispatched before: it is the first of its tenant's, and is not charged again."""
        task.rank = -inf
        self._insert(task)

    def first(self) -> TaskRecord:
        """The first task; a KeyError if no task waits."""
        if not self.ranked:
            raise KeyError("no task waits")
        return self._tasks[self.ranked[self._fair_queue.next_tenant].first]

    def after_first(self, count: int) -> Iterator[TaskRecord]:
        """Tasks that could pass the first one: up to `count` of each tenant, the lowest ranks first.

        If there are many tenants, only tenants with low tags are examined.
        """
        first = self.first().task_id
        tenants = self._fair_queue.tenants_near_turn(_MAX_TENANTS_EXAMINED)
        by_tenant = [islice(self.ranked[tenant], count) for tenant in tenants]
        task_ids = list(chain.from_iterable(zip_longest(*by_tenant)))
        return (self._tasks[task_id] for task_id in task_ids if task_id is not None and task_id != first)

    def start(self, task: TaskRecord) -> None:
        """Remove a task that gets a worker, and charge its tenant."""
        if task.rank != -inf:
            task.charged_s = task.cost_s
            self._fair_queue.charge(task.spec.tenant, task.cost_s)
        self._delete(task)

    def correct_charge(self, tenant: str | None, more_s: float) -> None:
        """A task of the tenant has taken `more_s` seconds more than were charged, or has started in another group."""
        self._fair_queue.correct(tenant, more_s)

    def remove(self, task: TaskRecord) -> None:
        """Remove a waiting task."""
        self._delete(task)

    def pop_all(self) -> list[TaskRecord]:
        """Remove and return all tasks."""
        tasks = [self._tasks.pop(task_id) for ranked in self.ranked.values() for task_id in ranked]
        for tenant in self.ranked:
            self._fair_queue.deactivate(tenant)
        self.ranked.clear()
        self.by_priority.clear()
        return tasks

    def _insert(self, task: TaskRecord) -> None:
        tenant = task.spec.tenant
        ranked = self.ranked.get(tenant)
        if ranked is None:
            ranked = self.ranked[tenant] = RankedTasks()
            self._fair_queue.activate(tenant)
        ranked.add(task.rank, task.task_id, task.cost_s)
        self._tasks[task.task_id] = task
        self.by_priority[task.spec.priority] += 1

    def _delete(self, task: TaskRecord) -> None:
        del self._tasks[task.task_id]
        self.by_priority[task.spec.priority] -= 1
        ranked = self.ranked[task.spec.tenant]
        ranked.remove(task.rank, task.task_id, task.cost_s)
        if not ranked:
            del self.ranked[task.spec.tenant]
            self._fair_queue.deactivate(task.spec.tenant)


def _rank(task: TaskRecord) -> float:
    return task.place_s - task.spec.priority * PRIORITY_HEAD_START_S
