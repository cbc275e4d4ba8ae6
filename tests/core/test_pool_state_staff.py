"""The workers of a `PoolState`: spares, resizing, starts, recycling, draining, events, and the circuit breaker."""

from __future__ import annotations

import pytest

from offloop.core.model.commands import AnnounceOpening, Command, DropOutbox, KillWorker, Send, SettleTask, StartWorker
from offloop.core.model.events import WorkerDisconnected, WorkerSpawned, WorkerViolatedProtocol
from offloop.core.model.pool_phase import PoolPhase
from offloop.core.model.task import Completed
from offloop.core.model.worker_state import WorkerState
from offloop.errors import PoolClosed
from offloop.pool_events import BreakerMoved, WorkerCrashed, WorkerMoved
from offloop.wire.messages import Cancel, Retire

from .pool_script import GRACE_S, START_TIMEOUT_S, PoolScript, done, of_type, outcome_of, runs, sent_run


def retired(commands: list[Command]) -> list[int]:
    return [send.slot for send in of_type(commands, Send) if isinstance(send.message, Retire)]


def workers(pool: PoolScript) -> dict[str, int]:
    return pool.statistics.workers


# Spares


def test_spares_are_ready_and_do_not_work_beyond_the_limit() -> None:
    pool = PoolScript(2, spares=2).opened()
    assert workers(pool) == {"idle": 4}
    sends = runs([command for task_id in (1, 2, 3) for command in pool.run(task_id)])
    assert len(sends) == 2
    assert (pool.statistics.running, pool.statistics.waiting) == (2, 1)
    assert (pool.statistics.concurrency, pool.statistics.spares) == (2, 2)


@pytest.mark.parametrize(
    "event", [WorkerDisconnected(0), WorkerViolatedProtocol(0, "nonsense")], ids=["disconnected", "protocol violated"]
)
def test_at_the_first_sign_of_a_death_a_spare_gets_the_next_task_in_the_same_turn(
    event: WorkerDisconnected | WorkerViolatedProtocol,
) -> None:
    pool = PoolScript(1, spares=1).opened()
    pool.run(1)
    assert pool.slot_of(1) == 0
    pool.run(2)
    assert pool.handle(event) == [KillWorker(0), sent_run(2, 1)]


def test_a_spare_replaces_a_worker_that_must_be_killed_for_its_task() -> None:
    pool = PoolScript(1, spares=1).opened()
    pool.run(1, timeout_s=1.0)
    victim = pool.slot_of(1)
    pool.run(2)
    assert runs(pool.at(1.0)) == [], "the task may still stop, and two workers would be busy"
    assert pool.at(1.0 + GRACE_S) == [KillWorker(victim), sent_run(2, 1 - victim)]


def test_the_replacement_of_a_dead_worker_becomes_the_spare() -> None:
    pool = PoolScript(1, spares=1).opened()
    pool.run(1)
    victim = pool.slot_of(1)
    pool.run(2)
    assert of_type(pool.exited(victim), StartWorker)
    assert runs(pool.ready(victim)) == []
    assert workers(pool) == {"busy": 1, "idle": 1}
    assert pool.core.groups.default.reconciler.converged


def test_with_no_queue_a_spare_is_no_room_for_another_task() -> None:
    pool = PoolScript(1, spares=1, max_queue=0).opened()
    pool.run(1)
    assert outcome_of(pool.submit(2), 2) is not None


# Resizing


def test_after_an_increase_waiting_tasks_are_dispatched_and_a_spare_gets_one_at_once() -> None:
    pool = PoolScript(1, spares=1).opened()
    for task_id in (1, 2, 3):
        pool.run(task_id)
    commands = pool.resize(3)
    assert [send.message.task_id for send in runs(commands)] == [2]
    first, second = [command.slot for command in of_type(commands, StartWorker)]
    assert [send.message.task_id for send in runs(pool.ready(first))] == [3]
    assert runs(pool.ready(second)) == []
    assert (pool.core.groups.default.reconciler.converged, pool.statistics.concurrency) == (True, 3)


def test_after_a_decrease_surplus_workers_finish_their_tasks_and_exit() -> None:
    pool = PoolScript(3).opened()
    for task_id in (1, 2, 3, 4):
        pool.run(task_id)
    assert pool.resize(1) == []
    slots = {task_id: pool.slot_of(task_id) for task_id in (1, 2, 3)}
    for task_id in (1, 2):
        commands = pool.done(task_id, slots[task_id])
        assert isinstance(outcome_of(commands, task_id), Completed)
        assert (retired(commands), runs(commands)) == ([slots[task_id]], [])
    assert not pool.core.groups.default.reconciler.converged
    assert [send.message.task_id for send in runs(pool.done(3, slots[3]))] == [4]
    for task_id in (1, 2):
        assert of_type(pool.exited(slots[task_id], 0), StartWorker) == []
    assert (workers(pool), pool.core.groups.default.reconciler.converged) == ({"busy": 1}, True)


def test_a_surplus_worker_that_dies_is_not_replaced() -> None:
    pool = PoolScript(2).opened()
    for task_id in (1, 2):
        pool.run(task_id)
    pool.resize(1)
    assert of_type(pool.exited(0), StartWorker) == []
    assert len(pool.core.worker_table) == 1


def test_a_surplus_worker_that_does_not_exit_is_killed() -> None:
    pool = PoolScript(2).opened()
    (slot,) = retired(pool.resize(1))
    assert pool.at(GRACE_S) == [KillWorker(slot)]
    assert of_type(pool.exited(slot), StartWorker) == []
    assert pool.core.groups.default.reconciler.converged


def test_a_resize_in_a_pool_that_closes_starts_no_worker() -> None:
    pool = PoolScript(1).opened()
    pool.close()
    assert pool.resize(5) == []
    pool.exited(0, 0)
    assert pool.core.closed


def test_a_pool_whose_workers_start_can_be_made_smaller_and_opens_all_the_same() -> None:
    pool = PoolScript(3)
    pool.start()
    leaving = retired(pool.resize(1))
    assert len(leaving) == 2
    for slot in leaving:
        assert of_type(pool.exited(slot, 0), AnnounceOpening) == []
    (stays,) = (slot.index for slot in pool.core.worker_table)
    assert of_type(pool.ready(stays), AnnounceOpening) == [AnnounceOpening(None)]


# Starts


def test_no_more_processes_start_at_once_than_are_allowed() -> None:
    pool = PoolScript(3, max_starts=1)
    assert len(of_type(pool.start(), StartWorker)) == 1
    assert len(of_type(pool.ready(0), StartWorker)) == 1
    assert of_type(pool.at(START_TIMEOUT_S), StartWorker) == [StartWorker(2, 3, pool.core.arena.segment_nbytes(2))]
    assert pool.state(1) is WorkerState.FAILED


# Recycling


def test_a_worker_gets_no_task_beyond_its_limit_and_is_replaced_without_a_pause() -> None:
    pool = PoolScript(1, max_tasks_per_worker=2).opened()
    for task_id in (1, 2, 3):
        pool.run(task_id)
    assert pool.core.worker_table[0].max_tasks == 2
    (start,) = of_type(pool.done(1), StartWorker)
    assert runs(pool.ready(start.slot)) == [], "only one worker is busy at a time"
    commands = pool.done(2)
    assert (retired(commands), runs(commands)) == ([0], [sent_run(3, start.slot)])
    pool.exited(0, 0)
    assert (pool.statistics.worker_recycled, pool.statistics.worker_crashes) == (1, 0)


def test_a_task_waits_for_the_replacement_of_a_spent_worker() -> None:
    pool = PoolScript(1, max_tasks_per_worker=1).opened()
    pool.run(1)
    pool.run(2)
    commands = pool.done(1)
    assert (retired(commands), runs(commands)) == ([0], [])
    assert runs(pool.ready(1)) == [sent_run(2, 1)]


def test_an_idle_worker_is_replaced_at_its_maximum_age() -> None:
    pool = PoolScript(1, max_worker_age_s=100.0).opened()
    old_at = pool.core.worker_table[0].timer
    assert old_at is not None
    assert pool.core.wake_at <= old_at
    (start,) = pool.at(old_at)
    assert isinstance(start, StartWorker)
    assert pool.at(old_at + 1) == []
    assert retired(pool.ready(start.slot)) == [0]


def test_a_worker_stays_if_its_replacement_cannot_be_started() -> None:
    pool = PoolScript(1, max_worker_bytes=1000).opened()
    pool.run(1)
    (start,) = of_type(pool.done(1, private_bytes=5000), StartWorker)
    for _ in range(5):
        if pool.core.worker_table[start.slot].outbox_id is None:
            pool.at(pool.core.worker_table[start.slot].timer or 0.0)
        pool.exited(start.slot, 1)
    assert runs(pool.run(2)) == [sent_run(2)]


def test_the_event_of_a_recycled_worker_has_the_reason() -> None:
    pool = PoolScript(1, max_worker_bytes=1000).opened()
    pool.core.event_log.has_subscribers = True
    pool.run(1)
    (start,) = of_type(pool.done(1, private_bytes=5000), StartWorker)
    pool.ready(start.slot)
    (leaving,) = [entry for entry in moves(pool) if entry.event == "RetirementRequested"]
    assert leaving.cause.startswith("it has 5,000 bytes of private memory, and ")


# Draining


def test_a_draining_pool_refuses_new_tasks_and_finishes_the_others() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2)
    pool.submit(3)
    assert pool.drain() == []
    assert pool.core.phase is PoolPhase.DRAINING
    error = outcome_of(pool.run(4), 4)
    assert isinstance(error, PoolClosed)
    assert "draining" in str(error)
    pool.prepare(3)
    for task_id in (1, 2, 3):
        assert not pool.core.drained
        assert isinstance(outcome_of(pool.done(task_id), task_id), Completed)
    assert pool.core.drained
    assert not pool.core.closed


def test_a_draining_pool_can_be_closed_and_a_closed_one_not_drained() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.drain()
    assert pool.close() == [Send(0, Cancel(1))]
    pool.drain()
    assert pool.core.phase is PoolPhase.CLOSING


def test_an_open_pool_is_not_drained_even_if_it_has_nothing_to_do() -> None:
    assert not PoolScript().opened().core.drained


# Events


def moves(pool: PoolScript) -> list[WorkerMoved]:
    return [entry for entry in pool.core.event_log.drain() if isinstance(entry, WorkerMoved)]


def test_each_transition_of_a_worker_is_an_event() -> None:
    pool = PoolScript()
    pool.core.event_log.has_subscribers = True
    pool.start()
    pool.handle(WorkerSpawned(0, 4321))
    pool.ready()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    pool.exited()
    pool.close()
    pool.exited(exit_code=0)
    told = [(entry.before, entry.event, entry.after) for entry in moves(pool)]
    assert told == [
        ("starting", "LoadingBegun", "loading"),
        ("loading", "Ready", "idle"),
        ("idle", "Dispatched", "busy"),
        ("busy", "DeadlineExpired", "timed-out"),
        ("timed-out", "GraceExpired", "failed"),
        ("failed", "Exited", "restarting"),
        ("restarting", "RetirementRequested", "retiring"),
        ("retiring", "Exited", "gone"),
    ]


def test_each_transition_event_names_its_task_and_its_cause() -> None:
    pool = PoolScript()
    pool.core.event_log.has_subscribers = True
    pool.start()
    pool.handle(WorkerSpawned(0, 4321))
    pool.ready()
    pool.clock.advance_to(7.0)
    pool.run(1)
    pool.cancel(1)
    pool.done(1)
    pool.handle(WorkerViolatedProtocol(0, "nonsense"))
    pool.exited()
    entries = {entry.event: entry for entry in moves(pool)}
    assert {entry.pid for entry in entries.values()} == {4321}
    assert entries["Dispatched"].at == 7.0
    assert [entries[event].task_id for event in ("Dispatched", "CancelRequested", "TaskFinished")] == [1, 1, 1]
    assert entries["CancelRequested"].cause == "its task is to stop: caller"
    assert entries["ProtocolViolated"].cause == "nonsense"
    assert entries["Exited"].cause == "was killed: it broke the protocol: nonsense"


def test_the_ready_of_a_retiring_worker_is_an_event_too() -> None:
    pool = PoolScript(2)
    pool.core.event_log.has_subscribers = True
    pool.start()
    (slot,) = retired(pool.resize(1))
    pool.ready(slot)
    assert [entry.event for entry in moves(pool)] == ["RetirementRequested", "LoadingBegun", "Ready"]
    assert pool.at(GRACE_S)[:1] == [KillWorker(slot)], "its grace period goes on"


def test_without_a_subscriber_only_events_for_the_log_are_kept() -> None:
    pool = PoolScript(1, restart_intensity=0).opened()
    pool.run(1, retries=1)
    pool.exited(exit_code=-11)
    crash, breaker = pool.core.event_log.drain()
    assert isinstance(crash, WorkerCrashed)
    assert (crash.report.task_id, crash.report.exit_code) == (1, -11)
    assert isinstance(breaker, BreakerMoved)
    assert (breaker.before, breaker.after) == ("closed", "open")


def test_a_worker_that_exits_as_told_has_not_crashed() -> None:
    pool = PoolScript(2).opened()
    (slot,) = retired(pool.resize(1))
    pool.exited(slot, -9)
    assert pool.core.event_log.drain() == []
    assert pool.statistics.worker_crashes == 0


# Circuit breaker


def test_while_the_breaker_is_open_tasks_wait_and_the_half_open_worker_gets_the_first() -> None:
    pool = PoolScript(2, restart_intensity=1).opened()
    for task_id in (1, 2, 3, 4):
        pool.run(task_id)
    assert of_type(pool.exited(0), StartWorker)
    commands = pool.exited(1)
    assert [type(command) for command in commands] == [SettleTask, DropOutbox]
    assert pool.statistics.breaker == "open"
    pool.ready(0)
    pool.exited(0)
    assert pool.statistics.waiting == 1
    starts: list[StartWorker] = []
    while not starts:
        starts = of_type(pool.at(pool.core.wake_at), StartWorker)
    (start,) = starts
    assert pool.statistics.breaker == "half-open"
    assert [send.message.task_id for send in runs(pool.ready(start.slot))] == [4]
    commands = pool.done(4, start.slot)
    assert len(of_type(commands, StartWorker)) == 1
    assert pool.statistics.breaker == "closed"


def test_the_half_open_worker_gets_the_next_task_although_another_was_used_more_recently() -> None:
    pool = PoolScript(2, restart_intensity=0).opened()
    pool.run(1)
    survivor = next(slot.index for slot in pool.core.worker_table if slot.task is not None)
    pool.exited(1 - survivor)
    assert pool.statistics.breaker == "open"
    pool.done(1, survivor)
    while not of_type(pool.at(pool.core.wake_at), StartWorker):
        pass
    pool.ready(1 - survivor)
    assert pool.statistics.breaker == "half-open"
    pool.run(2)
    assert pool.core.worker_table[1 - survivor].task is not None
    pool.done(2, 1 - survivor)
    assert pool.statistics.breaker == "closed"


def test_the_workers_of_an_idle_pool_are_started_after_the_breaker_closes() -> None:
    pool = PoolScript(2, restart_intensity=0).opened()
    pool.exited(0)
    pool.exited(1)
    for _ in range(10):
        for command in pool.at(pool.core.wake_at) if pool.core.wake_at < 1e6 else ():
            if isinstance(command, StartWorker):
                pool.ready(command.slot)
    assert (workers(pool), pool.statistics.breaker) == ({"idle": 2}, "closed")
    assert pool.clock.now < 60.0


def test_the_pool_wakes_when_the_half_open_period_ends() -> None:
    pool = PoolScript(2, restart_intensity=0, restart_period_s=0.5).opened()
    pool.exited(0)
    (start,) = of_type(pool.at(2.0), StartWorker)
    pool.ready(start.slot)
    assert pool.core.wake_at == 2.5


def test_a_status_is_enough_to_count_a_task_as_accepted() -> None:
    pool = PoolScript(1).opened()
    for task_id in range(1, 8):
        pool.run(task_id)
        assert of_type(pool.exited(), StartWorker), "its replacement is started at once, because it had begun a task"
        pool.ready()


def test_an_answer_in_the_last_words_counts_as_an_accepted_task() -> None:
    pool = PoolScript(1).opened()
    for task_id in range(1, 4):
        pool.run(task_id)
        assert of_type(pool.exited(last_words=(done(task_id),), status=None), StartWorker)
        pool.ready()
