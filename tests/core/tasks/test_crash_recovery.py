"""`CrashRecovery`: the task of a dead worker is retried on an unused worker, or settled."""

from __future__ import annotations

from offloop.core.model.commands import HashSource, Send, SettleTask, StartWorker
from offloop.core.model.events import WorkerDisconnected
from offloop.core.model.task import Completed
from offloop.core.model.worker_state import WorkerState
from offloop.errors import PoolClosed, TaskTimeout, WorkerDied
from offloop.pool_events import TaskRetried
from offloop.wire.handles import OUTBOX
from offloop.wire.messages import Retire
from offloop.wire.status import Status

from ..pool_script import GRACE_S, PoolScript, done, in_outbox, of_type, only, outcome_of, runs, sent_run

NOT_BEGUN = Status(0, 0, 0.0)


def test_a_task_without_retries_ends_with_its_worker() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    assert isinstance(outcome_of(pool.exited(), 1), WorkerDied)
    assert pool.statistics.retried == 0


def test_a_task_with_retries_is_run_again_by_the_next_worker() -> None:
    pool = PoolScript().opened()
    pool.core.event_log.watches_tasks = True
    pool.run(1, retries=1)
    assert of_type(pool.exited(), SettleTask) == []
    assert (pool.statistics.waiting, pool.statistics.retried) == (1, 1)
    assert TaskRetried(at=0.0, task_id=1, deaths=1, dispatched_at=0.0) in pool.core.event_log.drain()
    assert sent_run(1) in pool.ready()
    assert isinstance(outcome_of(pool.done(1), 1), Completed)


def test_each_run_may_request_memory_as_often_as_the_first() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.granted(1, 5000)
    task = pool.core.task_table.get(1)
    assert task is not None
    assert task.request_count == 1
    pool.exited()
    assert task.request_count == 0


def test_a_task_ends_when_its_retries_are_used_up() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=2)
    for _ in range(2):
        assert of_type(pool.exited(exit_code=-11), SettleTask) == []
        pool.ready()
    outcome = outcome_of(pool.exited(exit_code=-6), 1)
    assert isinstance(outcome, WorkerDied)
    assert outcome.report is not None
    assert (outcome.report.exit_code, pool.statistics.retried, pool.statistics.worker_died) == (-6, 2, 1)


def test_a_retried_task_goes_to_an_unused_spare_and_not_to_a_used_worker() -> None:
    pool = PoolScript(2, spares=1).opened()
    pool.run(1)
    pool.run(2, retries=1)
    used, victim = pool.slot_of(1), pool.slot_of(2)
    spare = 3 - used - victim
    pool.done(1, used)
    assert runs(pool.exited(victim)) == [sent_run(2, spare)]
    assert used != spare


def test_without_an_unused_worker_an_idle_worker_is_replaced_by_one() -> None:
    pool = PoolScript(2).opened()
    for task_id in (1, 2):
        pool.run(task_id)
    for task_id in (1, 2):
        pool.done(task_id, pool.slot_of(task_id))
    pool.run(3, retries=1)
    victim = pool.slot_of(3)
    commands = pool.exited(victim)
    assert runs(commands) == [], "the idle worker has had a task"
    assert runs(pool.ready(victim)) == [sent_run(3, victim)]


def test_two_tasks_that_need_unused_workers_do_not_wait_for_each_other() -> None:
    pool = PoolScript(2).opened()
    for task_id in (1, 2):
        pool.run(task_id, retries=1)
    first, second = pool.slot_of(1), pool.slot_of(2)
    pool.exited(first)
    pool.ready(first)
    pool.done(1, first)
    pool.run(3, retries=1)
    pool.exited(second)
    pool.exited(pool.slot_of(3))
    starting = [slot.index for slot in pool.core.worker_table if slot.ready_since is None]
    assert {send.message.task_id for slot in starting for send in runs(pool.ready(slot))} == {2, 3}


def test_a_long_run_on_an_unused_worker_does_not_delay_the_next_task_that_needs_one() -> None:
    pool = PoolScript(2, quarantine_after=9).opened()
    source = pool.input(90, 5000)
    for task_id in (1, 2):
        pool.run(task_id, source, retries=1)
    for task_id in (1, 2):
        pool.exited(pool.slot_of(task_id))
    for slot in (0, 1):
        pool.ready(slot)
    for task_id in (3, 4):
        pool.run(task_id)
    for task_id in (3, 4):
        pool.done(task_id, pool.slot_of(task_id))
    commands = pool.hashed(1, b"a") + pool.hashed(2, b"b")
    sent: list[int] = []
    while starts := of_type(commands, StartWorker):
        commands = pool.ready(only(starts).slot)
        sent += [send.message.task_id for send in runs(commands)]
        commands += [
            command
            for slot in pool.core.worker_table
            if slot.state is WorkerState.RETIRING
            for command in pool.exited(slot.index, 0)
        ]
    assert sent == [1, 2], "no worker has answered since"


def test_a_task_that_needs_an_unused_worker_gets_it_before_other_tasks() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.run(2)
    pool.exited()
    assert runs(pool.ready()) == [sent_run(1)]


def test_a_worker_that_is_replaced_works_until_the_unused_worker_is_ready() -> None:
    pool = PoolScript(spares=1).opened()
    pool.run(1)
    pool.done(1, pool.slot_of(1))
    pool.run(2)
    pool.done(2, pool.slot_of(2))
    used = only([slot for slot in pool.core.worker_table if slot.tasks])
    unused = 1 - used.index
    pool.core.worker_table[unused].tasks = 1  # this worker has had a task, too
    pool.run(3, retries=1)
    victim = pool.slot_of(3)
    commands = pool.exited(victim)
    assert of_type(commands, StartWorker)
    assert runs(pool.run(4)) == [sent_run(4, 1 - victim)]
    assert runs(pool.ready(victim)) == [], "one at a time"
    assert runs(pool.done(4, 1 - victim)) == [sent_run(3, victim)]


def test_in_a_pool_that_is_never_idle_a_busy_worker_is_replaced_by_an_unused_one() -> None:
    """Hashing the source takes long, and meanwhile the new worker has had another task."""
    pool = PoolScript(2, quarantine_after=9).opened()
    pool.run(1, pool.input(90, 5000), retries=1)
    pool.run(2)
    victim = pool.slot_of(1)
    pool.exited(victim)
    for task_id in range(3, 9):
        pool.run(task_id)
    assert runs(pool.ready(victim)) == [sent_run(3, victim)]
    start = only(of_type(pool.hashed(1), StartWorker))
    assert not of_type(pool.done(2, 1 - victim), StartWorker), "an unused worker is starting"
    pool.ready(start.slot)
    assert [send.message.task_id for send in runs(pool.done(3, victim))] == [1], "the retried task goes first"


def test_a_retried_task_whose_next_worker_dies_before_it_began_is_not_blamed_for_that() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.exited()
    pool.ready()
    assert of_type(pool.exited(status=NOT_BEGUN), SettleTask) == []
    assert sent_run(1) in pool.ready()
    assert isinstance(outcome_of(pool.exited(), 1), WorkerDied)


def test_a_task_ends_after_two_workers_died_before_they_began_it_even_with_retries_left() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=5)
    pool.exited(status=NOT_BEGUN)
    pool.ready()
    assert isinstance(outcome_of(pool.exited(status=NOT_BEGUN), 1), WorkerDied)


def test_a_time_out_is_no_death_and_is_not_retried() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0, retries=5)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    assert isinstance(outcome_of(pool.exited(), 1), TaskTimeout)


def test_a_task_whose_source_was_in_the_dead_workers_outbox_ends() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(block, 5000))
    pool.run(2, block, nbytes=5000, segment=OUTBOX, outbox_id=block.segment_id, retries=5)
    commands = pool.exited()
    assert isinstance(outcome_of(commands, 2), WorkerDied)
    assert of_type(commands, HashSource) == []


def test_an_answer_in_the_last_words_is_no_death_of_the_task() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1, retries=1)
    assert isinstance(outcome_of(pool.exited(last_words=(done(1),)), 1), Completed)
    assert (pool.statistics.quarantined, pool.statistics.retried) == (0, 0)


def test_a_retried_task_can_be_cancelled_while_it_waits() -> None:
    pool = PoolScript().opened()
    source = pool.input(90, 5000)
    pool.run(1, source, retries=1)
    pool.give_back(source)
    pool.exited()
    assert pool.cancel(1) == [SettleTask(1, None)]
    assert pool.statistics.memory_used_bytes == 0
    assert runs(pool.ready()) == []


def test_a_pool_that_closes_does_not_wait_for_an_unused_worker() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.exited()
    assert isinstance(outcome_of(pool.close(), 1), PoolClosed)


def test_a_task_that_is_to_be_retried_in_a_pool_that_closes_ends() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.handle(WorkerDisconnected(0))
    pool.close()
    assert isinstance(outcome_of(pool.exited(), 1), PoolClosed)
    assert pool.core.closed


def test_a_task_fails_if_no_unused_worker_can_be_started_although_other_workers_run() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    worker = pool.slot_of(1)
    pool.run(2, retries=1)
    victim = 1 - worker
    commands = pool.exited(victim)
    for n in range(3):
        assert pool.statistics.waiting == 1
        if pool.core.worker_table[victim].outbox_id is None:
            pool.at(pool.core.worker_table[victim].timer or 0.0)
        commands = pool.exited(victim, 3, stderr_tail="no libvips")
        assert bool(of_type(commands, SettleTask)) is (n == 2)
    outcome = outcome_of(commands, 2)
    assert isinstance(outcome, WorkerDied)
    assert "during its start" in str(outcome)
    assert pool.core.groups.default.reconciler.unavailable_error is None
    pool.run(3)
    assert runs(pool.done(1, worker)) == [sent_run(3, worker)]


def test_a_draining_pool_still_retries() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.drain()
    pool.exited()
    assert not pool.core.drained
    assert runs(pool.ready()) == [sent_run(1)]
    pool.done(1)
    assert pool.core.drained
    assert of_type(pool.close(), Send) == [Send(0, Retire())]
