"""Which worker gets which task."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.core.admission_mode import AdmissionMode
from offloop.core.arena import Arena
from offloop.core.budget import Budget
from offloop.core.commands import Send
from offloop.core.crew import Crew
from offloop.core.dispatch import Dispatch
from offloop.core.queue import TaskQueue
from offloop.core.supply import Supply
from offloop.core.tasks import TaskRecord, TaskSpec
from offloop.core.worker_state import WorkerEvent, WorkerState
from offloop.wire.handles import EncodedAt

from .pool_script import STAGES, of_type, only


class Desk:
    """Workers, of whom so many have worked before, and a queue."""

    def __init__(self, workers: int, *, used: int = 0) -> None:
        self.crew = Crew(workers)
        self.queue = TaskQueue()
        arena = Arena(4 << 20, 3 << 20)
        budget = Budget(arena, None, AdmissionMode.OFF)
        self.dispatch = Dispatch(self.crew, self.queue, Supply(arena, budget), budget)
        for index in range(workers):
            slot = self.crew.add()
            slot.outbox_id = self.crew.new_outbox_id()
            arena.add_segment(slot.outbox_id, 4 << 20, keep=4096)
            slot.tasks = int(index < used)
            self.crew.apply(slot, WorkerEvent.READY)

    def feed(self) -> list[tuple[int, int]]:
        return [(send.slot, send.message.task_id) for send in of_type(self.dispatch.feed(5.0), Send)]


def task_of(task_id: int, timeout_s: float | None = None, **more: Any) -> TaskRecord:
    return TaskRecord(task_id, 1.0, spec=TaskSpec(source=EncodedAt(None), stages=STAGES, timeout_s=timeout_s, **more))


def test_as_many_are_sent_as_there_are_workers() -> None:
    desk = Desk(2)
    for task_id in (1, 2, 3):
        desk.queue.push(task_of(task_id))
    assert [task_id for _, task_id in desk.feed()] == [1, 2]
    assert len(desk.queue) == 1


def test_a_task_for_a_fresh_worker_is_sent_to_one_and_before_the_others() -> None:
    desk = Desk(2, used=1)
    desk.queue.push(task_of(1))
    desk.queue.push_for_fresh(task_of(2))
    assert desk.feed() == [(1, 2), (0, 1)]


def test_a_task_for_a_fresh_worker_waits_and_the_others_do_not_wait_for_it() -> None:
    desk = Desk(2, used=2)
    desk.queue.push_for_fresh(task_of(1))
    desk.queue.push(task_of(2))
    assert [task_id for _, task_id in desk.feed()] == [2]
    assert desk.queue.wants_fresh


def test_nobody_is_fed_beyond_the_limit() -> None:
    desk = Desk(2)
    desk.crew.limit = 1
    desk.queue.push_for_fresh(task_of(1))
    desk.queue.push(task_of(2))
    assert [task_id for _, task_id in desk.feed()] == [1]


def test_whoever_is_sent_a_task_is_busy_with_it_and_no_longer_fresh() -> None:
    desk = Desk(1)
    task = task_of(1, timeout_s=2.0)
    desk.dispatch.send(desk.crew[0], task, 5.0)
    slot = desk.crew[0]
    assert (slot.task, slot.state, slot.timer, slot.tasks, slot.fresh) == (task, WorkerState.BUSY, 7.0, 1, False)
    assert task.dispatches == 1


def test_a_task_that_comes_is_sent_at_once_or_waits_from_its_submission_on() -> None:
    desk = Desk(1)
    send = only(desk.dispatch.enter(task_of(1), 5.0))
    assert send.slot == 0
    assert desk.dispatch.enter(task_of(2, queue_timeout_s=3.0), 5.0) == []
    assert desk.queue.earliest == 4.0


def test_a_task_whose_source_lies_in_an_outbox_goes_there() -> None:
    desk = Desk(3)
    send = only(desk.dispatch.enter(task_of(1, outbox_id=2), 5.0))
    assert send.slot == 1
    with pytest.raises(AssertionError, match="can_run_in"):
        desk.dispatch.enter(task_of(2, outbox_id=2), 5.0)
