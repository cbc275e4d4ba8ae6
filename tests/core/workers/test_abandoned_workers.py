"""Abandoned workers: the task gets an outcome, the slot another process, and the memory is not reused."""

from __future__ import annotations

import pytest

from offloop.core.model.commands import AbandonWorker, Command, DropOutbox, KillWorker, ReservePages, SettleTask, StartWorker
from offloop.core.model.events import AbandonedWorkerExited, WorkerAbandoned, WorkerDisconnected, WorkerViolatedProtocol
from offloop.core.model.worker_state import WorkerState
from offloop.errors import WorkerDied
from offloop.pool_events import WorkerCrashed
from offloop.wire.status import Status

from ..pool_script import (
    GRACE_S,
    KIB,
    MIB,
    START_TIMEOUT_S,
    PoolScript,
    of_type,
    only,
    outcome_of,
    reservations,
    runs,
    sent_run,
)

KILL_S = 5.0


def frozen(pool: PoolScript, slot: int = 0, *, killed_at: float) -> list[Command]:
    """The worker is killed and does not exit. Returns the commands after the kill timeout."""
    assert of_type(pool.at(killed_at + KILL_S - 0.01), AbandonWorker) == []
    assert pool.at(killed_at + KILL_S) == [AbandonWorker(slot)]
    task = pool.core.worker_table[slot].task
    return pool.handle(WorkerAbandoned(slot, Status(task.task_id if task else 0, 0, 0.0), "its last line"))


def with_frozen_worker() -> tuple[PoolScript, list[Command]]:
    """A pool of one worker. Its task had a timeout of a second, and the worker could not be killed."""
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    assert KillWorker(0) in pool.at(1.0 + GRACE_S)
    return pool, frozen(pool, killed_at=1.0 + GRACE_S)


def test_the_task_of_a_worker_that_cannot_be_killed_has_an_outcome_that_says_so() -> None:
    _, commands = with_frozen_worker()
    outcome = outcome_of(commands, 1)
    assert isinstance(outcome, WorkerDied)
    assert str(outcome) == "the worker is lost: it could not be killed within 5 s during faults (Noop)"
    assert outcome.stderr_tail == "its last line"


def test_its_slot_has_another_process_and_the_next_task() -> None:
    pool, commands = with_frozen_worker()
    start = only(of_type(commands, StartWorker))
    assert (start.slot, start.outbox_id, pool.state()) == (0, 2, WorkerState.RESTARTING)
    pool.run(2)
    assert runs(pool.ready()) == [sent_run(2)]


def test_it_is_reported_and_counted_until_it_is_dead() -> None:
    pool, _ = with_frozen_worker()
    crash = only([entry for entry in pool.core.event_log.drain() if isinstance(entry, WorkerCrashed)])
    assert crash.report.reason == "it could not be killed within 5 s"
    assert pool.statistics.workers_abandoned == 1
    assert of_type(pool.handle(AbandonedWorkerExited(1)), DropOutbox) == [DropOutbox(1, ())]
    assert pool.statistics.workers_abandoned == 0


def test_memory_that_an_abandoned_worker_may_write_to_is_not_reused_before_its_exit() -> None:
    pool = PoolScript().opened(pages=True)
    pool.run(1, timeout_s=1.0)
    granted = pool.granted(1, 1 * MIB)
    preallocated = pool.core.worker_table[0].preallocated_block
    assert preallocated is not None
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    commands = frozen(pool, killed_at=1.0 + GRACE_S)
    assert of_type(commands, DropOutbox) == []
    for block in (granted, preallocated):
        assert pool.core.arena.get(block.generation) is block
    assert pool.statistics.leases == {**dict.fromkeys(pool.statistics.leases, 0), "abandoned": 2}
    assert pool.statistics.memory_used_bytes == granted.nbytes + preallocated.nbytes
    pool.handle(AbandonedWorkerExited(1))
    assert pool.core.arena.get(granted.generation) is None
    assert (pool.statistics.memory_used_bytes, pool.statistics.leases["abandoned"]) == (0, 0)


def test_a_block_of_which_the_worker_was_not_told_yet_comes_back_when_its_pages_are_there() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    (reservation,) = reservations(pool.need(1, 1 * MIB))
    pool.handle(WorkerDisconnected(0))
    frozen(pool, killed_at=0.0)
    assert of_type(pool.reserved(reservation), ReservePages) == []
    assert pool.statistics.leases["abandoned"] == 0
    assert pool.statistics.memory_used_bytes == 0
    pool.handle(AbandonedWorkerExited(1))


def test_its_private_memory_stays_in_the_budget() -> None:
    pool = PoolScript(budget_bytes=512 * MIB).opened().spawned()
    before = pool.statistics.memory_workers_bytes
    pool.run(1)
    charged = pool.statistics.memory_running_bytes
    assert charged > 0
    pool.handle(WorkerDisconnected(0))
    frozen(pool, killed_at=0.0)
    assert (pool.statistics.memory_workers_bytes, pool.statistics.memory_running_bytes) == (before + charged, 0)
    pool.handle(AbandonedWorkerExited(1))
    assert pool.statistics.memory_workers_bytes == 0


def test_a_worker_that_broke_the_protocol_and_cannot_be_killed_says_both() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.handle(WorkerViolatedProtocol(0, "nonsense"))
    outcome = outcome_of(frozen(pool, killed_at=0.0), 1)
    assert "it broke the protocol: nonsense; it could not be killed within 5 s" in str(outcome)


def test_a_task_that_was_not_begun_is_given_to_another_worker() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1)
    pool.handle(WorkerDisconnected(0))
    pool.at(KILL_S)
    assert of_type(pool.handle(WorkerAbandoned(0, Status(0, 0, 0.0))), SettleTask) == []
    assert runs(pool.ready()) == [sent_run(1)]
    assert pool.statistics.quarantined == 0


def test_the_source_of_a_task_whose_worker_was_abandoned_gets_a_strike() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1)
    pool.handle(WorkerDisconnected(0))
    frozen(pool, killed_at=0.0)
    assert pool.statistics.quarantined == 1


def test_a_start_that_cannot_be_killed_is_a_failed_start() -> None:
    pool = PoolScript()
    pool.start()
    assert pool.at(START_TIMEOUT_S) == [KillWorker(0)]
    frozen(pool, killed_at=START_TIMEOUT_S)
    assert pool.statistics.start_failures == 1
    assert pool.statistics.last_start_failure == "is lost: it did not start within 10 s; it could not be killed within 5 s"


def test_a_worker_that_does_not_leave_and_cannot_be_killed_does_not_hold_up_the_close() -> None:
    pool = PoolScript().opened()
    pool.close()
    assert pool.at(GRACE_S) == [KillWorker(0)]
    assert (pool.state(), pool.core.closed) == (WorkerState.TERMINATING, False)
    commands = frozen(pool, killed_at=GRACE_S)
    assert of_type(commands, StartWorker) == []
    assert pool.core.closed
    assert only(pool.core.event_log.drain()).report.reason == "it could not be killed within 5 s"


def test_a_task_that_runs_in_such_a_worker_does_not_hold_up_the_close_either() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.close()
    pool.at(GRACE_S)
    assert isinstance(outcome_of(frozen(pool, killed_at=GRACE_S), 1), WorkerDied)
    assert pool.core.closed


def freeze_the_next(pool: PoolScript) -> list[Command]:
    """A task is submitted, and its worker cannot be killed."""
    task_id = pool.statistics.submitted + 1
    pool.run(task_id)
    pool.handle(WorkerDisconnected(0))
    return frozen(pool, killed_at=pool.clock())


@pytest.mark.parametrize("spares", [0, 1])
def test_a_fault_that_blocks_one_worker_after_the_other_does_not_fill_the_machine_with_processes(spares: int) -> None:
    pool = PoolScript(spares=spares).opened()
    places = 1 + spares
    for _ in range(100):
        idle = [slot.index for slot in pool.core.worker_table if slot.state is WorkerState.IDLE]
        if not idle:
            break
        pool.run(pool.statistics.submitted + 1)
        (busy,) = [slot.index for slot in pool.core.worker_table if slot.task is not None]
        pool.handle(WorkerDisconnected(busy))
        killed_at = pool.clock()
        pool.at(killed_at + KILL_S)
        for start in of_type(pool.handle(WorkerAbandoned(busy, Status(pool.statistics.submitted, 0, 0.0))), StartWorker):
            pool.ready(start.slot)
        while (timer := pool.core.wake_at) < pool.clock() + KILL_S:  # the pauses between starts
            for start in of_type(pool.at(timer), StartWorker):
                pool.ready(start.slot)
    assert pool.statistics.workers_abandoned == 2 * places
    assert pool.statistics.workers == {}


def test_tasks_fail_while_no_worker_can_be_started_for_them() -> None:
    pool = PoolScript().opened()
    freeze_the_next(pool)
    pool.ready()
    pool.run(7)
    pool.handle(WorkerDisconnected(0))
    pool.at(pool.clock() + KILL_S)
    pool.run(8)
    commands = pool.handle(WorkerAbandoned(0, Status(7, 0, 0.0)))
    assert isinstance(outcome_of(commands, 8), WorkerDied), "it waited before"
    assert isinstance(outcome_of(pool.run(9), 9), WorkerDied)
    start = only(of_type(pool.handle(AbandonedWorkerExited(1)), StartWorker))
    pool.run(10)
    assert runs(pool.ready(start.slot)) == [sent_run(10)]


def test_a_pool_that_can_start_no_worker_closes_at_once() -> None:
    pool = PoolScript(limit_bytes=1 * MIB, inbox_nbytes=512 * KIB).opened()
    freeze_the_next(pool)
    pool.ready()
    freeze_the_next(pool)
    pool.close()
    assert pool.core.closed


def test_a_larger_pool_may_start_workers_again() -> None:
    pool = PoolScript().opened()
    freeze_the_next(pool)
    pool.ready()
    freeze_the_next(pool)
    assert pool.statistics.workers == {}
    assert len(of_type(pool.resize(2), StartWorker)) == 2
    pool.run(10)
    assert runs(pool.ready(0)) == [sent_run(10)]
