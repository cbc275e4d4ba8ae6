"""Who is next: cheap before dear with a bound, classes before each other with a bound, and fair shares between tenants.

Within one tenant a task's rank is a time: when it came, plus a patience that grows with its cost, minus a head start for its
class. The lowest rank is next. So a thumbnail that came a little later goes before a panorama, and the order is never
unfair for ever: a task is only overtaken by tasks that come within its patience after it (`MAX_PATIENCE_S` at most, and
`CLASS_S` more for each class that they are above it).

Between tenants it is deficit round robin (Shreedhar and Varghese, 1995), with seconds of a worker's time for bytes: each tenant
in turn may use as much as its weight allows, and saves what it cannot use because its next task costs more. A tenant that has
nothing waiting has nothing saved; nobody waits while a worker is free.

The order says who is next. Whether that one can start is a question of memory, which `dispatch` asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import chain, islice, zip_longest
from math import ceil, inf

from .ranking import Ranking
from .tasks import TaskRecord

__all__ = ["CLASS_S", "MAX_PATIENCE_S", "PATIENCE", "Order"]

PATIENCE = 20.0  # a task lets others pass for so many times what it costs itself...
MAX_PATIENCE_S = 30.0  # ...but never longer
CLASS_S = 10.0  # head start of a priority over the one below

_QUANTUM_S = 0.05  # of a worker's time that a tenant of weight 1 may use in its turn


class _Line:
    """One tenant's waiting tasks."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.saved_s = 0.0  # of a worker's time; below zero for one that was let past its turn
        self.ranking = Ranking()


class Order:
    """The tasks that wait for any worker."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._tasks: dict[int, TaskRecord] = {}
        self._lines: OrderedDict[str | None, _Line] = OrderedDict()  # who has something waiting; the first has the turn

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task_id: int) -> bool:
        return task_id in self._tasks

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(self._tasks.values())

    def get(self, task_id: int) -> TaskRecord | None:
        """The task, if it waits here."""
        return self._tasks.get(task_id)

    @property
    def waiting(self) -> dict[str, int]:
        """How many tasks of each tenant; those on nobody's account under ""."""
        return {tenant or "": len(line.ranking) for tenant, line in self._lines.items()}

    @property
    def cost_s(self) -> float:
        """Seconds of a worker's time that all of them are likely to take."""
        return sum(line.ranking.cost_s for line in self._lines.values())

    def ahead_s(self, task: TaskRecord) -> float:
        """Seconds of a worker's time that those of its own tenant are likely to take who would be before it."""
        assert task.spec is not None
        line = self._lines.get(task.spec.tenant)
        return 0.0 if line is None else line.ranking.ahead_s(_rank(task))

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
        if not self._tasks:
            raise KeyError("nothing waits")
        if len(self._lines) == 1:
            line = next(iter(self._lines.values()))
            return self._tasks[line.ranking.first]
        self._fast_forward()
        while True:
            tenant, line = next(iter(self._lines.items()))
            task = self._tasks[line.ranking.first]
            if line.saved_s >= task.cost_s or task.rank == -inf:
                return task
            self._lines.move_to_end(tenant)
            line.saved_s += _QUANTUM_S * line.weight

    def after_first(self, count: int) -> Iterator[TaskRecord]:
        """Others that could be let past the first: up to so many of each tenant, the best ranks first."""
        lines = [islice(line.ranking, count) for line in self._lines.values()]
        numbers = list(chain.from_iterable(zip_longest(*lines)))
        return (self._tasks[task_id] for task_id in numbers[1:] if task_id is not None)

    def take(self, task: TaskRecord) -> None:
        """The task gets its worker, and its tenant is charged for it."""
        assert task.spec is not None
        line = self._lines[task.spec.tenant]
        if task.rank != -inf:
            line.saved_s -= task.cost_s
        if len(self._lines) == 1:
            line.saved_s = max(line.saved_s, 0.0)  # nobody competes
        self._leave(task)

    def remove(self, task_id: int) -> TaskRecord | None:
        """Take that task out, if it waits here."""
        task = self._tasks.get(task_id)
        if task is not None:
            self._leave(task)
        return task

    def pop_all(self) -> list[TaskRecord]:
        """Take every task."""
        tasks = [self._tasks[task_id] for line in self._lines.values() for task_id in line.ranking]
        self._tasks.clear()
        self._lines.clear()
        return tasks

    def _fast_forward(self) -> None:
        """The rounds in which nobody could afford anything, all at once."""
        rounds = min(
            ceil((self._tasks[line.ranking.first].cost_s - line.saved_s) / (_QUANTUM_S * line.weight))
            for line in self._lines.values()
        )
        for line in self._lines.values() if rounds > 1 else ():
            line.saved_s += (rounds - 1) * _QUANTUM_S * line.weight

    def _enter(self, task: TaskRecord) -> None:
        assert task.spec is not None
        tenant = task.spec.tenant
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = _Line(self._weights.get(tenant, 1.0) if tenant is not None else 1.0)
        line.ranking.add(task.rank, task.task_id, task.cost_s)
        self._tasks[task.task_id] = task

    def _leave(self, task: TaskRecord) -> None:
        assert task.spec is not None
        del self._tasks[task.task_id]
        line = self._lines[task.spec.tenant]
        line.ranking.remove(task.rank, task.task_id, task.cost_s)
        if not line.ranking:
            del self._lines[task.spec.tenant]


def _rank(task: TaskRecord) -> float:
    assert task.spec is not None
    patience = min(task.cost_s * PATIENCE, MAX_PATIENCE_S)
    return task.submitted_at + patience - task.spec.priority * CLASS_S
