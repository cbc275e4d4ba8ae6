"""`PoolState` with a memory budget: admission, sources, grants and workers within the limit."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.core.memory.budget import DEFAULT_WORKER_NBYTES
from offloop.core.model.commands import ProvideInput, RefuseInput, ReleasePages, ReservePages, Send
from offloop.core.model.events import StagingFailed
from offloop.core.model.settings import AdmissionMode
from offloop.core.scheduling.cost_model import DEFAULT_PEAK_BYTES
from offloop.errors import MemoryLimitExceeded
from offloop.wire.messages import Grant

from .pool_script import MIB, PAGE, PoolScript, estimate, in_outbox, of_type, only, outcome_of, reservations, runs

LIMIT = 512 * MIB


def pool_of(workers: int = 2, **more: Any) -> PoolScript:
    """A pool whose workers have 32 MiB each when they are idle, and keep no memory for first grants."""
    more.setdefault("budget_bytes", LIMIT)
    return PoolScript(workers, limit_bytes=LIMIT, inbox_nbytes=384 * MIB, **more).opened().spawned()


def sent(commands: list[Any]) -> list[int]:
    return [send.message.task_id for send in runs(commands)]


def total(pool: PoolScript) -> int:
    budget = pool.core.budget
    return budget.workers_bytes + budget.running_bytes + pool.core.arena.reserved_bytes


def test_a_task_that_does_not_fit_beside_the_running_task_waits_for_its_end() -> None:
    pool = pool_of()
    assert sent(pool.run(1, estimate=estimate(300 * MIB))) == [1]
    assert sent(pool.run(2, estimate=estimate(300 * MIB))) == []
    assert sent(pool.done(1, pool.slot_of(1))) == [2]


def test_a_task_that_can_never_fit_is_refused_before_its_source_is_staged() -> None:
    pool = pool_of()
    pool.submit(1)
    error = outcome_of(pool.estimate(1, MIB, estimate=estimate(LIMIT)), 1)
    assert isinstance(error, MemoryLimitExceeded)
    assert f"{LIMIT + MIB:,}" in str(error)
    assert f"{LIMIT - 2 * DEFAULT_WORKER_NBYTES:,}" in str(error)
    assert not error.is_temporary
    assert pool.statistics.waiting_bytes == 0


@pytest.mark.parametrize("mode", [AdmissionMode.SHADOW, AdmissionMode.OFF])
def test_without_enforcement_no_task_waits_and_none_is_refused(mode: AdmissionMode) -> None:
    pool = pool_of(admission=mode)
    assert sent(pool.run(1, estimate=estimate(LIMIT))) == [1]
    assert sent(pool.run(2, estimate=estimate(LIMIT))) == [2]
    counted = (pool.statistics.would_have_waited, pool.statistics.would_have_been_refused)
    assert counted == ((1, 2) if mode is AdmissionMode.SHADOW else (0, 0))


def test_pages_that_are_kept_for_reuse_are_released_when_a_task_needs_the_memory() -> None:
    pool = pool_of(1)
    pool.give_back(pool.input(90, 300 * MIB))
    assert pool.core.arena.reserved_bytes == 300 * MIB
    commands = pool.run(1, estimate=estimate(300 * MIB))
    spans = only(of_type(commands, ReleasePages)).spans
    assert sum(span.end - span.start for span in spans) == 300 * MIB - (LIMIT - DEFAULT_WORKER_NBYTES - 300 * MIB)
    assert isinstance(commands[-1], Send), "the memory is released before the task is sent"
    assert total(pool) == LIMIT


def test_new_sources_leave_room_for_a_large_task_that_waits() -> None:
    pool = pool_of()
    pool.run(1, estimate=estimate(300 * MIB))
    pool.run(2, estimate=estimate(300 * MIB))
    assert of_type(pool.request(90, 148 * MIB + 1), ReservePages) == []
    assert reservations(pool.done(1, pool.slot_of(1), private_bytes=DEFAULT_WORKER_NBYTES)) == []
    assert len(reservations(pool.done(2, pool.slot_of(2), private_bytes=DEFAULT_WORKER_NBYTES))) == 1


def test_the_source_of_a_task_without_an_estimate_is_staged_even_if_its_default_is_large() -> None:
    pool = pool_of(1)
    pool.submit(1)
    assert pool.estimate(1, 300 * MIB) == []
    block = pool.source(1, 300 * MIB)
    assert sent(pool.prepare(1, block)) == [1]


def test_the_source_of_a_task_that_needs_the_whole_budget_is_staged_beside_preallocated_memory() -> None:
    pool = PoolScript(1, limit_bytes=LIMIT, inbox_nbytes=384 * MIB, budget_bytes=LIMIT).opened(pages=True).spawned()
    pool.run(1)
    pool.done(1)
    assert pool.core.arena.used_bytes > 0, "the worker has preallocated memory"
    nbytes = 5000  # not a multiple of the page size
    pool.submit(2)
    assert pool.estimate(2, nbytes, estimate=estimate(LIMIT - DEFAULT_WORKER_NBYTES * 2 - nbytes)) == []
    pool.submit(3)
    room = LIMIT - pool.core.budget.workers_bytes
    assert pool.estimate(3, nbytes, estimate=estimate(room - nbytes)) == []
    block = pool.source(3, nbytes)
    assert sent(pool.prepare(3, block)) == [3]


def test_a_caller_that_holds_a_result_while_its_next_task_needs_the_whole_budget_does_not_deadlock() -> None:
    pool = pool_of(1)
    pool.input(89, 20 * MIB)  # a buffer, or a result that its caller keeps
    pool.submit(1)
    pool.estimate(1, 300 * MIB)
    commands = pool.request_source(1, 300 * MIB)
    assert len(reservations(commands)) == 1


def test_a_task_without_an_estimate_gets_its_result_memory() -> None:
    pool = pool_of(1)
    pool.submit(1)
    pool.estimate(1, 100 * MIB)
    block = pool.source(1, 100 * MIB)
    pool.prepare(1, block)
    assert pool.core.budget.room_bytes < 110 * MIB
    assert pool.granted(1, 110 * MIB).nbytes == 110 * MIB
    assert total(pool) <= LIMIT


def test_the_room_that_a_grant_leaves_goes_to_a_waiting_task() -> None:
    """A grant from the task's own charge releases the part that was charged too much."""
    pool = pool_of(2)
    pool.submit(2)
    pool.estimate(2, 380 * MIB)
    block = pool.source(2, 380 * MIB)
    pool.resize(6)
    pool.spawned()
    assert sent(pool.run(1)) == [1]
    assert sent(pool.prepare(2, block)) == []
    for slot in (4, 5):
        assert sent(pool.exited(slot)) == []
    assert sent(pool.need(1, PAGE, pool.slot_of(1))) == [2]


def test_a_task_that_fits_exactly_gets_its_result_memory_beside_the_rounding_of_pages() -> None:
    pool = pool_of(1)
    nbytes, output = 5000, 10 * MIB + 1
    pool.submit(1)
    assert (
        pool.estimate(1, nbytes, estimate=estimate(LIMIT - DEFAULT_WORKER_NBYTES - nbytes - output, output_bytes=output)) == []
    )
    block = pool.source(1, nbytes)
    pool.prepare(1, block, estimate=estimate(LIMIT - DEFAULT_WORKER_NBYTES - nbytes - output, output_bytes=output))
    assert pool.granted(1, output).nbytes == 10 * MIB + PAGE
    assert total(pool) <= LIMIT


def test_if_all_running_tasks_wait_for_results_larger_than_estimated_no_task_is_refused_for_estimates() -> None:
    pool = pool_of(2)
    for task_id in (1, 2):
        pool.run(task_id, estimate=estimate(224 * MIB))
    assert pool.core.budget.room_bytes == 0
    assert of_type(pool.need(1, MIB, pool.slot_of(1)), Send) == [], "the other task may release the missing memory"
    commands = pool.need(2, MIB, pool.slot_of(2))
    assert len(reservations(commands)) == 1
    assert of_type(commands, Send) == []
    assert total(pool) <= LIMIT


def test_a_request_for_memory_that_does_not_exist_is_refused() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=estimate(10 * MIB))
    commands = pool.need(1, LIMIT)
    assert only(of_type(commands, Send)).message == Grant(1, None)


def test_result_memory_that_the_system_refused_is_charged_again_until_it_is_granted() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=estimate(100 * MIB, output_bytes=50 * MIB))
    pool.run(2, estimate=estimate(10 * MIB))
    held = pool.input(91, MIB)
    reservation = only(reservations(pool.need(1, 50 * MIB, pool.slot_of(1))))
    assert pool.core.budget.running_bytes == 110 * MIB
    pool.refused(reservation)
    assert pool.core.budget.running_bytes == 160 * MIB
    pool.give_back(held)


def test_results_count_in_the_arena_as_long_as_their_callers_hold_them() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=estimate(100 * MIB, output_bytes=50 * MIB))
    assert pool.core.budget.running_bytes == 150 * MIB
    block = pool.granted(1, 50 * MIB)
    assert pool.core.budget.running_bytes == 100 * MIB
    assert total(pool) == DEFAULT_WORKER_NBYTES + 150 * MIB
    pool.done(1, output=in_outbox(block, 50 * MIB), private_bytes=DEFAULT_WORKER_NBYTES)
    assert (pool.core.budget.running_bytes, pool.core.budget.room_bytes) == (0, LIMIT - DEFAULT_WORKER_NBYTES - 50 * MIB)
    pool.give_back(block)
    assert pool.core.budget.room_bytes == LIMIT - DEFAULT_WORKER_NBYTES


def test_a_death_removes_the_task_and_the_worker_from_the_sum() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=estimate(100 * MIB))
    pool.exited()
    assert (pool.core.budget.running, pool.core.budget.running_bytes, pool.core.budget.workers_bytes) == (0, 0, 0)


def test_a_task_that_is_run_again_is_charged_in_full_again() -> None:
    pool = pool_of(1)
    pool.run(1, estimate=estimate(100 * MIB, output_bytes=50 * MIB), retries=1)
    pool.granted(1, 50 * MIB)
    pool.exited()
    assert sent(pool.ready()) == [1]
    assert pool.core.budget.running_bytes == 150 * MIB


@pytest.mark.parametrize("when", ["estimated", "placed", "waiting", "running"])
def test_a_cancelled_task_is_removed_from_the_sums(when: str) -> None:
    pool = pool_of(1)
    said = estimate(200 * MIB, output_bytes=MIB)
    if when == "waiting":
        pool.run(9)
    pool.submit(1)
    pool.estimate(1, 10 * MIB, estimate=said)
    if when != "estimated":
        block = pool.source(1, 10 * MIB)
        if when != "placed":
            pool.prepare(1, block, estimate=said)
    commands = pool.cancel(1) + pool.handle(StagingFailed(1, None))
    if when == "running":
        commands += pool.done(1)
    assert outcome_of(commands, 1) is None
    if when == "waiting":
        pool.done(9)
    budget = pool.core.budget
    assert (budget.running, budget.running_bytes, budget.headroom_for_admitted(0), pool.core.queue.nbytes) == (0, 0, 0, 0)
    assert pool.core.arena.used_bytes == 0


def test_a_retried_task_that_does_not_fit_beside_others_is_not_overtaken_for_ever() -> None:
    pool = pool_of(3)
    for task_id in (91, 92, 93):
        pool.run(task_id)
    for task_id in (91, 92, 93):
        pool.done(task_id, pool.slot_of(task_id), private_bytes=DEFAULT_WORKER_NBYTES)
    pool.run(1, estimate=estimate(300 * MIB, work_s=1.0), retries=1)
    slot = pool.slot_of(1)
    pool.run(2, estimate=estimate(100 * MIB, work_s=1.0))
    pool.exited(slot)
    pool.run(3, estimate=estimate(100 * MIB, work_s=1.0))
    assert sent(pool.ready(slot)) == [], "the task does not fit beside the two running tasks"
    for task_id in range(4, 40):
        pool.run(task_id, estimate=estimate(100 * MIB, work_s=1.0))
    order: list[int] = []
    for second in range(1, 8):
        pool.at(second)
        for each in [s.index for s in pool.core.worker_table if s.task is not None]:
            task = pool.core.worker_table[each].task
            assert task is not None
            order += sent(pool.done(task.task_id, each, private_bytes=DEFAULT_WORKER_NBYTES))
    assert 1 in order[:4]


def test_a_single_source_may_be_as_large_as_an_empty_inbox() -> None:
    pool = pool_of(1)
    assert len(of_type(pool.request(90, 384 * MIB), ReservePages)) == 1
    assert len(of_type(pool.request(91, 384 * MIB + 1), RefuseInput)) == 1


def test_a_source_that_fits_only_without_idle_workers_is_refused_with_numbers() -> None:
    pool = pool_of(8)
    error = only(of_type(pool.request(90, 300 * MIB), RefuseInput)).error
    assert isinstance(error, MemoryLimitExceeded)
    assert f"{LIMIT - 8 * DEFAULT_WORKER_NBYTES:,}" in str(error)
    assert not error.is_temporary


def test_a_source_behind_a_large_one_is_staged_after_the_running_task() -> None:
    pool = pool_of(2)
    pool.run(1, estimate=estimate(300 * MIB))
    assert of_type(pool.request(90, 200 * MIB) + pool.request(91, 50 * MIB), ReservePages) == []
    moves = reservations(pool.done(1, pool.slot_of(1)))
    assert [each.block.nbytes for each in moves] == [200 * MIB, 50 * MIB]
    assert len(of_type([c for each in moves for c in pool.reserved(each)], ProvideInput)) == 2


def test_the_estimate_for_an_empty_source_is_the_default() -> None:
    pool = pool_of(1)
    pool.run(1)
    assert pool.core.budget.running_bytes == DEFAULT_PEAK_BYTES


def test_workers_that_have_grown_are_replaced_while_small_tasks_run() -> None:
    pool = pool_of()
    for task_id in (1, 2):
        pool.run(task_id, estimate=estimate(MIB))
    for task_id in (1, 2):
        pool.done(task_id, pool.slot_of(task_id), private_bytes=LIMIT // 2)
    assert pool.core.budget.workers_bytes >= LIMIT, "there is no room for a task"
    assert [slot.recycling is not None for slot in pool.core.worker_table][:2] == [True, True]
    assert sent(pool.run(3, estimate=estimate(32 * MIB))) == [3]
