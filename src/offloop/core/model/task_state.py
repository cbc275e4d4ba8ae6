"""States of a task, as a table.

Rows are states, keys are events, an absent key is an illegal event. `TaskRecord.apply` looks the event up before anything
changes, so an illegal event leaves the task as it was. The diagram in `docs/design.md` is drawn from this table, and every
(state, event) pair is tested.

- ESTIMATING: submitted; the header of the source is read, and the plugins are asked what the task will take.
- STAGING: the source is on its way into the inbox.
- HASHING: a thread reads the source, because it may be content that has killed workers.
- WAITING: the task waits for a worker, or for memory to run in.
- DELIVERING: a worker is to have the task, and its sources are on their way into the inbox of that worker.
- SENT: a worker has the task, behind the task that it runs. It is not begun.
- UNWANTED: the same, and its caller has cancelled it. It ends as soon as it is withdrawn, or is stopped if it is begun.
- RUNNING: a worker has the task.
- STOPPING: a worker has the task and was told to stop it, or is being killed.
- SETTLED: the task has its outcome.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final

__all__ = ["TASK_TABLE", "IllegalTaskEvent", "TaskCounts", "TaskEvent", "TaskState"]


class TaskState(Enum):
    """State of a task, from its submission to its outcome."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash runs in Python, several times per task

    ESTIMATING = "estimating"
    STAGING = "staging"
    HASHING = "hashing"
    WAITING = "waiting"
    DELIVERING = "delivering"
    SENT = "sent"
    UNWANTED = "unwanted"
    RUNNING = "running"
    STOPPING = "stopping"
    SETTLED = "settled"


class TaskEvent(Enum):
    """Event that changes the state of a task."""

    __hash__ = object.__hash__

    ESTIMATED = "Estimated"  # the cost of the task was estimated
    HASH_REQUESTED = "HashRequested"  # its source is hashed, because it is a suspect or its worker died
    ADMITTED = "Admitted"  # its source is staged, and the task may run
    SOURCE_RELEASED = "SourceReleased"  # its source has to be staged, or staged again
    DISPATCHED = "Dispatched"  # an idle worker was sent the task
    DELIVERY_BEGUN = "DeliveryBegun"  # a thread copies or reads its sources for an idle worker
    DELIVERED = "Delivered"  # its sources are in the inbox of that worker, which was sent the task
    SENT_BEHIND = "SentBehind"  # a busy worker was sent the task
    BEGUN = "Begun"  # its worker has answered for the task before it
    WITHDRAWN = "Withdrawn"  # its worker will not begin it, or does not get it
    STOP_REQUESTED = "StopRequested"  # its deadline passed, its caller cancelled, or the pool is closing
    RETRIED = "Retried"  # its worker died, and another worker is to run it
    SETTLED = "Settled"  # it got its outcome


_S, _E = TaskState, TaskEvent

TASK_TABLE: Final = MappingProxyType(
    {
        _S.ESTIMATING: {
            _E.ESTIMATED: _S.STAGING,
            _E.SOURCE_RELEASED: _S.STAGING,
            _E.HASH_REQUESTED: _S.HASHING,
            _E.ADMITTED: _S.WAITING,
            _E.SETTLED: _S.SETTLED,
        },
        _S.STAGING: {
            _E.SOURCE_RELEASED: _S.STAGING,
            _E.HASH_REQUESTED: _S.HASHING,
            _E.ADMITTED: _S.WAITING,
            _E.SETTLED: _S.SETTLED,
        },
        _S.HASHING: {_E.ADMITTED: _S.WAITING, _E.RETRIED: _S.WAITING, _E.SETTLED: _S.SETTLED},
        _S.WAITING: {
            _E.DISPATCHED: _S.RUNNING,
            _E.DELIVERY_BEGUN: _S.DELIVERING,
            _E.SENT_BEHIND: _S.SENT,
            _E.SOURCE_RELEASED: _S.STAGING,
            _E.SETTLED: _S.SETTLED,
        },
        _S.DELIVERING: {_E.DELIVERED: _S.RUNNING, _E.WITHDRAWN: _S.WAITING, _E.SETTLED: _S.SETTLED},
        _S.SENT: {_E.BEGUN: _S.RUNNING, _E.WITHDRAWN: _S.WAITING, _E.STOP_REQUESTED: _S.UNWANTED},
        _S.UNWANTED: {_E.BEGUN: _S.STOPPING, _E.SETTLED: _S.SETTLED},
        _S.RUNNING: {
            _E.STOP_REQUESTED: _S.STOPPING,
            _E.RETRIED: _S.WAITING,
            _E.HASH_REQUESTED: _S.HASHING,
            _E.SETTLED: _S.SETTLED,
        },
        _S.STOPPING: {_E.STOP_REQUESTED: _S.STOPPING, _E.SETTLED: _S.SETTLED},
        _S.SETTLED: {},
    }
)


class IllegalTaskEvent(Exception):
    """An event that the table has no entry for: a defect of the core."""

    def __init__(self, task_id: int, state: TaskState, event: TaskEvent) -> None:
        self.task_id = task_id
        self.state = state
        self.event = event
        super().__init__(f"{event.value} is illegal for task {task_id} in state {state.value}")


class TaskCounts:
    """Number of tasks in each state. `TaskRecord.apply` moves a task from one state to another."""

    def __init__(self) -> None:
        self.by_state = dict.fromkeys(TaskState, 0)

    def __getitem__(self, state: TaskState) -> int:
        return self.by_state[state]

    @property
    def preparing(self) -> int:
        """Number of tasks whose source is being staged or hashed."""
        counts = self.by_state
        return counts[TaskState.ESTIMATING] + counts[TaskState.STAGING] + counts[TaskState.HASHING]

    @property
    def waiting(self) -> int:
        """Number of tasks that no worker has begun."""
        counts = self.by_state
        return self.preparing + counts[TaskState.WAITING] + counts[TaskState.SENT] + counts[TaskState.UNWANTED]

    @property
    def running(self) -> int:
        """Number of tasks that a worker runs, or is about to."""
        counts = self.by_state
        return counts[TaskState.RUNNING] + counts[TaskState.STOPPING] + counts[TaskState.DELIVERING]

    def snapshot(self) -> dict[str, int]:
        """Return the number of unsettled tasks by the name of their state."""
        return {state.value: count for state, count in self.by_state.items() if state is not TaskState.SETTLED}
