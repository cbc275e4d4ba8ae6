"""`TaskTable`: a task is added once, and settled once; its times are recorded, and its leases are released."""

from __future__ import annotations

import pytest

from offloop.core.memory.arena import INBOX_ID, Arena
from offloop.core.memory.broker import MemoryBroker, worker_lease
from offloop.core.memory.budget import Budget
from offloop.core.model.blocks import Block, Holder, Lease
from offloop.core.model.commands import SettleTask
from offloop.core.model.settings import AdmissionMode
from offloop.core.model.task import Completed, TaskOutput
from offloop.core.model.task_record import TaskRecord
from offloop.core.model.task_state import IllegalTaskEvent
from offloop.core.tasks.outcomes import Outcome
from offloop.core.tasks.task_table import OutcomeCounter, TaskTable
from offloop.errors import (
    InvalidTask,
    MemoryLimitExceeded,
    PluginError,
    PoolClosed,
    QueueFull,
    QueueTimeout,
    TaskFailed,
    TaskQuarantined,
    TaskTimeout,
    WorkerDied,
)
from offloop.wire.handles import EncodedAt

from ..pool_script import GRACE_S, SPEC, PoolScript
from ..scheduling.lanes import queue_for

P = 4096


class Scene:
    """A task table, and the memory that its tasks hold."""

    def __init__(self) -> None:
        self.arena = Arena(32 * P, 16 * P)
        self.arena.add_segment(1, 33 * P, keep=P)
        budget = Budget(self.arena, None, AdmissionMode.OFF)
        self.broker = MemoryBroker(self.arena, budget)
        self.task_table = TaskTable(self.arena, self.broker, budget, queue_for())

    def block(self, segment_id: int, holder: Holder, owner: int) -> Block:
        found = self.arena.allocate(segment_id, P, holder, owner)
        assert found is not None
        block, reservation = found
        if reservation is not None:
            self.arena.release(block, Lease(Holder.RESERVATION, block.generation))
        return block

    def task_with_memory(self, task_id: int) -> TaskRecord:
        """A task with a source and two granted blocks."""
        task = self.task_table.add(task_id, SPEC, 0.0)
        task.source_blocks = (self.block(INBOX_ID, Holder.TASK, task_id),)
        task.granted = [self.block(1, Holder.WORKER, task_id) for _ in range(2)]
        return task


def test_an_added_task_is_counted_and_can_be_found() -> None:
    task_table = Scene().task_table
    task = task_table.add(7, SPEC, 2.5)
    assert (task.task_id, task.submitted_at) == (7, 2.5)
    assert task_table.get(7) is task
    assert (len(task_table), list(task_table), task_table.outcome_counter.submitted) == (1, [task], 1)
    assert task_table.get(8) is None


def test_settling_removes_a_task_and_counts_its_outcome() -> None:
    task_table = Scene().task_table
    error = PoolClosed()
    assert task_table.settle(task_table.add(7, SPEC, 0.0), error) == [SettleTask(7, error)]
    assert (len(task_table), task_table.get(7), dict(task_table.outcome_counter.ended)) == (0, None, {"refused": 1})


def test_a_task_cannot_be_settled_twice() -> None:
    task_table = Scene().task_table
    task = task_table.add(7, SPEC, 0.0)
    task_table.settle(task, None)
    with pytest.raises(IllegalTaskEvent):
        task_table.settle(task, None)
    assert dict(task_table.outcome_counter.ended) == {"cancelled": 1}


def test_settling_releases_the_source_and_every_grant() -> None:
    scene = Scene()
    other = scene.task_with_memory(8)
    scene.task_table.settle(scene.task_with_memory(7), None)
    assert scene.arena.used_bytes == 3 * P, "the other task's"
    assert scene.arena.leases[Holder.WORKER] == len(other.granted) == 2


def test_a_source_with_another_lease_stays() -> None:
    scene = Scene()
    task = scene.task_with_memory(7)
    (source,) = task.source_blocks
    assert source is not None
    scene.arena.acquire(source, Lease(Holder.CALLER, source.generation))
    scene.task_table.settle(task, None)
    assert scene.arena.get(source.generation) is source


def test_releasing_the_grants_keeps_the_source_and_cancels_requests() -> None:
    scene = Scene()
    task = scene.task_with_memory(7)
    scene.broker.request_output(0, 1, task, 1000 * P)
    scene.broker.request_output(0, 1, task, P)
    scene.task_table.release_worker_blocks(task)
    assert (task.granted, task.requested_bytes, scene.broker.has_waiters) == ([], None, False)
    assert scene.arena.leases[Holder.WORKER] == 0
    assert scene.task_table.get(7) is task
    (source,) = task.source_blocks
    assert worker_lease(task) not in source.leases


def test_the_table_may_change_while_it_is_iterated() -> None:
    task_table = Scene().task_table
    for task_id in range(3):
        task_table.add(task_id, SPEC, 0.0)
    for task in task_table:
        task_table.settle(task, None)
    assert len(task_table) == 0


def test_the_run_on_a_killed_worker_ends_with_its_exit() -> None:
    pool = PoolScript().opened()
    pool.run(1, timeout_s=1.0)
    pool.at(1.0)
    pool.at(1.0 + GRACE_S)
    pool.at(2.5)
    pool.exited()
    assert pool.statistics.timed_out == 1
    assert (pool.statistics.run.count, pool.statistics.run.sum_s) == (1, 2.5)


def test_a_task_that_was_not_dispatched_is_not_timed() -> None:
    pool = PoolScript(max_queue=2).opened()
    pool.run(1)
    for task_id in (2, 3, 4):
        pool.run(task_id, queue_timeout_s=1.0)
    pool.cancel(3)
    pool.at(1.0)
    assert (pool.statistics.refused, pool.statistics.cancelled) == (2, 1)
    assert (pool.statistics.wait.count, pool.statistics.run.count) == (0, 0)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (None, "cancelled"),
        (Completed(TaskOutput(EncodedAt(None), None, {}, 1, 2)), "completed"),
        (TaskTimeout(1.0, obeyed=True), "timed_out"),
        (WorkerDied(1), "worker_died"),
        (TaskQuarantined(3, 60.0), "refused"),
        (TaskFailed("code", "text"), "failed"),
        (PluginError("vips", "text"), "failed"),  # failed and not refused, because the task ran
        (QueueFull(1, 1), "refused"),
        (QueueTimeout(1.0, "a worker"), "refused"),
        (MemoryLimitExceeded(2, 1), "refused"),
        (InvalidTask("text"), "refused"),
        (PoolClosed(), "refused"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_every_outcome_is_counted_under_one_name(outcome: Outcome, kind: str) -> None:
    counter = OutcomeCounter()
    counter.count(outcome)
    assert dict(counter.ended) == {kind: 1}
