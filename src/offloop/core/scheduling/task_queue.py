"""The tasks that wait for a worker. Who of them is next is the `Order`'s to say; who waits for a fresh worker, or no longer, is
kept here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from math import inf

from ..model.task import TaskRecord
from .policy import Order

__all__ = ["TaskQueue"]


_MOST_AT_ONCE = 100  # deadlines that one event lets pass: each outcome takes the loop several microseconds


class TaskQueue:
    """Tasks that wait for a worker, some with a time after which they do not want to start any more."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.order = Order(weights)
        self.for_any = self.order.tasks
        """Those that wait for any worker, by number; only to be looked at."""
        self.nbytes = 0  # of the sources of all tasks that no worker has yet, these and those that are being prepared
        self.for_fresh: OrderedDict[int, TaskRecord] = OrderedDict()
        """Those that wait for a worker that has had no task yet, by number; only to be looked at."""
        # a heap; entries of tasks that have left stay until they surface, and are never its first: when that time came there
        # would be nobody to give up, and the pool would be woken for it without end
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self.order) + len(self.for_fresh)

    def __bool__(self) -> bool:
        return bool(self.for_any or self.for_fresh)

    def push(self, task: TaskRecord, deadline: float | None = None) -> None:
        """Let a task wait; past its deadline `expired` gives it up."""
        self.order.add(task)
        if deadline is not None:
            heappush(self._deadlines, (deadline, task.task_id))

    def push_front(self, task: TaskRecord) -> None:
        """Let a task wait that was next already: its worker died before it began. Its queue deadline was kept then."""
        self.order.add_first(task)

    def push_for_fresh(self, task: TaskRecord) -> None:
        """Let a task wait for a worker that has had none yet: others have died of it."""
        self.for_fresh[task.task_id] = task

    def count_source(self, task: TaskRecord, nbytes: int) -> None:
        """So many bytes wait with the task, until a worker has it or it has ended."""
        self.nbytes += nbytes - task.queued_bytes
        task.queued_bytes = nbytes

    def take(self, task: TaskRecord) -> None:
        """A task that waits for any worker gets one."""
        self.order.take(task)
        self._forget_left_deadlines()

    @property
    def first_for_fresh(self) -> TaskRecord:
        """The task that is next for a fresh worker."""
        return next(iter(self.for_fresh.values()))

    def pop_for_fresh(self) -> TaskRecord:
        """Take the task that is next for a fresh worker."""
        return self.for_fresh.popitem(last=False)[1]

    def pop_all_for_fresh(self) -> list[TaskRecord]:
        """Take every task that waits for a fresh worker."""
        tasks = list(self.for_fresh.values())
        self.for_fresh.clear()
        return tasks

    def pop_all(self) -> list[TaskRecord]:
        """Take every task."""
        tasks = [*self.pop_all_for_fresh(), *self.order.pop_all()]
        self._deadlines.clear()
        return tasks

    def remove(self, task_id: int) -> None:
        """Take that task out, if it waits here."""
        self.order.remove(task_id)
        self.for_fresh.pop(task_id, None)
        self._forget_left_deadlines()

    def expired(self, now: float) -> list[TaskRecord]:
        """Take out tasks whose deadline has come; if there are very many, some of them, and `earliest` stays in the past."""
        late: list[TaskRecord] = []
        while self._deadlines and self._deadlines[0][0] <= now and len(late) < _MOST_AT_ONCE:
            task = self.order.tasks.get(heappop(self._deadlines)[1])
            if task is not None and not task.dispatches:
                self.order.remove(task.task_id)
                late.append(task)
        self._forget_left_deadlines()
        return late

    def _forget_left_deadlines(self) -> None:
        """Those that surface go; and when more tasks have left than stayed, all others of them, so that they do not pile up."""
        while self._deadlines and self._deadlines[0][1] not in self.order:
            heappop(self._deadlines)
        if len(self._deadlines) > 2 * len(self.order) + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self.order]
            heapify(self._deadlines)

    @property
    def earliest(self) -> float:
        """No deadline comes before; may be early, never late."""
        return self._deadlines[0][0] if self._deadlines else inf
