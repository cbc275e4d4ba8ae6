"""The table of task states, pair by pair, against a second table that is written by hand."""

from __future__ import annotations

from itertools import product

import pytest

from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.model.task_state import TASK_TABLE, IllegalTaskEvent, TaskCounts, TaskEvent, TaskState
from offloop.wire.handles import EncodedAt

S, E = TaskState, TaskEvent

LEGAL = {
    (S.ESTIMATING, E.ESTIMATED): S.STAGING,
    (S.ESTIMATING, E.SOURCE_RELEASED): S.STAGING,
    (S.ESTIMATING, E.HASH_REQUESTED): S.HASHING,
    (S.ESTIMATING, E.ADMITTED): S.WAITING,
    (S.ESTIMATING, E.SETTLED): S.SETTLED,
    (S.STAGING, E.SOURCE_RELEASED): S.STAGING,
    (S.STAGING, E.HASH_REQUESTED): S.HASHING,
    (S.STAGING, E.ADMITTED): S.WAITING,
    (S.STAGING, E.SETTLED): S.SETTLED,
    (S.HASHING, E.ADMITTED): S.WAITING,
    (S.HASHING, E.RETRIED): S.WAITING,
    (S.HASHING, E.SETTLED): S.SETTLED,
    (S.WAITING, E.DISPATCHED): S.RUNNING,
    (S.WAITING, E.SENT_BEHIND): S.SENT,
    (S.WAITING, E.DELIVERY_BEGUN): S.DELIVERING,
    (S.DELIVERING, E.DELIVERED): S.RUNNING,
    (S.DELIVERING, E.WITHDRAWN): S.WAITING,
    (S.DELIVERING, E.SETTLED): S.SETTLED,
    (S.SENT, E.BEGUN): S.RUNNING,
    (S.SENT, E.WITHDRAWN): S.WAITING,
    (S.SENT, E.STOP_REQUESTED): S.UNWANTED,
    (S.UNWANTED, E.BEGUN): S.STOPPING,
    (S.UNWANTED, E.SETTLED): S.SETTLED,
    (S.WAITING, E.SOURCE_RELEASED): S.STAGING,
    (S.WAITING, E.SETTLED): S.SETTLED,
    (S.RUNNING, E.STOP_REQUESTED): S.STOPPING,
    (S.RUNNING, E.RETRIED): S.WAITING,
    (S.RUNNING, E.HASH_REQUESTED): S.HASHING,
    (S.RUNNING, E.SETTLED): S.SETTLED,
    (S.STOPPING, E.STOP_REQUESTED): S.STOPPING,
    (S.STOPPING, E.SETTLED): S.SETTLED,
}


def record(state: TaskState) -> TaskRecord:
    task = TaskRecord(7, 0.0, TaskSpec(sources=(EncodedAt(None),), stages=[], timeout_s=None))
    task.state = state
    task.counts.by_state[state] += 1
    return task


@pytest.mark.parametrize(("state", "event"), list(product(TaskState, TaskEvent)), ids=lambda each: each.value)
def test_each_pair_of_state_and_event_leads_where_the_second_table_says(state: TaskState, event: TaskEvent) -> None:
    task = record(state)
    if (state, event) in LEGAL:
        task.apply(event)
        assert task.state is LEGAL[state, event]
        return
    with pytest.raises(IllegalTaskEvent, match=f"{event.value} is illegal for task 7 in state {state.value}"):
        task.apply(event)
    assert task.state is state
    assert task.counts[state] == 1, "an illegal event changes nothing"


def test_the_table_has_a_row_for_each_state() -> None:
    assert set(TASK_TABLE) == set(TaskState)


@pytest.mark.parametrize("state", set(TaskState) - {S.SENT, S.SETTLED})
def test_a_task_can_be_settled_in_each_state_but_the_last_unless_a_worker_may_begin_it(state: TaskState) -> None:
    task = record(state)
    task.apply(E.SETTLED)
    assert task.state is S.SETTLED


def test_each_state_is_reached() -> None:
    assert {S.ESTIMATING, *LEGAL.values()} == set(TaskState)


def test_tasks_are_counted_by_state_until_they_are_settled() -> None:
    counts = TaskCounts()
    spec = TaskSpec(sources=(EncodedAt(None),), stages=[], timeout_s=None)
    one, two = TaskRecord(1, 0.0, spec, counts), TaskRecord(2, 0.0, spec, counts)
    counts.by_state[S.ESTIMATING] = 2
    one.apply(E.ADMITTED)
    assert (counts.preparing, counts[S.WAITING], counts.running) == (1, 1, 0)
    one.apply(E.DISPATCHED)
    two.apply(E.ADMITTED)
    assert counts.snapshot() == {
        "estimating": 0,
        "staging": 0,
        "hashing": 0,
        "waiting": 1,
        "delivering": 0,
        "sent": 0,
        "unwanted": 0,
        "running": 1,
        "stopping": 0,
    }
    one.apply(E.STOP_REQUESTED)
    assert counts.running == 1
    one.apply(E.SETTLED)
    two.apply(E.SETTLED)
    assert not any(counts.snapshot().values())
