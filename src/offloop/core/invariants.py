"""Statements about a pool's state that hold after every event.

The tests check them after each event that they send; a pool does not, because each check walks all tasks.
"""

from __future__ import annotations

from collections import Counter

from .components import Components
from .model.task import TaskRecord
from .model.task_state import TaskState
from .model.worker_state import WorkerState

__all__ = ["check_invariants"]

_PREPARING = (TaskState.ESTIMATING, TaskState.STAGING)
_WITH_WORKER = (TaskState.RUNNING, TaskState.STOPPING)


def check_invariants(components: Components) -> None:
    """Compare the tables of a pool with each other.

    Raises:
        AssertionError: two of them contradict each other.
    """
    tasks = list(components.task_table)
    counted = Counter(task.state.value for task in tasks)
    assert {state: n for state, n in components.task_table.counts.snapshot().items() if n} == counted
    for task in tasks:
        _check_task(components, task)
    _check_slots(components)
    assert len(components.queue) == components.task_table.counts[TaskState.WAITING], "a task that does not wait is queued"
    assert components.queue.nbytes == sum(task.queued_bytes for task in tasks)
    assert components.budget.running == components.task_table.counts.running


def _check_task(components: Components, task: TaskRecord) -> None:
    queue, state = components.queue, task.state
    where = f"task {task.task_id}, {state.value}"
    waits = task.task_id in queue.waiting or task.task_id in queue.waiting_for_unused_worker
    assert waits is (state is TaskState.WAITING), where
    assert (task.slot is not None) is (state in _WITH_WORKER), where
    assert (task.stop is not None) is (state is TaskState.STOPPING), where
    assert (task.source_block is None) or state not in _PREPARING, where
    assert (task.pending_error is None) or state is TaskState.HASHING, where
    assert (task.requested_bytes is None) or state is TaskState.RUNNING, where
    assert not task.granted or state in _WITH_WORKER, where
    if task.slot is not None:
        assert components.worker_table[task.slot].task is task, where


def _check_slots(components: Components) -> None:
    for slot in components.worker_table:
        if slot.task is not None:
            assert components.task_table.get(slot.task.task_id) is slot.task, f"slot {slot.index} has a settled task"
        has_task = slot.state in (WorkerState.BUSY, WorkerState.TIMED_OUT)
        assert not has_task or slot.task is not None, f"slot {slot.index} is {slot.state.value} without a task"
        assert slot.task is None or slot.state is not WorkerState.IDLE, f"slot {slot.index} is idle with a task"
