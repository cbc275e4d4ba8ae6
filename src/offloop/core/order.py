"""Who is next: cheap before dear with a bound, classes before each other with a bound, and fair shares between tenants.

Within one tenant a task's rank is a time: when it came, plus a patience that grows with its cost, minus a head start for its
class. The lowest rank is next. So a thumbnail that came a little later goes before a panorama, and the order is never
unfair for ever: a task is only overtaken by tasks that come within its patience after it (`MAX_PATIENCE_S` at most, and
`CLASS_S` more for each class that they are above it).

Between tenants it is fair shares of the workers' time (`shares`). Nobody waits while a worker is free.

The order says who is next. Whether that one can start is a question of memory, which `dispatch` asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, islice, zip_longest
from math import inf

from .ranking import Ranking
from .shares import Shares
from .tasks import TaskRecord

__all__ = ["CLASS_S", "MAX_PATIENCE_S", "PATIENCE", "Order"]

PATIENCE = 100.0  # a task lets others pass for so many times what it costs itself...
MAX_PATIENCE_S = 30.0  # ...but never longer
_MOST_TENANTS = 32  # that are looked at for tasks to be let past the first

CLASS_S = 10.0  # head start of a priority over the one below


class Order:
    """The tasks that wait for any worker."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._shares = Shares(weights)
        self.by_priority: Counter[int] = Counter()  # how many of each class
        self.tasks: dict[int, TaskRecord] = {}  # by number
        self._lines: dict[str | None, Ranking] = {}  # of each tenant that has something waiting

    def __len__(self) -> int:
        return len(self.tasks)

    def __contains__(self, task_id: int) -> bool:
        return task_id in self.tasks

    @property
    def waiting(self) -> dict[str, int]:
        """How many tasks of each tenant; those on nobody's account under ""."""
        return {tenant or "": len(line) for tenant, line in self._lines.items()}

    @property
    def cost_s(self) -> float:
        """Seconds of a worker's time that all of them are likely to take."""
        return sum((line.cost_s for line in self._lines.values()), 0.0)

    def ahead_s(self, task: TaskRecord) -> float:
        """Seconds of a worker's time that those of its own tenant are likely to take who would be before it."""
        assert task.spec is not None
        line = self._lines.get(task.spec.tenant)
        return 0.0 if line is None else line.ahead_s(_rank(task))

    def add(self, task: TaskRecord) -> None:
        """Let a task wait in its place."""
        task.rank = _rank(task)
        self._enter(task)

    def add_first(self, task: TaskRecord) -> None:
        """Let a task wait that had its turn already: it is the first of its tenant's, and is not charged again."""
        task.rank = -inf
        self._enter(task)

    def first(self) -> TaskRecord:
        """The task that is next; a KeyError if none waits."""
        if not self.tasks:
            raise KeyError("nothing waits")
        return self.tasks[self._lines[self._shares.first].first]

    def after_first(self, count: int) -> Iterator[TaskRecord]:
        """Others that could be let past the first: up to so many of each tenant, the best ranks first; of a crowd of tenants,
        only those whose turn is near."""
        first = self.first().task_id
        lines = [islice(self._lines[tenant], count) for tenant in self._shares.near(_MOST_TENANTS)]
        numbers = list(chain.from_iterable(zip_longest(*lines)))
        return (self.tasks[task_id] for task_id in numbers if task_id is not None and task_id != first)

    def take(self, task: TaskRecord) -> None:
        """The task gets its worker, and its tenant is charged for it."""
        assert task.spec is not None
        if task.rank != -inf:
            task.charged_s = task.cost_s
            self._shares.charge(task.spec.tenant, task.cost_s)
        self._leave(task)

    def took(self, task: TaskRecord, seconds: float) -> None:
        """A worker is through with a task, after so long: its tenant's charge is corrected."""
        assert task.spec is not None
        if task.charged_s is not None:
            self._shares.correct(task.spec.tenant, seconds - task.charged_s)
            task.charged_s = None

    def remove(self, task_id: int) -> TaskRecord | None:
        """Take that task out, if it waits here."""
        task = self.tasks.get(task_id)
        if task is not None:
            self._leave(task)
        return task

    def pop_all(self) -> list[TaskRecord]:
        """Take every task."""
        tasks = [self.tasks[task_id] for line in self._lines.values() for task_id in line]
        for tenant in self._lines:
            self._shares.leave(tenant)
        self.tasks.clear()
        self._lines.clear()
        self.by_priority.clear()
        return tasks

    def _enter(self, task: TaskRecord) -> None:
        assert task.spec is not None
        tenant = task.spec.tenant
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = Ranking()
            self._shares.join(tenant)
        line.add(task.rank, task.task_id, task.cost_s)
        self.tasks[task.task_id] = task
        self.by_priority[task.spec.priority] += 1

    def _leave(self, task: TaskRecord) -> None:
        assert task.spec is not None
        del self.tasks[task.task_id]
        self.by_priority[task.spec.priority] -= 1
        line = self._lines[task.spec.tenant]
        line.remove(task.rank, task.task_id, task.cost_s)
        if not line:
            del self._lines[task.spec.tenant]
            self._shares.leave(task.spec.tenant)


def _rank(task: TaskRecord) -> float:
    assert task.spec is not None
    patience = min(task.cost_s * PATIENCE, MAX_PATIENCE_S)
    return task.submitted_at + patience - task.spec.priority * CLASS_S
