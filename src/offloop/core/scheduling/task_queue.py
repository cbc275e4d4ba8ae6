"""Task queue: the tasks that wait for a worker, in a lane for each worker group.

The queue has what the lanes share: the deadlines of waiting tasks, the length of their sources, and the tenants' charges. A
tenant's task is charged in every lane in which tasks wait, so the shares of tenants are those of the whole pool.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model.lazy_heap import LazyHeap
from ..model.task_record import TaskRecord
from .lane import Lane

__all__ = ["TaskQueue"]

_MAX_EXPIRED_AT_ONCE = 100  # tasks that expire in one event, because each outcome takes the loop several microseconds


class TaskQueue:
    """Waiting tasks, some with a deadline for their start."""

    def __init__(self, lanes: Iterable[Lane], waiting: dict[int, TaskRecord]) -> None:
        """Without waiting tasks.

        Args:
            lanes: a lane for each worker group whose tasks wait.
            waiting: the dictionary that the lanes share.
        """
        self.lanes = {lane.name: lane for lane in lanes}
        """The lanes by the name of their group."""
        self.waiting = waiting
        """The tasks that wait for any worker, by id. Read only."""
        self._single_lane = list(self.lanes.values()) if len(self.lanes) == 1 else None
        self.nbytes = 0  # size of the sources of all tasks that no worker has yet, waiting or being prepared
        self.waiting_for_unused_worker: dict[int, TaskRecord] = {}
        """The tasks that wait for a worker that has had no task yet, by id. Read only."""
        self._deadlines: LazyHeap[int] = LazyHeap()  # ids of the tasks that wait for any worker and have a queue deadline

    def __len__(self) -> int:
        return len(self.waiting) + len(self.waiting_for_unused_worker)

    def __bool__(self) -> bool:
        return bool(self.waiting or self.waiting_for_unused_worker)

    def lane_of(self, task: TaskRecord) -> Lane:
        """The lane of the task's worker group."""
        return self.lanes[task.spec.group]

    @property
    def waiting_lanes(self) -> list[Lane]:
        """The lanes in which a task waits. Must not be called if none does."""
        return self._single_lane or [lane for lane in self.lanes.values() if lane]

    def push(self, task: TaskRecord, deadline: float | None = None) -> None:
        """Add a task that waits for any worker. After its deadline, `expired` removes and returns it."""
        self.lanes[task.spec.group].policy.add(task)
        if deadline is not None:
            self._deadlines.set(task.task_id, deadline)

    def requeue_first(self, task: TaskRecord) -> None:
        """Add a task as the first one, because its worker died before the task had begun. It has no queue deadline any more."""
        self.lane_of(task).policy.requeue_first(task)

    def push_for_unused_worker(self, task: TaskRecord) -> None:
        """Add a task that waits for an unused worker, because a worker has died of it."""
        self.waiting_for_unused_worker[task.task_id] = task
        self.lane_of(task).waiting_for_unused_worker[task.task_id] = task

    def count_source(self, task: TaskRecord, nbytes: int) -> None:
        """Set the size of a task's source in `nbytes`; 0 when a worker has the task, or it has ended."""
        self.nbytes += nbytes - task.queued_bytes
        task.queued_bytes = nbytes

    def start(self, task: TaskRecord) -> None:
        """Remove a task that waited for any worker and gets one, and charge its tenant."""
        lane = self.lanes[task.spec.group]
        lane.policy.start(task)
        self._deadlines.discard(task.task_id)
        if self._single_lane is None and task.charged_s is not None:
            self._correct_charges(task, task.charged_s, but=lane)

    def start_on_unused_worker(self, task: TaskRecord) -> None:
        """Remove a task that waited for an unused worker and gets one."""
        del self.waiting_for_unused_worker[task.task_id]
        del self.lane_of(task).waiting_for_unused_worker[task.task_id]

    def record_duration(self, task: TaskRecord, seconds: float) -> None:
        """A task has ended after so many seconds: correct the charge of its tenant."""
        if task.charged_s is not None:
            more_s, task.charged_s = seconds - task.charged_s, None
            self.lanes[task.spec.group].policy.correct_charge(task.spec.tenant, more_s)
            if self._single_lane is None:
                self._correct_charges(task, more_s, but=self.lane_of(task))

    def _correct_charges(self, task: TaskRecord, more_s: float, *, but: Lane) -> None:
        """Charge a tenant in the other lanes. In a lane without waiting tasks no charge would outlast its next use."""
        for lane in self.lanes.values():
            if lane is not but and lane.policy:
                lane.policy.correct_charge(task.spec.tenant, more_s)

    def pop_all_for_unused_worker(self, lanes: Iterable[Lane] | None = None) -> list[TaskRecord]:
        """Remove and return all tasks that wait for an unused worker, of these lanes or of all."""
        tasks: list[TaskRecord] = []
        for lane in self.lanes.values() if lanes is None else lanes:
            tasks += lane.waiting_for_unused_worker.values()
            lane.waiting_for_unused_worker.clear()
        for task in tasks:
            del self.waiting_for_unused_worker[task.task_id]
        return tasks

    def pop_all(self, lanes: Iterable[Lane] | None = None) -> list[TaskRecord]:
        """Remove and return all tasks, of these lanes or of all."""
        lanes = list(self.lanes.values() if lanes is None else lanes)
        tasks = self.pop_all_for_unused_worker(lanes)
        for lane in lanes:
            for task in lane.policy.pop_all():
                self._deadlines.discard(task.task_id)
                tasks.append(task)
        return tasks

    def remove(self, task_id: int) -> None:
        """Remove a task, if it waits here."""
        if (task := self.waiting.get(task_id)) is not None:
            self.lane_of(task).policy.remove(task)
            self._deadlines.discard(task_id)
        elif (task := self.waiting_for_unused_worker.get(task_id)) is not None:
            self.start_on_unused_worker(task)

    def expired(self, now: float) -> list[TaskRecord]:
        """Remove and return tasks whose deadline has passed; at most 100, and `next_deadline` stays in the past if there are
        more."""
        late: list[TaskRecord] = []
        while self._deadlines.lowest <= now and len(late) < _MAX_EXPIRED_AT_ONCE:
            task = self.waiting[self._deadlines.pop()]
            self.lane_of(task).policy.remove(task)
            late.append(task)
        return late

    @property
    def next_deadline(self) -> float:
        """The earliest queue deadline of a waiting task; infinity if none has one."""
        return self._deadlines.lowest

    # For statistics

    @property
    def waiting_by_tenant(self) -> dict[str, int]:
        """Number of tasks of each tenant that wait for any worker; tasks without a tenant under ""."""
        counts: dict[str, int] = {}
        for lane in self.lanes.values():
            for tenant, tasks in lane.policy.waiting.items():
                counts[tenant] = counts.get(tenant, 0) + tasks
        return counts

    @property
    def waiting_by_priority(self) -> dict[int, int]:
        """Number of tasks of each priority that wait for any worker, the lowest priority first."""
        counts: dict[int, int] = {}
        for lane in self.lanes.values():
            for priority, tasks in lane.policy.by_priority.items():
                counts[priority] = counts.get(priority, 0) + tasks
        return {priority: tasks for priority, tasks in sorted(counts.items()) if tasks}

    @property
    def waiting_cost_s(self) -> float:
        """Estimated cost of all tasks that wait for any worker, in seconds of a worker's time."""
        return sum((lane.policy.cost_s for lane in self.lanes.values()), 0.0)
