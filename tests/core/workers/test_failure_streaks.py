"""Failure streaks: a worker whose tasks fail in a row, or whose processor asks for it, is replaced and gets no other task."""

from __future__ import annotations

import msgspec
import pytest

from offloop.core.model.commands import Send, StartWorker
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.model.worker_state import WorkerState, WorkerStateMachine
from offloop.core.workers.failure_streaks import FailureStreaks
from offloop.wire.messages import Failed, Retire

from ..pool_script import PoolScript, done, of_type, runs


def failed(task_id: int, code: str = "exception", *, recycle: bool = False) -> Failed:
    return Failed(task_id, code, "no", None, 1, 2, recycle=recycle)


def test_the_third_unexpected_exception_in_a_row_replaces_the_worker_at_once() -> None:
    pool = PoolScript().opened()
    for task_id in (1, 2, 3, 4):
        pool.run(task_id)
    for task_id in (1, 2):
        assert len(runs(pool.failed(task_id, code="exception"))) == 1, "the next task"
    commands = pool.failed(3, code="exception")
    assert runs(commands) == [], "it gets no other task"
    assert Send(0, Retire()) in commands
    assert len(of_type(commands, StartWorker)) == 1
    assert pool.state() is WorkerState.RETIRING
    assert len(runs(pool.ready(1))) == 1


def test_a_success_or_a_failure_that_was_meant_ends_the_row() -> None:
    streaks, slot = FailureStreaks(), WorkerSlot(0, "default", WorkerStateMachine())
    for answer in (failed(1), failed(2), done(3), failed(4), failed(5), failed(6, "corrupt_source"), failed(7), failed(8)):
        assert streaks.on_task_answered(slot, answer) is None
    assert streaks.on_task_answered(slot, failed(9)) == "3 tasks in a row ended with an unexpected exception"


def test_where_replacing_does_not_help_it_is_done_ever_more_rarely_until_a_task_succeeds() -> None:
    streaks, slot, replaced_after = FailureStreaks(), WorkerSlot(0, "default", WorkerStateMachine()), list[int]()
    for number in range(1, 1000):
        if streaks.on_task_answered(slot, failed(number)) is not None:
            replaced_after.append(slot.failures)
            slot.failures = 0
    assert replaced_after[:7] == [3, 6, 12, 24, 48, 96, 192]
    assert set(replaced_after[7:]) == {192}
    streaks.on_task_answered(slot, done(1000))
    assert [streaks.on_task_answered(slot, failed(number)) is not None for number in range(3)] == [False, False, True]


@pytest.mark.parametrize("answer", [failed(1, "any", recycle=True), msgspec.structs.replace(done(1), recycle=True)])
def test_a_processor_that_asks_for_it_is_replaced_before_the_next_task(answer: Failed) -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.run(2)
    commands = pool.report(0, answer)
    assert runs(commands) == []
    assert Send(0, Retire()) in commands
