"""Invariants of a pool's state, which hold after every event.

The tests check them after each event. A running pool does not, because each check walks all tasks.
"""

from __future__ import annotations

from collections import Counter

from .components import Components
from .model.task_record import TaskRecord
from .model.task_state import TaskState
from .model.worker_state import WorkerState
from .workers.worker_group import WorkerGroup

__all__ = ["check_invariants"]

_PREPARING = (TaskState.ESTIMATING, TaskState.STAGING)
_WITH_WORKER = (TaskState.DELIVERING, TaskState.RUNNING, TaskState.STOPPING)
_AFTER_DISPATCH = (TaskState.RUNNING, TaskState.STOPPING, TaskState.HASHING)


def check_invariants(components: Components) -> None:
    """Compare the tables of a pool with each other.

    Raises:
        AssertionError: two tables contradict each other.
    """
    tasks = list(components.task_table)
    counted = Counter(task.state.value for task in tasks)
    assert {state: n for state, n in components.task_table.counts.snapshot().items() if n} == counted
    for task in tasks:
        _check_task(components, task)
    _check_slots(components)
    for group in components.groups:
        _check_group(components, group)
    assert len(components.queue) == components.task_table.counts[TaskState.WAITING], "the queue is not the waiting tasks"
    assert components.queue.nbytes == sum(task.queued_bytes for task in tasks)
    assert components.budget.running == components.task_table.counts.running


def _check_task(components: Components, task: TaskRecord) -> None:
    queue, state = components.queue, task.state
    context = f"task {task.task_id}, {state.value}"
    is_queued = task.task_id in queue.waiting or task.task_id in queue.waiting_for_unused_worker
    assert is_queued is (state is TaskState.WAITING), context
    assert (task.slot is not None) is (state in _WITH_WORKER), context
    assert bool(task.delivery_id) is (state is TaskState.DELIVERING), context
    assert (task.stop is not None) is (state is TaskState.STOPPING), context
    assert len(task.source_blocks) <= 1 or state not in _PREPARING, context
    assert (task.pending_error is None) or state is TaskState.HASHING, context
    assert (task.requested_bytes is None) or state is TaskState.RUNNING, context
    assert not task.granted or state in _WITH_WORKER, context
    assert task.outputs <= task.credit, context
    assert (task.sent_to is not None) is (state in (TaskState.SENT, TaskState.UNWANTED)), context
    if task.sent_to is not None:
        assert task in components.worker_table[task.sent_to].sent, context
    assert not task.outputs or state in _AFTER_DISPATCH, context
    if task.slot is not None:
        slot = components.worker_table[task.slot]
        assert (slot.receiving if state is TaskState.DELIVERING else slot.task) is task, context
        may_run_small_tasks = task.spec.group == components.groups.default.name and slot.group == components.groups.small.name
        assert slot.group == task.spec.group or may_run_small_tasks, f"{context} is in group {slot.group}"


def _check_group(components: Components, group: WorkerGroup) -> None:
    slots, lane = group.slots, components.queue.lanes.get(group.name)
    own = {slot.index: slot for slot in components.worker_table if slot.group == group.name}
    assert slots.slots == own, f"group {group.name} has slots of another group"
    assert slots.busy == slots.count(WorkerState.BUSY, WorkerState.TIMED_OUT), f"group {group.name}"
    assert slots.sent == sum(len(slot.sent) for slot in slots), f"group {group.name}"
    assert len(slots.idle_workers) == slots.count(WorkerState.IDLE), f"group {group.name}"
    assert slots.concurrency_limit <= group.autoscaler.max_workers, f"group {group.name}"
    assert group.autoscaler.min_workers <= group.autoscaler.desired_workers <= group.autoscaler.max_workers
    waiting = [task for task in components.task_table if task.state is TaskState.WAITING and task.spec.group == group.name]
    assert (0 if lane is None else len(lane)) == len(waiting), f"the lane of group {group.name} is not its waiting tasks"


def _check_slots(components: Components) -> None:
    for slot in components.worker_table:
        if slot.task is not None:
            assert components.task_table.get(slot.task.task_id) is slot.task, f"slot {slot.index} has a settled task"
        if slot.receiving is not None:
            task = components.task_table.get(slot.receiving.task_id)
            assert task is slot.receiving, f"slot {slot.index} gets a settled task"
        has_task = slot.state in (WorkerState.BUSY, WorkerState.TIMED_OUT)
        assert not has_task or slot.assigned is not None, f"slot {slot.index} is {slot.state.value} without a task"
        assert slot.task is None or slot.receiving is None, f"slot {slot.index} has a task and gets another one"
        assert slot.assigned is None or slot.state is not WorkerState.IDLE, f"slot {slot.index} is idle with a task"
        assert slot.task is not None or not slot.sent, f"slot {slot.index} has sent tasks, and runs none"
        numbers = [task.run_number for task in slot.sent]
        assert numbers == sorted(numbers), f"the sent tasks of slot {slot.index} are not in order"
        assert all(task.sent_to == slot.index for task in slot.sent), f"slot {slot.index} has another one's tasks"
    assert components.budget.excess_bytes == sum(slot.excess_bytes for slot in components.worker_table)
    assert components.dispatcher.sent_tasks.total == sum(len(slot.sent) for slot in components.worker_table)
