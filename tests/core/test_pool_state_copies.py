"""`PoolState` with private sources: their copies in the workers' own inboxes are charged to the memory budget."""

from __future__ import annotations

from typing import Any

from offloop.core.memory.budget import DEFAULT_WORKER_NBYTES
from offloop.core.model.settings import KEPT_INBOX_NBYTES

from .pool_script import MIB, PoolScript, estimate, runs

LIMIT = 512 * MIB


def pool_of(workers: int = 1, **more: Any) -> PoolScript:
    settings: dict[str, Any] = {"budget_bytes": LIMIT, "private_sources": True, **more}
    return PoolScript(workers, limit_bytes=LIMIT, inbox_nbytes=384 * MIB, **settings).opened().spawned()


def run(pool: PoolScript, task_id: int, nbytes: int) -> list[Any]:
    return runs(pool.run(task_id, pool.input(90 + task_id, nbytes), estimate=estimate(10 * MIB)))


def test_a_running_task_is_charged_with_the_copy_of_its_sources() -> None:
    pool = pool_of()
    assert run(pool, 1, 40 * MIB)
    assert pool.core.budget.running_bytes == 50 * MIB
    pool.done(1)
    assert pool.core.budget.running_bytes == 0


def test_without_private_sources_no_copy_is_charged() -> None:
    pool = pool_of(private_sources=False)
    assert run(pool, 1, 40 * MIB)
    assert pool.core.budget.running_bytes == 10 * MIB


def test_a_task_waits_until_there_is_memory_for_the_copy_of_its_sources() -> None:
    pool = pool_of(2)
    assert run(pool, 1, 100 * MIB)
    assert run(pool, 2, 130 * MIB) == []
    assert len(runs(pool.done(1, pool.slot_of(1)))) == 1


def test_a_source_whose_copy_does_not_fit_beside_it_runs_alone() -> None:
    pool = pool_of(2)
    assert run(pool, 1, 350 * MIB)
    assert runs(pool.run(2, estimate=estimate(MIB))) == []
    assert len(runs(pool.done(1, pool.slot_of(1)))) == 1


def test_an_idle_worker_is_charged_with_the_part_of_its_inbox_that_it_keeps() -> None:
    pool = pool_of()
    for task_id, nbytes, kept in ((1, MIB, MIB), (2, 40 * MIB, KEPT_INBOX_NBYTES), (3, MIB, KEPT_INBOX_NBYTES)):
        run(pool, task_id, nbytes)
        pool.done(task_id, private_bytes=DEFAULT_WORKER_NBYTES)
        assert pool.core.budget.workers_bytes == DEFAULT_WORKER_NBYTES + kept
    pool.exited()
    assert pool.core.budget.workers_bytes == 0
