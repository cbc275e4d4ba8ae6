"""Workers that die: with a task, before one, at their start, and with something left to say."""

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


def test_a_crash_costs_its_own_task_and_no_other() -> None:
    pool = PoolScript(3).opened()
    for task_id in (1, 2, 3):
        pool.run(task_id)
    victim = slot_of(pool, 2)
    settled, dropped, start = pool.reaped(victim, -11, status=Status(2, 0, 0.0), stderr_tail="boom")
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
    assert pool.tell(WorkerDisconnected(0)) == [KillWorker(0)]
    assert (pool.state(), pool.statistics.running) == (WorkerState.FAILED, 1)
    assert isinstance(outcome_of(pool.reaped(exit_code=0), 1), WorkerDied)


def test_a_worker_that_dies_idle_is_replaced_and_no_task_is_touched() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    idle = 1 - slot_of(pool, 1)
    commands = pool.reaped(idle)
    assert [type(command) for command in commands] == [DropOutbox, StartWorker]
    assert pool.state(idle) is WorkerState.RESTARTING
    assert pool.statistics.worker_died == 0


def test_the_replacement_takes_up_where_the_dead_one_left() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2)
    pool.reaped()
    assert sent_run(2) in pool.ready()


def test_what_the_dead_worker_held_is_free_and_a_result_of_its_stays() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    kept = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(kept, 5000))
    (ahead,) = reservations(pool.run(2))
    pool.reserved(ahead)
    pool.granted(2, 9000)
    pool.reaped()
    assert pool.core.arena.get(kept.generation) is kept
    assert {holder: n for holder, n in pool.statistics.leases.items() if n} == {"caller": 1}
    assert pool.statistics.memory_used_bytes == kept.nbytes
    pool.give_back(kept)
    assert pool.statistics.memory_used_bytes == 0


def test_standing_memory_dies_with_its_worker() -> None:
    pool = PoolScript().opened(pages=True)
    pool.run(1)
    pool.done(1)
    assert pool.statistics.leases["standing"] == 1
    pool.reaped()
    assert pool.statistics.leases["standing"] == 0
    assert pool.core.worker_table[0].preallocated_block is None


# Before it began


def test_a_task_that_its_dead_worker_never_began_runs_on_the_next_one() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    commands = pool.reaped(status=NOT_BEGUN)
    assert of_type(commands, SettleTask) == []
    assert (pool.statistics.waiting, pool.statistics.running) == (1, 0)
    assert sent_run(1) in pool.ready()
    assert isinstance(outcome_of(pool.done(1), 1), Completed)


def test_a_task_that_was_never_begun_goes_before_those_that_came_later() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2)
    pool.reaped(status=NOT_BEGUN)
    assert of_type(pool.ready(), Send) == [sent_run(1)]


def test_a_task_that_was_sent_in_time_does_not_time_out_in_the_queue_when_it_comes_back() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2, queue_timeout_s=2.0)
    pool.done(1)
    pool.reaped(status=NOT_BEGUN)
    assert of_type(pool.at(3.0), SettleTask) == []
    assert sent_run(2) in pool.ready()


def test_a_task_that_was_never_begun_goes_to_a_worker_that_is_idle() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    victim = slot_of(pool, 1)
    commands = pool.reaped(victim, status=NOT_BEGUN)
    assert sent_run(1, slot=1 - victim) in commands


def test_a_task_whose_second_worker_dies_before_it_began_fails() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.reaped(status=NOT_BEGUN)
    pool.ready()
    assert isinstance(outcome_of(pool.reaped(status=NOT_BEGUN), 1), WorkerDied)
    assert pool.statistics.worker_died == 1


def test_a_task_that_was_cancelled_and_never_begun_is_cancelled() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.cancel(1)
    assert outcome_of(pool.reaped(status=NOT_BEGUN), 1) is None


def test_a_task_that_timed_out_before_it_began_has_timed_out() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    assert isinstance(outcome_of(pool.reaped(status=NOT_BEGUN), 1), TaskTimeout)


def test_a_task_whose_source_lay_with_the_dead_worker_is_not_run_elsewhere() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(block, 5000))
    pool.run(2, block, nbytes=5000, segment=OUTBOX, outbox_id=block.segment_id)
    assert isinstance(outcome_of(pool.reaped(status=NOT_BEGUN), 2), WorkerDied)


def test_a_task_whose_worker_broke_the_protocol_is_not_run_again() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.tell(WorkerViolatedProtocol(0, "nonsense"))
    outcome = outcome_of(pool.reaped(status=NOT_BEGUN), 1)
    assert isinstance(outcome, WorkerDied)
    assert "nonsense" in str(outcome)


# Last words


def test_an_answer_that_nobody_had_read_when_the_worker_died_counts() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    commands = pool.reaped(last_words=(Need(1, 5), done(1, in_outbox(block, 5000))))
    outcome = outcome_of(commands, 1)
    assert isinstance(outcome, Completed)
    assert outcome.block is block
    assert pool.core.arena.get(block.generation) is block
    assert pool.statistics.leases["caller"] == 1


def test_a_failure_that_nobody_had_read_counts_too() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    outcome = outcome_of(pool.reaped(last_words=(Failed(1, "refused", "no", None, 1, 2),)), 1)
    assert isinstance(outcome, TaskFailed)


def test_last_words_for_another_task_do_not_count() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    assert isinstance(outcome_of(pool.reaped(last_words=(done(2),)), 1), WorkerDied)


def test_forged_last_words_do_not_count() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    pool.run(2)
    liar, other = slot_of(pool, 1), slot_of(pool, 2)
    foreign = pool.granted(2, 5000, other)
    assert isinstance(outcome_of(pool.reaped(liar, last_words=(done(1, in_outbox(foreign, 10)),)), 1), WorkerDied)


def test_of_two_last_answers_the_first_counts() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    words = (Failed(1, "refused", "no", None, 1, 2), done(1))
    assert isinstance(outcome_of(pool.reaped(last_words=words), 1), TaskFailed)


def test_a_worker_that_broke_the_protocol_has_no_last_words() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.tell(WorkerViolatedProtocol(0, "nonsense"))
    assert isinstance(outcome_of(pool.reaped(last_words=(done(1),)), 1), WorkerDied)


def test_the_last_words_of_a_worker_that_we_killed_for_its_task_say_that_it_obeyed() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    outcome = outcome_of(pool.reaped(last_words=(done(1),)), 1)
    assert isinstance(outcome, TaskTimeout)
    assert outcome.obeyed


# At the start


def test_start_up_deaths_are_spaced_out_up_to_a_cap() -> None:
    pool = PoolScript()
    pool.start()
    pauses: list[float] = []
    for _ in range(9):
        assert of_type(pool.reaped(exit_code=1), StartWorker) == []
        timer = pool.core.worker_table[0].timer
        assert timer is not None
        pauses.append(timer - pool.clock.now)
        assert pool.at(timer - 0.01) == []
        (start,) = pool.at(timer)
        assert isinstance(start, StartWorker)
    for pause, expected in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected


def fail_to_start(pool: PoolScript, times: int, slot: int = 0) -> list[Command]:
    """So many processes die at their start; what that commands."""
    commands: list[Command] = []
    for _ in range(times):
        if pool.core.worker_table[slot].outbox_id is None:
            pool.at(pool.core.worker_table[slot].timer or 0.0)
        commands += pool.reaped(slot, 3, stderr_tail="no libvips")
    return commands


def test_after_three_start_up_deaths_the_opening_fails_and_waiting_tasks_are_told() -> None:
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
        told = outcome_of(commands, task_id)
        assert str(told) == str(opening.error)
        assert told is not opening.error, "callers do not share an error, which refers to its traceback"
    assert pool.statistics.worker_died == 2


def test_a_pool_without_hope_goes_on_trying_and_recovers() -> None:
    pool = PoolScript()
    pool.start()
    fail_to_start(pool, 3)
    timer = pool.core.worker_table[0].timer
    assert timer is not None
    assert of_type(pool.at(timer), StartWorker)
    pool.ready()
    assert pool.core.reconciler.unavailable_error is None
    assert pool.run(1) == [sent_run(1)]


def test_tasks_wait_while_another_worker_is_at_work() -> None:
    pool = PoolScript(2)
    pool.start()
    pool.ready(0)
    pool.run(1)
    pool.run(2)
    assert of_type(fail_to_start(pool, 5, slot=1), SettleTask) == []
    assert sent_run(2) in pool.done(1, 0)


def test_a_worker_that_is_not_ready_in_time_is_killed_and_that_is_why_it_died() -> None:
    pool = PoolScript()
    pool.start()
    assert pool.at(START_TIMEOUT_S - 0.1) == []
    assert pool.at(START_TIMEOUT_S) == [KillWorker(0)]
    pool.reaped()
    fail_to_start(pool, 2)
    assert pool.core.reconciler.unavailable_error is not None


def test_a_ready_that_comes_after_the_start_timer_does_not_change_the_reason() -> None:
    pool = PoolScript()
    pool.start()
    pool.at(START_TIMEOUT_S)
    pool.ready()
    for _ in range(3):
        pool.reaped()
        timer = pool.core.worker_table[0].timer
        if pool.core.reconciler.unavailable_error is None and timer is not None:
            pool.at(timer)
            pool.at(pool.clock.now + START_TIMEOUT_S)
            pool.ready()
    assert pool.core.reconciler.unavailable_error is not None
    assert "not ready within 10 s" in str(pool.core.reconciler.unavailable_error)


def test_a_cut_message_of_a_worker_that_was_killed_does_not_change_the_outcome() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    pool.tell(WorkerViolatedProtocol(0, "the stream ended inside a frame"))
    assert isinstance(outcome_of(pool.reaped(), 1), TaskTimeout)


def test_a_process_that_could_never_be_started_is_a_start_up_death_with_its_reason() -> None:
    pool = PoolScript()
    pool.start()
    for _ in range(3):
        if pool.core.worker_table[0].outbox_id is None:
            pool.at(pool.core.worker_table[0].timer or 0.0)
        pool.reaped(exit_code=None, reason="it could not be started: no memory", status=None)
    assert "no memory" in str(pool.core.reconciler.unavailable_error)
