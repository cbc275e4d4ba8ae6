"""Closing a `PoolState`, with its worker in each state: every task gets its outcome, and every worker ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offloop.core.model.commands import Command, KillWorker, RefuseInput, Send, SettleTask, StartWorker
from offloop.core.model.events import WorkerDisconnected
from offloop.core.model.task import Completed
from offloop.core.model.worker_state import WorkerState
from offloop.errors import PoolClosed, WorkerDied
from offloop.wire.messages import Cancel, Retire
from offloop.wire.status import Status

from .pool_script import GRACE_S, MIB, PoolScript, done, of_type, only, outcome_of, reservations


def starting() -> PoolScript:
    pool = PoolScript()
    pool.start()
    return pool


def idle() -> PoolScript:
    return PoolScript().opened(pages=True)


def busy() -> PoolScript:
    pool = idle()
    pool.run(1, timeout_s=5.0)
    return pool


def waiting_for_memory() -> PoolScript:
    pool = busy()
    pool.need(1, MIB)
    return pool


def timed_out() -> PoolScript:
    pool = busy()
    pool.at(5.0)
    return pool


def failed_with_a_task() -> PoolScript:
    pool = busy()
    pool.handle(WorkerDisconnected(0))
    return pool


def failed_while_idle() -> PoolScript:
    pool = idle()
    pool.handle(WorkerDisconnected(0))
    return pool


def restarting() -> PoolScript:
    pool = idle()
    pool.exited()
    return pool


def restarting_after_a_pause() -> PoolScript:
    pool = starting()
    pool.exited(exit_code=1)
    return pool


STATES: dict[str, tuple[Callable[[], PoolScript], WorkerState]] = {
    "starting": (starting, WorkerState.STARTING),
    "idle": (idle, WorkerState.IDLE),
    "busy": (busy, WorkerState.BUSY),
    "busy, waiting for memory": (waiting_for_memory, WorkerState.BUSY),
    "timed out": (timed_out, WorkerState.TIMED_OUT),
    "failed with a task": (failed_with_a_task, WorkerState.FAILED),
    "failed while idle": (failed_while_idle, WorkerState.FAILED),
    "restarting": (restarting, WorkerState.RESTARTING),
    "restarting after a pause": (restarting_after_a_pause, WorkerState.RESTARTING),
}


def run_until_closed(pool: PoolScript, *, obeys: bool) -> list[Command]:
    """Run the pool until it is closed: its worker exits when told, or has to be killed. Returns all commands."""
    commands: list[Command] = []
    for _ in range(20):
        if pool.core.closed:
            return commands
        slot = pool.core.worker_table[0]
        if obeys and slot.task is not None and slot.state in {WorkerState.BUSY, WorkerState.TIMED_OUT}:
            commands += pool.done(slot.task.task_id)
        elif slot.outbox_id is not None and (obeys or slot.timer is None):
            commands += pool.exited(exit_code=0 if obeys else -9)
        else:
            assert slot.timer is not None, "a slot that is not closed has a timer"
            commands += pool.at(slot.timer)
    raise AssertionError("the pool was not closed after 20 steps")


@pytest.mark.parametrize("obeys", [True, False], ids=["obeys", "must be killed"])
@pytest.mark.parametrize("name", STATES)
def test_closing_in_every_state_ends_without_workers_and_with_every_task_settled(name: str, obeys: bool) -> None:
    make, state = STATES[name]
    pool = make()
    assert pool.state() is state
    pool.run(50)
    pool.submit(51)
    commands = pool.close() + run_until_closed(pool, obeys=obeys)
    assert isinstance(outcome_of(commands, 50), PoolClosed)
    assert isinstance(outcome_of(commands, 51), PoolClosed)
    s = pool.statistics
    assert s.workers == {}
    assert (s.waiting, s.running) == (0, 0)
    assert s.submitted == s.completed + s.failed + s.timed_out + s.cancelled + s.worker_died + s.refused
    assert {holder: n for holder, n in s.leases.items() if n and holder != "reservation"} == {}


def test_an_idle_worker_is_told_to_exit_and_does() -> None:
    pool = idle()
    assert pool.close() == [Send(0, Retire())]
    assert pool.state() is WorkerState.RETIRING
    assert of_type(pool.exited(exit_code=0), StartWorker) == []
    assert pool.core.closed


def test_a_worker_that_does_not_exit_is_killed() -> None:
    pool = idle()
    pool.close()
    assert pool.at(GRACE_S) == [KillWorker(0)]
    assert not pool.core.closed
    pool.exited()
    assert pool.core.closed


def test_a_worker_that_becomes_ready_while_it_retires_gets_no_task_and_keeps_its_timer() -> None:
    pool = starting()
    pool.close()
    assert pool.ready() == []
    assert pool.state() is WorkerState.RETIRING
    assert pool.at(GRACE_S) == [KillWorker(0)]


def test_a_running_task_is_told_to_stop_and_its_worker_exits_after_it() -> None:
    pool = busy()
    assert pool.close() == [Send(0, Cancel(1))]
    commands = pool.failed(1, code="cancelled")
    assert isinstance(outcome_of(commands, 1), PoolClosed)
    assert commands[-1] == Send(0, Retire())


def test_a_task_that_had_timed_out_before_the_close_still_says_so() -> None:
    pool = timed_out()
    assert pool.close() == []
    assert pool.done(1)[-1] == Send(0, Retire())
    assert pool.statistics.timed_out == 1


def test_a_task_whose_worker_was_dead_before_the_close_says_so() -> None:
    pool = failed_with_a_task()
    pool.close()
    assert isinstance(outcome_of(pool.exited(), 1), WorkerDied)
    assert pool.core.closed


def test_a_task_that_was_never_begun_is_not_requeued_by_a_pool_that_is_closing() -> None:
    pool = failed_with_a_task()
    pool.close()
    assert outcome_of(pool.exited(status=Status(0, 0, 0.0)), 1) is not None
    assert (pool.core.closed, pool.statistics.waiting) == (True, 0)


@pytest.mark.parametrize("make", [busy, timed_out], ids=["busy", "timed out"])
def test_a_pool_that_is_closing_starts_no_process(make: Callable[[], PoolScript]) -> None:
    pool = make()
    pool.close()
    pool.at(pool.clock.now + GRACE_S)
    assert of_type(pool.exited(), StartWorker) == []
    assert pool.core.closed


def test_a_slot_without_a_process_is_gone_at_once() -> None:
    pool = restarting_after_a_pause()
    assert pool.close() == []
    assert pool.core.closed
    assert pool.at(100.0) == []


def test_new_tasks_are_refused_after_the_close() -> None:
    pool = idle()
    pool.close()
    assert isinstance(outcome_of(pool.run(9), 9), PoolClosed)


def test_a_source_that_arrives_after_the_close_is_not_waited_for() -> None:
    pool = idle()
    pool.submit(1)
    pool.close()
    assert pool.prepare(1) == []
    assert pool.cancel(1) == []


def test_closing_twice_is_closing_once() -> None:
    pool = busy()
    pool.close()
    assert pool.close() == []


def test_last_words_count_in_a_pool_that_is_closing() -> None:
    pool = failed_with_a_task()
    pool.close()
    outcome = outcome_of(pool.exited(last_words=(done(1),)), 1)
    assert isinstance(outcome, Completed)


def test_a_caller_may_still_hold_a_result_and_a_source_after_the_end() -> None:
    pool = idle()
    source = pool.input(10, 5000)
    pool.close()
    pool.exited(exit_code=0)
    assert pool.core.closed
    assert pool.statistics.leases["caller"] == 1
    pool.give_back(source)
    assert pool.statistics.memory_used_bytes == 0


def test_waiting_memory_requests_get_an_error_at_the_close() -> None:
    pool = idle()
    pool.input(10, 3 * MIB)
    assert pool.request(11, MIB) == []
    refusal = only(of_type(pool.close(), RefuseInput))
    assert (refusal.input_id, type(refusal.error)) == (11, PoolClosed)


def test_a_memory_request_after_the_close_gets_an_error() -> None:
    pool = idle()
    pool.input(10, 3 * MIB)
    pool.close()
    refusal = only(of_type(pool.request(12, MIB), RefuseInput))
    assert isinstance(refusal.error, PoolClosed)


def test_pages_that_are_reserved_after_the_close_are_accounted_for() -> None:
    pool = idle()
    pool.run(1)
    found = reservations(pool.need(1, MIB))
    pool.close()
    pool.at(GRACE_S)
    assert of_type(pool.exited(), SettleTask)
    for reservation in found:
        pool.reserved(reservation)
    assert pool.statistics.memory_used_bytes == 0


def test_a_pool_that_is_closed_without_tasks_was_not_interrupted() -> None:
    pool = idle()
    pool.drain()
    pool.close()
    assert pool.core.drained
    assert not pool.core.interrupted


@pytest.mark.parametrize("held", [busy, failed_with_a_task], ids=lambda state: state.__name__)
def test_a_pool_that_is_closed_with_tasks_was_interrupted(held: Callable[[], PoolScript]) -> None:
    pool = held()
    pool.drain()
    pool.close()
    pool.exited()
    pool.close()
    assert pool.core.drained
    assert pool.core.interrupted
