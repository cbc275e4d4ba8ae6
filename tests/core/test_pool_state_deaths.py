"""Deaths of workers: with a task, before its begin, at their start, and with unread messages."""

from __future__ import annotations

import signal

from offloop.core.model.commands import AnnounceOpening, Command, DropOutbox, KillWorker, Send, SettleTask, StartWorker
from offloop.core.model.events import WorkerDisconnected, WorkerViolatedProtocol
from offloop.core.model.task import Completed
from offloop.core.model.worker_state import WorkerState
from offloop.errors import TaskFailed, TaskTimeout, WorkerDied
from offloop.wire.handles import OUTBOX
from offloop.wire.messages import Failed, Need
from offloop.wire.status import Status

from .pool_script import (
    GRACE_S,
    START_TIMEOUT_S,
    PoolScript,
    done,
    in_outbox,
    of_type,
    only,
    outcome_of,
    reservations,
    sent_run,
    started,
)

NOT_BEGUN = Status(0, 0, 0.0)


def slot_of(pool: PoolScript, task_id: int) -> int:
    return only([slot.index for slot in pool.core.worker_table if slot.task and slot.task.task_id == task_id])


def test_a_crash_fails_only_its_own_task() -> None:
    pool = PoolScript(3).opened()
    for task_id in (1, 2, 3):
        pool.run(task_id)
    victim = slot_of(pool, 2)
    settled, dropped, start = pool.exited(victim, -11, status=Status(2, 0, 0.0), stderr_tail="boom")
    outcome = outcome_of([settled], 2)
    assert isinstance(outcome, WorkerDied)
    assert (outcome.signal, outcome.stderr_tail, outcome.running) == (signal.SIGSEGV, "boom", "faults (Noop)")
    assert isinstance(dropped, DropOutbox)
    assert start == started(victim, 4)
    for task_id in (1, 3):
        assert isinstance(outcome_of(pool.done(task_id, slot_of(pool, task_id)), task_id), Completed)
    assert (pool.statistics.worker_died, pool.statistics.completed) == (1, 2)


def test_a_worker_whose_channel_ended_is_killed_and_its_task_waits_for_waitid() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    assert pool.handle(WorkerDisconnected(0)) == [KillWorker(0)]
    assert (pool.state(), pool.statistics.running) == (WorkerState.FAILED, 1)
    assert isinstance(outcome_of(pool.exited(exit_code=0), 1), WorkerDied)


def test_a_worker_that_dies_idle_is_replaced_and_no_task_is_touched() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    idle = 1 - slot_of(pool, 1)
    commands = pool.exited(idle)
    assert [type(command) for command in commands] == [DropOutbox, StartWorker]
    assert pool.state(idle) is WorkerState.RESTARTING
    assert pool.statistics.worker_died == 0


def test_the_replacement_gets_the_next_task() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2)
    pool.exited()
    assert sent_run(2) in pool.ready()


def test_the_blocks_of_a_dead_worker_are_free_and_its_results_stay() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    kept = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(kept, 5000))
    (ahead,) = reservations(pool.run(2))
    pool.reserved(ahead)
    pool.granted(2, 9000)
    pool.exited()
    assert pool.core.arena.get(kept.generation) is kept
    assert {holder: n for holder, n in pool.statistics.leases.items() if n} == {"caller": 1}
    assert pool.statistics.memory_used_bytes == kept.nbytes
    pool.give_back(kept)
    assert pool.statistics.memory_used_bytes == 0


def test_preallocated_memory_is_freed_when_its_worker_dies() -> None:
    pool = PoolScript().opened(pages=True)
    pool.run(1)
    pool.done(1)
    assert pool.statistics.leases["preallocated"] == 1
    pool.exited()
    assert pool.statistics.leases["preallocated"] == 0
    assert pool.core.worker_table[0].preallocated_block is None


# Tasks that were not begun


def test_a_task_that_its_dead_worker_never_began_runs_on_the_next_one() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    commands = pool.exited(status=NOT_BEGUN)
    assert of_type(commands, SettleTask) == []
    assert (pool.statistics.waiting, pool.statistics.running) == (1, 0)
    assert sent_run(1) in pool.ready()
    assert isinstance(outcome_of(pool.done(1), 1), Completed)


def test_a_task_that_was_never_begun_goes_before_those_that_came_later() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2)
    pool.exited(status=NOT_BEGUN)
    assert of_type(pool.ready(), Send) == [sent_run(1)]


def test_a_task_that_was_sent_in_time_does_not_time_out_in_the_queue_when_it_comes_back() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2, queue_timeout_s=2.0)
    pool.done(1)
    pool.exited(status=NOT_BEGUN)
    assert of_type(pool.at(3.0), SettleTask) == []
    assert sent_run(2) in pool.ready()


def test_a_task_that_was_never_begun_goes_to_a_worker_that_is_idle() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    victim = slot_of(pool, 1)
    commands = pool.exited(victim, status=NOT_BEGUN)
    assert sent_run(1, slot=1 - victim) in commands


def test_a_task_whose_second_worker_dies_before_it_began_fails() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.exited(status=NOT_BEGUN)
    pool.ready()
    assert isinstance(outcome_of(pool.exited(status=NOT_BEGUN), 1), WorkerDied)
    assert pool.statistics.worker_died == 1


def test_a_task_that_was_cancelled_and_never_begun_is_cancelled() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.cancel(1)
    assert outcome_of(pool.exited(status=NOT_BEGUN), 1) is None


def test_a_task_that_timed_out_before_it_began_has_timed_out() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    assert isinstance(outcome_of(pool.exited(status=NOT_BEGUN), 1), TaskTimeout)


def test_a_task_whose_source_was_in_the_dead_workers_outbox_is_not_run_elsewhere() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(block, 5000))
    pool.run(2, block, nbytes=5000, segment=OUTBOX, outbox_id=block.segment_id)
    assert isinstance(outcome_of(pool.exited(status=NOT_BEGUN), 2), WorkerDied)


def test_a_task_whose_worker_broke_the_protocol_is_not_run_again() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.handle(WorkerViolatedProtocol(0, "nonsense"))
    outcome = outcome_of(pool.exited(status=NOT_BEGUN), 1)
    assert isinstance(outcome, WorkerDied)
    assert "nonsense" in str(outcome)


# Last words


def test_an_answer_that_was_unread_when_the_worker_died_counts() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    commands = pool.exited(last_words=(Need(1, 5), done(1, in_outbox(block, 5000))))
    outcome = outcome_of(commands, 1)
    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert outcome.output.block is block
    assert pool.core.arena.get(block.generation) is block
    assert pool.statistics.leases["caller"] == 1


def test_an_unread_failure_counts_too() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    outcome = outcome_of(pool.exited(last_words=(Failed(1, "refused", "no", None, 1, 2),)), 1)
    assert isinstance(outcome, TaskFailed)


def test_last_words_for_another_task_do_not_count() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    assert isinstance(outcome_of(pool.exited(last_words=(done(2),)), 1), WorkerDied)


def test_forged_last_words_do_not_count() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    pool.run(2)
    liar, other = slot_of(pool, 1), slot_of(pool, 2)
    foreign = pool.granted(2, 5000, other)
    assert isinstance(outcome_of(pool.exited(liar, last_words=(done(1, in_outbox(foreign, 10)),)), 1), WorkerDied)


def test_of_two_last_answers_the_first_counts() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    words = (Failed(1, "refused", "no", None, 1, 2), done(1))
    assert isinstance(outcome_of(pool.exited(last_words=words), 1), TaskFailed)


def test_a_worker_that_broke_the_protocol_has_no_last_words() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.handle(WorkerViolatedProtocol(0, "nonsense"))
    assert isinstance(outcome_of(pool.exited(last_words=(done(1),)), 1), WorkerDied)


def test_an_answer_in_the_last_words_of_a_killed_worker_says_that_its_task_stopped() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    outcome = outcome_of(pool.exited(last_words=(done(1),)), 1)
    assert isinstance(outcome, TaskTimeout)
    assert outcome.obeyed


# Deaths at the start


def test_start_up_deaths_are_spaced_out_up_to_a_cap() -> None:
    pool = PoolScript()
    pool.start()
    pauses: list[float] = []
    for _ in range(9):
        assert of_type(pool.exited(exit_code=1), StartWorker) == []
        timer = pool.core.worker_table[0].timer
        assert timer is not None
        pauses.append(timer - pool.clock.now)
        assert pool.at(timer - 0.01) == []
        (start,) = pool.at(timer)
        assert isinstance(start, StartWorker)
    for pause, expected in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected


def fail_to_start(pool: PoolScript, times: int, slot: int = 0) -> list[Command]:
    """Let `times` processes die at their start. Returns the commands."""
    commands: list[Command] = []
    for _ in range(times):
        if pool.core.worker_table[slot].outbox_id is None:
            pool.at(pool.core.worker_table[slot].timer or 0.0)
        commands += pool.exited(slot, 3, stderr_tail="no libvips")
    return commands


def test_after_three_start_up_deaths_the_opening_and_the_waiting_tasks_fail() -> None:
    pool = PoolScript()
    pool.start()
    pool.run(1)
    pool.run(2)
    assert of_type(fail_to_start(pool, 2), SettleTask) == []
    commands = fail_to_start(pool, 1)
    opening = only(of_type(commands, AnnounceOpening))
    assert isinstance(opening.error, WorkerDied)
    assert "no libvips" in opening.error.__notes__[0]
    for task_id in (1, 2):
        error = outcome_of(commands, task_id)
        assert str(error) == str(opening.error)
        assert error is not opening.error, "callers do not share an error, which refers to its traceback"
    assert pool.statistics.worker_died == 2


def test_a_pool_without_workers_goes_on_starting_them_and_recovers() -> None:
    pool = PoolScript()
    pool.start()
    fail_to_start(pool, 3)
    timer = pool.core.worker_table[0].timer
    assert timer is not None
    assert of_type(pool.at(timer), StartWorker)
    pool.ready()
    assert pool.core.groups.default.reconciler.unavailable_error is None
    assert pool.run(1) == [sent_run(1)]


def test_tasks_wait_while_another_worker_is_busy() -> None:
    pool = PoolScript(2)
    pool.start()
    pool.ready(0)
    pool.run(1)
    pool.run(2)
    assert of_type(fail_to_start(pool, 5, slot=1), SettleTask) == []
    assert sent_run(2) in pool.done(1, 0)


def test_a_worker_that_is_not_ready_in_time_is_killed_with_that_reason() -> None:
    pool = PoolScript()
    pool.start()
    assert pool.at(START_TIMEOUT_S - 0.1) == []
    assert pool.at(START_TIMEOUT_S) == [KillWorker(0)]
    pool.exited()
    fail_to_start(pool, 2)
    assert pool.core.groups.default.reconciler.unavailable_error is not None


def test_a_ready_that_comes_after_the_start_timer_does_not_change_the_reason() -> None:
    pool = PoolScript()
    pool.start()
    pool.at(START_TIMEOUT_S)
    pool.ready()
    for _ in range(3):
        pool.exited()
        timer = pool.core.worker_table[0].timer
        if pool.core.groups.default.reconciler.unavailable_error is None and timer is not None:
            pool.at(timer)
            pool.at(pool.clock.now + START_TIMEOUT_S)
            pool.ready()
    assert pool.core.groups.default.reconciler.unavailable_error is not None
    assert "did not start within 10 s" in str(pool.core.groups.default.reconciler.unavailable_error)


def test_a_cut_message_of_a_worker_that_was_killed_does_not_change_the_outcome() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    pool.handle(WorkerViolatedProtocol(0, "the stream ended inside a frame"))
    assert isinstance(outcome_of(pool.exited(), 1), TaskTimeout)


def test_a_process_that_could_not_be_started_is_a_start_up_death_with_its_reason() -> None:
    pool = PoolScript()
    pool.start()
    for _ in range(3):
        if pool.core.worker_table[0].outbox_id is None:
            pool.at(pool.core.worker_table[0].timer or 0.0)
        pool.exited(exit_code=None, reason="it could not be started: no memory", status=None)
    assert "no memory" in str(pool.core.groups.default.reconciler.unavailable_error)
