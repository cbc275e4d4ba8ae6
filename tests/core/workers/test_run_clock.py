"""Run clock: a task's timeout does not run while the task waits for memory."""

from __future__ import annotations

from offloop.core.model.task_record import TaskRecord
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.model.worker_state import WorkerEvent
from offloop.core.telemetry.event_log import EventLog
from offloop.core.workers.group_slots import GroupSlots
from offloop.core.workers.run_clock import RunClock
from offloop.core.workers.worker_table import WorkerTable

from ..pool_script import PoolScript


def busy(timer: float | None) -> tuple[RunClock, WorkerSlot, TaskRecord]:
    """A slot of a pool of one worker, whose task has this timer."""
    pool = PoolScript().opened()
    pool.run(1, timeout_s=timer)
    slot = pool.core.worker_table[0]
    assert slot.task is not None
    return pool.core.run_clock, slot, slot.task


def test_the_time_that_was_left_is_left_afterwards() -> None:
    clock, slot, task = busy(5.0)
    clock.pause(slot, task, 2.0)
    assert slot.timer is None
    clock.resume(slot, 12.0)
    assert (slot.timer, task.paused_s) == (15.0, 10.0)


def test_a_task_without_a_limit_gets_none() -> None:
    clock, slot, task = busy(None)
    clock.pause(slot, task, 2.0)
    clock.resume(slot, 12.0)
    assert (slot.timer, task.paused_s) == (None, 10.0)


def test_a_task_that_is_being_stopped_keeps_its_grace() -> None:
    clock, slot, task = busy(5.0)
    clock.pause(slot, task, 2.0)
    clock.end_wait(task, 3.0)
    slot.state_machine.apply(WorkerEvent.CANCEL_REQUESTED)
    slot.timer = 4.0
    clock.resume(slot, 3.5)
    assert (slot.timer, task.paused_s) == (4.0, 1.0)


def test_a_slot_without_a_task_has_no_clock_to_go_on() -> None:
    worker_table = WorkerTable([GroupSlots(1)], EventLog())
    slot = worker_table.add()
    RunClock(worker_table).resume(slot, 1.0)
    assert slot.timer is None
