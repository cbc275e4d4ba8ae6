"""Dispatcher: which worker gets which task."""

from __future__ import annotations

from typing import Any

from offloop import Histogram
from offloop.core.memory.arena import Arena
from offloop.core.memory.broker import MemoryBroker
from offloop.core.memory.budget import Budget
from offloop.core.model.commands import Send
from offloop.core.model.settings import AdmissionMode
from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.model.task_state import TaskCounts, TaskState
from offloop.core.model.worker_state import WorkerEvent, WorkerState
from offloop.core.scheduling.deliveries import Deliveries
from offloop.core.scheduling.dispatcher import Dispatcher
from offloop.core.workers.group_slots import GroupSlots
from offloop.core.workers.worker_table import WorkerTable
from offloop.wire.handles import EncodedAt

from ..pool_script import MIB, STAGES, PoolScript, estimate, of_type, only, runs
from .lanes import queue_for


class DispatcherScript:
    """A dispatcher with a queue and idle workers, of which the first `used` have had a task."""

    def __init__(self, workers: int, *, used: int = 0) -> None:
        self.group = GroupSlots(workers)
        self.worker_table = WorkerTable([self.group])
        self.queue = queue_for(self.group)
        arena = Arena(4 << 20, 3 << 20)
        budget = Budget(arena, None, AdmissionMode.OFF)
        self.dispatcher = Dispatcher(
            self.worker_table, self.queue, MemoryBroker(arena, budget), budget, TaskCounts(), Deliveries(arena)
        )
        for index in range(workers):
            slot = self.worker_table.add()
            slot.outbox_id = self.worker_table.new_outbox_id()
            arena.add_segment(slot.outbox_id, 4 << 20, keep=4096)
            slot.tasks = int(index < used)
            self.worker_table.apply(slot, WorkerEvent.LOADING_BEGUN, 0.0)
            self.worker_table.apply(slot, WorkerEvent.READY, 0.0)

    def dispatch_waiting(self) -> list[tuple[int, int]]:
        return [(send.slot, send.message.task_id) for send in of_type(self.dispatcher.dispatch_waiting(5.0), Send)]


def task_of(task_id: int, timeout_s: float | None = None, *, state: TaskState = TaskState.WAITING, **more: Any) -> TaskRecord:
    spec = TaskSpec(sources=(EncodedAt(None),), stages=STAGES, timeout_s=timeout_s, **more)
    task = TaskRecord(task_id, 1.0, spec)
    task.state = state
    return task


def test_as_many_are_sent_as_there_are_workers() -> None:
    script = DispatcherScript(2)
    for task_id in (1, 2, 3):
        script.queue.push(task_of(task_id))
    assert [task_id for _, task_id in script.dispatch_waiting()] == [1, 2]
    assert len(script.queue) == 1


def test_a_task_that_needs_an_unused_worker_gets_one_and_before_the_others() -> None:
    script = DispatcherScript(2, used=1)
    script.queue.push(task_of(1))
    script.queue.push_for_unused_worker(task_of(2))
    assert script.dispatch_waiting() == [(1, 2), (0, 1)]


def test_a_task_that_needs_an_unused_worker_waits_and_the_others_do_not_wait_for_it() -> None:
    script = DispatcherScript(2, used=2)
    script.queue.push_for_unused_worker(task_of(1))
    script.queue.push(task_of(2))
    assert [task_id for _, task_id in script.dispatch_waiting()] == [2]
    assert script.queue.waiting_for_unused_worker


def test_no_task_is_dispatched_beyond_the_limit() -> None:
    script = DispatcherScript(2)
    script.group.concurrency_limit = 1
    script.queue.push_for_unused_worker(task_of(1))
    script.queue.push(task_of(2))
    assert [task_id for _, task_id in script.dispatch_waiting()] == [1]


def test_a_worker_that_is_sent_a_task_is_busy_with_it_and_no_longer_unused() -> None:
    script = DispatcherScript(1)
    task = task_of(1, timeout_s=2.0)
    script.dispatcher.dispatch(script.worker_table[0], task, 5.0)
    slot = script.worker_table[0]
    assert (slot.task, slot.state, slot.timer, slot.tasks, slot.unused) == (task, WorkerState.BUSY, 7.0, 1, False)
    assert task.dispatches == 1


def test_a_task_that_comes_is_sent_at_once_or_waits_from_its_submission_on() -> None:
    script = DispatcherScript(1)
    send = only(of_type(script.dispatcher.submit(task_of(1, state=TaskState.STAGING), 5.0), Send))
    assert send.slot == 0
    assert script.dispatcher.submit(task_of(2, state=TaskState.STAGING, queue_timeout_s=3.0), 5.0) == []
    assert script.queue.next_deadline == 4.0


def test_a_task_whose_source_lies_in_an_outbox_goes_there() -> None:
    script = DispatcherScript(3)
    one, two = (task_of(task_id, state=TaskState.STAGING, outbox_id=2) for task_id in (1, 2))
    assert only(of_type(script.dispatcher.submit_in_place(one, 5.0), Send)).slot == 1
    assert script.dispatcher.submit_in_place(two, 5.0) == [], "its worker is busy"
    assert two.state is TaskState.STAGING


# Threads


LIMIT = 512 * MIB


def test_large_tasks_have_a_share_of_the_processors_as_threads_if_no_task_waits() -> None:
    pool = PoolScript(4, limit_bytes=LIMIT, inbox_nbytes=LIMIT // 2).opened()
    sent = [only(runs(pool.run(n, estimate=estimate(0, work_s)))).message for n, work_s in ((1, 0.5), (2, 0.49), (3, 9.0))]
    assert [run.threads for run in sent] == [4, 1, 1]


def test_a_large_task_has_one_thread_if_other_tasks_wait() -> None:
    pool = PoolScript(1, limit_bytes=LIMIT, inbox_nbytes=LIMIT // 2).opened()
    for task_id in (1, 2, 3):
        pool.run(task_id, estimate=estimate(0, 5.0))
    assert only(runs(pool.done(1))).message.threads == 1
    assert only(runs(pool.done(2))).message.threads == 1


def test_a_huge_cost_does_not_block_the_scheduling() -> None:
    pool = PoolScript(1, limit_bytes=LIMIT, inbox_nbytes=LIMIT // 2).opened()
    pool.run(1)
    for task_id, tenant in ((2, "a"), (3, "b")):
        pool.run(task_id, estimate=estimate(0, 1e300), tenant=tenant)
    assert len(runs(pool.done(1))) == 1


def times_of(histogram: Histogram) -> tuple[int, float]:
    return histogram.count, histogram.sum_s


def test_wait_is_from_submission_to_dispatch_and_run_from_dispatch_to_end() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2)
    pool.at(3.0)
    pool.done(1)
    assert times_of(pool.statistics.wait) == (1, 0.0)
    assert times_of(pool.statistics.run) == (1, 3.0)
    pool.at(5.0)
    pool.failed(2)
    assert times_of(pool.statistics.wait) == (2, 3.0)
    assert times_of(pool.statistics.run) == (2, 5.0)


def test_a_retried_task_has_one_wait_and_two_runs() -> None:
    pool = PoolScript().opened()
    pool.run(1, retries=1)
    pool.at(2.0)
    pool.exited()
    assert (times_of(pool.statistics.wait), times_of(pool.statistics.run)) == ((1, 0.0), (1, 2.0))
    pool.at(6.0)
    pool.ready()
    pool.at(7.0)
    pool.done(1)
    assert (times_of(pool.statistics.wait), times_of(pool.statistics.run)) == ((1, 0.0), (2, 3.0))
