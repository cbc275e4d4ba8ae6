"""Every task that has no outcome yet, and the count of those that have one.

Law 2 is kept here: a task is entered once, and `settle` takes it out with its one outcome and with every lease that was
held on its behalf. How long tasks waited and ran is counted here too, since every run ends here.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..memory.arena import Arena
from ..memory.broker import MemoryBroker, worker_lease
from ..memory.budget import Budget
from ..model.blocks import Holder, Lease
from ..model.commands import Command, SettleTask
from ..model.task import TaskRecord, TaskSpec
from ..model.task_state import TaskCounts, TaskEvent
from ..scheduling.task_queue import TaskQueue
from ..telemetry.event_log import EventLog
from ..telemetry.histogram_recorder import Recorder
from .outcomes import Outcome, OutcomeCounter

__all__ = ["TaskTable"]


class TaskTable:
    """The tasks of a pool, by number."""

    def __init__(self, arena: Arena, broker: MemoryBroker, budget: Budget, queue: TaskQueue, event_log: EventLog) -> None:
        self.outcome_counter = OutcomeCounter()
        self.waits = Recorder()  # of each task that a worker had, from its submission to its first dispatch
        self.runs = Recorder()  # of each run of a task, from its dispatch to its end
        self._arena = arena
        self._broker = broker
        self._budget = budget
        self._queue = queue
        self.counts = TaskCounts()
        self._event_log = event_log
        self._tasks: dict[int, TaskRecord] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(tuple(self._tasks.values()))

    def add(self, task_id: int, spec: TaskSpec, now: float) -> TaskRecord:
        """Enter a new task."""
        task = self._tasks[task_id] = TaskRecord(task_id, now, spec, self.counts)
        self.counts.add(task.state)
        self.outcome_counter.submitted += 1
        return task

    def get(self, task_id: int) -> TaskRecord | None:
        """The task of that number, while it has no outcome."""
        return self._tasks.get(task_id)

    def settle(self, task: TaskRecord, outcome: Outcome) -> list[Command]:
        """Give a task its outcome; every lease that it, or its worker for it, has held goes."""
        task.apply(TaskEvent.SETTLED)
        del self._tasks[task.task_id]
        self.release_worker_blocks(task)
        self._budget.remove(task)
        if task.queued_bytes:
            self._queue.count_source(task, 0)
        self.release_source(task)
        self.outcome_counter.count(outcome)
        return [SettleTask(task.task_id, outcome)]

    def release_source(self, task: TaskRecord) -> None:
        """The task needs its source no more, or has it staged again."""
        block, task.source_block = task.source_block, None
        if block is not None:
            self._arena.release(block, Lease(Holder.TASK, task.task_id))

    def release_worker_blocks(self, task: TaskRecord) -> None:
        """The worker has answered for the task, or is dead: it writes to nothing of it any more, and its run is over."""
        if task.dispatches > task.timed_dispatches:
            if not task.timed_dispatches:
                self.waits.record(task.dispatched_at - task.submitted_at)
            self.runs.record(self._event_log.now - task.dispatched_at)
            task.timed_dispatches = task.dispatches
        task.request_count, task.slot = 0, None
        if task.requested_bytes is not None:
            self._broker.cancel_output_request(task)
        if task.granted:
            for block in task.granted:
                self._arena.release(block, worker_lease(task))
            task.granted = []
