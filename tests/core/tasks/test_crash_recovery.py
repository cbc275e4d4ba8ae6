"""What becomes of the task that a dead worker had: retried on a fresh worker, refused, or ended."""

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
    assert isinstance(outcome_of(pool.reaped(), 1), WorkerDied)
    assert pool.statistics.retried == 0


def test_a_task_with_retries_is_run_again_by_the_next_worker() -> None:
    pool = PoolScript().opened()
    pool.core.event_log.has_subscribers = True
    pool.run(1, retries=1)
    assert of_type(pool.reaped(), SettleTask) == []
    assert (pool.statistics.waiting, pool.statistics.retried) == (1, 1)
    assert TaskRetried(at=0.0, task_id=1, deaths=1) in pool.core.event_log.drain()
    assert sent_run(1) in pool.ready()
    assert isinstance(outcome_of(pool.done(1), 1), Completed)


def test_each_time_it_may_ask_for_memory_as_often_as_the_first() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.granted(1, 5000)
    task = pool.core.task_table.get(1)
    assert task is not None
    assert task.request_count == 1
    pool.reaped()
    assert task.request_count == 0


def test_when_its_retries_are_used_up_it_ends() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=2)
    for _ in range(2):
        assert of_type(pool.reaped(exit_code=-11), SettleTask) == []
        pool.ready()
    outcome = outcome_of(pool.reaped(exit_code=-6), 1)
    assert isinstance(outcome, WorkerDied)
    assert outcome.report is not None
    assert (outcome.report.exit_code, pool.statistics.retried, pool.statistics.worker_died) == (-6, 2, 1)


def test_a_worker_that_has_worked_does_not_get_it_and_a_spare_that_has_not_does() -> None:
    pool = PoolScript(2, spares=1).opened()
    pool.run(1)
    pool.run(2, retries=1)
    used, victim = pool.slot_of(1), pool.slot_of(2)
    spare = 3 - used - victim
    pool.done(1, used)
    assert runs(pool.reaped(victim)) == [sent_run(2, spare)]
    assert used != spare


def test_with_nobody_fresh_an_idle_worker_makes_way_for_one() -> None:
    pool = PoolScript(2).opened()
    for task_id in (1, 2):
        pool.run(task_id)
    for task_id in (1, 2):
        pool.done(task_id, pool.slot_of(task_id))
    pool.run(3, retries=1)
    victim = pool.slot_of(3)
    commands = pool.reaped(victim)
    assert runs(commands) == [], "the idle one has worked"
    assert runs(pool.ready(victim)) == [sent_run(3, victim)]


def test_two_that_want_a_fresh_worker_do_not_wait_for_each_other() -> None:
    pool = PoolScript(2).opened()
    for task_id in (1, 2):
        pool.run(task_id, retries=1)
    first, second = pool.slot_of(1), pool.slot_of(2)
    pool.reaped(first)
    pool.ready(first)
    pool.done(1, first)
    pool.run(3, retries=1)
    pool.reaped(second)
    pool.reaped(pool.slot_of(3))
    starting = [slot.index for slot in pool.core.worker_table if slot.ready_since is None]
    assert {send.message.task_id for slot in starting for send in runs(pool.ready(slot))} == {2, 3}


def test_one_that_runs_for_long_on_the_fresh_worker_does_not_keep_the_next_from_having_its_own() -> None:
    pool = PoolScript(2, quarantine_after=9).opened()
    source = pool.input(90, 5000)
    for task_id in (1, 2):
        pool.run(task_id, source, retries=1)
    for task_id in (1, 2):
        pool.reaped(pool.slot_of(task_id))
    for slot in (0, 1):
        pool.ready(slot)
    for task_id in (3, 4):
        pool.run(task_id)
    for task_id in (3, 4):
        pool.done(task_id, pool.slot_of(task_id))
    commands = pool.identified(1, b"a") + pool.identified(2, b"b")
    sent: list[int] = []
    while starts := of_type(commands, StartWorker):
        commands = pool.ready(only(starts).slot)
        sent += [send.message.task_id for send in runs(commands)]
        commands += [
            command
            for slot in pool.core.worker_table
            if slot.state is WorkerState.RETIRING
            for command in pool.reaped(slot.index, 0)
        ]
    assert sent == [1, 2], "and nobody has answered since"


def test_a_task_for_a_fresh_worker_gets_one_before_any_other_task_does() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.run(2)
    pool.reaped()
    assert runs(pool.ready()) == [sent_run(1)]


def test_a_worker_that_makes_way_works_on_until_the_fresh_one_is_ready() -> None:
    pool = PoolScript(spares=1).opened()
    pool.run(1)
    pool.done(1, pool.slot_of(1))
    pool.run(2)
    pool.done(2, pool.slot_of(2))
    used = only([slot for slot in pool.core.worker_table if slot.tasks])
    unused = 1 - used.index
    pool.core.worker_table[unused].tasks = 1  # it has worked, too
    pool.run(3, retries=1)
    victim = pool.slot_of(3)
    commands = pool.reaped(victim)
    assert of_type(commands, StartWorker)
    assert runs(pool.run(4)) == [sent_run(4, 1 - victim)]
    assert runs(pool.ready(victim)) == [], "one at a time"
    assert runs(pool.done(4, 1 - victim)) == [sent_run(3, victim)]


def test_in_a_pool_that_is_never_idle_a_busy_worker_makes_way_for_a_fresh_one() -> None:
    """Its source takes long to be read, and meanwhile the new worker has had another task."""
    pool = PoolScript(2, quarantine_after=9).opened()
    pool.run(1, pool.input(90, 5000), retries=1)
    pool.run(2)
    victim = pool.slot_of(1)
    pool.reaped(victim)
    for task_id in range(3, 9):
        pool.run(task_id)
    assert runs(pool.ready(victim)) == [sent_run(3, victim)]
    start = only(of_type(pool.identified(1), StartWorker))
    assert not of_type(pool.done(2, 1 - victim), StartWorker), "one is on its way"
    pool.ready(start.slot)
    assert [send.message.task_id for send in runs(pool.done(3, victim))] == [1], "and others have waited longer"


def test_a_retried_task_whose_next_worker_dies_before_it_began_is_not_blamed_for_that() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.reaped()
    pool.ready()
    assert of_type(pool.reaped(status=NOT_BEGUN), SettleTask) == []
    assert sent_run(1) in pool.ready()
    assert isinstance(outcome_of(pool.reaped(), 1), WorkerDied)


def test_two_workers_that_die_before_they_begin_it_end_it_whatever_its_retries() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=5)
    pool.reaped(status=NOT_BEGUN)
    pool.ready()
    assert isinstance(outcome_of(pool.reaped(status=NOT_BEGUN), 1), WorkerDied)


def test_a_time_out_is_no_death_and_is_not_retried() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0, retries=5)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    assert isinstance(outcome_of(pool.reaped(), 1), TaskTimeout)


def test_a_source_that_lay_with_the_dead_worker_is_gone_and_the_task_with_it() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(block, 5000))
    pool.run(2, block, nbytes=5000, segment=OUTBOX, outbox_id=block.segment_id, retries=5)
    commands = pool.reaped()
    assert isinstance(outcome_of(commands, 2), WorkerDied)
    assert of_type(commands, HashSource) == []


def test_an_answer_in_the_last_words_is_no_death_of_the_task() -> None:
    pool = PoolScript(quarantine_after=1).opened()
    pool.run(1, retries=1)
    assert isinstance(outcome_of(pool.reaped(last_words=(done(1),)), 1), Completed)
    assert (pool.statistics.quarantined, pool.statistics.retried) == (0, 0)


def test_a_retried_task_can_be_cancelled_while_it_waits() -> None:
    pool = PoolScript().opened()
    source = pool.input(90, 5000)
    pool.run(1, source, retries=1)
    pool.give_back(source)
    pool.reaped()
    assert pool.cancel(1) == [SettleTask(1, None)]
    assert pool.statistics.memory_used_bytes == 0
    assert runs(pool.ready()) == []


def test_a_pool_that_closes_does_not_wait_for_a_fresh_worker() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.reaped()
    assert isinstance(outcome_of(pool.close(), 1), PoolClosed)


def test_a_task_that_is_to_be_retried_in_a_pool_that_closes_ends() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.tell(WorkerDisconnected(0))
    pool.close()
    assert isinstance(outcome_of(pool.reaped(), 1), PoolClosed)
    assert pool.core.closed


def test_a_task_that_nobody_fresh_can_be_started_for_is_told_so_though_others_work_on() -> None:
    pool = PoolScript(2).opened()
    pool.run(1)
    worker = pool.slot_of(1)
    pool.run(2, retries=1)
    victim = 1 - worker
    commands = pool.reaped(victim)
    for n in range(3):
        assert pool.statistics.waiting == 1
        if pool.core.worker_table[victim].outbox_id is None:
            pool.at(pool.core.worker_table[victim].timer or 0.0)
        commands = pool.reaped(victim, 3, stderr_tail="no libvips")
        assert bool(of_type(commands, SettleTask)) is (n == 2)
    outcome = outcome_of(commands, 2)
    assert isinstance(outcome, WorkerDied)
    assert "during its start" in str(outcome)
    assert pool.core.reconciler.unavailable_error is None
    pool.run(3)
    assert runs(pool.done(1, worker)) == [sent_run(3, worker)]


def test_a_draining_pool_still_retries() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.drain()
    pool.reaped()
    assert not pool.core.drained
    assert runs(pool.ready()) == [sent_run(1)]
    pool.done(1)
    assert pool.core.drained
    assert of_type(pool.close(), Send) == [Send(0, Retire())]
