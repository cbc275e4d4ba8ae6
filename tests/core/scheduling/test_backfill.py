"""Backfilling: which tasks may pass a task for which there is no memory yet."""

from __future__ import annotations

from typing import Any

from offloop.core.scheduling.backfill import RESERVATION_S

from ..pool_script import MIB, PoolScript, estimate, runs

LIMIT = 512 * MIB


class BlockedPool:
    """A pool with one running task, which fills the budget, and a blocked task, which waits for that memory."""

    def __init__(self, workers: int = 4, running_s: float = 5.0) -> None:
        self.script = PoolScript(workers, limit_bytes=LIMIT, inbox_nbytes=LIMIT // 2, budget_bytes=LIMIT).opened()
        self.run(1, 400, running_s)
        assert self.run(2, 300, 1.0) == []

    def run(self, task_id: int, peak_mib: int, work_s: float, **more: Any) -> list[int]:
        return self.sent(self.script.run(task_id, estimate=estimate(peak_mib * MIB, work_s), **more))

    @staticmethod
    def sent(commands: list[Any]) -> list[int]:
        return [send.message.task_id for send in runs(commands)]


def test_a_task_may_pass_if_it_ends_before_there_is_memory_for_the_blocked_task() -> None:
    assert BlockedPool().run(3, 50, 4.9) == [3]


def test_a_task_may_pass_if_there_is_memory_for_it_beside_the_blocked_task_however_long_it_takes() -> None:
    assert BlockedPool().run(3, 90, 1000.0) == [3]


def test_a_task_may_not_pass_if_it_would_delay_the_blocked_task() -> None:
    pool = BlockedPool(running_s=0.5)
    assert pool.run(3, 100, 4.9) == [3], "there is memory for it beside the blocked task"
    assert pool.run(4, 12, 4.9) == [4]
    assert pool.run(5, 1, 0.4) == []


def test_a_task_may_not_pass_if_there_is_no_memory_for_it_now() -> None:
    assert BlockedPool().run(3, 113, 0.1) == []


def test_tasks_start_by_rank_when_memory_becomes_free() -> None:
    pool = BlockedPool()
    assert pool.run(3, 300, 0.001) == []
    assert pool.sent(pool.script.done(1, pool.script.slot_of(1)))[0] == 3, "by rank"
    assert pool.sent(pool.script.done(3, pool.script.slot_of(3))) == [2]


def test_after_the_reservation_time_only_tasks_that_cannot_delay_the_blocked_task_pass() -> None:
    pool = BlockedPool(running_s=60.0)
    pool.script.run(6, estimate=estimate(100 * MIB, 1000.0))  # takes the memory that would be free beside the blocked task
    pool.script.clock.advance_to(RESERVATION_S - 0.01)
    assert pool.run(3, 5, 1.0) == [3]
    pool.script.clock.advance_to(RESERVATION_S)
    assert pool.run(4, 5, 1.0) == [4], "some MiB are still free beside the blocked task"
    pool.run(7, 97, 1.0)
    assert 7 in pool.script.core.queue.waiting
