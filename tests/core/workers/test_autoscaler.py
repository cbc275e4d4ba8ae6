"""Autoscaler: workers are started for waiting tasks and retired when idle, memory pressure stops it."""

from __future__ import annotations

from typing import Any

from offloop.core.model.commands import Send, StartWorker
from offloop.core.model.settings import GroupSettings
from offloop.core.model.worker_state import WorkerState
from offloop.wire.messages import Retire

from ..pool_script import MIB, PoolScript, estimate, of_type, runs
from ..worker_script import WorkerScript

S = WorkerState
IDLE_S = 30.0
SHORT = 0.01


def elastic(least: int = 1, most: int = 4, **more: Any) -> WorkerScript:
    return WorkerScript(most, min_workers=least, **more).opened()


def starts(commands: list[Any]) -> int:
    return len(of_type(commands, StartWorker))


def retired(commands: list[Any]) -> list[int]:
    return [send.slot for send in of_type(commands, Send) if isinstance(send.message, Retire)]


def sent(commands: list[Any]) -> list[int]:
    return [send.message.task_id for send in runs(commands)]


def wake(script: WorkerScript, now: float) -> list[Any]:
    script.autoscaler.scale_down_idle(now)
    return script.reconciler.reconcile(now)


# As many as are needed


def test_an_elastic_pool_starts_with_the_minimum_and_scales_up_for_waiting_tasks() -> None:
    script = elastic()
    assert len(script.worker_table) == 1
    script.work(0)
    assert starts(script.scale_up_for(2)) == 2
    assert starts(script.scale_up_for(1)) == 0, "the two are starting"
    assert starts(script.scale_up_for(99)) == 1, "up to the maximum"


def test_a_fixed_pool_does_not_scale_up_for_waiting_tasks() -> None:
    script = WorkerScript(2).opened()
    script.work(0)
    script.work(1)
    assert script.scale_up_for(5) == []
    assert script.autoscaler.next_scale_down_at == float("inf")


def test_a_worker_that_was_idle_all_the_time_leaves_and_a_worker_that_was_needed_once_stays() -> None:
    script = elastic()
    script.work(0)
    script.scale_up_for(3)
    script.ready(1, 2, 3)
    for index in (1, 2):
        script.work(index)  # three of four workers are busy at once
    for index in (0, 1, 2):
        script.answer(index)
    assert script.autoscaler.next_scale_down_at == IDLE_S
    wake(script, IDLE_S)
    assert script.autoscaler.desired_workers == 4, "no worker was idle when the time began, because three were starting"
    script.work(0)
    script.work(1)
    script.answer(0)
    script.answer(1)
    assert len(retired(wake(script, 2 * IDLE_S))) == 2
    assert script.autoscaler.desired_workers == 2
    assert len(retired(wake(script, 3 * IDLE_S))) == 1
    assert script.autoscaler.desired_workers == 1
    assert script.autoscaler.next_scale_down_at == float("inf"), "the pool has its minimum"


def test_no_worker_leaves_before_the_idle_timeout() -> None:
    script = elastic()
    script.work(0)
    script.scale_up_for(3)
    script.ready(1, 2, 3)
    script.answer(0)
    wake(script, IDLE_S)
    assert wake(script, 2 * IDLE_S - 0.01) == []
    assert len(retired(wake(script, 2 * IDLE_S))) == 3


def test_idle_spares_do_not_cause_a_scale_down() -> None:
    script = elastic(1, 3, spares=2)
    script.work(0)
    script.scale_up_for(2)
    script.ready(*[slot.index for slot in script.worker_table if slot.state is S.STARTING])
    for index in (1, 2):
        script.work(index)
    script.autoscaler.scale_down_idle(IDLE_S)
    script.autoscaler.scale_down_idle(2 * IDLE_S)
    assert script.autoscaler.desired_workers == 3


def test_an_idle_timeout_of_zero_does_not_wake_the_loop_without_end() -> None:
    script = elastic(idle_timeout_s=0.0)
    script.work(0)
    script.now = 5.0
    script.scale_up_for(1)
    script.autoscaler.scale_down_idle(6.0)
    assert script.autoscaler.next_scale_down_at > 6.0


def test_a_group_on_demand_has_no_worker_and_no_spare_before_its_first_task() -> None:
    script = WorkerScript(1, groups=[GroupSettings(name="models", workers=2, min_workers=0, spares=1)]).opened()
    group = script.groups.by_name["models"]
    assert (len(group.slots), group.autoscaler.planned_workers) == (0, 0)
    assert starts(script.scale_up_for(1, "models")) == 2, "a worker for the task, and a spare"
    assert group.autoscaler.planned_workers == 2


def test_a_group_on_demand_leaves_when_it_was_idle_for_an_idle_timeout() -> None:
    script = WorkerScript(1, groups=[GroupSettings(name="models", workers=2, min_workers=0)]).opened()
    group = script.groups.by_name["models"]
    script.scale_up_for(1, "models")
    script.ready(1)
    group.autoscaler.scale_down_idle(IDLE_S, needed=1)
    group.autoscaler.scale_down_idle(2 * IDLE_S, needed=1)
    assert group.autoscaler.desired_workers == 1, "a task waits for it, although it is idle: there is no memory for the task"
    group.autoscaler.scale_down_idle(3 * IDLE_S)
    assert retired(script.reconcile()) == [1]
    assert group.autoscaler.next_scale_down_at == float("inf")


def test_a_group_on_demand_that_cannot_start_gives_up_after_an_idle_timeout_without_tasks() -> None:
    script = WorkerScript(1, groups=[GroupSettings(name="models", workers=2, min_workers=0)]).opened()
    script.scale_up_for(2, "models")
    script.die(1)
    group = script.groups.by_name["models"]
    group.autoscaler.scale_down_idle(IDLE_S, needed=1)
    assert group.autoscaler.desired_workers == 2, "a task waits"
    group.autoscaler.scale_down_idle(2 * IDLE_S)
    assert retired(script.reconcile()) == [2]
    assert [slot.index for slot in group.slots] == [2], "the slot in its back-off is gone at once"


# Resizing


def test_an_elastic_pool_that_is_resized_stays_elastic() -> None:
    script = elastic(2, 4)
    script.resize(8)
    assert (
        script.autoscaler.min_workers,
        script.autoscaler.desired_workers,
        script.autoscaler.max_workers,
        script.default.slots.concurrency_limit,
    ) == (2, 2, 8, 8)
    script.resize(1)
    assert (
        script.autoscaler.min_workers,
        script.autoscaler.desired_workers,
        script.autoscaler.max_workers,
        script.default.slots.concurrency_limit,
    ) == (1, 1, 1, 1)
    script.resize(8)
    assert (
        script.autoscaler.min_workers,
        script.autoscaler.desired_workers,
        script.autoscaler.max_workers,
        script.default.slots.concurrency_limit,
    ) == (2, 2, 8, 8)


def test_an_elastic_pool_that_is_resized_retires_surplus_workers() -> None:
    script = elastic(1, 4)
    script.work(0)
    script.scale_up_for(3)
    script.ready(1, 2, 3)
    assert len(retired(script.resize(2))) == 2


def test_a_fixed_pool_that_is_resized_stays_fixed() -> None:
    script = WorkerScript(2).opened()
    script.resize(4)
    assert (script.autoscaler.min_workers, script.autoscaler.desired_workers, script.autoscaler.max_workers) == (4, 4, 4)


# Pressure


def pool_of(workers: int = 4, **more: Any) -> PoolScript:
    return PoolScript(workers, **more).opened()


def test_under_pressure_fewer_tasks_run_at_once_and_no_worker_leaves() -> None:
    pool = pool_of()
    assert pool.press(SHORT) == []
    assert (pool.core.groups.default.slots.concurrency_limit, len(pool.core.worker_table)) == (2, 4)
    assert [task_id for n in range(1, 5) for task_id in sent(pool.run(n))] == [1, 2]


def test_under_pressure_running_tasks_go_on_and_no_new_task_starts_before_they_have_ended() -> None:
    pool = pool_of()
    for task_id in range(1, 7):
        pool.run(task_id)
    pool.press(SHORT)
    assert sent(pool.done(1, pool.slot_of(1))) == []
    assert sent(pool.done(2, pool.slot_of(2))) == []
    assert sent(pool.done(3, pool.slot_of(3))) == [5]


def test_when_the_pressure_is_over_waiting_tasks_start_at_once() -> None:
    pool = pool_of()
    pool.press(SHORT)
    for task_id in range(1, 5):
        pool.run(task_id)
    pool.clock.advance_to(2.0)
    assert sent(pool.press(0.5)) == [3]


def test_a_resize_under_pressure_does_not_lift_it() -> None:
    pool = pool_of()
    pool.press(SHORT)
    pool.resize(8)
    assert pool.core.groups.default.slots.concurrency_limit == 2
    pool.resize(1)
    assert pool.core.groups.default.slots.concurrency_limit == 1


def test_under_pressure_the_pool_does_not_scale_up_for_waiting_tasks() -> None:
    pool = PoolScript(8, min_workers=2).opened()
    pool.press(SHORT)
    pool.clock.advance_to(2.0)
    pool.press(SHORT)
    pool.clock.advance_to(4.0)
    pool.press(SHORT)
    assert pool.core.groups.default.slots.concurrency_limit == 1
    commands = [command for task_id in range(1, 9) for command in pool.run(task_id)]
    assert starts(commands) == 0
    assert len(pool.core.worker_table) == 2


def test_the_pool_does_not_scale_up_for_tasks_that_only_wait_for_memory() -> None:
    pool = PoolScript(4, min_workers=1, budget_bytes=512 * MIB).opened().spawned()
    pool.run(1, estimate=estimate(300 * MIB, 0.01))
    assert starts(pool.run(2, estimate=estimate(300 * MIB, 0.01))) == 0
    assert starts(pool.run(3, estimate=estimate(50 * MIB, 0.01))) > 0, "there is memory for this one"


def test_a_pool_that_closes_under_pressure_runs_nothing_more() -> None:
    pool = pool_of()
    pool.press(SHORT)
    pool.close()
    pool.press(0.5)
    assert pool.core.groups.default.slots.concurrency_limit == 0
