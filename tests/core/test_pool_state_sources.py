"""A task with several sources in a `PoolState`: all are leased from its admission to its end, and go to its worker in order."""

from __future__ import annotations

from typing import Any

import msgspec

from offloop.core.memory.allocator import pages
from offloop.core.memory.stall_limit import MEMORY_WAIT_S
from offloop.core.model.blocks import Block, Holder
from offloop.core.model.commands import Command, HashSource, ProvideSourceMemory, RestageSource
from offloop.core.model.events import StagingFailed, TaskEstimated, TaskStaged, TaskSubmitted
from offloop.errors import InvalidTask, MemoryLimitExceeded, PoolClosed, QueueFull, TaskQuarantined, WorkerDied
from offloop.wire.handles import INBOX, EncodedAt, Handle, RasterAt

from .pool_script import KIB, SPEC, PoolScript, estimate, in_outbox, of_type, only, outcome_of, reservations, runs


def handle_of(block: Block, offset: int = 0, nbytes: int | None = None) -> Handle:
    return Handle(INBOX, block.offset + offset, nbytes or block.nbytes, block.generation)


def with_inputs(count: int = 2, workers: int = 1, **settings: Any) -> tuple[PoolScript, list[Block]]:
    pool = PoolScript(workers, **settings).opened()
    return pool, [pool.input(90 + number, 5000) for number in range(count)]


def holds(pool: PoolScript, *blocks: Block) -> list[bool]:
    return [pool.core.arena.get(block.generation) is block for block in blocks]


def test_a_worker_gets_all_sources_in_their_order_and_they_stay_until_the_task_ends() -> None:
    pool, (first, second) = with_inputs()
    run = only(runs(pool.run(1, first, others=[second]))).message
    assert run.sources == (EncodedAt(handle_of(first)), EncodedAt(handle_of(second)))
    pool.give_back(first, second)
    assert holds(pool, first, second) == [True, True]
    pool.done(1)
    assert holds(pool, first, second) == [False, False]


def test_sources_that_lie_in_one_block_are_one_lease() -> None:
    pool, (block,) = with_inputs(1)
    sources = (EncodedAt(handle_of(block, 0, 100)), EncodedAt(None), RasterAt(handle_of(block, 128, 6), (2, 3), "|u1"))
    run = only(runs(pool.handle(TaskSubmitted(1, msgspec.structs.replace(SPEC, sources=sources))))).message
    assert run.sources == sources
    assert pool.core.arena.leases[Holder.TASK] == 1
    pool.give_back(block)
    pool.done(1)
    assert holds(pool, block) == [False]


def test_a_cancelled_task_returns_all_its_sources() -> None:
    pool, (first, second) = with_inputs()
    pool.run(1)
    pool.run(2, first, others=[second])
    pool.give_back(first, second)
    pool.cancel(2)
    assert holds(pool, first, second) == [False, False]


def test_a_task_that_is_retried_has_the_same_sources() -> None:
    pool, (first, second) = with_inputs()
    before = only(runs(pool.run(1, first, others=[second], retries=1))).message
    pool.give_back(first, second)
    pool.exited()
    again = only(runs(pool.ready())).message
    assert again.sources == before.sources
    pool.done(1)
    assert holds(pool, first, second) == [False, False]


def test_all_sources_of_a_task_that_killed_its_worker_are_hashed_and_leased_meanwhile() -> None:
    pool, (first, second) = with_inputs(quarantine_after=1)
    pool.run(1, first, others=[second])
    pool.give_back(first, second)
    assert of_type(pool.exited(), HashSource) == [HashSource(1, (handle_of(first), handle_of(second)))]
    pool.cancel(1)
    assert holds(pool, first, second) == [True, True]
    pool.hashed(1)
    assert holds(pool, first, second) == [False, False]


def test_only_a_task_whose_sources_have_the_same_lengths_in_the_same_order_is_a_suspect() -> None:
    pool, (first, second, longer) = with_inputs(3, quarantine_after=1)
    longer = pool.input(80, 9000)
    pool.run(1, first, others=[longer])
    pool.exited()
    pool.hashed(1)
    pool.ready()
    for number, (source, *others) in enumerate([(first,), (longer, first), (first, longer, second)], 2):
        assert len(runs(pool.run(number, source, others=others))) == 1
        pool.done(number)
    assert of_type(pool.run(9, second, others=[longer]), HashSource) == [HashSource(9, (handle_of(second), handle_of(longer)))]
    assert isinstance(outcome_of(pool.hashed(9), 9), TaskQuarantined)


def test_results_in_one_outbox_are_sources_in_place_and_are_copied_if_their_worker_is_busy() -> None:
    pool = PoolScript(1).opened()
    results: list[Block] = []
    for task_id in (1, 2):
        pool.run(task_id)
        results.append(pool.granted(task_id, 5000))
        pool.done(task_id, output=in_outbox(results[-1], 5000))
    outbox_id = results[0].segment_id
    run = only(runs(pool.run(3, results[0], others=results[1:], segment=1, outbox_id=outbox_id))).message
    assert len(run.sources) == 2
    commands = pool.run(4, results[0], others=results[1:], segment=1, outbox_id=outbox_id)
    assert commands == [RestageSource(4)]
    pool.give_back(*results)
    assert holds(pool, *results) == [True, True], "task 3 has them"
    pool.done(3)
    assert holds(pool, *results) == [False, False]


def test_a_task_whose_sources_died_with_their_worker_fails() -> None:
    pool = PoolScript(1).opened()
    pool.run(1)
    result = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(result, 5000))
    pool.run(2, result, others=[result], segment=1, outbox_id=result.segment_id, retries=5)
    assert isinstance(outcome_of(pool.exited(), 2), WorkerDied)


def test_the_lengths_of_all_sources_count() -> None:
    pool, (first, second) = with_inputs(max_queue_bytes=12 * KIB)
    pool.run(1)
    assert pool.run(2, first) == []
    assert isinstance(outcome_of(pool.run(3, first, others=[second]), 3), QueueFull)


def test_all_sources_of_a_waiting_task_are_released_for_a_running_tasks_result() -> None:
    pool = PoolScript(1, limit_bytes=1024 * KIB, inbox_nbytes=768 * KIB).opened()
    sources = [pool.input(10 + number, 256 * KIB) for number in range(2)]
    pool.run(1)
    pool.run(2, sources[0], others=sources[1:], stageable_again=True)
    pool.give_back(*sources)
    commands = pool.need(1, 900 * KIB)
    assert of_type(commands, RestageSource) == [RestageSource(2)]
    assert holds(pool, *sources) == [False, False]


# The block for copies of a task's sources


def submitted(pool: PoolScript, task_id: int, copy_nbytes: int) -> list[Command]:
    """Submit a task whose sources have to be copied."""
    return pool.handle(TaskSubmitted(task_id, SPEC, copy_nbytes, staged=False, copy_nbytes=copy_nbytes))


def provided(commands: list[Command]) -> Block:
    return only(of_type(commands, ProvideSourceMemory)).block


def source_of(pool: PoolScript, task_id: int, nbytes: int) -> Block:
    pool.submit(task_id)
    return pool.source(task_id, nbytes)


def warm(pool: PoolScript, nbytes: int) -> None:
    """Have the pages of the inbox reserved, so that a block is provided at once."""
    pool.give_back(pool.input(80, nbytes))


def test_the_submission_of_a_task_provides_the_block_for_its_copies_and_its_end_frees_it() -> None:
    pool = PoolScript(1).opened()
    warm(pool, 8192)
    block = provided(submitted(pool, 1, 5000))
    assert pool.statistics.leases["task"] == pool.statistics.leases["stager"] == 1
    assert len(runs(pool.prepare(1, block))) == 1
    assert (pool.statistics.leases["task"], pool.statistics.leases["stager"]) == (1, 0)
    pool.done(1)
    assert holds(pool, block) == [False]


def test_an_estimate_may_request_the_block_and_a_refused_task_gets_none() -> None:
    pool = PoolScript(1, budget_bytes=128 << 20).opened()
    warm(pool, 8192)
    for task_id in (1, 2):
        pool.submit(task_id)
    spec = msgspec.structs.replace(SPEC, estimate=estimate(1 << 20))
    assert provided(pool.handle(TaskEstimated(1, spec, 5000, 5000))).nbytes == 8192
    large = msgspec.structs.replace(SPEC, estimate=estimate(1 << 30))
    commands = pool.handle(TaskEstimated(2, large, 5000, 5000))
    assert isinstance(outcome_of(commands, 2), MemoryLimitExceeded)
    assert of_type(commands, ProvideSourceMemory) == []


def test_sources_that_can_never_fit_settle_their_task() -> None:
    pool = PoolScript(1).opened()
    error = outcome_of(submitted(pool, 1, pool.core.settings.inbox_nbytes + 1), 1)
    assert isinstance(error, MemoryLimitExceeded)
    assert pool.statistics.leases["task"] == 0


def test_the_block_of_a_cancelled_task_stays_until_its_stager_has_ended() -> None:
    for ending in (StagingFailed(1, None), StagingFailed(1, InvalidTask("no such file")), TaskStaged(1, SPEC)):
        pool = PoolScript(1).opened()
        block = source_of(pool, 1, 5000)
        assert outcome_of(pool.cancel(1), 1) is None
        assert holds(pool, block) == [True]
        assert pool.handle(ending) == []
        assert holds(pool, block) == [False]


def test_the_block_of_a_task_in_a_closing_pool_stays_until_its_stager_has_ended() -> None:
    pool = PoolScript(1).opened()
    block = source_of(pool, 1, 5000)
    assert isinstance(outcome_of(pool.close(), 1), PoolClosed)
    assert holds(pool, block) == [True]
    pool.prepare(1, block)
    assert holds(pool, block) == [False]


def test_a_task_that_is_cancelled_while_it_waits_for_memory_gets_none_and_leaves_it_to_others() -> None:
    pool = PoolScript(1, limit_bytes=1024 * KIB, inbox_nbytes=768 * KIB).opened()
    held = pool.input(90, 700 * KIB)
    for task_id in (1, 2):
        pool.submit(task_id)
        assert pool.request_source(task_id, 700 * KIB) == []
    pool.cancel(1)
    assert only(of_type(pool.give_back(held), ProvideSourceMemory)).task_id == 2


def test_a_task_that_is_cancelled_while_its_pages_are_reserved_frees_them() -> None:
    pool = PoolScript(1).opened()
    pool.submit(1)
    (reservation,) = reservations(pool.request_source(1, 5000))
    pool.cancel(1)
    assert of_type(pool.reserved(reservation), ProvideSourceMemory) == []
    assert pool.core.arena.used_bytes == 0


def test_a_request_whose_pages_the_system_refuses_waits_for_them() -> None:
    pool = PoolScript(1).opened()
    held = pool.input(90, 5000)
    pool.submit(1)
    (reservation,) = reservations(pool.request_source(1, 50_000))
    assert of_type(pool.refused(reservation), ProvideSourceMemory) == []
    assert pool.statistics.leases["task"] == 0
    (again,) = reservations(pool.give_back(held))
    assert provided(pool.reserved(again)).nbytes == pages(50_000)


def test_a_request_that_only_callers_could_meet_settles_its_task_after_a_while() -> None:
    pool = PoolScript(1, limit_bytes=1024 * KIB, inbox_nbytes=768 * KIB).opened()
    pool.input(90, 700 * KIB)
    pool.submit(1)
    assert pool.request_source(1, 700 * KIB) == []
    error = outcome_of(pool.at(MEMORY_WAIT_S), 1)
    assert isinstance(error, MemoryLimitExceeded)
    assert "callers released no memory for 30 s" in str(error)


def test_the_staging_of_a_task_can_be_interrupted_and_done_again() -> None:
    pool = PoolScript(1).opened()
    first = source_of(pool, 1, 5000)
    assert pool.handle(StagingFailed(1, None)) == []
    assert holds(pool, first) == [False]
    second = pool.source(1, 5000)
    assert len(runs(pool.prepare(1, second))) == 1


def test_the_sources_of_a_waiting_task_that_were_released_are_copied_into_a_new_block() -> None:
    pool = PoolScript(1, limit_bytes=1024 * KIB, inbox_nbytes=768 * KIB).opened()
    pool.run(1)
    pool.prepare(2, source_of(pool, 2, 512 * KIB), stageable_again=True)
    commands = pool.need(1, 900 * KIB)
    assert of_type(commands, RestageSource) == [RestageSource(2)]
    (reservation,) = reservations(commands)
    pool.reserved(reservation)
    assert pool.request_source(2, 512 * KIB) == []
    block = pool.core.arena.get(reservation.block.generation)
    assert block is not None
    commands = pool.done(1, output=in_outbox(block, 900 * KIB)) + pool.give_back(block)
    for each in reservations(commands):
        commands += pool.reserved(each)
    assert len(runs(pool.prepare(2, provided(commands), stageable_again=True))) == 1
