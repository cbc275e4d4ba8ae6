"""Scheduling policy: small tasks before large ones, priorities, and tenants."""

from __future__ import annotations

from collections import Counter

import pytest

from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.scheduling.overtaking import MAX_OVERTAKING_S, overtaking_limit_s
from offloop.core.scheduling.policy import PRIORITY_HEAD_START_S, SchedulingPolicy
from offloop.wire.handles import EncodedAt


def task(task_id: int, came: float = 0.0, cost_s: float = 0.01, *, priority: int = 0, tenant: str | None = None) -> TaskRecord:
    spec = TaskSpec(sources=(EncodedAt(None),), stages=[], timeout_s=None, priority=priority, tenant=tenant)
    task = TaskRecord(task_id, came, spec)
    task.cost_s, task.arrived_s, task.place_s = cost_s, came, came + overtaking_limit_s(cost_s)
    return task


def order_of(*tasks: TaskRecord, weights: dict[str, float] | None = None) -> SchedulingPolicy:
    order = SchedulingPolicy(weights)
    for one in tasks:
        order.add(one)
    return order


def popped(order: SchedulingPolicy) -> TaskRecord:
    task = order.first()
    order.start(task)
    return task


def drained(order: SchedulingPolicy) -> list[int]:
    return [popped(order).task_id for _ in range(len(order))]


def test_twenty_thumbnails_go_before_a_panorama_that_came_first() -> None:
    panorama = task(1, 0.0, 2.0)
    thumbnails = [task(number, 0.1, 0.01) for number in range(2, 22)]
    assert drained(order_of(panorama, *thumbnails)) == [*range(2, 22), 1]


def test_of_tasks_with_the_same_cost_the_first_submitted_is_first() -> None:
    assert drained(order_of(task(3, 3.0), task(1, 1.0), task(2, 2.0))) == [1, 2, 3]


@pytest.mark.parametrize(("cost_s", "patience_s"), [(0.1, overtaking_limit_s(0.1)), (100.0, MAX_OVERTAKING_S)])
def test_no_task_is_passed_by_work_beyond_its_overtaking_limit(cost_s: float, patience_s: float) -> None:
    dear = task(1, 0.0, cost_s)
    assert drained(order_of(dear, task(2, patience_s - 0.01, 0.0))) == [2, 1]
    assert drained(order_of(dear, task(2, patience_s + 0.01, 0.0))) == [1, 2]


def test_a_priority_is_a_bounded_head_start() -> None:
    low = task(1, 0.0)
    assert drained(order_of(low, task(2, PRIORITY_HEAD_START_S - 0.01, priority=1))) == [2, 1]
    assert drained(order_of(low, task(2, PRIORITY_HEAD_START_S + 0.01, priority=1))) == [1, 2]
    assert drained(order_of(low, task(2, 2 * PRIORITY_HEAD_START_S - 0.01, priority=1))) == [1, 2]
    assert drained(order_of(task(1, 0.0, priority=-2), task(2, 2 * PRIORITY_HEAD_START_S - 0.01))) == [2, 1]


def test_a_requeued_task_is_first_and_not_charged_again() -> None:
    order = order_of(task(1), task(2))
    order.requeue_first(task(9, 5.0, 60.0))
    assert drained(order) == [9, 1, 2]


def test_a_tenant_with_a_thousand_tasks_does_not_delay_a_tenant_with_three() -> None:
    crowd = [task(number, 0.0, 0.05, tenant="crowd") for number in range(1000)]
    few = [task(number, 1.0, 0.05, tenant="few") for number in range(2000, 2003)]
    first = drained(order_of(*crowd, *few))[:8]
    assert {2000, 2001, 2002} <= set(first)


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_tenants_share_the_time_by_their_weights_at_any_cost_of_their_tasks(weight: float) -> None:
    dear = [task(number, 0.0, 0.4, tenant="dear") for number in range(300)]
    cheap = [task(number, 0.0, 0.02, tenant="cheap") for number in range(1000, 7000)]
    order = order_of(*dear, *cheap, weights={"dear": weight})
    spent: Counter[str | None] = Counter()
    while spent.total() < 40:
        one = popped(order)
        spent[one.spec.tenant] += one.cost_s  # pyright: ignore[reportArgumentType] (a Counter of seconds)
    assert spent["dear"] / spent["cheap"] == pytest.approx(weight, rel=0.1)


def test_a_tenant_alone_has_all_and_saves_nothing_for_later() -> None:
    order = order_of(*(task(number, 0.0, 0.1, tenant="alone") for number in range(50)))
    for _ in range(40):
        popped(order)
    for number in range(100, 150):
        order.add(task(number, 0.0, 0.1, tenant="late"))
    tenants = [one.spec.tenant for one in (popped(order) for _ in range(10))]
    assert tenants.count("late") in (4, 5, 6)


def test_a_task_that_costs_far_more_than_a_turn_is_not_counted_up_to_turn_by_turn() -> None:
    order = order_of(task(1, 0.0, 1e9, tenant="a"), task(2, 0.0, 1e9, tenant="b"))
    assert sorted(drained(order)) == [1, 2]


def test_remove_removes_that_task_and_no_other() -> None:
    tasks = [task(number, 0.0, tenant="ab"[number % 2]) for number in range(10)]
    order = order_of(*tasks)
    assert order.waiting == {"a": 5, "b": 5}
    order.remove(tasks[4])
    assert len(order) == 9
    assert sorted(drained(order)) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert order.waiting == {}


def test_tasks_without_a_tenant_are_a_tenant_too() -> None:
    order = order_of(task(1), task(2, tenant="a"))
    assert order.waiting == {"": 1, "a": 1}
    assert sorted(one.task_id for one in order.pop_all()) == [1, 2]
    assert not order


def test_the_first_task_of_a_tenant_may_pass_the_first_task_of_another_tenant() -> None:
    order = order_of(task(1, tenant="a"), task(2, cost_s=5.0, tenant="a"), task(3, tenant="b"))
    assert popped(order).task_id == 1
    assert order.first().task_id == 3, "now the other tenant is next, although its first task was submitted later"
    assert [one.task_id for one in order.after_first(16)] == [2]


def test_of_a_crowd_of_tenants_only_some_are_looked_at_and_the_first_is_none_of_them() -> None:
    order = order_of(*(task(number, tenant=f"t{number % 1000}") for number in range(3000)))
    for _ in range(500):
        popped(order)
        others = [one.task_id for one in order.after_first(2)]
        assert 20 <= len(others) <= 64
        assert order.first().task_id not in others
        assert len(set(others)) == len(others)
