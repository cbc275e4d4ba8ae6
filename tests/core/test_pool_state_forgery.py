"""Forged messages: the worker is killed, its task fails once, and no other task is affected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offloop.core.model.commands import Command, KillWorker, Send, SettleTask
from offloop.core.model.events import TaskCancelled, WorkerViolatedProtocol
from offloop.core.model.settings import MAX_NEEDS
from offloop.core.model.task import Completed
from offloop.core.model.worker_state import WorkerState
from offloop.errors import WorkerDied
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt, WrittenTo
from offloop.wire.messages import Failed, FromWorker, Loading, Need, Ready

from .pool_script import MIB, PLENTY, PoolScript, done, in_outbox, of_type, only, outcome_of, reservations

LIAR_TASK, OTHER_TASK = 1, 2


class Scene:
    """Two workers with a task each; both tasks were granted memory, and a caller holds a source."""

    def __init__(self) -> None:
        self.pool = PoolScript(2).opened(pages=True)
        self.source = self.pool.input(10, 5000)
        self.pool.run(LIAR_TASK, self.source)
        self.pool.run(OTHER_TASK)
        self.liar, self.other = (self.slot_of(task_id) for task_id in (LIAR_TASK, OTHER_TASK))
        self.own = self.pool.granted(LIAR_TASK, 9000, self.liar)
        self.foreign = self.pool.granted(OTHER_TASK, 9000, self.other)

    def slot_of(self, task_id: int) -> int:
        return only([slot.index for slot in self.pool.core.worker_table if slot.task and slot.task.task_id == task_id])

    def lie(self, message: FromWorker) -> list[Command]:
        return self.pool.report(self.liar, message)


def encoded(segment: int, offset: int, nbytes: int, generation: int) -> EncodedAt:
    return EncodedAt(Handle(segment, offset, nbytes, generation))


OUTPUTS: dict[str, Callable[[Scene], EncodedAt | RasterAt | WrittenTo]] = {
    "a wrong generation": lambda s: encoded(OUTBOX, s.own.offset, 100, s.own.generation + 50),
    "a wrong offset": lambda s: encoded(OUTBOX, s.own.offset + 4096, 100, s.own.generation),
    "a byte too long": lambda s: encoded(OUTBOX, s.own.offset, s.own.nbytes + 1, s.own.generation),
    "the inbox segment": lambda s: encoded(INBOX, s.own.offset, 100, s.own.generation),
    "the task's own source": lambda s: encoded(INBOX, s.source.offset, 100, s.source.generation),
    "another task's block": lambda s: encoded(OUTBOX, s.foreign.offset, 100, s.foreign.generation),
    "samples too long": lambda s: RasterAt(Handle(OUTBOX, s.own.offset, 4096 * 4, s.own.generation), (64, 64, 4), "|u1"),
    "a file that was not requested": lambda _: WrittenTo(5),
}

MESSAGES: dict[str, Callable[[Scene], FromWorker]] = {
    **{name: lambda s, made=made: done(LIAR_TASK, made(s)) for name, made in OUTPUTS.items()},
    "done with another's task": lambda _: done(OTHER_TASK),
    "done with an unknown task": lambda _: done(99),
    "failed with another's task": lambda _: Failed(OTHER_TASK, "refused", "no", None, 1, 2),
    "need for another's task": lambda _: Need(OTHER_TASK, 100),
    "need of nothing": lambda _: Need(LIAR_TASK, 0),
    "need of a negative size": lambda _: Need(LIAR_TASK, -5),
    "ready twice": lambda _: Ready(1),
    "loading twice": lambda _: Loading(1),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_worker_that_forges_a_message_is_killed_and_fails_one_task(name: str) -> None:
    scene = Scene()
    assert scene.lie(MESSAGES[name](scene)) == [KillWorker(scene.liar)]
    assert scene.pool.state(scene.liar) is WorkerState.FAILED
    assert scene.pool.statistics.running == 2, "the worker may still write: its task and its memory wait for its exit"
    assert scene.pool.core.arena.get(scene.own.generation) is scene.own

    outcome = outcome_of(scene.pool.exited(scene.liar), LIAR_TASK)
    assert isinstance(outcome, WorkerDied)
    assert outcome.reason is not None
    assert outcome.reason.startswith("it broke the protocol: ")
    assert scene.pool.core.arena.get(scene.own.generation) is None

    settled = outcome_of(scene.pool.done(OTHER_TASK, scene.other, output=in_outbox(scene.foreign, 100)), OTHER_TASK)
    assert isinstance(settled, Completed)
    statistics = scene.pool.statistics
    assert (statistics.worker_died, statistics.completed, statistics.running, statistics.waiting) == (1, 1, 0, 0)


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_a_worker_that_is_being_killed_are_ignored(name: str) -> None:
    scene = Scene()
    scene.pool.handle(WorkerViolatedProtocol(scene.liar, "nonsense"))
    assert of_type(scene.lie(MESSAGES[name](scene)), SettleTask) == []
    assert of_type(scene.lie(done(LIAR_TASK, in_outbox(scene.own, 100))), SettleTask) == []
    assert isinstance(outcome_of(scene.pool.exited(scene.liar), LIAR_TASK), WorkerDied)


def test_a_worker_that_answers_twice_is_killed_and_no_outcome_changes() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    answer = done(1, in_outbox(block, 5000))
    assert isinstance(outcome_of(pool.report(0, answer), 1), Completed)
    assert pool.report(0, answer) == [KillWorker(0)]
    assert of_type(pool.exited(), SettleTask) == []
    assert pool.core.arena.get(block.generation) is block, "the caller still holds it"
    assert (pool.statistics.completed, pool.statistics.worker_died) == (1, 0)


def test_an_idle_worker_that_answers_is_killed() -> None:
    pool = PoolScript().opened()
    assert pool.done(1) == [KillWorker(0)]
    assert pool.state() is WorkerState.FAILED


@pytest.mark.parametrize("message", [done(1), Need(1, 5), Failed(1, "a", "b", None, 1, 2)], ids=["done", "need", "failed"])
def test_a_worker_that_sends_a_message_before_it_is_ready_is_killed(message: FromWorker) -> None:
    pool = PoolScript()
    pool.start()
    assert pool.report(0, message) == [KillWorker(0)]
    assert pool.state() is WorkerState.FAILED


def test_a_worker_that_sends_a_second_need_before_the_first_was_answered_is_killed() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    (reservation,) = reservations(pool.need(1, MIB))
    assert pool.need(1, 5) == [KillWorker(0)]
    assert isinstance(outcome_of(pool.exited(), 1), WorkerDied)
    assert pool.reserved(reservation) == []
    assert pool.statistics.memory_used_bytes == 0


def test_a_need_after_the_first_was_answered_is_legal() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    first, second = pool.granted(1, 5000), pool.granted(1, 6000)
    assert first is not second
    assert isinstance(outcome_of(pool.done(1, output=in_outbox(second, 6000)), 1), Completed)
    assert pool.core.arena.get(first.generation) is None


def test_a_need_of_a_task_that_is_being_stopped_is_legal() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.cancel(1)
    assert pool.need(1, 5000) == []
    assert pool.state() is WorkerState.TIMED_OUT


def test_a_block_whose_grant_was_not_sent_yet_cannot_be_an_output() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    (reservation,) = reservations(pool.need(1, MIB))
    assert pool.done(1, output=in_outbox(reservation.block, 100)) == [KillWorker(0)]


def test_a_block_of_an_earlier_task_cannot_be_an_output() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    block = pool.granted(1, 5000)
    pool.done(1, output=in_outbox(block, 5000))
    pool.run(2)
    assert pool.done(2, output=in_outbox(block, 5000)) == [KillWorker(0)]
    pool.exited()
    assert pool.core.arena.get(block.generation) is block


def test_no_message_is_sent_to_a_worker_that_is_being_killed() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    pool.handle(WorkerViolatedProtocol(0, "nonsense"))
    assert of_type(pool.run(2), Send) == []
    assert of_type(pool.cancel(1), Send) == []


@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_that_requests_memory_endlessly_is_killed(stopped: bool) -> None:
    pool = PoolScript().opened()
    pool.run(1)
    if stopped:
        pool.handle(TaskCancelled(1))
    for _ in range(MAX_NEEDS):
        assert of_type(pool.need(1, PLENTY * 1024), KillWorker) == []
    assert pool.need(1, PLENTY * 1024) == [KillWorker(0)]
    outcome = outcome_of(pool.exited(), 1)
    assert isinstance(outcome, WorkerDied)
    assert "more than 10,000 times" in str(outcome.reason)
