"""Every task that has no outcome yet, and the count of those that have one.

Law 2 is kept here: a task is entered once, and `settle` takes it out with its one outcome and with every lease that was
held on its behalf.
"""

from __future__ import annotations

from collections.abc import Iterator

from .arena import Arena, Holder, Lease
from .budget import Budget
from .commands import Command, SettleTask
from .outcomes import Outcome, Tally
from .queue import TaskQueue
from .supply import Supply, worker_lease
from .tasks import TaskRecord

__all__ = ["Ledger"]


class Ledger:
    """The tasks of a pool, by number."""

    def __init__(self, arena: Arena, supply: Supply, budget: Budget, queue: TaskQueue) -> None:
        self.tally = Tally()
        self._arena = arena
        self._supply = supply
        self._budget = budget
        self._queue = queue
        self._tasks: dict[int, TaskRecord] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(tuple(self._tasks.values()))

    def enter(self, task_id: int, now: float) -> TaskRecord:
        """A task came."""
        task = self._tasks[task_id] = TaskRecord(task_id, now)
        self.tally.submitted += 1
        return task

    def get(self, task_id: int) -> TaskRecord | None:
        """The task of that number, while it has no outcome."""
        return self._tasks.get(task_id)

    def settle(self, task: TaskRecord, outcome: Outcome) -> list[Command]:
        """Give a task its outcome; every lease that it, or its worker for it, has held goes."""
        del self._tasks[task.task_id]
        self.end_grants(task)
        self._budget.forget(task)
        self._queue.count_source(task, 0)
        if task.source_block is not None:
            self._arena.release(task.source_block, Lease(Holder.TASK, task.task_id))
        self.tally.count(outcome)
        return [SettleTask(task.task_id, outcome)]

    def end_grants(self, task: TaskRecord) -> None:
        """The worker has answered for the task, or is dead: it writes to nothing of it any more."""
        self._supply.withdraw(task)
        for block in task.granted:
            self._arena.release(block, worker_lease(task))
        task.granted = []
