"""Slots of a group: idle workers, and how many tasks may run at once."""

from __future__ import annotations

import pytest

from offloop.core.model.worker_state import WorkerEvent
from offloop.core.workers.group_slots import GroupSlots
from offloop.core.workers.worker_table import WorkerTable
from offloop.operation import DEFAULT_GROUP

E = WorkerEvent


def group_of(workers: int, *, idle: int = 0) -> tuple[WorkerTable, GroupSlots]:
    """A table with one group of so many slots, of which the first `idle` are ready; all may be busy at once."""
    worker_table = WorkerTable([GroupSlots(workers)])
    for _ in range(workers):
        slot = worker_table.add()
        slot.outbox_id = worker_table.new_outbox_id()
    for index in range(idle):
        worker_table.apply(worker_table[index], E.LOADING_BEGUN, 0.0)
        worker_table.apply(worker_table[index], E.READY, 0.0)
    return worker_table, worker_table.groups[DEFAULT_GROUP]


# How many may work at once


def test_no_idle_worker_is_found_beyond_the_limit() -> None:
    worker_table, group = group_of(3, idle=3)
    group.concurrency_limit = 2
    assert group.idle == 2
    for slot in (worker_table[0], worker_table[1]):
        worker_table.apply(slot, E.DISPATCHED, 0.0)
    assert (group.idle, group.find_idle(), group.find_idle(3), group.find_idle(unused=True)) == (
        0,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    "end", [(E.TASK_FINISHED,), (E.CANCEL_REQUESTED, E.TASK_FINISHED), (E.DISCONNECTED,), (E.CANCEL_REQUESTED, E.GRACE_EXPIRED)]
)
def test_a_worker_that_ends_a_task_or_dies_makes_room_at_once(end: tuple[WorkerEvent, ...]) -> None:
    worker_table, group = group_of(2, idle=2)
    group.concurrency_limit = 1
    worker_table.apply(worker_table[0], E.DISPATCHED, 0.0)
    assert group.find_idle() is None
    for event in end:
        worker_table.apply(worker_table[0], event, 0.0)
    assert group.find_idle() is not None


def test_a_worker_that_is_being_stopped_still_counts() -> None:
    worker_table, group = group_of(2, idle=2)
    group.concurrency_limit = 1
    worker_table.apply(worker_table[0], E.DISPATCHED, 0.0)
    worker_table.apply(worker_table[0], E.DEADLINE_EXPIRED, 0.0)
    assert group.find_idle() is None


def test_a_limit_below_the_number_of_busy_workers_leaves_no_negative_room() -> None:
    worker_table, group = group_of(3, idle=3)
    worker_table.apply(worker_table[0], E.DISPATCHED, 0.0)
    worker_table.apply(worker_table[1], E.DISPATCHED, 0.0)
    group.concurrency_limit = 1
    assert (group.idle, group.find_idle()) == (0, None)


# Spares


def test_a_used_worker_is_found_before_an_unused_one() -> None:
    worker_table, group = group_of(3, idle=3)
    worker_table[1].tasks = 1
    worker_table.apply(worker_table[1], E.DISPATCHED, 0.0)
    worker_table.apply(worker_table[1], E.TASK_FINISHED, 0.0)
    replaced = worker_table[2]
    worker_table.apply(replaced, E.DISCONNECTED, 0.0)
    worker_table.apply(replaced, E.EXITED, 0.0)
    worker_table.apply(replaced, E.LOADING_BEGUN, 0.0)
    worker_table.apply(replaced, E.READY, 0.0)
    assert group.find_idle() is worker_table[1], "spares stay unused"


def test_only_an_unused_worker_is_found_on_request() -> None:
    worker_table, group = group_of(3, idle=3)
    worker_table[0].tasks = worker_table[2].tasks = 1
    assert group.find_idle(unused=True) is worker_table[1]
    worker_table[1].tasks = 1
    assert group.find_idle(unused=True) is None


# Idle workers


def test_the_worker_that_was_busy_last_is_found_first() -> None:
    worker_table, group = group_of(3, idle=3)
    first = worker_table[0]
    first.tasks = 1
    worker_table.apply(first, E.DISPATCHED, 0.0)
    worker_table.apply(first, E.TASK_FINISHED, 0.0)
    assert group.find_idle() is first


@pytest.mark.parametrize("event", [E.DISPATCHED, E.DISCONNECTED, E.PROTOCOL_VIOLATED, E.RETIREMENT_REQUESTED])
def test_a_worker_that_is_no_longer_idle_is_not_found(event: WorkerEvent) -> None:
    worker_table, group = group_of(1, idle=1)
    assert group.idle == 1
    worker_table.apply(worker_table[0], event, 0.0)
    assert (group.idle, group.find_idle()) == (0, None)


def test_the_worker_of_the_half_open_slot_is_found_before_all_others_while_it_is_idle() -> None:
    worker_table, group = group_of(3, idle=3)
    warm = group.find_idle()
    group.half_open_slot = next(slot.index for slot in worker_table if slot is not warm)
    probe = worker_table[group.half_open_slot]
    assert group.find_idle() is probe
    worker_table.apply(probe, E.DISPATCHED, 0.0)
    assert group.find_idle() is warm


def test_a_worker_can_be_asked_for_by_its_outbox() -> None:
    worker_table, group = group_of(3, idle=2)
    assert group.find_idle(1) is worker_table[0]
    assert group.find_idle(2) is worker_table[1]
    assert group.find_idle(3) is None
    assert group.find_idle(99) is None
