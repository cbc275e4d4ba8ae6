"""Autoscaler: workers are started for waiting tasks and retired when idle, helpers run small tasks, memory pressure stops
it."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.core.model.commands import Send, StartWorker
from offloop.core.model.events import WorkerDisconnected, WorkerSpawned
from offloop.core.model.worker_state import WorkerState
from offloop.wire.messages import Retire

from ..pool_script import MIB, PoolScript, estimate, of_type, only, runs
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


def given_to(commands: list[Any]) -> list[int]:
    """The slots whose workers were sent a task."""
    return [send.slot for send in runs(commands)]


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


# Resizing


def test_an_elastic_pool_that_is_resized_stays_elastic() -> None:
    script = elastic(2, 4)
    script.resize(8)
    assert (
        script.autoscaler.min_workers,
        script.autoscaler.desired_workers,
        script.autoscaler.max_workers,
        script.worker_table.concurrency_limit,
    ) == (2, 2, 8, 8)
    script.resize(1)
    assert (
        script.autoscaler.min_workers,
        script.autoscaler.desired_workers,
        script.autoscaler.max_workers,
        script.worker_table.concurrency_limit,
    ) == (1, 1, 1, 1)
    script.resize(8)
    assert (
        script.autoscaler.min_workers,
        script.autoscaler.desired_workers,
        script.autoscaler.max_workers,
        script.worker_table.concurrency_limit,
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
    assert (pool.core.worker_table.concurrency_limit, len(pool.core.worker_table)) == (2, 4)
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
    assert pool.core.worker_table.concurrency_limit == 2
    pool.resize(1)
    assert pool.core.worker_table.concurrency_limit == 1


def test_under_pressure_the_pool_does_not_scale_up_for_waiting_tasks() -> None:
    pool = PoolScript(8, min_workers=2).opened()
    pool.press(SHORT)
    pool.clock.advance_to(2.0)
    pool.press(SHORT)
    pool.clock.advance_to(4.0)
    pool.press(SHORT)
    assert pool.core.worker_table.concurrency_limit == 1
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
    assert pool.core.worker_table.concurrency_limit == 0


# The helper


LARGE = estimate(0, 2.0)
SMALL = estimate(0, 0.01)


def test_a_helper_is_started_when_all_workers_have_large_tasks_and_gets_small_tasks_only() -> None:
    pool = pool_of(2)
    assert starts(pool.run(1, estimate=LARGE)) == 0
    assert starts(pool.run(2, estimate=LARGE)) == 1
    assert sent(pool.ready(2)) == []
    assert sent(pool.run(3, estimate=LARGE)) == []
    assert sent(pool.run(4, estimate=SMALL)) == [4], "it passes the large task, which helpers do not get"
    assert sent(pool.run(5, estimate=SMALL)) == [], "the helper is busy"
    assert sent(pool.done(4, 2)) == [5]


def test_no_helper_is_started_while_a_worker_has_a_small_task() -> None:
    pool = pool_of(2)
    assert starts(pool.run(1, estimate=LARGE) + pool.run(2, estimate=SMALL)) == 0
    assert not pool.core.worker_table.helpers


def test_a_helper_gets_only_tasks_that_are_far_smaller_than_the_running_ones() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE)
    pool.ready(1)
    assert sent(pool.run(2, estimate=estimate(0, 0.26))) == []
    assert sent(pool.run(3, estimate=estimate(0, 0.24))) == [3]


def test_a_spare_helps_until_the_helper_is_there() -> None:
    """A spare has the same priority as other workers, so it is slow beside large tasks."""
    pool = pool_of(1, spares=1)
    (start,) = of_type(pool.run(1, estimate=LARGE), StartWorker)
    assert start.helper
    assert given_to(pool.run(2, estimate=SMALL)) == [1]
    pool.done(2, 1)
    pool.ready(start.slot)
    assert given_to(pool.run(3, estimate=SMALL)) == [start.slot]


def test_another_helper_comes_when_small_tasks_wait_for_longer_than_a_start_takes() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=LARGE)
    first = only(of_type(pool.run(2, estimate=LARGE), StartWorker)).slot
    pool.ready(first)
    for task_id in (3, 4, 5, 6, 7):
        assert starts(pool.run(task_id, estimate=SMALL)) == 0
    pool.clock.advance_to(0.09)
    assert starts(pool.done(3, first)) == 0
    pool.clock.advance_to(0.11)
    second = only(of_type(pool.done(4, first), StartWorker)).slot
    assert given_to(pool.ready(second)) == [second], "beside the first, which is busy"
    assert pool.core.worker_table.slots[second].helper
    assert starts(pool.done(5, first)) == 0, "there are never more helpers than other workers"


def test_no_second_helper_is_started_for_a_small_task_that_waited_for_the_first_helper_only() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=LARGE)
    helper = only(of_type(pool.run(2, estimate=LARGE), StartWorker)).slot
    pool.run(3, estimate=SMALL)
    pool.clock.advance_to(0.3)
    commands = pool.ready(helper)
    assert (given_to(commands), starts(commands)) == ([helper], 0)


def test_a_helper_stays_while_it_replaces_a_missing_worker() -> None:
    script = WorkerScript(1).opened()
    script.work(0)
    helper = only(of_type(script.scale_up_helpers(1), StartWorker)).slot
    script.ready(helper)
    script.die(0)
    script.autoscaler.scale_down_idle(script.autoscaler.next_scale_down_at)
    script.autoscaler.scale_down_idle(script.autoscaler.next_scale_down_at)
    assert retired(script.reconcile()) == []
    script.ready(0)
    script.autoscaler.scale_down_idle(script.autoscaler.next_scale_down_at)
    script.autoscaler.scale_down_idle(script.autoscaler.next_scale_down_at)
    assert retired(script.reconcile()) == [helper]


def test_under_pressure_as_few_help_as_may_be_at_work() -> None:
    script = WorkerScript(3).opened()
    for index in range(3):
        script.work(index)
    helpers = [start.slot for start in of_type(script.scale_up_helpers(3), StartWorker)]
    script.ready(*helpers)
    script.answer(1)
    script.answer(2)
    script.worker_table.concurrency_limit = 1  # as under memory pressure
    beside = script.worker_table.find_overcommit_worker()
    assert beside is not None
    script.work(beside.index)
    assert script.worker_table.find_overcommit_worker() is None


def test_a_dead_workers_large_task_does_not_raise_the_concurrency_limit() -> None:
    pool = pool_of(1, spares=1)
    pool.run(1, estimate=LARGE)
    pool.tell(WorkerDisconnected(0))
    assert not pool.core.dispatcher.all_workers_have_large_tasks
    assert sent(pool.run(2, estimate=SMALL)) == [2]
    assert not pool.core.dispatcher.all_workers_have_large_tasks


def test_the_unused_worker_of_a_blocked_task_is_kept_while_a_helper_is_idle() -> None:
    limit = 1024 * MIB
    pool = PoolScript(3, budget_bytes=limit, limit_bytes=limit, inbox_nbytes=limit // 2).opened().spawned()
    pool.run(1, estimate=estimate(10 * MIB, 30.0))
    pool.run(2, estimate=estimate(400 * MIB, 30.0))
    helper = only(of_type(pool.run(3, estimate=estimate(300 * MIB, 30.0), retries=1), StartWorker)).slot
    pool.tell(WorkerSpawned(helper, 5))
    pool.ready(helper)
    assert given_to(pool.run(4, estimate=SMALL)) == [helper]
    pool.done(4, helper)
    victim = pool.slot_of(3)
    pool.exited(victim, exit_code=-11)
    pool.tell(WorkerSpawned(victim, 77))
    pool.input(90, 250 * MIB)  # the retry has no memory
    pool.ready(victim)
    assert given_to(pool.run(5, estimate=SMALL)) == [helper]


def test_one_helper_stays_beside_large_tasks_and_the_others_go() -> None:
    script = WorkerScript(3).opened()
    for index in range(3):
        script.work(index)
    helpers = [start.slot for start in of_type(script.scale_up_helpers(3), StartWorker)]
    script.ready(*helpers)
    script.autoscaler.scale_down_idle(script.autoscaler.next_scale_down_at, large_everywhere=True)
    script.autoscaler.scale_down_idle(script.autoscaler.next_scale_down_at, large_everywhere=True)
    assert retired(script.reconcile()) == helpers[:2]
    script.autoscaler.scale_down_idle(script.autoscaler.next_scale_down_at, large_everywhere=False)
    assert script.worker_table.helpers == 0


def test_a_pool_that_shrinks_has_no_more_helpers_than_others() -> None:
    script = WorkerScript(3).opened()
    for index in range(3):
        script.work(index)
    script.scale_up_helpers(3)
    script.resize(1)
    assert script.worker_table.helpers == 1


def test_the_helper_is_the_last_to_get_any_other_task() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=LARGE)
    (start,) = of_type(pool.run(2, estimate=LARGE), StartWorker)
    assert start.helper
    pool.ready(start.slot)
    assert given_to(pool.run(3, estimate=SMALL)) == [start.slot]
    pool.done(3, start.slot)
    pool.done(1, 0)
    assert given_to(pool.run(4, estimate=LARGE)) == [0], "although the helper is idle and was used later"


def test_a_worker_that_never_worked_comes_before_the_helper() -> None:
    pool = pool_of(1)
    (start,) = of_type(pool.run(1, estimate=LARGE), StartWorker)
    pool.ready(start.slot)
    pool.exited(0, exit_code=-11)
    pool.at(pool.core.wake_at)
    pool.ready(0)
    assert given_to(pool.run(2, estimate=SMALL)) == [0]


def test_the_helper_leaves_and_no_other_worker_in_its_place() -> None:
    """The helper is busy when no helper is desired any more. Another worker is idle then, and stays."""
    script = WorkerScript(2).opened()
    script.work(0)
    script.work(1)
    start = only(of_type(script.scale_up_helpers(1), StartWorker))
    script.ready(start.slot)
    script.work(start.slot)
    script.answer(1)
    script.worker_table.helpers = 0
    assert retired(script.reconcile()) == []
    assert retired(script.answer(start.slot)) == [start.slot]


def test_a_recycled_helper_is_replaced_by_a_helper() -> None:
    script = WorkerScript(1, max_worker_bytes=1000).opened()
    script.work(0)
    start = only(of_type(script.scale_up_helpers(1), StartWorker))
    script.ready(start.slot)
    script.work(start.slot)
    successor = only(of_type(script.answer(start.slot, private_bytes=2000), StartWorker))
    assert successor.helper
    assert retired(script.ready(successor.slot)) == [start.slot]


def test_no_helper_is_started_under_pressure_because_a_worker_is_idle() -> None:
    pool = pool_of(2)
    pool.press(SHORT)
    assert starts(pool.run(1, estimate=LARGE)) == 0
    assert sent(pool.run(2, estimate=SMALL)) == [2]


def test_the_helper_goes_when_it_was_idle_all_the_time_and_large_tasks_are_over() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE)
    pool.ready(1)
    pool.done(1)
    commands = pool.at(IDLE_S)
    commands += pool.at(2 * IDLE_S)
    assert len(retired(commands)) == 1
    assert not pool.core.worker_table.helpers
    assert pool.core.autoscaler.next_scale_down_at == float("inf")


def test_the_helper_stays_as_long_as_all_have_large_tasks() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE)
    pool.ready(1)
    commands = [command for n in range(1, 5) for command in pool.at(n * IDLE_S)]
    assert (retired(commands), starts(commands)) == ([], 0)
    assert pool.core.worker_table.helpers


@pytest.mark.parametrize("stop", ["timeout", "cancel"])
def test_large_tasks_that_are_being_stopped_are_large_all_the_same(stop: str) -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE, timeout_s=1.0)
    pool.ready(1)
    pool.at(1.0) if stop == "timeout" else pool.cancel(1)
    assert pool.state(0) is S.TIMED_OUT
    assert sent(pool.run(2, estimate=SMALL)) == [2]
