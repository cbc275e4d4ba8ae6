"""Task queue: the tasks that wait for a worker.

`SchedulingPolicy` has the tasks that wait for any worker, and their order. The queue has their deadlines, and the tasks that
wait for an unused worker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from ..model.lazy_heap import LazyHeap
from ..model.task import TaskRecord
from .policy import SchedulingPolicy

__all__ = ["TaskQueue"]

_MAX_EXPIRED_AT_ONCE = 100  # tasks that expire in one event, because each outcome takes the loop several microseconds


class TaskQueue:
    """Waiting tasks, some with a deadline for their start."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.policy = SchedulingPolicy(weights)
        self.waiting = self.policy.tasks
        """The tasks that wait for any worker, by id. Read only."""
        self.nbytes = 0  # size of the sources of all tasks that no worker has yet, waiting or being prepared
        self.waiting_for_unused_worker: OrderedDict[int, TaskRecord] = OrderedDict()
        """The tasks that wait for a worker that has had no task yet, by id. Read only."""
        self._deadlines: LazyHeap[int] = LazyHeap()  # ids of the tasks that wait for any worker and have a queue deadline

    def __len__(self) -> int:
        return len(self.waiting) + len(self.waiting_for_unused_worker)

    def __bool__(self) -> bool:
        return bool(self.waiting or self.waiting_for_unused_worker)

    def push(self, task: TaskRecord, deadline: float | None = None) -> None:
        """Add a task that waits for any worker. After its deadline, `expired` removes and returns it."""
        self.policy.add(task)
        if deadline is not None:
            self._deadlines.set(task.task_id, deadline)

    def requeue_first(self, task: TaskRecord) -> None:
        """Add a task as the first one, because its worker died before the task had begun. It has no queue deadline any more."""
        self.policy.requeue_first(task)

    def push_for_unused_worker(self, task: TaskRecord) -> None:
        """Add a task that waits for an unused worker, because a worker has died of it."""
        self.waiting_for_unused_worker[task.task_id] = task

    def count_source(self, task: TaskRecord, nbytes: int) -> None:
        """Set the size of a task's source in `nbytes`; 0 when a worker has the task, or it has ended."""
        self.nbytes += nbytes - task.queued_bytes
        task.queued_bytes = nbytes

    def start(self, task: TaskRecord) -> None:
        """Remove a task that waited for any worker and gets one."""
        self.policy.start(task)
        self._deadlines.discard(task.task_id)

    @property
    def first_for_unused_worker(self) -> TaskRecord:
        """The first task that waits for an unused worker."""
        return next(iter(self.waiting_for_unused_worker.values()))

    def pop_for_unused_worker(self) -> TaskRecord:
        """Remove and return the first task that waits for an unused worker."""
        return self.waiting_for_unused_worker.popitem(last=False)[1]

    def pop_all_for_unused_worker(self) -> list[TaskRecord]:
        """Remove and return all tasks that wait for an unused worker."""
        tasks = list(self.waiting_for_unused_worker.values())
        self.waiting_for_unused_worker.clear()
        return tasks

    def pop_all(self) -> list[TaskRecord]:
        """Remove and return all tasks."""
        tasks = [*self.pop_all_for_unused_worker(), *self.policy.pop_all()]
        self._deadlines.clear()
        return tasks

    def remove(self, task_id: int) -> None:
        """Remove a task, if it waits here."""
        self.policy.remove(task_id)
        self.waiting_for_unused_worker.pop(task_id, None)
        self._deadlines.discard(task_id)

    def expired(self, now: float) -> list[TaskRecord]:
        """Remove and return tasks whose deadline has passed; at most 100, and `next_deadline` stays in the past if there are
        more."""
        late: list[TaskRecord] = []
        while self._deadlines.lowest <= now and len(late) < _MAX_EXPIRED_AT_ONCE:
            task = self.policy.remove(self._deadlines.pop())
            assert task is not None, "a task with a queue deadline waits"
            late.append(task)
        return late

    @property
    def next_deadline(self) -> float:
        """The earliest queue deadline of a waiting task; infinity if none has one."""
        return self._deadlines.lowest
