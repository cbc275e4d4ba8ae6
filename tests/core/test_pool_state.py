"""`PoolState`: a task's way from submission to outcome, its queue and its time limits; events in, exact commands out."""

from __future__ import annotations

from math import inf

import pytest

from offloop.core.model.blocks import Holder, Lease
from offloop.core.model.commands import (
    AnnounceOpening,
    KillWorker,
    OpenOutput,
    ReservePages,
    RestageSource,
    Send,
    SendFile,
    SettleTask,
)
from offloop.core.model.events import OutputOpened, StagingFailed
from offloop.core.model.settings import FIRST_GRANT_NBYTES
from offloop.core.model.task import Completed, TaskOutput
from offloop.core.model.task_state import TaskState
from offloop.core.model.worker_state import WorkerState
from offloop.errors import MemoryLimitExceeded, QueueFull, QueueTimeout, TaskFailed, TaskTimeout
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, WrittenTo
from offloop.wire.messages import Cancel, File, NeedFile, Run
from offloop.wire.status import Status

from .pool_script import GRACE_S, MIB, STAGES, PoolScript, in_outbox, of_type, only, outcome_of, runs, sent_run, started


def test_entering_starts_every_worker_and_opens_when_the_last_is_ready() -> None:
    pool = PoolScript(2)
    assert pool.start() == [started(0, 1), started(1, 2)]
    assert of_type(pool.ready(1), AnnounceOpening) == []
    assert of_type(pool.ready(0), AnnounceOpening) == [AnnounceOpening(None)]
    assert pool.statistics.workers == {"idle": 2}


def test_a_task_is_sent_to_an_idle_worker_and_settled_by_its_answer() -> None:
    pool = PoolScript().opened()
    assert pool.submit(1) == []
    assert (pool.core.task_table.counts.preparing, pool.statistics.waiting, pool.statistics.running) == (1, 1, 0)
    assert pool.prepare(1) == [sent_run(1)]
    assert pool.state() is WorkerState.BUSY
    assert pool.done(1) == [SettleTask(1, Completed(TaskOutput(EncodedAt(None), None, {}, 1, 2)))]
    assert pool.state() is WorkerState.IDLE
    assert pool.statistics.completed == 1


def test_a_source_is_held_until_its_task_has_its_outcome() -> None:
    pool = PoolScript().opened()
    source = pool.input(10, 100)
    (command,) = pool.run(1, source, nbytes=100)
    assert command == Send(0, Run(1, (EncodedAt(Handle(INBOX, 0, 100, source.generation)),), STAGES, None))
    pool.give_back(source)
    assert pool.core.arena.get(source.generation) is source, "the worker reads the source"
    pool.done(1)
    assert pool.core.arena.get(source.generation) is None


def test_a_free_worker_gets_the_oldest_waiting_task() -> None:
    pool = PoolScript().opened()
    assert pool.run(1) == [sent_run(1)]
    assert pool.run(2) == pool.run(3) == []
    assert pool.statistics.waiting == 2
    assert pool.done(1)[1:] == [sent_run(2)]
    assert pool.failed(2)[1:] == [sent_run(3)]
    assert pool.done(3)[1:] == []


def test_tasks_from_before_the_first_ready_worker_are_dispatched_to_it() -> None:
    pool = PoolScript()
    pool.start()
    assert pool.run(1) == []
    assert pool.ready()[:1] == [AnnounceOpening(None)]
    assert pool.core.worker_table[0].task is not None


def test_every_idle_worker_gets_one_task_and_no_more() -> None:
    pool = PoolScript(2).opened()
    sends = pool.run(1) + pool.run(2) + pool.run(3)
    assert {command.slot for command in of_type(sends, Send)} == {0, 1}
    assert (pool.statistics.running, pool.statistics.waiting) == (2, 1)


def test_a_failure_reaches_the_caller_and_the_worker_stays() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    (settled,) = pool.failed(1, code="corrupt_source", message="bad")
    assert isinstance(settled, SettleTask)
    assert isinstance(settled.outcome, TaskFailed)
    assert (settled.outcome.code, pool.state(), pool.statistics.failed) == ("corrupt_source", WorkerState.IDLE, 1)


def test_a_source_that_could_not_be_prepared_settles_the_task() -> None:
    pool = PoolScript().opened()
    pool.submit(1)
    error = MemoryLimitExceeded(2, 1)
    assert pool.handle(StagingFailed(1, error)) == [SettleTask(1, error)]
    assert pool.handle(StagingFailed(1, error)) == []
    assert pool.statistics.refused == 1


def test_a_file_that_the_worker_wrote_is_the_result() -> None:
    pool = PoolScript().opened()
    (command,) = pool.run(1, to_file=True)
    assert command == Send(0, Run(1, (EncodedAt(None),), STAGES, None, to_file=True))
    assert pool.report(0, NeedFile(1)) == [OpenOutput(0, 1, dispatch=1)]
    assert pool.handle(OutputOpened(0, 1, dispatch=1)) == [SendFile(0, 1, dispatch=1)]
    outcome = outcome_of(pool.done(1, output=WrittenTo(99)), 1)
    assert outcome == Completed(TaskOutput(WrittenTo(99), None, {}, 1, 2))


def test_a_file_that_cannot_be_opened_settles_the_task_with_the_servers_error() -> None:
    pool, error = PoolScript().opened(), TaskFailed("cannot_write", "'/full/x': No space left on device")
    pool.run(1, to_file=True)
    pool.report(0, NeedFile(1))
    assert pool.handle(OutputOpened(0, 1, 1, error)) == [Send(0, File(1, opened=False))]
    assert outcome_of(pool.failed(1, code="cannot_write", message="the file cannot be opened"), 1) is error


def test_a_descriptor_that_cannot_be_passed_is_reported_after_the_file_was_opened() -> None:
    pool, error = PoolScript().opened(), TaskFailed("cannot_write", "too many references")
    pool.run(1, to_file=True)
    pool.report(0, NeedFile(1))
    assert pool.handle(OutputOpened(0, 1, 1), OutputOpened(0, 1, 1, error)) == [
        SendFile(0, 1, 1),
        Send(0, File(1, opened=False)),
    ]


@pytest.mark.parametrize("to_file", [False, True], ids=["without a file", "twice"])
def test_a_worker_that_asks_for_a_file_out_of_turn_is_killed(to_file: bool) -> None:
    pool = PoolScript().opened()
    pool.run(1, to_file=to_file)
    if to_file:
        pool.report(0, NeedFile(1))
    assert pool.report(0, NeedFile(1)) == [KillWorker(0)]


def test_a_worker_that_asks_for_the_file_of_another_task_or_while_it_waits_for_memory_is_killed() -> None:
    for request in (NeedFile(2), NeedFile(1)):
        pool = PoolScript().opened()
        pool.run(1, to_file=True)
        if request.task_id == 1:
            pool.need(1, 100)
        assert pool.report(0, request) == [KillWorker(0)]


def test_a_file_that_was_opened_for_a_task_that_is_over_or_stopped_is_not_sent() -> None:
    for end in ("cancelled", "answered", "died and tried again"):
        pool = PoolScript().opened()
        pool.run(1, to_file=True, retries=1)
        pool.report(0, NeedFile(1))
        match end:
            case "cancelled":
                pool.cancel(1)
            case "answered":
                pool.failed(1)
            case _:
                pool.exited()
                assert runs(pool.ready()) != []
        assert pool.handle(OutputOpened(0, 1, dispatch=1)) == [], end
    assert pool.report(0, NeedFile(1)) == [OpenOutput(0, 1, dispatch=2)]
    assert pool.handle(OutputOpened(0, 1, dispatch=2)) == [SendFile(0, 1, dispatch=2)]


# Preallocated grants


def test_a_task_is_sent_with_a_first_grant_if_its_pages_are_reserved() -> None:
    pool = PoolScript().opened(pages=True)
    (command,) = pool.run(1)
    preallocated = pool.core.worker_table[0].preallocated_block
    assert preallocated is not None
    assert command == sent_run(1, grant=Handle(OUTBOX, preallocated.offset, FIRST_GRANT_NBYTES, preallocated.generation))
    assert pool.statistics.leases["preallocated"] == 1


def test_an_unused_first_grant_stays_with_the_worker_and_is_not_sent_again() -> None:
    pool = PoolScript().opened(pages=True)
    pool.run(1)
    preallocated = pool.core.worker_table[0].preallocated_block
    pool.done(1)
    assert pool.run(2) == [sent_run(2)]
    assert pool.core.worker_table[0].preallocated_block is preallocated
    assert pool.statistics.leases["preallocated"] == 1


def test_a_result_in_preallocated_memory_goes_to_the_caller_and_the_next_task_gets_new_memory() -> None:
    pool = PoolScript().opened(pages=True)
    pool.run(1)
    preallocated = pool.core.worker_table[0].preallocated_block
    assert preallocated is not None
    outcome = outcome_of(pool.done(1, output=in_outbox(preallocated, 5000)), 1)
    assert outcome.output is not None
    assert outcome.output.block is preallocated
    assert preallocated.nbytes == 8192, "the rest of the block is free again"
    assert {holder: n for holder, n in pool.statistics.leases.items() if n} == {"caller": 1}
    command, fetch = pool.run(2)
    assert isinstance(command, Send)
    assert isinstance(command.message, Run)
    assert command.message.grant is None, "there are no 256 KiB of reserved pages, and the task does not wait for them"
    assert isinstance(fetch, ReservePages), "the pages are reserved for the next task"
    assert sum(span.end - span.start for span in fetch.reservation.to_reserve) == 8192
    pool.reserved(fetch.reservation)
    pool.done(2)
    (command,) = pool.run(3)
    assert isinstance(command, Send)
    assert isinstance(command.message, Run)
    assert command.message.grant is not None


# Limits of the queue


def test_with_no_queue_a_task_is_refused_when_every_worker_has_one() -> None:
    pool = PoolScript(2, max_queue=0).opened()
    assert pool.run(1)
    assert pool.run(2)
    error = outcome_of(pool.submit(3), 3)
    assert isinstance(error, QueueFull)
    assert (error.queued, error.max_queue) == (0, 0)
    pool.done(1, slot=pool_slot(pool, 1))
    assert of_type(pool.run(4), Send)


def pool_slot(pool: PoolScript, task_id: int) -> int:
    """Return the index of the slot that runs the task."""
    return only([slot.index for slot in pool.core.worker_table if slot.task and slot.task.task_id == task_id])


def test_a_queue_of_one_accepts_one_task_and_refuses_the_next() -> None:
    pool = PoolScript(max_queue=1).opened()
    assert of_type(pool.run(1), Send)
    assert pool.run(2) == []
    error = outcome_of(pool.submit(3), 3)
    assert isinstance(error, QueueFull)
    assert (error.queued, error.max_queue) == (1, 1)
    pool.cancel(2)
    assert pool.run(4) == []


def test_tasks_whose_source_is_being_staged_count_as_waiting() -> None:
    pool = PoolScript(max_queue=0).opened()
    assert pool.submit(1) == []
    assert isinstance(outcome_of(pool.submit(2), 2), QueueFull)


def test_without_a_limit_any_number_waits() -> None:
    pool = PoolScript().opened()
    assert [command for n in range(1, 200) for command in of_type(pool.run(n), SettleTask)] == []
    assert pool.statistics.waiting == 198


def test_a_refused_task_leaves_nothing_behind() -> None:
    pool = PoolScript(max_queue=0).opened()
    pool.run(1)
    pool.submit(2)
    assert pool.prepare(2) == []
    assert pool.cancel(2) == []
    assert (pool.statistics.refused, pool.statistics.waiting) == (1, 0)


# Queue timeouts


def test_a_task_that_waited_too_long_is_refused_and_never_runs() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2, queue_timeout_s=2.0)
    assert pool.core.wake_at == 2.0
    assert pool.at(1.9) == []
    error = outcome_of(pool.at(2.0), 2)
    assert isinstance(error, QueueTimeout)
    assert (error.queue_timeout_s, error.waiting_for) == (2.0, "a worker")
    assert of_type(pool.done(1), Send) == []
    assert pool.statistics.refused == 1


def test_many_tasks_that_waited_too_long_are_refused_in_portions_and_none_of_them_runs() -> None:
    pool = PoolScript().opened()
    pool.run(0)
    for number in range(1, 1001):
        pool.run(number, queue_timeout_s=2.0)
    refused = len(of_type(pool.at(2.0), SettleTask))
    assert 0 < refused <= 200, "at most 200 in one call, because the loop has other work"
    assert of_type(pool.done(0), Send) == []
    for _ in range(20):
        assert pool.core.wake_at <= 2.0 or not pool.statistics.waiting
        assert of_type(pool.at(2.0), Send) == []
    assert pool.statistics.refused == 1000
    assert pool.core.wake_at == inf


def test_a_task_that_ran_in_time_has_no_queue_deadline_any_more() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2, queue_timeout_s=2.0)
    assert of_type(pool.done(1), Send) == [sent_run(2)]
    assert pool.at(50.0) == []
    assert pool.core.wake_at == inf, "the runtime is not woken for a dispatched task"


def test_the_queue_deadline_counts_from_the_submission() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.submit(2)
    pool.clock.advance_to(1.5)
    pool.prepare(2, queue_timeout_s=2.0)
    assert isinstance(outcome_of(pool.at(2.0), 2), QueueTimeout)


# Timeouts


def test_a_task_without_a_timeout_has_no_timer() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    assert pool.core.worker_table[0].timer is None


def test_a_task_past_its_deadline_is_told_to_stop_and_obeys() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=5.0)
    assert pool.core.wake_at <= 5.0
    assert pool.at(4.9) == []
    assert pool.at(5.0) == [Send(0, Cancel(1))]
    assert pool.state() is WorkerState.TIMED_OUT
    assert pool.core.wake_at <= 5.0 + GRACE_S
    pool.clock.advance_to(5.5)
    outcome = outcome_of(pool.failed(1, code="cancelled"), 1)
    assert isinstance(outcome, TaskTimeout)
    assert (outcome.timeout_s, outcome.obeyed) == (5.0, True)
    assert (pool.state(), pool.statistics.worker_starts, pool.statistics.timed_out) == (WorkerState.IDLE, 1, 1)
    assert pool.at(50.0) == []


def test_a_result_after_the_deadline_is_freed() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=5.0)
    block = pool.granted(1, 5000)
    pool.at(5.0)
    assert isinstance(outcome_of(pool.done(1, output=in_outbox(block, 5000)), 1), TaskTimeout)
    assert pool.statistics.memory_used_bytes == 0


def test_the_worker_of_a_task_that_does_not_stop_is_killed_and_replaced() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=5.0)
    pool.at(5.0)
    assert pool.at(5.0 + GRACE_S - 0.1) == []
    assert pool.at(5.0 + GRACE_S) == [KillWorker(0)]
    assert pool.state() is WorkerState.FAILED
    assert pool.statistics.running == 1, "the worker may still write"
    settled, dropped, start = pool.exited(status=Status(1, 0, 0.5))
    outcome = outcome_of([settled], 1)
    assert isinstance(outcome, TaskTimeout)
    assert (outcome.obeyed, outcome.running) == (False, "faults (Noop) at 50%")
    assert type(dropped).__name__ == "DropOutbox"
    assert start == started(0, 2)
    assert (pool.state(), pool.statistics.timed_out, pool.statistics.worker_died) == (WorkerState.RESTARTING, 1, 0)


def test_a_deadline_counts_from_the_dispatch() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2, timeout_s=5.0)
    pool.clock.advance_to(100.0)
    pool.done(1)
    assert pool.at(104.9) == []
    assert pool.at(105.0) == [Send(0, Cancel(2))]


def test_one_workers_deadline_does_not_affect_the_others() -> None:
    pool = PoolScript(2).opened()
    pool.run(1, timeout_s=1.0)
    pool.run(2, timeout_s=9.0)
    slow = pool_slot(pool, 1)
    assert pool.at(1.0) == [Send(slow, Cancel(1))]
    assert pool.state(1 - slow) is WorkerState.BUSY


# Cancellation


def test_cancelling_a_task_that_is_being_prepared_settles_it() -> None:
    pool = PoolScript().opened()
    pool.submit(1)
    assert pool.cancel(1) == [SettleTask(1, None)]
    assert pool.prepare(1) == []
    assert (pool.statistics.cancelled, pool.statistics.waiting) == (1, 0)


def test_cancelling_a_waiting_task_removes_it_from_the_queue() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    source = pool.input(10, 100)
    pool.run(2, source)
    pool.give_back(source)
    assert pool.cancel(2) == [SettleTask(2, None)]
    assert pool.statistics.memory_used_bytes == 0
    assert of_type(pool.done(1), Send) == []


def test_cancelling_a_task_that_runs_tells_its_worker_to_stop() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    assert pool.cancel(1) == [Send(0, Cancel(1))]
    assert pool.state() is WorkerState.TIMED_OUT
    assert pool.cancel(1) == [], "the worker is told once"
    assert outcome_of(pool.failed(1, code="cancelled"), 1) is None
    assert (pool.state(), pool.statistics.cancelled) == (WorkerState.IDLE, 1)


def test_cancelling_a_task_that_does_not_stop_kills_its_worker() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.cancel(1)
    assert pool.at(GRACE_S) == [KillWorker(0)]
    assert outcome_of(pool.exited(), 1) is None
    assert pool.statistics.cancelled == 1


def test_cancelling_a_task_that_has_timed_out_changes_its_outcome_only() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=5.0)
    pool.at(5.0)
    assert pool.cancel(1) == []
    assert outcome_of(pool.done(1), 1) is None


def test_the_memory_of_a_cancelled_result_is_free() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    block = pool.granted(1, MIB)
    pool.cancel(1)
    assert outcome_of(pool.done(1, output=in_outbox(block, MIB)), 1) is None
    assert pool.statistics.memory_used_bytes == 0


def test_cancelling_a_settled_task_does_nothing() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.done(1)
    assert pool.cancel(1) == []
    assert pool.statistics.cancelled == 0


def test_cancelling_a_task_does_not_affect_the_others() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    pool.run(2)
    slot = pool_slot(pool, 1)
    pool.cancel(1)
    pool.at(GRACE_S)
    pool.exited(slot)
    assert outcome_of(pool.done(2, slot=1 - slot), 2) is not None


# Results as sources


def test_a_result_is_a_source_in_place_for_the_worker_that_made_it() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    maker = pool_slot(pool, 1)
    block = pool.granted(1, 5000, maker)
    pool.done(1, maker, output=in_outbox(block, 5000))
    command = only(of_type(pool.run(2, block, nbytes=5000, segment=OUTBOX, outbox_id=block.segment_id), Send))
    assert command.slot == maker


@pytest.mark.parametrize("obstacle", ["another task runs there", "another task waits", "its worker is dead"])
def test_a_result_whose_worker_is_not_free_is_copied_into_the_inbox(obstacle: str) -> None:
    pool = PoolScript(1).opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(block, 5000))
    if obstacle == "its worker is dead":
        pool.exited()
        pool.ready()
    else:
        pool.run(2)
    if obstacle == "another task waits":
        pool.run(3)
    commands = pool.run(9, block, nbytes=5000, segment=OUTBOX, outbox_id=block.segment_id)
    assert commands == [RestageSource(9)]
    assert pool.core.task_table.counts[TaskState.STAGING] == 1
    assert Lease(Holder.TASK, 9) not in block.leases, "the result has no lease but its caller's"
    pool.prepare(9, pool.input(1, 5000))
    assert pool.core.task_table.get(9) is not None


@pytest.mark.parametrize("workers", [1, 3])
def test_the_submitted_tasks_are_those_that_wait_run_or_have_ended(workers: int) -> None:
    pool = PoolScript(workers, max_queue=4).opened()
    for task_id in range(1, 11):
        pool.run(task_id, timeout_s=1.0)
    pool.cancel(2)
    pool.at(1.0)
    s = pool.statistics
    ended = s.completed + s.failed + s.timed_out + s.cancelled + s.worker_died + s.refused
    assert s.submitted == 10 == s.waiting + s.running + ended


def test_a_free_worker_does_not_get_a_task_after_its_queue_timeout() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2, queue_timeout_s=1.0)
    pool.clock.advance_to(1.5)  # no `TimePassed` was sent yet
    commands = pool.done(1)
    assert isinstance(outcome_of(commands, 2), QueueTimeout)
    assert of_type(commands, Send) == []
