"""Who is next. First come, first served, for now: this file is the place of the scheduler.

The rest of the core asks a queue only what is asked here, so an order by cost, class or tenant replaces this class and nothing
else.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from math import inf

from .tasks import TaskRecord

__all__ = ["TaskQueue"]


class TaskQueue:
    """Tasks that wait for a worker, oldest first, some with a time after which they do not want to start any more."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[int, TaskRecord] = OrderedDict()
        self._for_fresh: OrderedDict[int, TaskRecord] = OrderedDict()  # for a worker that has had no task yet
        self._deadlines: list[tuple[float, int]] = []  # a heap; entries of tasks that have left stay until they surface

    def __len__(self) -> int:
        return len(self._tasks) + len(self._for_fresh)

    @property
    def wants_fresh(self) -> bool:
        """Whether a task waits for a worker that has had none yet."""
        return bool(self._for_fresh)

    @property
    def wants_any(self) -> bool:
        """Whether a task waits for any worker."""
        return bool(self._tasks)

    def push(self, task: TaskRecord, deadline: float | None = None) -> None:
        """Let a task wait; past its deadline `expired` gives it up."""
        self._tasks[task.task_id] = task
        if deadline is not None:
            heappush(self._deadlines, (deadline, task.task_id))

    def push_front(self, task: TaskRecord) -> None:
        """Let a task wait that was next already: its worker died before it began. Its queue deadline was kept then."""
        self._tasks[task.task_id] = task
        self._tasks.move_to_end(task.task_id, last=False)

    def push_for_fresh(self, task: TaskRecord) -> None:
        """Let a task wait for a worker that has had none yet: others have died of it."""
        self._for_fresh[task.task_id] = task

    def pop(self) -> TaskRecord:
        """Take the task that is next for any worker."""
        task = self._tasks.popitem(last=False)[1]
        self._forget_left_deadlines()
        return task

    def pop_for_fresh(self) -> TaskRecord:
        """Take the task that is next for a fresh worker."""
        return self._for_fresh.popitem(last=False)[1]

    def pop_all_for_fresh(self) -> list[TaskRecord]:
        """Take every task that waits for a fresh worker."""
        tasks = list(self._for_fresh.values())
        self._for_fresh.clear()
        return tasks

    def pop_all(self) -> list[TaskRecord]:
        """Take every task."""
        tasks = [*self.pop_all_for_fresh(), *self._tasks.values()]
        self._tasks.clear()
        self._deadlines.clear()
        return tasks

    def remove(self, task_id: int) -> TaskRecord | None:
        """Take that task out, if it waits here."""
        task = self._tasks.pop(task_id, None) or self._for_fresh.pop(task_id, None)
        self._forget_left_deadlines()
        return task

    def expired(self, now: float) -> list[TaskRecord]:
        """Take out every task whose deadline has come."""
        late: list[TaskRecord] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            task = self._tasks.get(heappop(self._deadlines)[1])
            if task is not None and not task.dispatches:
                late.append(self._tasks.pop(task.task_id))
        self._forget_left_deadlines()
        return late

    def _forget_left_deadlines(self) -> None:
        """When more tasks have left than stayed, do not let their deadlines pile up; when all have, wake nobody for them."""
        if not self._tasks:
            self._deadlines.clear()
        elif len(self._deadlines) > 2 * len(self._tasks) + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._tasks]
            heapify(self._deadlines)

    @property
    def earliest(self) -> float:
        """No deadline comes before; may be early, never late."""
        return self._deadlines[0][0] if self._deadlines else inf
