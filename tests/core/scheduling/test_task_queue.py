"""Task queue: order, deadlines, and tasks that need an unused worker."""

from __future__ import annotations

from math import inf

import pytest

from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.scheduling.task_queue import TaskQueue
from offloop.wire.handles import EncodedAt

from .lanes import queue_for


def task(task_id: int) -> TaskRecord:
    return TaskRecord(task_id, 0.0, TaskSpec(sources=(EncodedAt(None),), stages=[], timeout_s=None))


def queue_of(*entries: tuple[int, float | None]) -> TaskQueue:
    queue = queue_for()
    for task_id, deadline in entries:
        queue.push(task(task_id), deadline)
    return queue


def popped(queue: TaskQueue) -> TaskRecord:
    task = queue.lanes["default"].policy.first()
    queue.start(task)
    return task


def drained(queue: TaskQueue) -> list[int]:
    return [popped(queue).task_id for _ in range(len(queue))]


def test_of_tasks_with_the_same_cost_the_first_submitted_starts_first() -> None:
    assert drained(queue_of((3, None), (1, None), (2, 5.0))) == [1, 2, 3]


def test_an_empty_queue_is_false_and_has_no_deadline() -> None:
    queue = queue_for()
    assert not queue
    assert queue.next_deadline == inf
    assert queue.expired(1e9) == []
    with pytest.raises(KeyError):
        popped(queue)


def test_a_requeued_task_goes_to_the_front() -> None:
    queue = queue_of((1, None), (2, None))
    queue.requeue_first(task(9))
    assert drained(queue) == [9, 1, 2]


def test_remove_removes_that_task_and_no_other() -> None:
    queue = queue_of((1, None), (2, None), (3, None))
    queue.remove(2)
    queue.remove(2)
    assert drained(queue) == [1, 3]


def test_expired_tasks_are_removed_the_earliest_deadline_first() -> None:
    queue = queue_of((1, 5.0), (2, None), (3, 2.0), (4, 7.0))
    assert queue.next_deadline == 2.0
    assert queue.expired(1.9) == []
    assert [task.task_id for task in queue.expired(5.0)] == [3, 1]
    assert queue.next_deadline == 7.0
    assert drained(queue) == [2, 4]


def test_a_task_that_left_does_not_expire() -> None:
    queue = queue_of((1, 5.0), (2, 5.0))
    popped(queue)
    queue.remove(2)
    assert queue.expired(6.0) == []
    assert queue.next_deadline == inf


def deadlines_kept(queue: TaskQueue) -> int:
    return len(queue._deadlines)


def test_the_deadlines_of_tasks_that_were_removed_do_not_pile_up() -> None:
    queue = queue_of((0, 1e6))
    for task_id in range(1, 1000):
        queue.push(task(task_id), 1e6)
        queue.remove(task_id)
    assert deadlines_kept(queue) < 100
    assert [task.task_id for task in queue.expired(1e6)] == [0]


def test_the_deadlines_of_tasks_that_were_dispatched_do_not_pile_up() -> None:
    queue = queue_for()
    for task_id in range(1000):
        queue.push(task(task_id), 1e6)
        popped(queue)
    assert deadlines_kept(queue) < 100


# Tasks that need an unused worker


def test_tasks_that_need_an_unused_worker_wait_apart_in_their_order() -> None:
    queue = queue_of((1, None))
    assert (bool(queue.waiting_for_unused_worker), bool(queue.waiting)) == (False, True)
    for task_id in (3, 2):
        queue.push_for_unused_worker(task(task_id))
    assert (bool(queue.waiting_for_unused_worker), bool(queue.waiting), len(queue)) == (True, True, 3)
    lane = queue.lanes["default"]
    for task_id in (3, 2):
        assert lane.first_for_unused_worker.task_id == task_id
        queue.start_on_unused_worker(lane.first_for_unused_worker)
    assert (bool(queue.waiting_for_unused_worker), bool(queue.waiting)) == (False, True)


def test_a_task_that_needs_an_unused_worker_can_be_removed() -> None:
    queue = queue_for()
    queue.push_for_unused_worker(task(7))
    queue.remove(7)
    assert not queue


def test_all_tasks_can_be_removed_or_only_those_that_need_an_unused_worker() -> None:
    queue = queue_of((1, 5.0), (2, None))
    for task_id in (3, 4):
        queue.push_for_unused_worker(task(task_id))
    assert [task.task_id for task in queue.pop_all_for_unused_worker()] == [3, 4]
    assert len(queue) == 2
    queue.push_for_unused_worker(task(5))
    assert [task.task_id for task in queue.pop_all()] == [5, 1, 2]
    assert (len(queue), queue.next_deadline) == (0, inf)


def test_a_task_that_was_sent_in_time_and_comes_back_has_kept_its_deadline() -> None:
    queue = queue_of((1, 5.0))
    first = popped(queue)
    first.dispatches += 1
    queue.requeue_first(first)
    assert queue.expired(6.0) == []
    assert popped(queue) is first


def test_when_all_tasks_have_left_there_is_no_deadline() -> None:
    queue = queue_of((1, 5.0), (2, 6.0))
    drained(queue)
    assert queue.next_deadline == inf
    queue = queue_of((1, 5.0), (2, 6.0))
    queue.remove(2)
    assert [task.task_id for task in queue.expired(5.0)] == [1]
    assert queue.next_deadline == inf


def test_the_deadline_of_a_task_that_has_left_is_not_the_next_one() -> None:
    queue = queue_of((1, 5.0))
    popped(queue)
    queue.push(task(2), 9.0)
    assert queue.next_deadline == 9.0
