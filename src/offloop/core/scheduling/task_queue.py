"""The tasks that wait for a worker. Who of them is next is the `Order`'s to say; who waits for a fresh worker, or no longer, is
kept here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from ..model.lazy_heap import LazyHeap
from ..model.task import TaskRecord
from .policy import SchedulingPolicy

__all__ = ["TaskQueue"]


_MAX_EXPIRED_AT_ONCE = 100  # deadlines that one event lets pass: each outcome takes the loop several microseconds


class TaskQueue:
    """Tasks that wait for a worker, some with a time after which they do not want to start any more."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.policy = SchedulingPolicy(weights)
        self.waiting = self.policy.tasks
        """Those that wait for any worker, by number; only to be looked at."""
        self.nbytes = 0  # of the sources of all tasks that no worker has yet, these and those that are being prepared
        self.waiting_for_unused_worker: OrderedDict[int, TaskRecord] = OrderedDict()
        """Those that wait for a worker that has had no task yet, by number; only to be looked at."""
        self._deadlines: LazyHeap[int] = LazyHeap()  # ids of the tasks that wait for any worker and have a queue deadline

    def __len__(self) -> int:
        return len(self.policy) + len(self.waiting_for_unused_worker)

    def __bool__(self) -> bool:
        return bool(self.waiting or self.waiting_for_unused_worker)

    def push(self, task: TaskRecord, deadline: float | None = None) -> None:
        """Let a task wait; past its deadline `expired` gives it up."""
        self.policy.add(task)
        if deadline is not None:
            self._deadlines.set(task.task_id, deadline)

    def requeue_first(self, task: TaskRecord) -> None:
        """Let a task wait that was next already: its worker died before it began. Its queue deadline was kept then."""
        self.policy.requeue_first(task)

    def push_for_unused_worker(self, task: TaskRecord) -> None:
        """Let a task wait for a worker that has had none yet: others have died of it."""
        self.waiting_for_unused_worker[task.task_id] = task

    def count_source(self, task: TaskRecord, nbytes: int) -> None:
        """So many bytes wait with the task, until a worker has it or it has ended."""
        self.nbytes += nbytes - task.queued_bytes
        task.queued_bytes = nbytes

    def start(self, task: TaskRecord) -> None:
        """A task that waits for any worker gets one."""
        self.policy.start(task)
        self._deadlines.discard(task.task_id)

    @property
    def first_for_unused_worker(self) -> TaskRecord:
        """The task that is next for a fresh worker."""
        return next(iter(self.waiting_for_unused_worker.values()))

    def pop_for_unused_worker(self) -> TaskRecord:
        """Take the task that is next for a fresh worker."""
        return self.waiting_for_unused_worker.popitem(last=False)[1]

    def pop_all_for_unused_worker(self) -> list[TaskRecord]:
        """Take every task that waits for a fresh worker."""
        tasks = list(self.waiting_for_unused_worker.values())
        self.waiting_for_unused_worker.clear()
        return tasks

    def pop_all(self) -> list[TaskRecord]:
        """Take every task."""
        tasks = [*self.pop_all_for_unused_worker(), *self.policy.pop_all()]
        self._deadlines.clear()
        return tasks

    def remove(self, task_id: int) -> None:
        """Take that task out, if it waits here."""
        self.policy.remove(task_id)
        self.waiting_for_unused_worker.pop(task_id, None)
        self._deadlines.discard(task_id)

    def expired(self, now: float) -> list[TaskRecord]:
        """Take out tasks whose deadline has come; if there are very many, some of them, and `earliest` stays in the past."""
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
