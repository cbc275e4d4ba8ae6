"""`PoolState` and deliveries: sources are copied or read into the inbox of a worker before the worker gets their task."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from offloop.core.model.blocks import CALLER_MEMORY
from offloop.core.model.commands import (
    Command,
    DeliverSources,
    HashSource,
    KillWorker,
    ReleaseInbox,
    RestageSource,
    Send,
    SettleTask,
    StartWorker,
    StopDelivery,
)
from offloop.core.model.events import CreditGranted, TaskStaged, TaskSubmitted, WorkerDisconnected
from offloop.core.model.settings import INLINE_COPY_NBYTES, KEPT_INBOX_NBYTES
from offloop.core.model.task_state import TaskState
from offloop.core.model.worker_state import WorkerState
from offloop.core.scheduling.deliveries import MAX_READ_S
from offloop.errors import InvalidTask, PoolClosed
from offloop.wire.handles import EncodedAt, Handle
from offloop.wire.messages import Cancel, Retire

from .pool_script import MIB, SPEC, PoolScript, estimate, of_type, only, outcome_of, runs

LIMIT = 512 * MIB
CHANGED = InvalidTask("the source was changed")


def pool_of(workers: int = 1, **more: Any) -> PoolScript:
    settings: dict[str, Any] = {"budget_bytes": LIMIT, "private_sources": True, "quarantine_after": 1, **more}
    return PoolScript(workers, limit_bytes=LIMIT, inbox_nbytes=384 * MIB, **settings).opened().spawned()


def submit(pool: PoolScript, task_id: int, nbytes: int = 40 * MIB, *, in_files: bool = True, **more: Any) -> list[Command]:
    """Submit a task whose source stays with its caller."""
    handle = EncodedAt(Handle(CALLER_MEMORY, 0, nbytes, 0))
    known = {"estimate": estimate(10 * MIB), "in_files": in_files, **more}
    return pool.handle(TaskSubmitted(task_id, msgspec.structs.replace(SPEC, sources=(handle,), **known)))


def stopped(commands: list[Command], delivery: Command) -> bool:
    assert isinstance(delivery, DeliverSources)
    return StopDelivery(delivery.slot, delivery.delivery_id) in commands


def state_of(pool: PoolScript, task_id: int) -> TaskState:
    task = pool.core.task_table.get(task_id)
    assert task is not None
    return task.state


@pytest.mark.parametrize(("nbytes", "in_files"), [(INLINE_COPY_NBYTES + 1, False), (1, True), (40 * MIB, True)])
def test_a_task_is_sent_when_its_sources_are_in_the_inbox_of_its_worker(nbytes: int, in_files: bool) -> None:
    pool = pool_of()
    commands = submit(pool, 1, nbytes, in_files=in_files)
    assert only(of_type(commands, DeliverSources)).sources == (EncodedAt(Handle(CALLER_MEMORY, 0, nbytes, 0)),)
    assert runs(commands) == []
    assert (pool.state(), pool.statistics.running) == (WorkerState.BUSY, 1)
    assert pool.core.budget.running_bytes == 10 * MIB + nbytes, "its memory is charged from now on"
    assert only(runs(pool.delivered(commands))).message.task_id == 1
    assert outcome_of(pool.done(1), 1) is not None


def test_a_small_source_in_memory_is_sent_at_once() -> None:
    assert len(runs(submit(pool_of(), 1, INLINE_COPY_NBYTES, in_files=False))) == 1


def test_a_large_source_is_sent_at_once_if_all_workers_map_the_pools_inbox() -> None:
    pool = pool_of(private_sources=False)
    assert len(runs(pool.run(1, pool.input(90, 40 * MIB)))) == 1


def test_the_time_limit_begins_when_the_sources_are_there() -> None:
    pool = pool_of()
    commands = submit(pool, 1, timeout_s=1.0)
    assert pool.at(1.5) == []
    assert len(runs(pool.delivered(commands))) == 1
    assert pool.core.worker_table[0].timer == 2.5
    assert pool.statistics.wait.count == 0
    assert of_type(pool.at(2.5), Send) == [Send(0, Cancel(1))]
    pool.failed(1, code="cancelled")
    assert pool.statistics.run.sum_s == pytest.approx(1.0)


def test_without_a_time_limit_a_delivered_task_has_no_timer() -> None:
    pool = pool_of()
    pool.delivered(submit(pool, 1))
    assert pool.core.worker_table[0].timer is None


@pytest.mark.parametrize("in_files", [True, False])
def test_a_caller_cancels_while_sources_are_delivered_and_the_worker_is_free_at_once(in_files: bool) -> None:
    pool = pool_of()
    first = submit(pool, 1, in_files=in_files)
    submit(pool, 2, in_files=in_files)
    commands = pool.cancel(1)
    assert stopped(commands, only(of_type(first, DeliverSources)))
    assert outcome_of(commands, 1) is None
    assert of_type(commands, Send) == [], "the worker does not know the task"
    assert only(of_type(commands, DeliverSources)).task_id == 2
    assert pool.delivered(first) == [], "the thread of the first one has ended"
    assert only(runs(pool.delivered(commands))).message.task_id == 2


def test_an_error_of_a_file_is_the_outcome_of_its_task_and_the_worker_runs_the_next_one() -> None:
    pool = pool_of()
    first = submit(pool, 1)
    submit(pool, 2)
    commands = pool.delivered(first, CHANGED)
    assert outcome_of(commands, 1) is CHANGED
    assert only(of_type(commands, DeliverSources)).task_id == 2


def test_closing_settles_a_task_whose_sources_are_delivered_and_retires_its_worker() -> None:
    pool = pool_of()
    first = submit(pool, 1)
    commands = pool.close()
    assert stopped(commands, only(of_type(first, DeliverSources)))
    assert isinstance(outcome_of(commands, 1), PoolClosed)
    assert Send(0, Retire()) in commands
    pool.exited(exit_code=0)
    assert pool.core.closed
    assert pool.delivered(first) == []


def test_closing_during_a_delivery_starts_no_worker_whose_back_off_is_over() -> None:
    pool = pool_of(2)
    first = only(of_type(submit(pool, 1), DeliverSources))
    other = 1 - first.slot
    assert of_type(pool.exited(other, exit_code=1), StartWorker) != []
    assert of_type(pool.exited(other, exit_code=1), StartWorker) == [], "its second start waits"
    pool.clock.advance_to(60.0)
    commands = pool.close()
    assert isinstance(outcome_of(commands, 1), PoolClosed)
    assert of_type(commands, StartWorker) == []


@pytest.mark.parametrize("retries", [0, 1])
def test_a_task_is_no_suspect_if_its_worker_dies_before_it_is_sent(retries: int) -> None:
    pool = pool_of(2)
    first = submit(pool, 1, retries=retries)
    slot = pool.slot_of(1)
    commands = pool.exited(slot)
    assert stopped(commands, only(of_type(first, DeliverSources)))
    again = only(of_type(commands, DeliverSources))
    assert (again.task_id, again.slot) == (1, 1 - slot)
    assert of_type(commands, HashSource) == []
    assert pool.delivered(first) == []
    assert len(runs(pool.delivered(commands))) == 1
    assert outcome_of(pool.done(1, 1 - slot), 1) is not None


def test_sources_that_arrive_at_a_dying_worker_are_of_no_use() -> None:
    pool = pool_of(2)
    first = submit(pool, 1)
    slot = pool.slot_of(1)
    assert of_type(pool.handle(WorkerDisconnected(slot)), KillWorker) == [KillWorker(slot)]
    assert pool.delivered(first) == []
    assert state_of(pool, 1) is TaskState.DELIVERING
    assert only(of_type(pool.exited(slot), DeliverSources)).slot == 1 - slot


def test_a_caller_cancels_while_the_worker_of_a_delivery_is_dying() -> None:
    pool = pool_of()
    first = submit(pool, 1)
    pool.handle(WorkerDisconnected(0))
    assert outcome_of(pool.cancel(1), 1) is None
    assert pool.delivered(first) == []
    assert of_type(pool.exited(), SettleTask) == []


def test_files_that_are_read_too_slowly_are_staged_again_and_the_worker_runs_other_tasks() -> None:
    pool = pool_of()
    first = submit(pool, 1)
    submit(pool, 2)
    assert pool.core.wake_at == MAX_READ_S
    commands = pool.at(MAX_READ_S)
    assert stopped(commands, only(of_type(first, DeliverSources)))
    assert of_type(commands, RestageSource) == [RestageSource(1)]
    assert only(of_type(commands, DeliverSources)).task_id == 2
    assert state_of(pool, 1) is TaskState.STAGING
    pool.delivered(first, CHANGED)
    pool.delivered(commands)
    block = pool.source(1, 40 * MIB)
    spec = msgspec.structs.replace(SPEC, sources=(EncodedAt(Handle(0, block.offset, block.nbytes, block.generation)),))
    assert of_type(pool.handle(TaskStaged(1, spec)), DeliverSources) == []
    third = pool.done(2)
    assert only(of_type(third, DeliverSources)).task_id == 1
    assert pool.at(3 * MAX_READ_S) == [], "a copy in memory has no limit"
    assert len(runs(pool.delivered(third))) == 1


def test_a_crashed_task_whose_files_are_staged_again_waits_for_an_unused_worker_still() -> None:
    pool = pool_of(2, quarantine_after=None)
    pool.delivered(submit(pool, 1, retries=1))
    slot = pool.slot_of(1)
    assert of_type(pool.exited(slot), DeliverSources)[0].slot == 1 - slot
    pool.ready(slot)
    pool.at(pool.clock() + MAX_READ_S)
    for other in (2, 3):
        pool.run(other)
    pool.prepare(1, pool.source(1, MIB), retries=1)
    assert 1 in pool.core.queue.waiting_for_unused_worker


def test_blocks_stay_until_the_thread_that_copies_them_has_ended() -> None:
    pool = pool_of()
    block = pool.input(90, 40 * MIB)
    first = pool.run(1, block, estimate=estimate(10 * MIB))
    pool.give_back(block)
    pool.cancel(1)
    assert pool.statistics.leases["delivery"] == 1
    assert pool.core.arena.get(block.generation) is block
    pool.delivered(first)
    assert pool.core.arena.get(block.generation) is None


def test_credit_in_a_delivery_is_sent_with_the_task() -> None:
    pool = pool_of()
    first = submit(pool, 1, credit=1)
    assert pool.handle(CreditGranted(1, 3)) == []
    assert only(runs(pool.delivered(first))).message.credit == 3


def test_a_worker_that_answers_for_a_task_before_it_has_it_is_killed() -> None:
    pool = pool_of()
    submit(pool, 1)
    assert of_type(pool.done(1), KillWorker) == [KillWorker(0)]
    assert state_of(pool, 1) is TaskState.DELIVERING


def test_no_task_is_sent_behind_one_whose_sources_are_delivered() -> None:
    pool = pool_of(max_sent_tasks=3)
    for task_id in range(10, 20):
        pool.run(task_id)
        pool.done(task_id)
    submit(pool, 1)
    assert runs(pool.run(2)) == []


def test_pages_that_a_stopped_delivery_may_have_filled_are_counted() -> None:
    pool = pool_of()
    submit(pool, 1, 100 * MIB)
    before = pool.core.budget.workers_bytes
    pool.cancel(1)
    assert pool.core.budget.workers_bytes - before == KEPT_INBOX_NBYTES
    assert pool.core.budget.excess_bytes == 100 * MIB - KEPT_INBOX_NBYTES
    assert of_type(pool.run(2, estimate=estimate(400 * MIB)), ReleaseInbox) == [ReleaseInbox(0)]


def test_a_worker_that_a_task_is_taken_back_from_may_have_as_many_tasks_as_before() -> None:
    pool = pool_of(max_tasks_per_worker=1, spares=1)
    submit(pool, 1)
    slot = pool.slot_of(1)
    pool.cancel(1)
    assert pool.core.worker_table[slot].tasks == 0


def test_a_tenant_is_not_charged_for_a_delivery_that_was_stopped() -> None:
    pool = pool_of()
    submit(pool, 1, tenant="a")
    submit(pool, 2, tenant="a")
    submit(pool, 3, tenant="b")
    pool.delivered(pool.cancel(1))
    second = pool.core.task_table.get(2)
    assert second is not None
    assert second.charged_s is not None
    commands = pool.done(2)
    pool.cancel(3)
    assert only(of_type(commands, DeliverSources)).task_id == 3
    assert pool.core.queue.lanes["default"].policy._fair_queue._tags.get("b") is None


def test_crash_reports_do_not_name_a_task_that_was_not_sent() -> None:
    pool = pool_of(workers=1)
    submit(pool, 1)
    group = pool.core.groups.default
    pool.exited()
    assert group.reconciler.restart_policy.crashes == 1
    assert state_of(pool, 1) is TaskState.WAITING
