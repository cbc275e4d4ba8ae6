"""Slots, their one timer, and who is idle."""

from __future__ import annotations

from math import inf

import pytest

from offloop.core.crew import TIMER_EVENTS, Crew
from offloop.core.tasks import TaskRecord
from offloop.core.worker_state import TABLE, IllegalTransition, WorkerEvent, WorkerState

E, S = WorkerEvent, WorkerState


def crew_of(workers: int, *, idle: int = 0) -> Crew:
    """So many slots, the first few of which are ready."""
    crew = Crew(workers)
    for slot in crew:
        slot.outbox_id = crew.new_outbox_id()
    for slot in crew[:idle]:
        crew.apply(slot, E.READY)
    return crew


def test_a_new_crew_is_starting_and_idle_nowhere() -> None:
    crew = Crew(3)
    assert [(slot.index, slot.state, slot.outbox_id) for slot in crew] == [(n, S.STARTING, None) for n in range(3)]
    assert (crew.idle, crew.running, crew.earliest, crew.maybe_idle()) == (0, 0, inf, None)


def test_outbox_numbers_start_after_the_inbox_and_never_repeat() -> None:
    crew = Crew(1)
    assert [crew.new_outbox_id() for _ in range(3)] == [1, 2, 3]


def test_the_worker_that_was_busy_last_is_taken_first() -> None:
    crew = crew_of(3, idle=3)
    first = crew[0]
    crew.apply(first, E.DISPATCHED)
    crew.apply(first, E.SETTLED)
    assert crew.maybe_idle() is first


@pytest.mark.parametrize("event", [E.DISPATCHED, E.EXITED, E.MISBEHAVED, E.RETIREMENT_REQUESTED])
def test_a_worker_that_leaves_idle_is_not_taken(event: WorkerEvent) -> None:
    crew = crew_of(1, idle=1)
    assert crew.idle == 1
    crew.apply(crew[0], event)
    assert (crew.idle, crew.maybe_idle()) == (0, None)


def test_a_worker_can_be_asked_for_by_its_outbox() -> None:
    crew = crew_of(3, idle=2)
    assert crew.maybe_idle(1) is crew[0]
    assert crew.maybe_idle(2) is crew[1]
    assert crew.maybe_idle(3) is None
    assert crew.maybe_idle(99) is None


def test_an_illegal_event_changes_neither_state_nor_timer_nor_who_is_idle() -> None:
    crew = crew_of(1, idle=1)
    slot = crew[0]
    crew.set_timer(slot, 5.0)
    with pytest.raises(IllegalTransition):
        crew.apply(slot, E.SETTLED, 9.0)
    assert (slot.state, slot.timer, crew.idle, crew.earliest) == (S.IDLE, 5.0, 1, 5.0)


def test_a_new_state_lets_its_own_timer_run_or_none() -> None:
    crew = crew_of(1, idle=1)
    slot = crew[0]
    crew.apply(slot, E.DISPATCHED, 7.0)
    assert (slot.timer, crew.earliest) == (7.0, 7.0)
    crew.apply(slot, E.SETTLED)
    assert slot.timer is None
    assert crew.earliest <= 7.0, "may be early, never late"


def test_those_whose_timer_has_run_out_are_due_and_the_next_one_is_known() -> None:
    crew = crew_of(4)
    for slot, timer in zip(crew, (3.0, 1.0, None, 2.0), strict=True):
        crew.set_timer(slot, timer)
    assert crew.earliest == 1.0
    assert [slot.index for slot in crew.due(2.0)] == [1, 3]
    assert crew.earliest == 3.0


def test_with_no_timer_left_there_is_nothing_to_wait_for() -> None:
    crew = crew_of(1)
    crew.set_timer(crew[0], 1.0)
    crew.set_timer(crew[0], None)
    assert crew.due(5.0) == []
    assert crew.earliest == inf


def test_slots_with_a_task_are_running() -> None:
    crew = crew_of(2, idle=2)
    crew[1].task = TaskRecord(1, 0.0)
    assert crew.running == 1


def test_slots_are_counted_by_state() -> None:
    crew = crew_of(3, idle=2)
    assert (crew.count(S.IDLE), crew.count(S.STARTING), crew.count(S.IDLE, S.STARTING)) == (2, 1, 3)


def test_every_timer_event_is_legal_where_it_would_come() -> None:
    assert all(event in TABLE[state] for state, event in TIMER_EVENTS.items())
    assert set(TIMER_EVENTS) == {S.STARTING, S.RESTARTING, S.BUSY, S.TIMED_OUT, S.RETIRING}
