"""Table of all unsettled tasks, with the counts and histograms of settled ones.

Law 2 is kept here: a task is added once, and `settle` removes it with its one outcome and releases every lease that was held
for it. Wait and run times are recorded here too, because every run ends here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from ..memory.arena import Arena
from ..memory.broker import MemoryBroker, worker_lease
from ..memory.budget import Budget
from ..model.blocks import Holder, Lease
from ..model.commands import Command, SettleTask
from ..model.task import Completed, TaskSpec
from ..model.task_record import TaskRecord
from ..model.task_state import TaskCounts, TaskEvent, TaskState
from ..scheduling.task_queue import TaskQueue
from ..telemetry.event_log import EventLog
from .outcomes import Outcome, add_labels, code_of, counter_of
from .task_end import describe_end

__all__ = ["OutcomeCounter", "TaskTable"]

_OTHER_ERRORS = "(others)"  # errors with a code beyond the first `_MAX_CODES`
_MAX_CODES = 60  # because the codes of a plugin are its own, and each is a metric's time series

_SETTLED: Final = TaskEvent.SETTLED  # a member that is looked up on its class costs 0.1 us on Python 3.11
_PREPARING = (TaskState.ESTIMATING, TaskState.STAGING)  # states in which a task may wait for the memory of its sources


class OutcomeCounter:
    """Number of submitted tasks, of settled tasks by kind of outcome, and of their errors by code."""

    def __init__(self) -> None:
        self.submitted = 0
        self.ended: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def count(self, outcome: Outcome) -> None:
        """Count the outcome of one task."""
        if isinstance(outcome, Completed):
            self.ended["completed"] += 1
            return
        self.ended[counter_of(outcome)] += 1
        if outcome is not None:
            code = code_of(outcome)
            self.errors[code if code in self.errors or len(self.errors) < _MAX_CODES else _OTHER_ERRORS] += 1


class TaskTable:
    """The unsettled tasks of a pool, by id."""

    def __init__(
        self, arena: Arena, broker: MemoryBroker, budget: Budget, queue: TaskQueue, event_log: EventLog | None = None
    ) -> None:
        self.outcome_counter = OutcomeCounter()
        self._event_log = EventLog() if event_log is None else event_log
        self._arena = arena
        self._broker = broker
        self._budget = budget
        self._queue = queue
        self.counts = TaskCounts()
        self._tasks: dict[int, TaskRecord] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(tuple(self._tasks.values()))

    def add(self, task_id: int, spec: TaskSpec, now: float) -> TaskRecord:
        """Add a new task."""
        task = self._tasks[task_id] = TaskRecord(task_id, now, spec, self.counts)
        self.counts.by_state[task.state] += 1
        self.outcome_counter.submitted += 1
        return task

    def get(self, task_id: int) -> TaskRecord | None:
        """Return the task with this id; None if it is settled or unknown."""
        return self._tasks.get(task_id)

    def settle(self, task: TaskRecord, outcome: Outcome) -> list[Command]:
        """Settle a task: remove it and release every lease that it, or its worker for it, holds."""
        if task.state in _PREPARING:
            self._broker.input_queue.cancel(task.task_id)
        if self._event_log.watches_tasks:
            self._event_log.append(describe_end(task, outcome, self._event_log.now))
        if task.spec.labels:
            add_labels(task.spec.labels, outcome)
        task.apply(_SETTLED)
        del self._tasks[task.task_id]
        self.release_worker_blocks(task)
        self._budget.remove(task)
        if task.queued_bytes:
            self._queue.count_source(task, 0)
        if task.source_blocks:
            self.release_sources(task)
        self.outcome_counter.count(outcome)
        return [SettleTask(task.task_id, outcome)]

    def release_sources(self, task: TaskRecord) -> None:
        """Release the sources of a task that is settled, or whose sources are staged again."""
        for block in task.source_blocks:
            self._arena.release(block, Lease(Holder.TASK, task.task_id))
        task.source_blocks = ()

    def release_worker_blocks(self, task: TaskRecord) -> None:
        """End the task's run and release its granted blocks, after its worker has answered or has died."""
        task.request_count, task.slot = 0, None
        if task.requested_bytes is not None:
            self._broker.cancel_output_request(task)
        if task.granted:
            for block in task.granted:
                self._arena.release(block, worker_lease(task))
            task.granted = []
