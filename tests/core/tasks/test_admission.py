"""Admission in a whole pool: quarantine of content that kills workers, and refusal of tasks that are too many, late or long."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.core.model.blocks import Block
from offloop.core.model.commands import HashSource, SettleTask
from offloop.core.model.events import TaskSubmitted, WorkerDisconnected
from offloop.errors import PoolClosed, QueueFull, QueueTimeout, TaskQuarantined, TaskTimeout, WorkerDied
from offloop.wire.handles import INBOX, OUTBOX, Handle
from offloop.wire.messages import Failed
from offloop.wire.status import Status

from ..pool_script import GRACE_S, SPEC, PoolScript, estimate, in_outbox, of_type, outcome_of, reservations, runs

NOT_BEGUN = Status(0, 0, 0.0)


def handle_of(block: Block) -> Handle:
    return Handle(INBOX, block.offset, block.nbytes, block.generation)


def with_source(task_id: int = 1, *, retries: int = 0, **settings: Any) -> tuple[PoolScript, Block]:
    """A pool of one worker with a quarantine. The worker has just died of the task, whose source is being hashed."""
    pool = PoolScript(quarantine_after=settings.pop("quarantine_after", 3), **settings).opened()
    block = pool.input(90, 5000)
    pool.run(task_id, block, retries=retries)
    commands = pool.exited(exit_code=-11)
    assert of_type(commands, HashSource) == [HashSource(task_id, (handle_of(block),))]
    assert of_type(commands, SettleTask) == []
    return pool, block


def test_a_source_is_hashed_before_its_task_ends_and_is_leased_meanwhile() -> None:
    pool, block = with_source()
    pool.give_back(block)
    assert pool.core.arena.get(block.generation) is block
    assert isinstance(outcome_of(pool.hashed(1), 1), WorkerDied)
    assert pool.core.arena.get(block.generation) is None
    assert pool.statistics.quarantined == 1


def test_a_task_ends_even_if_its_source_could_not_be_read() -> None:
    pool, _ = with_source()
    assert isinstance(outcome_of(pool.hashed(1, None), 1), WorkerDied)
    assert pool.statistics.quarantined == 0


def test_a_retry_waits_until_its_source_is_hashed() -> None:
    pool, _ = with_source(retries=1)
    assert runs(pool.ready()) == []
    assert len(runs(pool.hashed(1))) == 1


def test_a_source_that_kills_several_times_is_hashed_once() -> None:
    pool, _ = with_source(retries=5)
    pool.hashed(1)
    pool.ready()
    second = pool.exited(exit_code=-11)
    pool.ready()
    third = pool.exited(exit_code=-11)
    assert of_type(second + third, HashSource) == []
    assert isinstance(outcome_of(third, 1), WorkerDied), "three strikes end the task although it has retries left"
    assert pool.statistics.retried == 2


def test_content_that_has_killed_too_often_is_refused_and_other_content_is_not() -> None:
    pool, block = with_source(quarantine_after=1)
    pool.hashed(1)
    pool.ready()
    assert pool.run(2, block) == [HashSource(2, (handle_of(block),))]
    assert isinstance(outcome_of(pool.hashed(2), 2), TaskQuarantined)
    pool.run(3, block)
    assert len(runs(pool.hashed(3, b"another"))) == 1


def test_a_result_of_a_worker_is_no_suspect_even_with_the_same_fingerprint() -> None:
    pool, block = with_source()
    pool.hashed(1)
    pool.ready()
    pool.run(2, pool.input(91, 20_000))
    result = pool.granted(2, block.nbytes)
    pool.done(2, output=in_outbox(result, block.nbytes))
    commands = pool.run(3, result, nbytes=block.nbytes, segment=OUTBOX, outbox_id=result.segment_id)
    assert len(runs(commands)) == 1


def test_content_that_did_no_harm_is_cleared() -> None:
    pool, block = with_source()
    pool.hashed(1)
    pool.ready()
    pool.run(2, block)
    pool.hashed(2)
    assert pool.statistics.quarantined == 1
    pool.done(2)
    assert pool.statistics.quarantined == 0
    assert len(runs(pool.run(3, block))) == 1, "the source is not hashed any more"


def test_content_whose_task_was_stopped_is_not_cleared() -> None:
    pool, block = with_source()
    pool.hashed(1)
    pool.ready()
    pool.run(2, block)
    pool.hashed(2)
    pool.cancel(2)
    pool.done(2)
    assert pool.statistics.quarantined == 1


def test_a_task_without_a_source_can_be_quarantined() -> None:
    pool = PoolScript(quarantine_after=2).opened()
    for task_id in (1, 2):
        pool.run(task_id)
        assert isinstance(outcome_of(pool.exited(), task_id), WorkerDied)
        pool.ready()
    assert isinstance(outcome_of(pool.run(3), 3), TaskQuarantined)
    assert pool.statistics.refused == 1


def test_a_task_that_was_never_begun_is_no_strike() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    for task_id in (1, 2):
        pool.run(task_id)
        pool.exited(status=NOT_BEGUN)
        pool.ready()
        pool.done(task_id)
    assert pool.statistics.quarantined == 0


def test_a_worker_that_broke_the_protocol_is_a_strike() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1)
    pool.report(0, Failed(99, "a", "b", None, 1, 2))
    assert isinstance(outcome_of(pool.exited(), 1), WorkerDied)
    assert pool.statistics.quarantined == 1


# A strike belongs to the content, whether or not its caller waits


def test_a_strike_counts_although_the_caller_cancels_while_the_source_is_hashed() -> None:
    pool, block = with_source(quarantine_after=1)
    assert outcome_of(pool.cancel(1), 1) is None
    assert pool.hashed(1) == []
    assert pool.statistics.quarantined == 1
    pool.ready()
    pool.run(2, block)
    assert isinstance(outcome_of(pool.hashed(2), 2), TaskQuarantined)


@pytest.mark.parametrize("end", ["cancelled", "too late"])
def test_a_worker_that_dies_of_a_task_that_was_told_to_stop_is_a_strike(end: str) -> None:
    pool = PoolScript(quarantine_after=1).opened()
    block = pool.input(90, 5000)
    pool.run(1, block, timeout_s=1.0)
    pool.cancel(1) if end == "cancelled" else pool.at(1.0)
    pool.handle(WorkerDisconnected(0))
    commands = pool.exited(exit_code=-11)
    assert isinstance(outcome_of(commands, 1), TaskTimeout | None)
    assert of_type(commands, HashSource) == [HashSource(1, (handle_of(block),))]
    pool.give_back(block)
    assert pool.core.arena.get(block.generation) is block, "the block is leased while it is read"
    pool.hashed(1)
    assert pool.statistics.quarantined == 1
    assert pool.statistics.memory_used_bytes == 0


def test_a_worker_that_breaks_the_protocol_while_its_task_is_stopped_is_a_strike() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1)
    pool.cancel(1)
    pool.report(0, Failed(99, "a", "b", None, 1, 2))
    pool.exited()
    assert pool.statistics.quarantined == 1


def test_a_worker_that_had_to_be_killed_at_its_tasks_deadline_is_a_strike() -> None:
    pool = PoolScript(quarantine_after=2).opened()
    block = pool.input(90, 5000)
    for task_id in (1, 2):
        pool.run(task_id, block, timeout_s=1.0, retries=5)
        if task_id == 2:
            pool.hashed(2)
        pool.at(pool.clock() + 1.0)
        pool.at(pool.clock() + GRACE_S)
        outcome = outcome_of(pool.exited(), task_id)
        assert isinstance(outcome, TaskTimeout)
        assert not outcome.obeyed
        if task_id == 1:
            pool.hashed(1)
        pool.ready()
    pool.run(3, block)
    assert isinstance(outcome_of(pool.hashed(3), 3), TaskQuarantined)


def test_a_task_that_stops_at_its_deadline_when_told_to_is_no_strike() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    assert isinstance(outcome_of(pool.failed(1, code="cancelled"), 1), TaskTimeout)
    assert pool.statistics.quarantined == 0


def test_a_worker_that_was_killed_because_its_caller_cancelled_is_no_strike() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1)
    pool.cancel(1)
    pool.at(GRACE_S)
    assert outcome_of(pool.exited(), 1) is None
    assert pool.statistics.quarantined == 0


# While a source is being hashed


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_a_block_is_leased_until_its_hashing_ends_even_if_the_task_ends_before(end: str) -> None:
    pool, block = with_source()
    pool.give_back(block)
    commands = pool.cancel(1) if end == "cancelled" else pool.close()
    outcome = outcome_of(commands, 1)
    assert outcome is None if end == "cancelled" else isinstance(outcome, WorkerDied)
    assert pool.core.arena.get(block.generation) is block
    assert pool.statistics.leases["reader"] == 1
    assert of_type(pool.hashed(1), SettleTask) == []
    assert pool.core.arena.get(block.generation) is None
    assert pool.statistics.memory_used_bytes == 0


def test_a_block_that_is_being_hashed_is_not_allocated_again() -> None:
    pool, block = with_source()
    pool.give_back(block)
    pool.cancel(1)
    commands = pool.request(91, pool.core.settings.inbox_nbytes)
    assert commands == [], "the request waits"
    assert reservations(pool.hashed(1))


def test_a_new_task_whose_source_is_being_hashed_can_be_cancelled_or_closed() -> None:
    pool, block = with_source()
    pool.hashed(1)
    pool.ready()
    pool.run(2, block)
    pool.run(3, block)
    assert outcome_of(pool.cancel(2), 2) is None
    assert isinstance(outcome_of(pool.close(), 3), PoolClosed)
    assert pool.hashed(2) == pool.hashed(3) == []
    assert pool.statistics.leases["reader"] == 0


def test_a_pool_is_not_drained_before_the_sources_are_hashed() -> None:
    pool, _ = with_source()
    pool.drain()
    assert not pool.core.drained
    pool.hashed(1)
    assert pool.core.drained


# Tasks that are too many, too late or too long


def test_waiting_bytes_are_limited_and_sources_of_running_tasks_do_not_count() -> None:
    pool = PoolScript(1, max_queue_bytes=1000).opened()
    for task_id in (1, 2, 3):
        pool.submit(task_id)
    pool.estimate(1, 10_000)  # admitted because a worker is idle
    pool.prepare(1)
    assert pool.estimate(2, 1000) == []
    error = outcome_of(pool.estimate(3, 1), 3)
    assert isinstance(error, QueueFull)
    assert "1,000" in str(error)
    pool.prepare(2)
    pool.done(1)
    assert pool.statistics.waiting_bytes == 0


def test_a_task_whose_length_is_known_is_refused_before_its_source_is_read() -> None:
    pool = PoolScript(1, max_queue_bytes=1000).opened()
    pool.run(1)
    assert isinstance(outcome_of(pool.handle(TaskSubmitted(2, SPEC, 1001, staged=False)), 2), QueueFull)


def test_the_bytes_of_a_cancelled_task_are_not_counted() -> None:
    pool = PoolScript(1, max_queue_bytes=1000).opened()
    pool.run(1)
    pool.handle(TaskSubmitted(2, SPEC, 900, staged=False))
    pool.cancel(2)
    assert pool.handle(TaskSubmitted(3, SPEC, 900, staged=False)) == []
    assert pool.statistics.waiting_bytes == 900


def test_a_task_that_would_start_far_too_late_is_refused_at_once_with_both_times() -> None:
    pool = PoolScript(2).opened()
    for task_id in range(1, 7):
        pool.run(task_id, estimate=estimate(0, 0.15))
    pool.clock.advance_to(0.001)
    assert pool.run(7, estimate=estimate(0, 0.15), queue_timeout_s=0.16) == []
    pool.clock.advance_to(0.002)
    error = outcome_of(pool.run(8, estimate=estimate(0, 0.15), queue_timeout_s=0.16), 8)
    assert isinstance(error, QueueTimeout)
    assert "0.16" in str(error)


def test_a_task_that_may_still_start_in_time_waits_although_the_learned_cost_says_otherwise() -> None:
    pool = PoolScript(1).opened()
    for task_id in range(1, 7):
        pool.run(task_id, estimate=estimate(0, 0.15))
    assert pool.run(7, estimate=estimate(0, 0.15), queue_timeout_s=0.5) == []  # the expected 0.75 s may be wrong


def test_a_task_that_overtakes_waiting_tasks_is_not_too_late() -> None:
    pool = PoolScript(1).opened()
    for task_id in range(1, 5):
        pool.run(task_id, estimate=estimate(0, 1.0))
    assert pool.run(9, estimate=estimate(0, 0.001), queue_timeout_s=0.1) == []


def test_no_task_is_too_late_while_a_worker_is_idle() -> None:
    pool = PoolScript(1).opened()
    assert len(runs(pool.run(1, queue_timeout_s=0.0))) == 1


def test_a_large_task_is_not_refused_because_small_tasks_started_slowly() -> None:
    pool = PoolScript(1).opened()
    for task_id in (100, 101, 102):
        pool.run(task_id, estimate=estimate(0, 0.002))
        pool.clock.advance_to(pool.clock() + 0.2)  # because the machine was busy, for example
        pool.done(task_id)
    for task_id in (1, 2, 3):
        assert of_type(pool.run(task_id, estimate=estimate(0, 1.0), timeout_s=2.0), SettleTask) == []


def slow_kind(pool: PoolScript, times: int = 4) -> None:
    """Run `times` tasks of one kind, which take a hundred seconds each, as estimated."""
    for task_id in range(100, 100 + times):
        pool.run(task_id, estimate=estimate(0, 100.0))
        pool.clock.advance_to(pool.clock() + 100.0)
        pool.done(task_id)


def test_a_task_that_is_known_to_take_far_too_long_is_refused_except_for_one_trial_a_second() -> None:
    pool = PoolScript(1).opened()
    slow_kind(pool)
    assert len(runs(pool.run(1, estimate=estimate(0, 100.0), timeout_s=49.0))) == 1, "a trial"
    error = outcome_of(pool.run(2, estimate=estimate(0, 100.0), timeout_s=49.0), 2)
    assert isinstance(error, TaskTimeout)
    pool.clock.advance_to(pool.clock() + 0.99)
    assert isinstance(outcome_of(pool.run(3, estimate=estimate(0, 100.0), timeout_s=49.0), 3), TaskTimeout)
    pool.clock.advance_to(pool.clock() + 0.01)
    assert of_type(pool.run(4, estimate=estimate(0, 100.0), timeout_s=49.0), SettleTask) == []
    assert of_type(pool.run(5, estimate=estimate(0, 100.0), timeout_s=51.0), SettleTask) == [], (
        "the expected time is less than twice the timeout"
    )


def test_a_task_that_takes_too_long_only_by_its_estimate_is_admitted() -> None:
    pool = PoolScript(1).opened()
    slow_kind(pool, times=3)
    for task_id in (1, 2):
        assert of_type(pool.run(task_id, estimate=estimate(0, 100.0), timeout_s=1.0), SettleTask) == []
