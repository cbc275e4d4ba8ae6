"""Isolation of tasks from each other: which worker may run whose task, and when a worker is replaced for it."""

from __future__ import annotations

import pytest

from offloop.core.model.commands import StartWorker
from offloop.core.model.settings import GroupSettings

from ..pool_script import PoolScript, of_type, runs


def pool_of(workers: int, isolation: str) -> PoolScript:
    return PoolScript(workers, isolation=isolation).opened()


def test_a_worker_serves_the_tenant_that_it_has_served() -> None:
    script = pool_of(1, "tenant")
    for task_id in (1, 2, 3):
        assert runs(script.run(task_id, tenant="a"))
        script.done(task_id)


def test_a_worker_that_served_another_tenant_is_replaced_before_the_task_runs() -> None:
    script = pool_of(1, "tenant")
    script.run(1, tenant="a")
    script.done(1)
    commands = script.run(2, tenant="b")
    assert not runs(commands)
    (start,) = of_type(commands, StartWorker)
    commands = script.ready(start.slot)
    (sent,) = runs(commands)
    assert (sent.slot, sent.message.task_id) == (start.slot, 2)


def test_an_unused_worker_takes_the_other_tenants_task_at_once() -> None:
    script = pool_of(2, "tenant")
    script.run(1, tenant="a")
    script.done(1)
    assert runs(script.run(2, tenant="b"))


def test_a_tenant_without_a_name_is_one_tenant() -> None:
    script = pool_of(1, "tenant")
    script.run(1)
    script.done(1)
    assert runs(script.run(2))
    script.done(2)
    assert not runs(script.run(3, tenant="a"))


def test_a_task_passes_one_whose_tenants_worker_is_busy() -> None:
    script = pool_of(2, "tenant")
    script.run(1, tenant="a")
    script.run(2, tenant="b")
    script.run(3, tenant="a")
    script.run(4, tenant="b")
    commands = script.done(2, script.slot_of(2))
    assert [sent.message.task_id for sent in runs(commands)] == [4]
    assert of_type(commands, StartWorker) == [], "tenant a has a worker, and b's has a task"


def test_an_idle_worker_of_a_tenant_without_tasks_is_replaced_for_one_with_tasks() -> None:
    script = pool_of(2, "tenant")
    script.run(1, tenant="a")
    script.run(2, tenant="b")
    script.run(3, tenant="a")
    commands = script.done(2, script.slot_of(2))
    assert not runs(commands)
    assert len(of_type(commands, StartWorker)) == 1


def test_without_isolation_no_worker_is_replaced_for_another_tenant() -> None:
    script = pool_of(1, "pool")
    script.run(1, tenant="a")
    script.done(1)
    commands = script.run(2, tenant="b")
    assert runs(commands)
    assert of_type(commands, StartWorker) == []


def test_with_a_worker_for_each_task_its_replacement_is_started_with_the_task() -> None:
    script = pool_of(1, "task")
    commands = script.run(1)
    assert runs(commands)
    (start,) = of_type(commands, StartWorker)
    script.ready(start.slot)
    script.done(1)
    commands = script.run(2)
    (sent,) = runs(commands)
    assert (sent.message.task_id, sent.slot) == (2, start.slot)


@pytest.mark.parametrize("isolation", ["tenant", "task"])
def test_small_tasks_get_no_workers_of_their_own(isolation: str) -> None:
    lane = pool_of(1, isolation).core.queue.lanes["default"]
    assert lane.small_tasks is None
    assert pool_of(1, "pool").core.queue.lanes["default"].small_tasks is not None


def test_the_setting_is_the_groups() -> None:
    group = GroupSettings(name="other", workers=1, isolation="tenant")
    script = PoolScript(1, groups=[group])
    assert script.core.groups.by_name["other"].slots.isolates_tenants
    assert not script.core.groups.default.slots.isolates_tenants
