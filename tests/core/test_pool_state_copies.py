"""`PoolState` with private sources: their copies in the workers' own inboxes are charged to the memory budget."""

from __future__ import annotations

from typing import Any

import msgspec

from offloop.core.memory.budget import DEFAULT_WORKER_NBYTES
from offloop.core.model.blocks import CALLER_MEMORY
from offloop.core.model.commands import Command, DeliverSources, HashSource, ReleaseInbox
from offloop.core.model.events import TaskSubmitted
from offloop.core.model.settings import KEPT_INBOX_NBYTES
from offloop.wire.handles import EncodedAt, Handle

from .pool_script import MIB, SPEC, PoolScript, estimate, of_type, only, runs

LIMIT = 512 * MIB


def pool_of(workers: int = 1, **more: Any) -> PoolScript:
    settings: dict[str, Any] = {"budget_bytes": LIMIT, "private_sources": True, **more}
    return PoolScript(workers, limit_bytes=LIMIT, inbox_nbytes=384 * MIB, **settings).opened().spawned()


def run(pool: PoolScript, task_id: int, nbytes: int) -> list[Any]:
    """Submit a task with a source in the pool's inbox, which is delivered. Returns the command that sends it, if it runs."""
    return runs(deliver(pool, pool.run(task_id, pool.input(90 + task_id, nbytes), estimate=estimate(10 * MIB))))


def deliver(pool: PoolScript, commands: list[Command]) -> list[Command]:
    return pool.delivered(commands) if of_type(commands, DeliverSources) else commands


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
    assert len(runs(deliver(pool, pool.done(1, pool.slot_of(1))))) == 1


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


def run_from_caller(pool: PoolScript, task_id: int, nbytes: int, **more: Any) -> list[Command]:
    """Submit a task whose source lies in its caller's memory."""
    handle = Handle(CALLER_MEMORY, 0, nbytes, 0)
    known = {"estimate": estimate(10 * MIB), **more}
    spec = msgspec.structs.replace(SPEC, sources=(EncodedAt(handle),), **known)
    return deliver(pool, pool.handle(TaskSubmitted(task_id, spec)))


def test_a_source_in_the_callers_memory_is_charged_once_as_a_copy() -> None:
    pool = pool_of()
    (run_sent,) = runs(run_from_caller(pool, 1, 40 * MIB))
    assert run_sent.message.sources[0].block.segment == CALLER_MEMORY
    assert pool.core.arena.used_bytes == 0
    assert pool.core.budget.running_bytes == 50 * MIB
    assert runs(run_from_caller(pool, 2, 40 * MIB)) == []
    assert pool.statistics.waiting_bytes == 40 * MIB
    deliver(pool, pool.done(1))
    pool.done(2)
    assert pool.core.budget.running_bytes == 0


def test_a_suspect_source_in_the_callers_memory_is_hashed_before_it_runs() -> None:
    pool = pool_of(quarantine_after=1)
    run_from_caller(pool, 1, MIB)
    hashed = only(of_type(pool.exited(), HashSource))
    assert hashed.sources == (Handle(CALLER_MEMORY, 0, MIB, 0),)
    pool.hashed(1)
    assert only(of_type(run_from_caller(pool, 2, MIB), HashSource)).task_id == 2
    pool.hashed(2, b"other")
    assert pool.core.task_table.get(2) is not None


def test_pages_that_an_inbox_keeps_after_a_large_source_are_released_when_their_memory_is_needed() -> None:
    pool = pool_of(2)
    run(pool, 1, 100 * MIB)
    first = pool.slot_of(1)
    assert of_type(pool.done(1, first), ReleaseInbox) == []
    assert pool.core.budget.excess_bytes == 100 * MIB - KEPT_INBOX_NBYTES
    assert of_type(pool.run(2, estimate=estimate(100 * MIB)), ReleaseInbox) == [], "there is room for both"
    assert of_type(pool.run(3, estimate=estimate(200 * MIB)), ReleaseInbox) == [ReleaseInbox(first)]
    assert pool.core.budget.excess_bytes == 0


def test_the_pages_that_a_dead_workers_inbox_kept_are_not_counted() -> None:
    pool = pool_of()
    run(pool, 1, 100 * MIB)
    pool.done(1)
    pool.exited()
    assert pool.core.budget.excess_bytes == 0
