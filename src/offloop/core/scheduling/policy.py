"""Order of waiting tasks: within a tenant by place and priority, between tenants by fair shares of the workers' time.

Places are times on the work clock. It counts the work that has come to the pool: each task moves it on by the task's cost over
the number of tasks that may run at once, so it goes as fast as a real clock while work comes as fast as it is done. The place
of a task is the time of its submission plus its patience, which grows with its cost (`patience`). A head start for its
priority is subtracted, and the lowest rank is next. So a thumbnail passes a panorama that came before it, and a task is passed
by a bounded amount of later work: its patience at most, and `CLASS_S` more for each priority above its own. Tasks of the same
cost and priority are served in the order of their submission.

Between tenants the order is that of `shares`. Tasks wait only while no worker is free. Whether the next task can start
is a question of memory, which `dispatch` asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, islice, zip_longest
from math import inf

from ..model.task import TaskRecord
from .fair_queue import FairQueue
from .ranked_tasks import RankedTasks

__all__ = ["PRIORITY_HEAD_START_S", "SchedulingPolicy"]

_MAX_TENANTS_EXAMINED = 32  # that are looked at for tasks to be let past the first

PRIORITY_HEAD_START_S = 10.0  # head start of a priority over the one below, on the work clock


class SchedulingPolicy:
    """The tasks that wait for any worker."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._fair_queue = FairQueue(weights)
        self.work_clock_s = 0.0  # the work clock: work that has come, in seconds of the whole pool
        self.by_priority: Counter[int] = Counter()  # how many of each class
        self.tasks: dict[int, TaskRecord] = {}  # by number
        self._ranked: dict[str | None, RankedTasks] = {}  # of each tenant that has something waiting

    def __len__(self) -> int:
        return len(self.tasks)

    def __contains__(self, task_id: int) -> bool:
        return task_id in self.tasks

    @property
    def waiting(self) -> dict[str, int]:
        """How many tasks of each tenant; those on nobody's account under ""."""
        return {tenant or "": len(line) for tenant, line in self._ranked.items()}

    @property
    def cost_s(self) -> float:
        """Seconds of a worker's time that all of them are likely to take."""
        return sum((line.cost_s for line in self._ranked.values()), 0.0)

    def ahead_s(self, task: TaskRecord) -> float:
        """Seconds of a worker's time that those of its own tenant are likely to take who would be before it."""
        assert task.spec is not None
        line = self._ranked.get(task.spec.tenant)
        return 0.0 if line is None else line.ahead_s(_rank(task))

    def add(self, task: TaskRecord) -> None:
        """Let a task wait in its place."""
        task.rank = _rank(task)
        self._insert(task)

    def requeue_first(self, task: TaskRecord) -> None:
        """Let a task wait that had its turn already: it is the first of its tenant's, and is not charged again."""
        task.rank = -inf
        self._insert(task)

    def first(self) -> TaskRecord:
        """The task that is next; a KeyError if none waits."""
        if not self.tasks:
            raise KeyError("nothing waits")
        return self.tasks[self._ranked[self._fair_queue.next_tenant].first]

    def after_first(self, count: int) -> Iterator[TaskRecord]:
        """Others that could be let past the first: up to so many of each tenant, the best ranks first; of a crowd of tenants,
        only those whose turn is near."""
        first = self.first().task_id
        lines = [islice(self._ranked[tenant], count) for tenant in self._fair_queue.tenants_near_turn(_MAX_TENANTS_EXAMINED)]
        numbers = list(chain.from_iterable(zip_longest(*lines)))
        return (self.tasks[task_id] for task_id in numbers if task_id is not None and task_id != first)

    def start(self, task: TaskRecord) -> None:
        """The task gets its worker, and its tenant is charged for it."""
        assert task.spec is not None
        if task.rank != -inf:
            task.charged_s = task.cost_s
            self._fair_queue.charge(task.spec.tenant, task.cost_s)
        self._delete(task)

    def record_duration(self, task: TaskRecord, seconds: float) -> None:
        """A worker is through with a task, after so long: its tenant's charge is corrected."""
        assert task.spec is not None
        if task.charged_s is not None:
            self._fair_queue.correct(task.spec.tenant, seconds - task.charged_s)
            task.charged_s = None

    def remove(self, task_id: int) -> TaskRecord | None:
        """Take that task out, if it waits here."""
        task = self.tasks.get(task_id)
        if task is not None:
            self._delete(task)
        return task

    def pop_all(self) -> list[TaskRecord]:
        """Take every task."""
        tasks = [self.tasks[task_id] for line in self._ranked.values() for task_id in line]
        for tenant in self._ranked:
            self._fair_queue.deactivate(tenant)
        self.tasks.clear()
        self._ranked.clear()
        self.by_priority.clear()
        return tasks

    def _insert(self, task: TaskRecord) -> None:
        assert task.spec is not None
        tenant = task.spec.tenant
        line = self._ranked.get(tenant)
        if line is None:
            line = self._ranked[tenant] = RankedTasks()
            self._fair_queue.activate(tenant)
        line.add(task.rank, task.task_id, task.cost_s)
        self.tasks[task.task_id] = task
        self.by_priority[task.spec.priority] += 1

    def _delete(self, task: TaskRecord) -> None:
        assert task.spec is not None
        del self.tasks[task.task_id]
        self.by_priority[task.spec.priority] -= 1
        line = self._ranked[task.spec.tenant]
        line.remove(task.rank, task.task_id, task.cost_s)
        if not line:
            del self._ranked[task.spec.tenant]
            self._fair_queue.deactivate(task.spec.tenant)


def _rank(task: TaskRecord) -> float:
    assert task.spec is not None
    return task.place_s - task.spec.priority * PRIORITY_HEAD_START_S
