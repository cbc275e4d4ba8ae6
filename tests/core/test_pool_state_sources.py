"""A task with several sources in a `PoolState`: all are leased from its admission to its end, and go to its worker in order."""

from __future__ import annotations

from typing import Any

import msgspec

from offloop.core.model.blocks import Block, Holder
from offloop.core.model.commands import HashSource, RestageSource
from offloop.core.model.events import TaskSubmitted
from offloop.errors import QueueFull, TaskQuarantined, WorkerDied
from offloop.wire.handles import INBOX, EncodedAt, Handle, RasterAt

from .pool_script import KIB, SPEC, PoolScript, in_outbox, of_type, only, outcome_of, runs


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
    run = only(runs(pool.tell(TaskSubmitted(1, msgspec.structs.replace(SPEC, sources=sources))))).message
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
