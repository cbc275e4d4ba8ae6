"""The table of worker states, pair by pair, against a second table that is written by hand."""

from __future__ import annotations

from itertools import product

import pytest

from offloop.core.model.worker_state import TABLE, IllegalTransition, WorkerEvent, WorkerState, WorkerStateMachine

S, E = WorkerState, WorkerEvent

LEGAL = {
    (S.STARTING, E.LOADING_BEGUN): S.LOADING,
    (S.STARTING, E.START_EXPIRED): S.FAILED,
    (S.STARTING, E.PROTOCOL_VIOLATED): S.FAILED,
    (S.STARTING, E.DISCONNECTED): S.FAILED,
    (S.STARTING, E.RETIREMENT_REQUESTED): S.RETIRING,
    (S.LOADING, E.READY): S.IDLE,
    (S.LOADING, E.LOAD_EXPIRED): S.FAILED,
    (S.LOADING, E.PROTOCOL_VIOLATED): S.FAILED,
    (S.LOADING, E.DISCONNECTED): S.FAILED,
    (S.LOADING, E.RETIREMENT_REQUESTED): S.RETIRING,
    (S.IDLE, E.DISPATCHED): S.BUSY,
    (S.IDLE, E.PROTOCOL_VIOLATED): S.FAILED,
    (S.IDLE, E.DISCONNECTED): S.FAILED,
    (S.IDLE, E.RETIREMENT_REQUESTED): S.RETIRING,
    (S.BUSY, E.TASK_FINISHED): S.IDLE,
    (S.BUSY, E.NEXT_BEGUN): S.BUSY,
    (S.BUSY, E.DEADLINE_EXPIRED): S.TIMED_OUT,
    (S.BUSY, E.CANCEL_REQUESTED): S.TIMED_OUT,
    (S.BUSY, E.PROTOCOL_VIOLATED): S.FAILED,
    (S.BUSY, E.DISCONNECTED): S.FAILED,
    (S.TIMED_OUT, E.TASK_FINISHED): S.IDLE,
    (S.TIMED_OUT, E.NEXT_BEGUN): S.BUSY,
    (S.TIMED_OUT, E.GRACE_EXPIRED): S.FAILED,
    (S.TIMED_OUT, E.PROTOCOL_VIOLATED): S.FAILED,
    (S.TIMED_OUT, E.DISCONNECTED): S.FAILED,
    (S.FAILED, E.EXITED): S.RESTARTING,
    (S.FAILED, E.ABANDONED): S.RESTARTING,
    (S.RESTARTING, E.LOADING_BEGUN): S.LOADING,
    (S.RESTARTING, E.START_EXPIRED): S.FAILED,
    (S.RESTARTING, E.PROTOCOL_VIOLATED): S.FAILED,
    (S.RESTARTING, E.DISCONNECTED): S.FAILED,
    (S.RESTARTING, E.RETIREMENT_REQUESTED): S.RETIRING,
    (S.RETIRING, E.LOADING_BEGUN): S.RETIRING,
    (S.RETIRING, E.READY): S.RETIRING,
    (S.RETIRING, E.DISCONNECTED): S.RETIRING,
    (S.RETIRING, E.PROTOCOL_VIOLATED): S.RETIRING,
    (S.RETIRING, E.GRACE_EXPIRED): S.TERMINATING,
    (S.RETIRING, E.EXITED): S.GONE,
    (S.TERMINATING, E.LOADING_BEGUN): S.TERMINATING,
    (S.TERMINATING, E.READY): S.TERMINATING,
    (S.TERMINATING, E.DISCONNECTED): S.TERMINATING,
    (S.TERMINATING, E.PROTOCOL_VIOLATED): S.TERMINATING,
    (S.TERMINATING, E.EXITED): S.GONE,
    (S.TERMINATING, E.ABANDONED): S.GONE,
}

ROADS: dict[WorkerState, tuple[WorkerEvent, ...]] = {
    S.STARTING: (),
    S.LOADING: (E.LOADING_BEGUN,),
    S.IDLE: (E.LOADING_BEGUN, E.READY),
    S.BUSY: (E.LOADING_BEGUN, E.READY, E.DISPATCHED),
    S.TIMED_OUT: (E.LOADING_BEGUN, E.READY, E.DISPATCHED, E.DEADLINE_EXPIRED),
    S.FAILED: (E.LOADING_BEGUN, E.READY, E.DISCONNECTED),
    S.RESTARTING: (E.LOADING_BEGUN, E.READY, E.DISCONNECTED, E.EXITED),
    S.RETIRING: (E.LOADING_BEGUN, E.READY, E.RETIREMENT_REQUESTED),
    S.TERMINATING: (E.LOADING_BEGUN, E.READY, E.RETIREMENT_REQUESTED, E.GRACE_EXPIRED),
    S.GONE: (E.LOADING_BEGUN, E.READY, E.RETIREMENT_REQUESTED, E.EXITED),
}

PAIRS = [pytest.param(state, event, id=f"{state.value}-{event.value}") for state, event in product(S, E)]


def machine_in(state: WorkerState) -> WorkerStateMachine:
    """A state machine in this state, reached by the hand-written events."""
    machine = WorkerStateMachine()
    for event in ROADS[state]:
        machine.apply(event)
    return machine


@pytest.mark.parametrize("state", S)
def test_the_hand_written_events_lead_to_each_state(state: WorkerState) -> None:
    assert machine_in(state).state is state


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_of_state_and_event_agrees_with_the_hand_written_table(state: WorkerState, event: WorkerEvent) -> None:
    machine = machine_in(state)
    story = machine.recent_transitions
    successor = LEGAL.get((state, event))
    assert machine.can(event) is (successor is not None)
    if successor is not None:
        assert machine.apply(event) is successor
        assert machine.state is successor
        assert machine.recent_transitions == (*story, event.value)
        return
    with pytest.raises(IllegalTransition) as caught:
        machine.apply(event)
    assert (caught.value.state, caught.value.event, caught.value.recent_transitions) == (state, event, story)
    assert machine.state is state
    assert machine.recent_transitions == story


def test_the_table_has_a_row_for_every_state_and_no_other() -> None:
    assert set(TABLE) == set(S)


def test_the_terminal_row_is_empty_and_is_the_only_one() -> None:
    assert [state for state in S if not TABLE[state]] == [S.GONE]


def test_every_event_is_legal_in_some_state() -> None:
    assert {event for row in TABLE.values() for event in row} == set(E)


def reachable(start: WorkerState) -> set[WorkerState]:
    """Every state that is reachable from a state, itself included."""
    found, unused = {start}, [start]
    while unused:
        new = set(TABLE[unused.pop()].values()) - found
        found |= new
        unused += new
    return found


def test_every_state_can_be_reached_from_the_first() -> None:
    assert reachable(S.STARTING) == set(S)


@pytest.mark.parametrize("state", [state for state in S if state is not S.GONE])
def test_the_last_state_can_be_reached_from_every_state(state: WorkerState) -> None:
    assert S.GONE in reachable(state)


@pytest.mark.parametrize("state", [state for state in S if state not in {S.RETIRING, S.TERMINATING, S.GONE}])
def test_only_the_slot_of_a_worker_that_was_told_to_exit_stays_empty(state: WorkerState) -> None:
    assert S.GONE not in TABLE[state].values()
    assert TABLE[S.RETIRING][E.EXITED] is S.GONE


def test_only_a_killed_worker_can_be_abandoned() -> None:
    assert {state for state, row in TABLE.items() if E.ABANDONED in row} == {S.FAILED, S.TERMINATING}


def test_an_illegal_transition_names_the_recent_transitions() -> None:
    machine = machine_in(S.BUSY)
    with pytest.raises(IllegalTransition, match=r"Ready is illegal in state busy; .*: LoadingBegun, Ready, Dispatched"):
        machine.apply(E.READY)


def test_an_illegal_first_event_says_that_there_are_no_transitions() -> None:
    with pytest.raises(IllegalTransition, match=r"TaskFinished is illegal in state starting; recent transitions: \(none\)"):
        WorkerStateMachine().apply(E.TASK_FINISHED)


def test_only_the_last_sixteen_transitions_are_kept() -> None:
    machine = machine_in(S.IDLE)
    for _ in range(20):
        machine.apply(E.DISPATCHED)
        machine.apply(E.TASK_FINISHED)
    assert machine.recent_transitions == ("Dispatched", "TaskFinished") * 8


def test_the_table_cannot_be_written_to() -> None:
    table: object = TABLE
    assert not hasattr(table, "__setitem__")
