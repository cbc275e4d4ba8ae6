"""Outputs that a task hands over before its end: delivery, credit, time limits, forgeries, and what a crash leaves."""

from __future__ import annotations

from typing import Any

import pytest

from offloop import StreamAbandoned, TaskFailed, TaskTimeout, WorkerDied
from offloop.core.model.blocks import Block
from offloop.core.model.commands import Command, DeliverOutput, KillWorker, Send, SettleTask
from offloop.core.model.events import BlocksReturned, CreditGranted
from offloop.core.model.task import Completed, FailedOutput, StreamLimits
from offloop.core.model.worker_state import WorkerState
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Cancel, Credit, Done, Output, OutputFailed

from .pool_script import MIB, PoolScript, in_outbox, of_type, only, outcome_of, runs

ALL_SENT = Done(1, None, {}, 1, 2)


def output(place: EncodedAt, name: str = "frame") -> Output:
    return Output(1, name, place, {"index": 7}, 1, 2)


def streaming(credit: int = 2, **more: Any) -> PoolScript:
    """A pool of one worker, whose task 1 may hand over outputs before its end."""
    pool = PoolScript().opened()
    run = only(runs(pool.run(1, credit=credit, **more))).message
    assert run.credit == credit
    return pool


def hand_over(pool: PoolScript, nbytes: int = 5000) -> tuple[Block, list[Command]]:
    """The worker requests a block and hands it over."""
    block = pool.granted(1, nbytes)
    return block, pool.report(0, output(in_outbox(block, nbytes)))


def test_an_output_is_delivered_at_once_and_belongs_to_the_caller() -> None:
    pool = streaming()
    block, commands = hand_over(pool)
    delivered = only(of_type(commands, DeliverOutput))
    assert (delivered.task_id, delivered.output.name, delivered.output.info) == (1, "frame", {"index": 7})
    assert delivered.output.block is block
    assert (pool.statistics.leases["caller"], pool.statistics.leases["worker"]) == (1, 0)
    assert pool.state() is WorkerState.BUSY


def test_the_end_of_the_task_leaves_its_outputs_to_the_caller() -> None:
    pool = streaming()
    block, _ = hand_over(pool)
    commands = pool.report(0, ALL_SENT)
    assert commands[0] == SettleTask(1, Completed(None))
    assert pool.core.arena.get(block.generation) is block
    pool.handle(BlocksReturned((block.generation,)))
    assert pool.core.arena.get(block.generation) is None


def test_the_last_output_may_come_with_the_end() -> None:
    pool = streaming()
    hand_over(pool)
    last = pool.granted(1, 6000)
    outcome = outcome_of(pool.done(1, output=in_outbox(last, 6000)), 1)
    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert outcome.output.block is last


def test_an_output_without_bytes_has_no_block() -> None:
    pool = streaming()
    delivered = only(of_type(pool.report(0, output(EncodedAt(None))), DeliverOutput))
    assert delivered.output.block is None


def test_credit_reaches_the_worker_and_never_shrinks() -> None:
    pool = streaming(credit=1)
    assert of_type(pool.handle(CreditGranted(1, 3)), Send) == [Send(0, Credit(1, 3))]
    assert pool.handle(CreditGranted(1, 2)) == []
    for _ in range(3):
        hand_over(pool)
    assert pool.state() is WorkerState.BUSY


def test_credit_brings_the_memory_of_the_next_outputs() -> None:
    pool = streaming(credit=2)
    blocks = [hand_over(pool)[0] for _ in range(2)]
    pool.give_back(*blocks)
    credit = only(of_type(pool.handle(CreditGranted(1, 4)), Send)).message
    assert [grant.nbytes for grant in credit.grants] == [5000, 5000]
    granted = [pool.core.arena.get(grant.generation) for grant in credit.grants]
    for block in granted:
        assert block is not None
        assert only(of_type(pool.report(0, output(in_outbox(block, 5000))), DeliverOutput)).output.block is block
    pool.report(0, ALL_SENT)
    assert pool.statistics.leases["worker"] == 0


@pytest.mark.parametrize("dies", [False, True])
def test_memory_in_advance_is_returned_when_the_task_ends_or_its_worker_dies(dies: bool) -> None:
    pool = streaming(credit=1)
    pool.give_back(hand_over(pool)[0])
    grant = only(only(of_type(pool.handle(CreditGranted(1, 2)), Send)).message.grants)
    assert pool.statistics.leases["worker"] == 1
    if dies:
        pool.exited()
    else:
        pool.report(0, ALL_SENT)
    assert pool.statistics.leases["worker"] == 0
    assert pool.core.arena.get(grant.generation) is None


def test_credit_brings_no_memory_while_a_request_waits_for_memory() -> None:
    pool = streaming(credit=1)
    pool.give_back(hand_over(pool)[0])
    pool.input(1, 3 * MIB)
    assert pool.request(2, MIB) == []
    assert only(of_type(pool.handle(CreditGranted(1, 2)), Send)).message.grants == []


def test_credit_brings_no_memory_before_the_task_has_requested_any() -> None:
    pool = streaming(credit=1)
    assert only(of_type(pool.handle(CreditGranted(1, 2)), Send)).message.grants == []


def test_credit_for_a_waiting_task_goes_with_its_run() -> None:
    pool = PoolScript().opened()
    pool.run(9)
    pool.run(1, credit=1)
    assert pool.handle(CreditGranted(1, 4)) == []
    assert only(runs(pool.done(9))).message.credit == 4


def test_credit_for_a_task_that_has_ended_is_ignored() -> None:
    pool = streaming()
    pool.report(0, ALL_SENT)
    assert pool.handle(CreditGranted(1, 9)) == []


FORGERIES = {
    "beyond the credit": (0, output(EncodedAt(None))),
    "of another task": (2, Output(5, "", EncodedAt(None), {}, 1, 2)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_worker_that_hands_over_an_output_out_of_turn_is_killed(forgery: str) -> None:
    credit, message = FORGERIES[forgery]
    pool = streaming(credit)
    assert KillWorker(0) in pool.report(0, message)
    assert isinstance(outcome_of(pool.exited(), 1), WorkerDied)


def test_a_block_that_was_handed_over_cannot_be_handed_over_again() -> None:
    pool = streaming()
    block, _ = hand_over(pool)
    assert KillWorker(0) in pool.report(0, output(in_outbox(block, 5000)))


def test_an_output_during_a_memory_request_is_a_violation() -> None:
    pool = streaming()
    pool.need(1, 5000)
    assert KillWorker(0) in pool.report(0, output(EncodedAt(None)))


def test_a_task_without_credit_cannot_end_without_an_output() -> None:
    pool = streaming(credit=0)
    assert KillWorker(0) in pool.report(0, ALL_SENT)


def test_the_output_of_a_task_that_was_told_to_stop_is_dropped() -> None:
    pool = streaming()
    block = pool.granted(1, 5000)
    assert of_type(pool.cancel(1), Send) == [Send(0, Cancel(1))]
    assert pool.report(0, output(in_outbox(block, 5000))) == []
    assert pool.core.arena.get(block.generation) is None
    assert outcome_of(pool.failed(1, code="cancelled"), 1) is None


def test_outputs_that_were_unread_when_the_worker_died_are_delivered_before_the_error() -> None:
    pool = streaming()
    hand_over(pool)
    block = pool.granted(1, 5000)
    commands = pool.exited(last_words=(output(in_outbox(block, 5000)),))
    kinds = [type(command) for command in commands if isinstance(command, DeliverOutput | SettleTask)]
    assert kinds == [DeliverOutput, SettleTask]
    assert isinstance(outcome_of(commands, 1), WorkerDied)
    assert pool.statistics.leases["caller"] == 2


def test_a_task_that_has_handed_over_an_output_is_not_retried() -> None:
    pool = streaming(retries=5)
    hand_over(pool)
    assert isinstance(outcome_of(pool.exited(), 1), WorkerDied)
    assert pool.statistics.retried == 0


def test_a_task_that_has_handed_over_nothing_is_retried_with_its_credit() -> None:
    pool = streaming(retries=1)
    pool.handle(CreditGranted(1, 6))
    pool.exited()
    assert only(runs(pool.ready())).message.credit == 6


# Previews


def test_a_task_with_previews_is_retried_and_hands_them_over_again() -> None:
    pool = streaming(credit=1, previews=1, retries=1)
    hand_over(pool)
    assert pool.exited() != []
    assert pool.statistics.retried == 1
    run = only(runs(pool.ready())).message
    assert (run.credit, run.previews) == (1, 1)
    _, commands = hand_over(pool)
    assert of_type(commands, DeliverOutput)


def test_a_task_with_previews_cannot_end_without_a_result() -> None:
    pool = streaming(credit=1, previews=1)
    hand_over(pool)
    assert KillWorker(0) in pool.report(0, ALL_SENT)


def test_a_second_preview_is_a_violation() -> None:
    pool = streaming(credit=1, previews=1)
    hand_over(pool)
    assert KillWorker(0) in pool.report(0, output(EncodedAt(None)))


def test_the_preview_of_a_pipeline_has_its_name_and_comes_before_its_end() -> None:
    pool = streaming(credit=3, previews=1, pipelines={"a": 1, "b": 1})
    assert of_type(pool.report(0, output(EncodedAt(None), "b")), DeliverOutput)
    pool.report(0, finish("a"))
    assert KillWorker(0) in pool.report(0, output(EncodedAt(None), "a"))


def test_a_task_whose_pipelines_have_only_previews_is_retried() -> None:
    for ended, retried in ((False, 1), (True, 0)):
        pool = streaming(credit=3, previews=1, pipelines={"a": 1, "b": 1}, retries=1)
        pool.report(0, output(EncodedAt(None), "b"))
        if ended:
            pool.report(0, finish("a"))
        pool.exited()
        assert pool.statistics.retried == retried


# Time limits of outputs


def test_each_output_has_its_own_time_limit() -> None:
    pool = streaming(credit=9, stream=StreamLimits(5.0, None))
    pool.at(4.0)
    hand_over(pool)
    assert pool.at(8.9) == []
    outcome = outcome_of([*pool.at(9.1), *pool.failed(1, code="cancelled")], 1)
    assert isinstance(outcome, TaskTimeout)
    assert outcome.timeout_s == 5.0


def test_the_time_limit_of_an_output_begins_when_there_is_credit_for_it() -> None:
    pool = streaming(credit=1, stream=StreamLimits(5.0, None))
    hand_over(pool)
    pool.at(100.0)
    assert pool.state() is WorkerState.BUSY
    pool.handle(CreditGranted(1, 2))
    pool.at(104.9)
    assert pool.state() is WorkerState.BUSY
    pool.at(105.1)
    assert pool.state() is WorkerState.TIMED_OUT


def test_memory_that_comes_before_credit_does_not_start_the_time_limit() -> None:
    pool = streaming(credit=1, stream=StreamLimits(5.0, None))
    hand_over(pool)
    pool.granted(1, 5000)
    pool.at(100.0)
    assert pool.state() is WorkerState.BUSY


def test_a_reader_that_leaves_a_stream_without_credit_for_too_long_ends_it() -> None:
    pool = streaming(credit=1, stream=StreamLimits(None, 60.0))
    hand_over(pool)
    pool.at(59.9)
    assert pool.state() is WorkerState.BUSY
    commands = [*pool.at(60.1), *pool.failed(1, code="cancelled")]
    assert isinstance(outcome_of(commands, 1), StreamAbandoned)


def test_credit_ends_the_time_limit_of_an_idle_reader() -> None:
    pool = streaming(credit=1, stream=StreamLimits(None, 60.0))
    hand_over(pool)
    pool.handle(CreditGranted(1, 2))
    pool.at(1000.0)
    assert pool.state() is WorkerState.BUSY


def test_a_task_may_request_memory_for_any_number_of_outputs() -> None:
    pool = streaming(credit=100_000)
    assert pool.core.task_table.get(1) is not None
    for _ in range(3):
        block = pool.granted(1, 4096)
        for _ in range(4_000):
            pool.need(1, 1 << 40)  # refused at once, because it is larger than the pool
        pool.report(0, output(in_outbox(block, 4096)))
    assert pool.state() is WorkerState.BUSY


def test_a_failure_after_outputs_is_the_outcome() -> None:
    pool = streaming()
    hand_over(pool)
    assert isinstance(outcome_of(pool.failed(1), 1), TaskFailed)


def test_frames_do_not_use_up_the_charge_of_a_task_without_an_estimate() -> None:
    pool = PoolScript(budget_bytes=64 << 20, limit_bytes=32 << 20, inbox_nbytes=8 << 20).opened().spawned()
    pool.run(1, credit=9)
    task = pool.core.task_table.get(1)
    assert task is not None
    hand_over(pool, 1 << 20)
    charged = task.charged_bytes
    for _ in range(3):
        hand_over(pool, 1 << 20)
    assert task.charged_bytes == charged


# Named pipelines


def named(pipelines: dict[str, int]) -> PoolScript:
    return streaming(credit=len(pipelines), pipelines=pipelines)


def finish(name: str) -> Output:
    return Output(1, name, EncodedAt(None), {}, 1, 2, last=True)


def fail(name: str) -> OutputFailed:
    return OutputFailed(1, name, "refused", "because", None)


def test_pipelines_end_in_any_order_with_a_result_or_a_failure() -> None:
    pool = named({"a": 1, "b": 2})
    failed = only(of_type(pool.report(0, fail("b")), DeliverOutput)).output
    assert isinstance(failed, FailedOutput)
    assert (failed.name, str(failed.error)) == ("b", "[refused] because")
    done = only(of_type(pool.report(0, finish("a")), DeliverOutput)).output
    assert (done.name, done.last) == ("a", True)
    assert isinstance(outcome_of(pool.report(0, ALL_SENT), 1), Completed)


@pytest.mark.parametrize(
    "messages",
    [[finish("c")], [finish("a"), finish("a")], [finish("a"), fail("a")], [fail("")], [ALL_SENT], [finish("a"), ALL_SENT]],
    ids=["unknown", "twice", "twice, failed", "no name", "none ended", "one is missing"],
)
def test_a_worker_that_ends_pipelines_wrongly_is_killed(messages: list[Output | OutputFailed | Done]) -> None:
    pool = named({"a": 1, "b": 2})
    *before, last = messages
    for message in before:
        assert KillWorker(0) not in pool.report(0, message)
    assert KillWorker(0) in pool.report(0, last)
