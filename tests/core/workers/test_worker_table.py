"""Worker table: slots, their timers, and idle workers."""

from __future__ import annotations

from math import inf

import pytest

from offloop.core.model.task_record import TaskRecord
from offloop.core.model.worker_state import TABLE, IllegalTransition, WorkerEvent, WorkerState
from offloop.core.telemetry.event_log import EventLog
from offloop.core.workers.group_slots import GroupSlots
from offloop.core.workers.worker_table import TIMER_EVENTS, WorkerTable
from offloop.pool_events import WorkerMoved

from ..pool_script import SPEC

E, S = WorkerEvent, WorkerState


def table_of(workers: int, *, idle: int = 0) -> WorkerTable:
    """A table with one group of so many slots, of which the first `idle` are ready."""
    worker_table = WorkerTable([GroupSlots(workers)])
    for _ in range(workers):
        slot = worker_table.add()
        slot.outbox_id = worker_table.new_outbox_id()
    for index in range(idle):
        worker_table.apply(worker_table[index], E.LOADING_BEGUN, 0.0)
        worker_table.apply(worker_table[index], E.READY, 0.0)
    return worker_table


def test_a_new_worker_table_is_empty() -> None:
    worker_table = WorkerTable([GroupSlots(3)])
    assert (len(worker_table), list(worker_table), worker_table.running, worker_table.next_timer) == (0, [], 0, inf)
    assert worker_table.groups["default"].find_idle() is None


def test_a_new_slot_is_starting_and_has_nothing() -> None:
    worker_table = WorkerTable([GroupSlots(3)])
    slot = worker_table.add()
    assert (slot.index, slot.state, slot.outbox_id, slot.pid, slot.unused) == (0, S.STARTING, None, None, True)
    group = worker_table.groups["default"]
    assert (len(worker_table), len(group), group.idle, group.find_idle()) == (1, 1, 0, None)


def test_a_new_slot_takes_the_lowest_number_that_is_free() -> None:
    worker_table = table_of(3)
    worker_table.remove(worker_table[1])
    assert [slot.index for slot in worker_table] == [0, 2]
    assert [worker_table.add().index, worker_table.add().index] == [1, 3]


def test_slots_can_come_and_go_while_they_are_looked_through() -> None:
    worker_table = table_of(3)
    for slot in worker_table:
        worker_table.remove(slot)
        if len(worker_table) < 3:
            worker_table.add()
    assert len(worker_table) == 3


def test_clearing_a_slot_forgets_all_that_was_the_processs() -> None:
    worker_table = table_of(1)
    slot = worker_table[0]
    slot.pid, slot.ready_since, slot.timer, slot.kill_reason, slot.recycling = 5, 1.0, 2.0, "bad", "old"
    slot.tasks, slot.max_tasks, slot.expires_at, slot.task = 3, 1.0, 9.0, TaskRecord(1, 0.0, SPEC)
    slot.clear()
    new = WorkerTable([GroupSlots(1)]).add()
    fields = {name for name in dir(slot) if not name.startswith("_")} - {
        "index",
        "state",
        "state_machine",
        "clear",
        "take_back",
    }
    assert len(fields) > 20
    for field in fields:
        assert getattr(slot, field) == getattr(new, field), field


# Events and timers


def test_outbox_numbers_start_after_the_inbox_and_never_repeat() -> None:
    worker_table = WorkerTable([GroupSlots(1)])
    assert [worker_table.new_outbox_id() for _ in range(3)] == [1, 2, 3]


def test_an_illegal_event_changes_neither_state_nor_timer_nor_idle_workers() -> None:
    worker_table = table_of(1, idle=1)
    slot = worker_table[0]
    worker_table.set_timer(slot, 5.0)
    with pytest.raises(IllegalTransition):
        worker_table.apply(slot, E.TASK_FINISHED, 0.0, 9.0)
    assert (slot.state, slot.timer, worker_table.groups["default"].idle, worker_table.next_timer) == (S.IDLE, 5.0, 1, 5.0)


def test_a_new_state_lets_its_own_timer_run_or_none() -> None:
    worker_table = table_of(1, idle=1)
    slot = worker_table[0]
    worker_table.apply(slot, E.DISPATCHED, 0.0, 7.0)
    assert (slot.timer, worker_table.next_timer) == (7.0, 7.0)
    worker_table.apply(slot, E.TASK_FINISHED, 0.0)
    assert slot.timer is None
    assert worker_table.next_timer <= 7.0, "may be early, never late"


def test_slots_with_an_expired_timer_are_due_and_the_next_timer_is_known() -> None:
    worker_table = table_of(4)
    for slot, timer in zip(worker_table, (3.0, 1.0, None, 2.0), strict=True):
        worker_table.set_timer(slot, timer)
    assert worker_table.next_timer == 1.0
    assert [slot.index for slot in worker_table.due(2.0)] == [1, 3]
    assert worker_table.next_timer == 3.0


def test_with_no_timer_left_there_is_nothing_to_wait_for() -> None:
    worker_table = table_of(1)
    worker_table.set_timer(worker_table[0], 1.0)
    worker_table.set_timer(worker_table[0], None)
    assert worker_table.due(5.0) == []
    assert worker_table.next_timer == inf


def test_slots_with_a_task_are_running() -> None:
    worker_table = table_of(2, idle=2)
    worker_table[1].task = TaskRecord(1, 0.0, SPEC)
    assert worker_table.running == 1


def test_slots_are_counted_by_state() -> None:
    worker_table = table_of(3, idle=2)
    assert (worker_table.count(S.IDLE), worker_table.count(S.STARTING), worker_table.count(S.IDLE, S.STARTING)) == (2, 1, 3)


def test_every_timer_event_is_legal_where_it_would_come() -> None:
    assert all(event in TABLE[state] for state, event in TIMER_EVENTS.items())
    assert set(TIMER_EVENTS) == {S.STARTING, S.LOADING, S.RESTARTING, S.BUSY, S.TIMED_OUT, S.RETIRING, S.FAILED, S.TERMINATING}


# What is written down


def test_each_transition_is_logged_with_its_cause_while_there_is_a_subscriber() -> None:
    event_log = EventLog()
    worker_table = WorkerTable([GroupSlots(1)], event_log)
    slot = worker_table.add()
    slot.pid, slot.task = 77, TaskRecord(5, 0.0, SPEC)
    event_log.has_subscribers = True
    worker_table.apply(slot, E.LOADING_BEGUN, 3.0)
    worker_table.apply(slot, E.READY, 3.0)
    worker_table.apply(slot, E.DISCONNECTED, 3.0, cause="its channel is at its end")
    _, ready, exited = event_log.drain()
    assert ready == WorkerMoved(
        at=3.0, slot=0, group="default", pid=77, before="loading", event="Ready", after="idle", cause="", task_id=5
    )
    assert isinstance(exited, WorkerMoved)
    assert (exited.before, exited.after, exited.cause) == ("idle", "failed", "its channel is at its end")


def test_no_transition_is_logged_without_a_subscriber() -> None:
    worker_table = table_of(1, idle=1)
    assert worker_table.event_log.drain() == []


def test_a_step_that_is_illegal_is_not_written_down() -> None:
    worker_table = table_of(1, idle=1)
    worker_table.event_log.has_subscribers = True
    with pytest.raises(IllegalTransition):
        worker_table.apply(worker_table[0], E.TASK_FINISHED, 0.0)
    assert worker_table.event_log.drain() == []
