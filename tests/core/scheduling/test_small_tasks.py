"""Small tasks beside large ones: they run in the group "small", which starts on demand."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.core.model.commands import Send, StartWorker
from offloop.core.model.events import WorkerDisconnected, WorkerSpawned
from offloop.core.model.worker_state import WorkerState
from offloop.operation import SMALL_TASKS_GROUP
from offloop.wire.messages import Retire

from ..pool_script import MIB, PoolScript, estimate, of_type, only, runs
from ..worker_script import WorkerScript

S = WorkerState
IDLE_S = 30.0
SHORT = 0.01  # share of the machine's memory that is available when it is short
LARGE = estimate(0, 2.0)
SMALL = estimate(0, 0.01)


def pool_of(workers: int = 4, **more: Any) -> PoolScript:
    return PoolScript(workers, **more).opened()


def starts(commands: list[Any]) -> int:
    return len(of_type(commands, StartWorker))


def retired(commands: list[Any]) -> list[int]:
    return [send.slot for send in of_type(commands, Send) if isinstance(send.message, Retire)]


def sent(commands: list[Any]) -> list[int]:
    return [send.message.task_id for send in runs(commands)]


def given_to(commands: list[Any]) -> list[int]:
    """The slots whose workers were sent a task."""
    return [send.slot for send in runs(commands)]


def desired(pool: PoolScript) -> int:
    return pool.core.groups.small.autoscaler.desired_workers


def test_a_worker_is_started_when_all_workers_have_large_tasks_and_gets_small_tasks_only() -> None:
    pool = pool_of(2)
    assert starts(pool.run(1, estimate=LARGE)) == 0
    start = only(of_type(pool.run(2, estimate=LARGE), StartWorker))
    assert (start.slot, start.group) == (2, SMALL_TASKS_GROUP)
    assert sent(pool.ready(2)) == []
    assert sent(pool.run(3, estimate=LARGE)) == []
    assert sent(pool.run(4, estimate=SMALL)) == [4], "it passes the large task"
    assert sent(pool.run(5, estimate=SMALL)) == [], "the worker for small tasks is busy"
    assert sent(pool.done(4, 2)) == [5]


def test_no_worker_is_started_while_a_worker_has_a_small_task() -> None:
    pool = pool_of(2)
    assert starts(pool.run(1, estimate=LARGE) + pool.run(2, estimate=SMALL)) == 0
    assert not desired(pool)


def test_only_tasks_that_are_far_smaller_than_the_running_ones_are_small() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE)
    pool.ready(1)
    assert sent(pool.run(2, estimate=estimate(0, 0.26))) == []
    assert sent(pool.run(3, estimate=estimate(0, 0.24))) == [3]


def test_a_spare_takes_small_tasks_until_the_worker_for_them_is_there() -> None:
    """A spare has the same priority as other workers, so it is slow beside large tasks."""
    pool = pool_of(1, spares=1)
    (start,) = of_type(pool.run(1, estimate=LARGE), StartWorker)
    assert start.group == SMALL_TASKS_GROUP
    assert given_to(pool.run(2, estimate=SMALL)) == [1]
    pool.done(2, 1)
    pool.ready(start.slot)
    assert given_to(pool.run(3, estimate=SMALL)) == [start.slot]


def test_a_small_task_takes_no_place_of_the_default_group() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=LARGE)
    (start,) = of_type(pool.run(2, estimate=LARGE), StartWorker)
    pool.ready(start.slot)
    assert given_to(pool.run(3, estimate=SMALL)) == [start.slot]
    pool.run(4, estimate=LARGE)
    assert sent(pool.done(1, 0)) == [4], "although two tasks run, the limit is two, and one of them is a small one"


def test_another_worker_comes_when_small_tasks_wait_for_longer_than_a_start_takes() -> None:
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
    assert pool.core.worker_table.slots[second].group == SMALL_TASKS_GROUP
    assert starts(pool.done(5, first)) == 0, "there are never more of them than workers of the default group"


def test_no_second_worker_is_started_for_a_small_task_that_waited_for_the_first_one_only() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=LARGE)
    small = only(of_type(pool.run(2, estimate=LARGE), StartWorker)).slot
    pool.run(3, estimate=SMALL)
    pool.clock.advance_to(0.3)
    commands = pool.ready(small)
    assert (given_to(commands), starts(commands)) == ([small], 0)


def test_under_memory_pressure_the_limit_of_the_group_is_lower_too() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=LARGE)
    first = only(of_type(pool.run(2, estimate=LARGE), StartWorker)).slot
    pool.ready(first)
    for task_id in (3, 4, 5):
        pool.run(task_id, estimate=SMALL)
    pool.clock.advance_to(0.2)
    second = only(of_type(pool.done(3, first), StartWorker)).slot
    pool.press(SHORT)
    assert given_to(pool.ready(second)) == [], "one small task may run, and one does"
    pool.clock.advance_to(3.0)
    assert given_to(pool.press(0.5)) == [second]


def test_a_dead_workers_large_task_does_not_count() -> None:
    pool = pool_of(1, spares=1)
    pool.run(1, estimate=LARGE)
    pool.handle(WorkerDisconnected(0))
    assert not pool.core.small_tasks.all_workers_have_large_tasks
    assert sent(pool.run(2, estimate=SMALL)) == [2]
    assert not pool.core.small_tasks.all_workers_have_large_tasks


def test_the_unused_worker_of_a_blocked_task_is_kept_and_the_worker_for_small_tasks_too() -> None:
    limit = 1024 * MIB
    pool = PoolScript(3, budget_bytes=limit, limit_bytes=limit, inbox_nbytes=limit // 2).opened().spawned()
    pool.run(1, estimate=estimate(10 * MIB, 30.0))
    pool.run(2, estimate=estimate(400 * MIB, 30.0))
    small = only(of_type(pool.run(3, estimate=estimate(300 * MIB, 30.0), retries=1), StartWorker)).slot
    pool.handle(WorkerSpawned(small, 5))
    pool.ready(small)
    assert given_to(pool.run(4, estimate=SMALL)) == [small]
    pool.done(4, small)
    victim = pool.slot_of(3)
    pool.exited(victim, exit_code=-11)
    pool.handle(WorkerSpawned(victim, 77))
    pool.input(90, 250 * MIB)  # the retry has no memory
    pool.ready(victim)
    assert given_to(pool.run(5, estimate=SMALL)) == [], "not every worker of the default group has a large task"
    assert given_to(pool.done(1, 0)) == [victim, 0], "there is memory for the retry, and a used worker is idle"


def test_one_worker_stays_beside_large_tasks_and_the_others_go() -> None:
    script = WorkerScript(3).opened()
    small = script.groups.small
    for index in range(3):
        script.work(index)
    small.autoscaler.scale_up_to(3, script.now)
    slots = [start.slot for start in of_type(script.reconcile(), StartWorker)]
    script.ready(*slots)
    small.autoscaler.scale_down_idle(small.autoscaler.next_scale_down_at, needed=1)
    small.autoscaler.scale_down_idle(small.autoscaler.next_scale_down_at, needed=1)
    assert retired(script.reconcile()) == slots[:2]
    small.autoscaler.scale_down_idle(small.autoscaler.next_scale_down_at)
    assert small.autoscaler.desired_workers == 0


def test_a_pool_that_is_resized_has_no_more_workers_for_small_tasks_than_others() -> None:
    script = WorkerScript(3).opened()
    for index in range(3):
        script.work(index)
    script.groups.small.autoscaler.scale_up_to(3, script.now)
    script.resize(1)
    assert script.groups.small.autoscaler.desired_workers == 1


def test_any_other_task_waits_for_the_default_group() -> None:
    pool = pool_of(1)
    (start,) = of_type(pool.run(1, estimate=LARGE), StartWorker)
    pool.ready(start.slot)
    pool.exited(0, exit_code=-11)
    assert given_to(pool.run(2, estimate=SMALL)) == [], "a worker of the default group comes at once"
    assert given_to(pool.ready(0)) == [0]


def test_a_recycled_worker_is_replaced_in_its_group() -> None:
    script = WorkerScript(1, max_worker_bytes=1000).opened()
    script.work(0)
    script.groups.small.autoscaler.scale_up_to(1, script.now)
    start = only(of_type(script.reconcile(), StartWorker))
    script.ready(start.slot)
    script.work(start.slot)
    successor = only(of_type(script.answer(start.slot, private_bytes=2000), StartWorker))
    assert successor.group == SMALL_TASKS_GROUP
    assert retired(script.ready(successor.slot)) == [start.slot]


def test_no_worker_is_started_under_pressure_because_a_worker_is_idle() -> None:
    pool = pool_of(2)
    pool.press(SHORT)
    assert starts(pool.run(1, estimate=LARGE)) == 0
    assert sent(pool.run(2, estimate=SMALL)) == [2]


def test_no_worker_is_started_without_memory_for_an_idle_process() -> None:
    pool = PoolScript(1, budget_bytes=256 * MIB).opened().spawned()
    assert starts(pool.run(1, estimate=estimate(200 * MIB, 2.0))) == 0


def test_the_group_leaves_when_it_was_idle_all_the_time_and_large_tasks_are_over() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE)
    pool.ready(1)
    pool.done(1)
    commands = pool.at(IDLE_S)
    commands += pool.at(2 * IDLE_S)
    assert len(retired(commands)) == 1
    assert not desired(pool)
    assert pool.core.groups.small.autoscaler.next_scale_down_at == float("inf")


def test_a_worker_stays_as_long_as_all_have_large_tasks() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE)
    pool.ready(1)
    commands = [command for n in range(1, 5) for command in pool.at(n * IDLE_S)]
    assert (retired(commands), starts(commands)) == ([], 0)
    assert desired(pool)


@pytest.mark.parametrize("stop", ["timeout", "cancel"])
def test_large_tasks_that_are_being_stopped_are_large_all_the_same(stop: str) -> None:
    pool = pool_of(1)
    pool.run(1, estimate=LARGE, timeout_s=1.0)
    pool.ready(1)
    pool.at(1.0) if stop == "timeout" else pool.cancel(1)
    assert pool.state(0) is S.TIMED_OUT
    assert sent(pool.run(2, estimate=SMALL)) == [2]
