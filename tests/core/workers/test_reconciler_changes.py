"""Workers that are replaced while they are well, and those that are not for a while: recycling, fresh ones, the breaker."""

from __future__ import annotations

import re

import pytest

from offloop.core.model.commands import Send, StartWorker
from offloop.core.model.worker_state import WorkerEvent, WorkerState
from offloop.core.workers.restart_policy import CircuitBreaker
from offloop.pool_events import BreakerMoved, WorkerMemoryTooSmall
from offloop.wire.messages import Retire

from ..firm import Firm

E, S = WorkerEvent, WorkerState
MIB = 1024 * 1024


# Recycling


def test_a_workers_number_of_tasks_is_never_more_than_the_limit_and_up_to_a_fifth_less() -> None:
    firm = Firm(20, max_tasks_per_worker=100).opened()
    numbers = {slot.max_tasks for slot in firm.worker_table}
    assert all(80 <= number <= 100 for number in numbers)
    assert len(numbers) > 3, "not all go at once"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_small_limit_is_never_exceeded_either(limit: int) -> None:
    firm = Firm(50, max_tasks_per_worker=limit).opened()
    assert all(1 <= slot.max_tasks <= limit for slot in firm.worker_table)
    assert any(slot.max_tasks == limit for slot in firm.worker_table)


def test_the_replacement_of_a_spent_worker_is_started_while_it_does_its_last_task() -> None:
    firm = Firm(max_tasks_per_worker=1).opened()
    assert [type(command) for command in firm.work()] == [StartWorker]
    assert firm.states == [S.BUSY, S.STARTING]
    assert firm.slot.recycling == "it was given 1 tasks"
    assert firm.ready(1) == []
    assert firm.answer() == [Send(0, Retire())]
    firm.die(0, 0)
    assert (firm.states, firm.reconciler.recycled) == ([S.IDLE], 1)


def test_a_spent_worker_leaves_after_its_last_task_though_no_replacement_is_ready() -> None:
    firm = Firm(max_tasks_per_worker=1).opened()
    firm.work()
    assert firm.answer() == [Send(0, Retire())]
    assert firm.states == [S.RETIRING, S.STARTING]


def test_a_spent_worker_does_not_take_another_with_it() -> None:
    firm = Firm(2, max_tasks_per_worker=1).opened()
    firm.work(0)
    firm.ready(2)
    assert firm.answer(0) == [Send(0, Retire())]
    assert firm.states == [S.RETIRING, S.IDLE, S.IDLE]


def test_a_worker_that_has_grown_old_leaves_only_when_its_replacement_is_ready() -> None:
    firm = Firm(max_worker_age_s=100.0).opened()
    firm.work()
    firm.now = 200.0
    assert [type(command) for command in firm.answer()] == [StartWorker]
    assert firm.states == [S.IDLE, S.STARTING]
    assert firm.ready(1) == [Send(0, Retire())]
    firm.die(0, 0)
    assert (firm.states, firm.reconciler.recycled) == ([S.IDLE], 1)


def test_a_worn_worker_goes_on_until_then_and_finishes_its_task() -> None:
    firm = Firm(max_worker_bytes=1000).opened()
    firm.work()
    firm.answer(private_bytes=2000)
    firm.work()
    assert firm.ready(1) == []
    assert firm.answer() == [Send(0, Retire())]


def test_a_worn_worker_that_dies_is_not_replaced_twice() -> None:
    firm = Firm(max_worker_bytes=1000).opened()
    firm.work()
    firm.answer(private_bytes=2000)
    assert firm.die(0) == []
    assert [slot.index for slot in firm.worker_table] == [1]


@pytest.mark.parametrize(("tasks", "warned"), [(1, True), (2, True), (3, False)])
def test_a_limit_below_what_a_loaded_worker_has_is_reported_once_with_both_numbers(tasks: int, warned: bool) -> None:
    firm = Firm(max_worker_bytes=1000).opened()
    for index, successor in ((0, 1), (1, 0)):
        for _ in range(tasks - 1):
            firm.work(index)
            firm.answer(index)
        firm.work(index)
        firm.answer(index, private_bytes=5000)
        firm.ready(successor)
        firm.die(index, 0)
    expected = WorkerMemoryTooSmall(at=0.0, slot=0, private_bytes=5000, limit_bytes=1000, limited_by="max_worker_memory")
    assert firm.news(WorkerMemoryTooSmall) == ([expected] if warned else [])


def test_a_share_of_the_memory_limit_that_is_too_small_is_reported_as_that() -> None:
    firm = Firm(2, max_worker_bytes=900 * MIB, budget_bytes=464 * MIB).opened()
    firm.work()
    firm.answer(private_bytes=250 * MIB)
    (report,) = firm.news(WorkerMemoryTooSmall)
    assert (report.limited_by, report.limit_bytes) == ("a worker's share of memory_limit", 200 * MIB)


@pytest.mark.parametrize(("private_bytes", "worn"), [(800, False), (1001, True)])
def test_a_worker_with_too_much_memory_is_worn(private_bytes: int, worn: bool) -> None:
    firm = Firm(max_worker_bytes=1000).opened()
    firm.work()
    assert bool(firm.answer(private_bytes=private_bytes)) is worn
    assert (firm.slot.recycling is not None) is worn
    if firm.slot.recycling is not None:
        assert re.fullmatch(r"it has 1,001 bytes of private memory, and (8|9)\d\d are its share", firm.slot.recycling)


def test_not_all_workers_have_the_same_share_of_memory() -> None:
    firm = Firm(5, max_worker_bytes=1000).opened()
    shares = {slot.max_bytes for slot in firm.worker_table}
    assert len(shares) == 5
    assert all(800 <= share <= 1000 for share in shares)


def test_an_idle_worker_has_a_timer_for_its_age_and_a_busy_one_is_asked_after_its_task() -> None:
    firm = Firm(max_worker_age_s=100.0).opened()
    old_at = firm.slot.timer
    assert old_at is not None
    assert 80.0 <= old_at <= 120.0
    firm.work()
    assert firm.slot.timer is None
    firm.now = old_at - 1.0
    assert firm.answer() == []
    assert firm.slot.timer == old_at
    firm.work()
    firm.now = old_at
    assert [type(command) for command in firm.answer()] == [StartWorker]
    assert firm.slot.recycling == f"it is {old_at:.0f} s old"
    assert firm.slot.timer is None


def test_recycling_alone_leaves_a_pool_complete() -> None:
    firm = Firm(2, max_worker_bytes=1000).opened()
    firm.work(0)
    firm.answer(0, private_bytes=2000)
    assert firm.reconciler.converged, "two are at work, and a third comes for one of them"
    firm.ready(2)
    assert firm.reconciler.converged


def test_a_pool_whose_workers_have_one_task_each_is_complete_once_as_many_as_are_wanted_have_been_ready() -> None:
    firm = Firm(1, max_tasks_per_worker=1).opened()
    firm.resize(2)
    firm.work(0)
    firm.ready(1)
    firm.work(1)
    firm.answer(0)
    assert not firm.reconciler.converged, "one has become ready since"
    firm.ready(2)
    assert firm.reconciler.converged


# A fresh one


def test_an_idle_worker_is_replaced_for_a_task_that_wants_a_fresh_one() -> None:
    firm = Firm().opened()
    firm.work()
    firm.answer()
    firm.reconciler.make_room_for_unused_worker()
    assert firm.slot.recycling is not None
    assert [type(command) for command in firm.reconcile()] == [StartWorker]
    firm.reconciler.make_room_for_unused_worker()
    assert len(firm.worker_table) == 2, "one is enough"


@pytest.mark.parametrize("coming", ["starting", "dead", "ready"])
def test_nobody_is_replaced_while_a_fresh_one_is_coming(coming: str) -> None:
    firm = Firm(2)
    firm.reconcile()
    firm.ready(0)
    firm.work(0)
    firm.answer(0)
    if coming != "starting":
        firm.ready(1)
    if coming == "dead":
        firm.worker_table.apply(firm.worker_table[1], E.DISCONNECTED)
    firm.reconciler.make_room_for_unused_worker()
    assert firm.slot.recycling is None


@pytest.mark.parametrize("other", ["leaves", "is worn and busy"])
def test_a_worker_that_will_never_take_it_is_not_waited_for(other: str) -> None:
    firm = Firm(2).opened()
    for index in (0, 1):
        firm.work(index)
        firm.answer(index)
    if other == "leaves":
        firm.worker_table[0].tasks = 0
        firm.worker_table.apply(firm.worker_table[0], E.RETIREMENT_REQUESTED)
    else:
        firm.work(0)
        firm.worker_table[0].recycling = "old"
    firm.reconciler.make_room_for_unused_worker()
    assert firm.worker_table[1].recycling is not None


# The breaker


def storm() -> Firm:
    """Three workers, of which two died; nothing is started for a while."""
    firm = Firm(3, restart_intensity=1).opened()
    assert firm.die(0)
    assert firm.die(1) == []
    assert firm.reconciler.restart_policy.breaker is CircuitBreaker.OPEN
    return firm


def test_in_a_storm_one_is_started_on_probation_and_the_others_follow_it_at_once() -> None:
    firm = storm()
    firm.die(0)
    firm.now = firm.reconciler.restart_policy.wake_at + 10.0
    (start,) = firm.reconcile()
    assert isinstance(start, StartWorker)
    waiting = next(slot for slot in firm.worker_table if slot.outbox_id is None)
    assert waiting.timer is None, "the probe is waited for"
    firm.ready(start.slot)
    firm.work(start.slot)
    (follower,) = firm.answer(start.slot)
    assert isinstance(follower, StartWorker)
    assert follower.slot == waiting.index


def test_the_breakers_moves_are_told() -> None:
    firm = storm()
    firm.now = firm.reconciler.restart_policy.wake_at
    firm.reconcile()
    firm.now = 100.0
    firm.ready(1)
    firm.now = firm.reconciler.restart_policy.wake_at
    firm.reconcile()
    moves = [(move.before, move.after) for move in firm.news(BreakerMoved)]
    assert moves == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]


def test_a_probe_without_a_task_is_followed_after_a_while() -> None:
    firm = Firm(2, restart_intensity=1).opened()
    firm.die(0)
    firm.die(1)
    firm.die(0)
    firm.now = firm.reconciler.restart_policy.wake_at + 10.0
    (start,) = firm.reconcile()
    assert isinstance(start, StartWorker)
    firm.ready(start.slot)
    assert firm.states.count(S.IDLE) == 1
    firm.now = firm.reconciler.restart_policy.wake_at
    assert [type(command) for command in firm.reconcile()] == [StartWorker]
