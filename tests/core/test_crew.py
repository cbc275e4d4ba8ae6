"""Slots, their one timer, and who is idle."""

from __future__ import annotations

from math import inf

import pytest

from offloop.core.model.task import TaskRecord
from offloop.core.model.worker_state import TABLE, IllegalTransition, WorkerEvent, WorkerState
from offloop.core.telemetry.event_log import EventLog
from offloop.core.workers.worker_table import TIMER_EVENTS, WorkerTable
from offloop.pool_events import WorkerMoved

E, S = WorkerEvent, WorkerState


def crew_of(workers: int, *, idle: int = 0) -> WorkerTable:
    """So many slots, the first few of which are ready; all of them may work at once."""
    crew = WorkerTable(workers)
    for _ in range(workers):
        slot = crew.add()
        slot.outbox_id = crew.new_outbox_id()
    for index in range(idle):
        crew.apply(crew[index], E.READY)
    return crew


def test_a_new_crew_is_nobody() -> None:
    crew = WorkerTable(3)
    assert (len(crew), list(crew), crew.idle, crew.running, crew.next_timer) == (0, [], 0, 0, inf)
    assert crew.find_idle() is None


def test_a_new_slot_is_starting_and_has_nothing() -> None:
    crew = WorkerTable(3)
    slot = crew.add()
    assert (slot.index, slot.state, slot.outbox_id, slot.pid, slot.unused) == (0, S.STARTING, None, None, True)
    assert (len(crew), crew.idle, crew.find_idle()) == (1, 0, None)


def test_a_new_slot_takes_the_lowest_number_that_is_free() -> None:
    crew = crew_of(3)
    crew.remove(crew[1])
    assert [slot.index for slot in crew] == [0, 2]
    assert [crew.add().index, crew.add().index] == [1, 3]


def test_slots_can_come_and_go_while_they_are_looked_through() -> None:
    crew = crew_of(3)
    for slot in crew:
        crew.remove(slot)
        if len(crew) < 3:
            crew.add()
    assert len(crew) == 3


def test_clearing_a_slot_forgets_all_that_was_the_processs() -> None:
    crew = crew_of(1)
    slot = crew[0]
    slot.pid, slot.ready_since, slot.timer, slot.kill_reason, slot.recycling = 5, 1.0, 2.0, "bad", "old"
    slot.tasks, slot.max_tasks, slot.expires_at, slot.task = 3, 1.0, 9.0, TaskRecord(1, 0.0)
    slot.clear()
    new = WorkerTable(1).add()
    for field in slot.__struct_fields__:
        if field not in {"index", "life"}:
            assert getattr(slot, field) == getattr(new, field), field


# How many may work at once


def test_nobody_is_taken_beyond_the_limit() -> None:
    crew = crew_of(3, idle=3)
    crew.concurrency_limit = 2
    assert crew.idle == 2
    for slot in (crew[0], crew[1]):
        crew.apply(slot, E.DISPATCHED)
    assert (crew.idle, crew.find_idle(), crew.find_idle(3), crew.find_idle(fresh=True)) == (0, None, None, None)


@pytest.mark.parametrize(
    "end", [(E.TASK_FINISHED,), (E.CANCEL_REQUESTED, E.TASK_FINISHED), (E.DISCONNECTED,), (E.CANCEL_REQUESTED, E.GRACE_EXPIRED)]
)
def test_whoever_ends_a_task_or_dies_of_it_makes_room_at_once(end: tuple[WorkerEvent, ...]) -> None:
    crew = crew_of(2, idle=2)
    crew.concurrency_limit = 1
    crew.apply(crew[0], E.DISPATCHED)
    assert crew.find_idle() is None
    for event in end:
        crew.apply(crew[0], event)
    assert crew.find_idle() is not None


def test_a_worker_that_is_being_stopped_still_counts() -> None:
    crew = crew_of(2, idle=2)
    crew.concurrency_limit = 1
    crew.apply(crew[0], E.DISPATCHED)
    crew.apply(crew[0], E.DEADLINE_EXPIRED)
    assert crew.find_idle() is None


def test_a_limit_that_shrinks_below_those_at_work_leaves_no_negative_room() -> None:
    crew = crew_of(3, idle=3)
    crew.apply(crew[0], E.DISPATCHED)
    crew.apply(crew[1], E.DISPATCHED)
    crew.concurrency_limit = 1
    assert (crew.idle, crew.find_idle()) == (0, None)


# Spares


def test_a_worker_that_has_worked_is_taken_before_one_that_has_not() -> None:
    crew = crew_of(3, idle=3)
    crew[1].tasks = 1
    crew.apply(crew[1], E.DISPATCHED)
    crew.apply(crew[1], E.TASK_FINISHED)
    replaced = crew[2]
    crew.apply(replaced, E.DISCONNECTED)
    crew.apply(replaced, E.EXITED)
    crew.apply(replaced, E.READY)
    assert crew.find_idle() is crew[1], "spares stay fresh"


def test_only_a_fresh_one_is_taken_if_so_asked() -> None:
    crew = crew_of(3, idle=3)
    crew[0].tasks = crew[2].tasks = 1
    assert crew.find_idle(fresh=True) is crew[1]
    crew[1].tasks = 1
    assert crew.find_idle(fresh=True) is None


# Who is idle


def test_outbox_numbers_start_after_the_inbox_and_never_repeat() -> None:
    crew = WorkerTable(1)
    assert [crew.new_outbox_id() for _ in range(3)] == [1, 2, 3]


def test_the_worker_that_was_busy_last_is_taken_first() -> None:
    crew = crew_of(3, idle=3)
    first = crew[0]
    first.tasks = 1
    crew.apply(first, E.DISPATCHED)
    crew.apply(first, E.TASK_FINISHED)
    assert crew.find_idle() is first


@pytest.mark.parametrize("event", [E.DISPATCHED, E.DISCONNECTED, E.PROTOCOL_VIOLATED, E.RETIREMENT_REQUESTED])
def test_a_worker_that_leaves_idle_is_not_taken(event: WorkerEvent) -> None:
    crew = crew_of(1, idle=1)
    assert crew.idle == 1
    crew.apply(crew[0], event)
    assert (crew.idle, crew.find_idle()) == (0, None)


def test_a_worker_on_probation_is_taken_before_all_others_while_it_is_idle() -> None:
    crew = crew_of(3, idle=3)
    warm = crew.find_idle()
    crew.half_open_slot = next(slot.index for slot in crew if slot is not warm)
    probe = crew[crew.half_open_slot]
    assert crew.find_idle() is probe
    crew.apply(probe, E.DISPATCHED)
    assert crew.find_idle() is warm


def test_a_worker_can_be_asked_for_by_its_outbox() -> None:
    crew = crew_of(3, idle=2)
    assert crew.find_idle(1) is crew[0]
    assert crew.find_idle(2) is crew[1]
    assert crew.find_idle(3) is None
    assert crew.find_idle(99) is None


def test_an_illegal_event_changes_neither_state_nor_timer_nor_who_is_idle() -> None:
    crew = crew_of(1, idle=1)
    slot = crew[0]
    crew.set_timer(slot, 5.0)
    with pytest.raises(IllegalTransition):
        crew.apply(slot, E.TASK_FINISHED, 9.0)
    assert (slot.state, slot.timer, crew.idle, crew.next_timer) == (S.IDLE, 5.0, 1, 5.0)


def test_a_new_state_lets_its_own_timer_run_or_none() -> None:
    crew = crew_of(1, idle=1)
    slot = crew[0]
    crew.apply(slot, E.DISPATCHED, 7.0)
    assert (slot.timer, crew.next_timer) == (7.0, 7.0)
    crew.apply(slot, E.TASK_FINISHED)
    assert slot.timer is None
    assert crew.next_timer <= 7.0, "may be early, never late"


def test_those_whose_timer_has_run_out_are_due_and_the_next_one_is_known() -> None:
    crew = crew_of(4)
    for slot, timer in zip(crew, (3.0, 1.0, None, 2.0), strict=True):
        crew.set_timer(slot, timer)
    assert crew.next_timer == 1.0
    assert [slot.index for slot in crew.due(2.0)] == [1, 3]
    assert crew.next_timer == 3.0


def test_with_no_timer_left_there_is_nothing_to_wait_for() -> None:
    crew = crew_of(1)
    crew.set_timer(crew[0], 1.0)
    crew.set_timer(crew[0], None)
    assert crew.due(5.0) == []
    assert crew.next_timer == inf


def test_slots_with_a_task_are_running() -> None:
    crew = crew_of(2, idle=2)
    crew[1].task = TaskRecord(1, 0.0)
    assert crew.running == 1


def test_slots_are_counted_by_state() -> None:
    crew = crew_of(3, idle=2)
    assert (crew.count(S.IDLE), crew.count(S.STARTING), crew.count(S.IDLE, S.STARTING)) == (2, 1, 3)


def test_every_timer_event_is_legal_where_it_would_come() -> None:
    assert all(event in TABLE[state] for state, event in TIMER_EVENTS.items())
    assert set(TIMER_EVENTS) == {S.STARTING, S.RESTARTING, S.BUSY, S.TIMED_OUT, S.RETIRING, S.FAILED, S.TERMINATING}


# What is written down


def test_each_step_is_written_down_with_its_cause_while_somebody_watches() -> None:
    journal = EventLog()
    crew = WorkerTable(1, journal)
    slot = crew.add()
    slot.pid, slot.task = 77, TaskRecord(5, 0.0)
    journal.has_subscribers, journal.now = True, 3.0
    crew.apply(slot, E.READY)
    crew.apply(slot, E.DISCONNECTED, cause="its channel is at its end")
    ready, exited = journal.drain()
    assert ready == WorkerMoved(at=3.0, slot=0, pid=77, before="starting", event="Ready", after="idle", cause="", task_id=5)
    assert isinstance(exited, WorkerMoved)
    assert (exited.before, exited.after, exited.cause) == ("idle", "failed", "its channel is at its end")


def test_nothing_is_written_down_when_nobody_watches() -> None:
    crew = crew_of(1, idle=1)
    assert crew.journal.drain() == []


def test_a_step_that_is_illegal_is_not_written_down() -> None:
    crew = crew_of(1, idle=1)
    crew.journal.has_subscribers = True
    with pytest.raises(IllegalTransition):
        crew.apply(crew[0], E.TASK_FINISHED)
    assert crew.journal.drain() == []
