"""Short tasks that a worker has behind the one that it runs: sent, begun, withdrawn, and taken from a dead worker."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from offloop.core.model.blocks import CALLER_MEMORY
from offloop.core.model.commands import AbandonWorker, Command, KillWorker, Send, SettleTask, WithdrawRuns
from offloop.core.model.events import RunsWithdrawn, TaskSubmitted, WorkerDisconnected, WorkerReported
from offloop.core.model.task import Completed
from offloop.core.model.task_state import TaskState
from offloop.core.model.worker_state import WorkerState
from offloop.core.scheduling.sent_tasks import OVERDUE_S
from offloop.errors import PoolClosed, QueueTimeout, TaskTimeout, WorkerDied
from offloop.wire.handles import Handle
from offloop.wire.messages import Cancel, Done, Loading, Ready, Skipped
from offloop.wire.status import Status

from .pool_script import GRACE_S, KIB, MIB, PAGE, SPEC, EncodedAt, PoolScript, done, of_type, only, outcome_of, runs

WARM_UP = 3  # short tasks after which the next ones are expected to be short


def pool_of_short_tasks(workers: int = 1, max_sent: int = 3, **more: Any) -> PoolScript:
    """A pool whose tasks of the default kind are known to be short. The next task id is 10."""
    pool = PoolScript(workers, max_sent_tasks=max_sent, **more)
    pool.start()
    for slot in pool.core.worker_table:
        pool.handle(WorkerReported(slot.index, Loading(1)), WorkerReported(slot.index, Ready(1, queues_runs=True)))
    for task_id in range(WARM_UP):
        pool.run(task_id)
        pool.done(task_id, pool.slot_of(task_id))
    return pool


def state_of(pool: PoolScript, task_id: int) -> TaskState | None:
    task = pool.core.task_table.get(task_id)
    return None if task is None else task.state


def withdraw(pool: PoolScript, commands: list[Command], *, begun: int = 0) -> list[Command]:
    """Carry out the withdrawal: the worker has begun `begun` of its sent tasks already."""
    command = only(of_type(commands, WithdrawRuns))
    slot = pool.core.worker_table[command.slot]
    running = slot.task
    assert running is not None
    kept_to = max(running.run_number + begun, command.first - 1)
    return pool.handle(RunsWithdrawn(command.slot, command.outbox_id, kept_to))


def test_short_tasks_are_sent_to_a_busy_worker_up_to_the_limit() -> None:
    pool = pool_of_short_tasks()
    sent = [runs(pool.run(task_id)) for task_id in range(10, 16)]
    assert [len(commands) for commands in sent] == [1, 1, 1, 1, 0, 0]
    states = [state_of(pool, task_id) for task_id in range(10, 16)]
    assert states == [TaskState.RUNNING, *[TaskState.SENT] * 3, TaskState.WAITING, TaskState.WAITING]
    assert (pool.statistics.waiting, pool.statistics.running) == (5, 1)


def test_a_task_that_may_not_wait_is_not_sent_behind_another() -> None:
    pool = pool_of_short_tasks()
    pool.run(10)
    assert isinstance(outcome_of(pool.run(11, queue_timeout_s=0.0), 11), QueueTimeout)
    assert len(runs(pool.run(12, queue_timeout_s=1.0))) == 1


def test_the_answers_of_one_read_settle_their_tasks_in_order_and_send_others() -> None:
    pool = pool_of_short_tasks()
    for task_id in range(10, 17):
        pool.run(task_id)
    commands = pool.handle(WorkerReported(0, done(10), (done(11), done(12))))
    assert [command.task_id for command in of_type(commands, SettleTask)] == [10, 11, 12]
    assert [send.message.task_id for send in runs(commands)] == [14, 15, 16]
    assert (state_of(pool, 13), state_of(pool, 14)) == (TaskState.RUNNING, TaskState.SENT)


def test_a_false_answer_behind_a_true_one_kills_the_worker_and_settles_nothing() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12):
        pool.run(task_id)
    commands = pool.handle(WorkerReported(0, done(10), (done(12), done(11))))
    assert [command.task_id for command in of_type(commands, SettleTask)] == [10]
    assert of_type(commands, KillWorker) == [KillWorker(0)]
    assert len(of_type(commands, WithdrawRuns)) == 1


def test_each_answer_begins_the_next_task_and_sends_another() -> None:
    pool = pool_of_short_tasks()
    for task_id in range(10, 16):
        pool.run(task_id, timeout_s=5.0)
    pool.clock.advance_to(1.0)
    commands = pool.done(10)
    assert isinstance(outcome_of(commands, 10), Completed)
    assert [send.message.task_id for send in runs(commands)] == [14]
    assert state_of(pool, 11) is TaskState.RUNNING
    assert pool.core.worker_table[0].timer == 6.0, "its time limit begins now"
    for task_id in range(11, 16):
        assert isinstance(outcome_of(pool.done(task_id), task_id), Completed)
    assert pool.state() is WorkerState.IDLE


@pytest.mark.parametrize("more", [{"isolation": "tenant"}, {"max_tasks_per_worker": 4}], ids=lambda more: next(iter(more)))
def test_no_task_is_sent_to_a_busy_worker_that_may_run_one_tenant_or_has_had_its_last_task(more: dict[str, Any]) -> None:
    pool = pool_of_short_tasks(**more)
    pool.run(10)
    assert runs(pool.run(11)) == []


@pytest.mark.parametrize(
    ("labels", "sent"),
    [
        ([{"request": "a"}, {"request": "a"}, {"request": "b"}, {"request": "a"}], [True, True, False, False]),
        ([{}, {}, {"request": "a"}], [True, True, False]),
    ],
    ids=["labels", "none"],
)
def test_a_task_is_sent_behind_tasks_with_equal_labels_only(labels: list[dict[str, str]], sent: list[bool]) -> None:
    pool = pool_of_short_tasks()
    assert [bool(runs(pool.run(task_id, labels=given))) for task_id, given in enumerate(labels, 10)] == sent


def run_with_source(pool: PoolScript, task_id: int, nbytes: int, **more: Any) -> list[Command]:
    """Submit a task whose source lies in its caller's memory."""
    sources = (EncodedAt(Handle(CALLER_MEMORY, 0, nbytes, 0)),)
    return pool.handle(TaskSubmitted(task_id, msgspec.structs.replace(SPEC, sources=sources, **more)))


@pytest.mark.parametrize(("nbytes", "is_sent"), [(1, True), (64 * KIB, True), (64 * KIB + 1, False)])
def test_a_task_with_small_sources_is_sent_behind_another_and_its_copy_counts_as_memory_of_the_worker(
    nbytes: int, is_sent: bool
) -> None:
    pool = pool_of_short_tasks(private_sources=True, budget_bytes=512 * MIB, limit_bytes=256 * MIB).spawned()
    for task_id in range(3, 3 + WARM_UP):
        run_with_source(pool, task_id, nbytes)
        pool.done(task_id, private_bytes=MIB)
    run_with_source(pool, 10, nbytes)
    before = pool.core.budget.workers_bytes
    assert bool(runs(run_with_source(pool, 11, nbytes))) is is_sent
    grown = pool.core.budget.workers_bytes - before
    assert nbytes <= grown <= nbytes + 3 * PAGE if is_sent else not grown
    running = pool.core.task_table.get(10)
    assert running is not None
    assert pool.core.budget.running_bytes == running.charged_bytes


def test_a_task_with_a_source_is_sent_behind_tasks_of_its_tenant_only() -> None:
    pool = pool_of_short_tasks(private_sources=True)
    for task_id in range(3, 3 + WARM_UP):
        run_with_source(pool, task_id, 1)
        pool.done(task_id)
    pool.run(10, tenant="a")
    sent = [runs(run_with_source(pool, task_id, 1, tenant=tenant)) for task_id, tenant in ((11, "a"), (12, "b"))]
    assert [len(commands) for commands in sent] == [1, 0]
    assert len(runs(pool.run(13, tenant="b"))) == 0, "the one before it goes first"


def test_a_withdrawn_task_with_a_source_goes_to_another_worker_with_the_same_source() -> None:
    pool = pool_of_short_tasks(private_sources=True)
    for task_id in range(3, 3 + WARM_UP):
        run_with_source(pool, task_id, 6)
        pool.done(task_id)
    run_with_source(pool, 10, 6)
    (first,) = runs(run_with_source(pool, 11, 7))
    withdraw(pool, pool.at(OVERDUE_S))
    (again,) = runs(pool.done(10))
    assert again.message.task_id == 11
    assert again.message.sources == first.message.sources


def test_long_tasks_and_those_behind_long_tasks_wait_in_the_queue() -> None:
    pool = pool_of_short_tasks()
    for task_id in range(3, 6):
        pool.run(task_id)
        pool.report(0, Done(task_id, EncodedAt(None), {}, 0, 5_000_000))
    pool.run(10)
    assert runs(pool.run(11)) == []


def test_a_worker_that_does_not_queue_runs_gets_one_task_at_a_time() -> None:
    pool = PoolScript(max_sent_tasks=3).opened()
    for task_id in range(WARM_UP):
        pool.run(task_id)
        pool.done(task_id)
    pool.run(10)
    assert runs(pool.run(11)) == []


def test_tasks_behind_one_that_takes_too_long_are_withdrawn_and_go_to_another_worker() -> None:
    pool = pool_of_short_tasks(2)
    for task_id in range(10, 14):
        pool.run(task_id)
    busy = pool.slot_of(10)
    other = pool.slot_of(11)
    pool.clock.advance_to(OVERDUE_S * 0.9)
    for task_id in (11, 13):
        pool.done(task_id, other)
    commands = pool.at(OVERDUE_S)
    assert only(of_type(commands, WithdrawRuns)).slot == busy
    again = runs(withdraw(pool, commands))
    assert [(send.slot, send.message.task_id) for send in again] == [(other, 12)]
    assert isinstance(outcome_of(pool.done(12, other), 12), Completed)
    assert isinstance(outcome_of(pool.done(10, busy), 10), Completed)


def test_a_task_that_the_worker_has_begun_before_the_withdrawal_stays() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12):
        pool.run(task_id)
    withdraw(pool, pool.at(OVERDUE_S), begun=1)
    assert (state_of(pool, 11), state_of(pool, 12)) == (TaskState.SENT, TaskState.WAITING)
    pool.done(10)
    assert state_of(pool, 11) is TaskState.RUNNING
    assert runs(pool.done(11))[0].message.task_id == 12


def test_nothing_is_sent_behind_until_the_worker_has_passed_the_withdrawn_runs() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11):
        pool.run(task_id)
    withdraw(pool, pool.at(OVERDUE_S))
    pool.done(10)  # and 11 is sent again
    assert runs(pool.run(12)) == []
    assert pool.report(0, Skipped(11, WARM_UP + 2)) == [], "the worker meets the withdrawn run"
    assert state_of(pool, 11) is TaskState.RUNNING, "its second run is not meant"
    assert [send.message.task_id for send in runs(pool.done(11))] == [12]
    assert len(runs(pool.run(13))) == 1


def test_a_worker_that_saw_a_withdrawal_that_the_pool_did_not_skips_the_task() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12):
        pool.run(task_id)
    withdraw(pool, pool.at(OVERDUE_S), begun=2)
    pool.done(10)
    commands = pool.report(0, Skipped(11, WARM_UP + 2))
    assert state_of(pool, 12) is TaskState.RUNNING
    assert runs(commands) == []
    assert state_of(pool, 11) is TaskState.WAITING
    assert [send.message.task_id for send in runs(pool.done(12))] == [11]
    assert pool.report(0, Skipped(11, WARM_UP + 4)) == [KillWorker(0)], "it was sent to an idle worker"


def test_a_worker_that_skips_a_task_that_it_does_not_have_is_killed() -> None:
    pool = pool_of_short_tasks()
    pool.run(10)
    assert pool.report(0, Skipped(10, 99)) == [KillWorker(0)]


def test_a_cancelled_task_behind_another_is_withdrawn_and_settled() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12, 13):
        pool.run(task_id)
    commands = withdraw(pool, pool.cancel(12))
    assert of_type(commands, SettleTask) == [SettleTask(12, None)]
    assert (state_of(pool, 11), state_of(pool, 13)) == (TaskState.SENT, TaskState.WAITING)
    assert of_type(commands, Send) == [], "the running task is not disturbed"


def test_a_cancelled_task_behind_another_is_settled_when_the_worker_dies() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12):
        pool.run(task_id)
    pool.cancel(11)
    assert state_of(pool, 11) is TaskState.UNWANTED
    assert pool.cancel(11) == [], "it is being withdrawn"
    commands = pool.exited(0)
    assert SettleTask(11, None) in commands
    assert state_of(pool, 12) is TaskState.WAITING


def test_a_cancelled_task_that_a_dead_worker_had_begun_has_no_outcome() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11):
        pool.run(task_id)
    pool.cancel(11)
    commands = pool.exited(0, last_words=(done(10),), status=Status(11, 0, 0.0))
    assert isinstance(outcome_of(commands, 10), Completed)
    assert SettleTask(11, None) in commands


def test_a_cancelled_task_that_was_begun_meanwhile_is_stopped() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11):
        pool.run(task_id)
    assert of_type(withdraw(pool, pool.cancel(11), begun=1), SettleTask) == []
    commands = pool.done(10)
    assert Send(0, Cancel(11)) in commands
    assert pool.state() is WorkerState.TIMED_OUT
    assert of_type(pool.done(11), SettleTask) == [SettleTask(11, None)]


def test_a_task_that_reaches_its_limit_gives_back_those_behind_it() -> None:
    pool = pool_of_short_tasks()
    pool.run(10, timeout_s=1.0)
    pool.run(11, timeout_s=1.0)
    withdraw(pool, pool.at(OVERDUE_S))
    assert Send(0, Cancel(10)) in pool.at(1.0)
    commands = pool.done(10)
    assert isinstance(outcome_of(commands, 10), TaskTimeout)
    assert [send.message.task_id for send in runs(commands)] == [11]


def test_a_crash_costs_the_begun_task_only() -> None:
    pool = pool_of_short_tasks(2)
    for task_id in range(10, 16):
        pool.run(task_id)
    slot = pool.slot_of(10)
    behind = [task.task_id for task in pool.core.worker_table[slot].sent]
    assert len(behind) == 2
    commands = withdraw(pool, pool.handle(WorkerDisconnected(slot)))
    commands += pool.exited(slot)
    assert [command.task_id for command in of_type(commands, SettleTask)] == [10]
    assert isinstance(outcome_of(commands, 10), WorkerDied)
    for task_id in behind:
        assert state_of(pool, task_id) in (TaskState.WAITING, TaskState.SENT)


def test_a_crash_after_an_unread_answer_costs_the_task_that_was_begun_after_it() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12):
        pool.run(task_id)
    answer = Done(10, EncodedAt(None), {}, 1, 2)
    commands = pool.exited(0, last_words=(answer,), status=Status(11, 0, 0.0))
    assert isinstance(outcome_of(commands, 10), Completed)
    assert isinstance(outcome_of(commands, 11), WorkerDied)
    assert state_of(pool, 12) is TaskState.WAITING


def test_nothing_is_withdrawn_from_a_worker_that_is_being_killed_or_abandoned() -> None:
    pool = pool_of_short_tasks()
    pool.run(10)
    pool.run(11)
    withdraw(pool, pool.cancel(10), begun=1)
    assert pool.at(pool.clock() + GRACE_S) == [KillWorker(0)]
    assert pool.at(pool.clock() + 5.0) == [AbandonWorker(0)]


def test_closing_the_pool_ends_sent_tasks() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12):
        pool.run(task_id)
    commands = pool.close()
    commands += withdraw(pool, commands)
    commands += pool.done(10)
    assert {task_id: type(outcome_of(commands, task_id)) for task_id in (10, 11, 12)} == dict.fromkeys((10, 11, 12), PoolClosed)


def test_a_drained_pool_finishes_sent_tasks() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11):
        pool.run(task_id)
    pool.drain()
    pool.done(10)
    pool.done(11)
    assert pool.core.drained


def test_a_worker_that_asks_to_be_replaced_begins_no_sent_task() -> None:
    pool = pool_of_short_tasks()
    for task_id in (10, 11, 12):
        pool.run(task_id)
    commands = pool.report(0, Done(10, EncodedAt(None), {}, 1, 2, recycle=True))
    assert of_type(commands, WithdrawRuns)
    withdraw(pool, commands)
    assert (state_of(pool, 11), state_of(pool, 12)) == (TaskState.RUNNING, TaskState.WAITING)
    assert runs(pool.report(0, Skipped(11, WARM_UP + 2))) == []
    assert pool.state() is WorkerState.RETIRING


def test_a_large_first_task_is_not_passed() -> None:
    pool = pool_of_short_tasks()
    pool.run(10)
    pool.run(11, stages=[])  # of another kind, about which nothing is known
    assert runs(pool.run(12)) == []
    assert (state_of(pool, 11), state_of(pool, 12)) == (TaskState.WAITING, TaskState.WAITING)
