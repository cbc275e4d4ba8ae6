"""Recycling: workers that are replaced because of their tasks, age or memory, or for a task that needs an unused one."""

from __future__ import annotations

import re

import pytest

from offloop.core.model.commands import Send, StartWorker
from offloop.core.model.worker_state import WorkerEvent, WorkerState
from offloop.pool_events import WorkerMemoryTooSmall
from offloop.wire.messages import Retire

from ..worker_script import WorkerScript

E, S = WorkerEvent, WorkerState
MIB = 1024 * 1024


# Recycling


def test_a_workers_number_of_tasks_is_never_more_than_the_limit_and_up_to_a_fifth_less() -> None:
    script = WorkerScript(20, max_tasks_per_worker=100).opened()
    numbers = {slot.max_tasks for slot in script.worker_table}
    assert all(80 <= number <= 100 for number in numbers)
    assert len(numbers) > 3, "the workers are not all replaced at once"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_small_limit_is_never_exceeded_either(limit: int) -> None:
    script = WorkerScript(50, max_tasks_per_worker=limit).opened()
    assert all(1 <= slot.max_tasks <= limit for slot in script.worker_table)
    assert any(slot.max_tasks == limit for slot in script.worker_table)


def test_the_replacement_of_a_spent_worker_is_started_while_it_does_its_last_task() -> None:
    script = WorkerScript(max_tasks_per_worker=1).opened()
    assert [type(command) for command in script.work()] == [StartWorker]
    assert script.states == [S.BUSY, S.STARTING]
    assert script.slot.recycling == "it was given 1 tasks"
    assert script.ready(1) == []
    assert script.answer() == [Send(0, Retire())]
    script.die(0, 0)
    assert (script.states, script.reconciler.recycled) == ([S.IDLE], 1)


def test_a_spent_worker_leaves_after_its_last_task_though_no_replacement_is_ready() -> None:
    script = WorkerScript(max_tasks_per_worker=1).opened()
    script.work()
    assert script.answer() == [Send(0, Retire())]
    assert script.states == [S.RETIRING, S.STARTING]


def test_a_spent_worker_does_not_take_another_with_it() -> None:
    script = WorkerScript(2, max_tasks_per_worker=1).opened()
    script.work(0)
    script.ready(2)
    assert script.answer(0) == [Send(0, Retire())]
    assert script.states == [S.RETIRING, S.IDLE, S.IDLE]


def test_an_expired_worker_leaves_only_when_its_replacement_is_ready() -> None:
    script = WorkerScript(max_worker_age_s=100.0).opened()
    script.work()
    script.now = 200.0
    assert [type(command) for command in script.answer()] == [StartWorker]
    assert script.states == [S.IDLE, S.STARTING]
    assert script.ready(1) == [Send(0, Retire())]
    script.die(0, 0)
    assert (script.states, script.reconciler.recycled) == ([S.IDLE], 1)


def test_a_recycled_worker_goes_on_until_its_replacement_is_ready_and_finishes_its_task() -> None:
    script = WorkerScript(max_worker_bytes=1000).opened()
    script.work()
    script.answer(private_bytes=2000)
    script.work()
    assert script.ready(1) == []
    assert script.answer() == [Send(0, Retire())]


def test_a_recycled_worker_that_dies_is_not_replaced_twice() -> None:
    script = WorkerScript(max_worker_bytes=1000).opened()
    script.work()
    script.answer(private_bytes=2000)
    assert script.die(0) == []
    assert [slot.index for slot in script.worker_table] == [1]


@pytest.mark.parametrize(("tasks", "warned"), [(1, True), (2, True), (3, False)])
def test_a_limit_below_what_a_loaded_worker_has_is_reported_once_with_both_numbers(tasks: int, warned: bool) -> None:
    script = WorkerScript(max_worker_bytes=1000).opened()
    for index, successor in ((0, 1), (1, 0)):
        for _ in range(tasks - 1):
            script.work(index)
            script.answer(index)
        script.work(index)
        script.answer(index, private_bytes=5000)
        script.ready(successor)
        script.die(index, 0)
    expected = WorkerMemoryTooSmall(
        at=0.0, slot=0, group="default", private_bytes=5000, limit_bytes=1000, limited_by="max_worker_memory"
    )
    assert script.logged(WorkerMemoryTooSmall) == ([expected] if warned else [])


def test_a_share_of_the_memory_limit_that_is_too_small_is_reported_as_that() -> None:
    script = WorkerScript(2, max_worker_bytes=900 * MIB, budget_bytes=464 * MIB).opened()
    script.work()
    script.answer(private_bytes=250 * MIB)
    (report,) = script.logged(WorkerMemoryTooSmall)
    assert (report.limited_by, report.limit_bytes) == ("a worker's share of memory_limit", 200 * MIB)


@pytest.mark.parametrize(("private_bytes", "worn"), [(800, False), (1001, True)])
def test_a_worker_with_too_much_memory_is_recycled(private_bytes: int, worn: bool) -> None:
    script = WorkerScript(max_worker_bytes=1000).opened()
    script.work()
    assert bool(script.answer(private_bytes=private_bytes)) is worn
    assert (script.slot.recycling is not None) is worn
    if script.slot.recycling is not None:
        assert re.fullmatch(r"it has 1,001 bytes of private memory, and (8|9)\d\d are its share", script.slot.recycling)


def test_not_all_workers_have_the_same_share_of_memory() -> None:
    script = WorkerScript(5, max_worker_bytes=1000).opened()
    shares = {slot.max_bytes for slot in script.worker_table}
    assert len(shares) == 5
    assert all(800 <= share <= 1000 for share in shares)


def test_an_idle_worker_has_a_timer_for_its_age_and_a_busy_one_is_asked_after_its_task() -> None:
    script = WorkerScript(max_worker_age_s=100.0).opened()
    old_at = script.slot.timer
    assert old_at is not None
    assert 80.0 <= old_at <= 120.0
    script.work()
    assert script.slot.timer is None
    script.now = old_at - 1.0
    assert script.answer() == []
    assert script.slot.timer == old_at
    script.work()
    script.now = old_at
    assert [type(command) for command in script.answer()] == [StartWorker]
    assert script.slot.recycling == f"it is {old_at:.0f} s old"
    assert script.slot.timer is None


def test_recycling_leaves_a_pool_converged() -> None:
    script = WorkerScript(2, max_worker_bytes=1000).opened()
    script.work(0)
    script.answer(0, private_bytes=2000)
    assert script.reconciler.converged, "two are ready, and a third one starts for one of them"
    script.ready(2)
    assert script.reconciler.converged


def test_a_pool_whose_workers_have_one_task_each_has_converged_once_as_many_as_wanted_have_been_ready() -> None:
    script = WorkerScript(1, max_tasks_per_worker=1).opened()
    script.resize(2)
    script.work(0)
    script.ready(1)
    script.work(1)
    script.answer(0)
    assert not script.reconciler.converged, "only one worker has become ready since the resize"
    script.ready(2)
    assert script.reconciler.converged


# Unused workers


def test_an_idle_worker_is_recycled_for_a_task_that_needs_an_unused_one() -> None:
    script = WorkerScript().opened()
    script.work()
    script.answer()
    script.recycling.mark_for_unused_worker()
    assert script.slot.recycling is not None
    assert [type(command) for command in script.reconcile()] == [StartWorker]
    script.recycling.mark_for_unused_worker()
    assert len(script.worker_table) == 2, "one replacement is enough"


@pytest.mark.parametrize("coming", ["starting", "dead", "ready"])
def test_no_worker_is_recycled_while_an_unused_one_is_starting_or_ready(coming: str) -> None:
    script = WorkerScript(2)
    script.reconcile()
    script.ready(0)
    script.work(0)
    script.answer(0)
    if coming != "starting":
        script.ready(1)
    if coming == "dead":
        script.worker_table.apply(script.worker_table[1], E.DISCONNECTED, 0.0)
    script.recycling.mark_for_unused_worker()
    assert script.slot.recycling is None


@pytest.mark.parametrize("other", ["leaves", "is worn and busy"])
def test_an_unused_worker_that_leaves_and_a_recycled_one_do_not_count(other: str) -> None:
    script = WorkerScript(2).opened()
    for index in (0, 1):
        script.work(index)
        script.answer(index)
    if other == "leaves":
        script.worker_table[0].tasks = 0
        script.worker_table.apply(script.worker_table[0], E.RETIREMENT_REQUESTED, 0.0)
    else:
        script.work(0)
        script.worker_table[0].recycling = "old"
    script.recycling.mark_for_unused_worker()
    assert script.worker_table[1].recycling is not None
