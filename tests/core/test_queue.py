"""Who is next, and who has waited too long."""

from __future__ import annotations

from math import inf

import pytest

from offloop.core.queue import TaskQueue
from offloop.core.tasks import TaskRecord


def queue_of(*entries: tuple[int, float | None]) -> TaskQueue:
    queue = TaskQueue()
    for task_id, deadline in entries:
        queue.push(TaskRecord(task_id, 0.0), deadline)
    return queue


def drained(queue: TaskQueue) -> list[int]:
    return [queue.pop().task_id for _ in range(len(queue))]


def test_first_come_is_first_served() -> None:
    assert drained(queue_of((3, None), (1, None), (2, 5.0))) == [3, 1, 2]


def test_an_empty_queue_is_false_and_has_nothing_to_wait_for() -> None:
    queue = TaskQueue()
    assert not queue
    assert queue.earliest == inf
    assert queue.expired(1e9) == []
    with pytest.raises(KeyError):
        queue.pop()


def test_a_task_that_was_next_already_goes_to_the_front() -> None:
    queue = queue_of((1, None), (2, None))
    queue.push_front(TaskRecord(9, 0.0))
    assert drained(queue) == [9, 1, 2]


def test_removing_takes_that_task_out_and_no_other() -> None:
    queue = queue_of((1, None), (2, None), (3, None))
    removed = queue.remove(2)
    assert removed is not None
    assert removed.task_id == 2
    assert queue.remove(2) is None
    assert drained(queue) == [1, 3]


def test_those_whose_time_has_come_are_taken_out_earliest_first() -> None:
    queue = queue_of((1, 5.0), (2, None), (3, 2.0), (4, 7.0))
    assert queue.earliest == 2.0
    assert queue.expired(1.9) == []
    assert [task.task_id for task in queue.expired(5.0)] == [3, 1]
    assert queue.earliest == 7.0
    assert drained(queue) == [2, 4]


def test_a_task_that_left_does_not_expire() -> None:
    queue = queue_of((1, 5.0), (2, 5.0))
    queue.pop()
    queue.remove(2)
    assert queue.expired(6.0) == []
    assert queue.earliest == inf


def deadlines_kept(queue: TaskQueue) -> int:
    return len(queue._deadlines)


def test_the_deadlines_of_tasks_that_were_removed_do_not_pile_up() -> None:
    queue = queue_of((0, 1e6))
    for task_id in range(1, 1000):
        queue.push(TaskRecord(task_id, 0.0), 1e6)
        queue.remove(task_id)
    assert deadlines_kept(queue) < 100
    assert [task.task_id for task in queue.expired(1e6)] == [0]


def test_the_deadlines_of_tasks_that_were_dispatched_do_not_pile_up() -> None:
    queue = TaskQueue()
    for task_id in range(1000):
        queue.push(TaskRecord(task_id, 0.0), 1e6)
        queue.pop()
    assert deadlines_kept(queue) < 100


# Tasks for a fresh worker


def test_tasks_for_a_fresh_worker_wait_apart_in_their_order() -> None:
    queue = queue_of((1, None))
    assert (queue.wants_fresh, queue.wants_any) == (False, True)
    for task_id in (3, 2):
        queue.push_for_fresh(TaskRecord(task_id, 0.0))
    assert (queue.wants_fresh, queue.wants_any, len(queue)) == (True, True, 3)
    assert [queue.pop_for_fresh().task_id, queue.pop_for_fresh().task_id] == [3, 2]
    assert (queue.wants_fresh, len(queue)) == (False, 1)


def test_a_task_for_a_fresh_worker_can_be_taken_out() -> None:
    queue = TaskQueue()
    task = TaskRecord(7, 0.0)
    queue.push_for_fresh(task)
    assert queue.remove(7) is task
    assert queue.remove(7) is None
    assert not queue


def test_all_can_be_taken_or_only_those_for_a_fresh_worker() -> None:
    queue = queue_of((1, 5.0), (2, None))
    for task_id in (3, 4):
        queue.push_for_fresh(TaskRecord(task_id, 0.0))
    assert [task.task_id for task in queue.pop_all_for_fresh()] == [3, 4]
    assert len(queue) == 2
    queue.push_for_fresh(TaskRecord(5, 0.0))
    assert [task.task_id for task in queue.pop_all()] == [5, 1, 2]
    assert (len(queue), queue.earliest) == (0, inf)


def test_a_task_that_was_sent_in_time_and_comes_back_has_kept_its_deadline() -> None:
    queue = queue_of((1, 5.0))
    task = queue.pop()
    task.dispatches += 1
    queue.push_front(task)
    assert queue.expired(6.0) == []
    assert queue.pop() is task


def test_when_all_have_left_nobody_wakes_for_their_deadlines() -> None:
    queue = queue_of((1, 5.0), (2, 6.0))
    drained(queue)
    assert queue.earliest == inf
    queue = queue_of((1, 5.0), (2, 6.0))
    queue.remove(2)
    assert [task.task_id for task in queue.expired(5.0)] == [1]
    assert queue.earliest == inf
