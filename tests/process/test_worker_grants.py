"""Memory of a task in the worker: what it requests, and what comes with credit."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from offloop import TaskCancelled
from offloop.wire.codec import decode_from_worker, encode_frame
from offloop.wire.framing import MAX_FROM_WORKER_NBYTES, FrameReader
from offloop.wire.handles import OUTBOX, EncodedAt, Handle
from offloop.wire.messages import Cancel, Credit, FromSupervisor, FromWorker, Grant, Need, Run
from offloop.worker.channel import Channel
from offloop.worker.isolation.memory_limits import PrivateMemory
from offloop.worker.segments import Segment
from offloop.worker.task import RunningTask

P = 4096


def ignore(*_output: object) -> None:
    """Hands over nothing: no task of this module has an output."""


class Scene:
    """A task with credit for two outputs, and the supervisor's end of its channel."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.channel = Channel(theirs.detach())
        descriptor = os.memfd_create("outbox")  # mapping it closes it
        os.ftruncate(descriptor, 16 * P)
        outbox = Segment(descriptor, 16 * P, writable=True)
        run = Run(1, (EncodedAt(None),), [], None, credit=2)
        self.task = RunningTask(run, (), None, self.channel, outbox, PrivateMemory(), ignore, ignore)
        self.channel.watch(self.task)

    def send(self, *messages: FromSupervisor) -> None:
        self.ours.sendall(b"".join(map(encode_frame, messages)))

    def allocate(self, nbytes: int, granted: Handle) -> memoryview:
        """Allocate memory that the task has to request."""

        def grant() -> None:
            select.select([self.ours], [], [])
            assert self.received() == [Need(1, nbytes)]
            self.send(Grant(1, granted))

        with ThreadPoolExecutor(1) as threads:
            granting = threads.submit(grant)
            memory = self.task.allocate(nbytes)
            granting.result()
        return memory

    def received(self) -> list[FromWorker]:
        """Returns the messages that the worker has sent."""
        try:
            data = self.ours.recv(65536)
        except BlockingIOError:
            return []
        return [decode_from_worker(frame) for frame in FrameReader(MAX_FROM_WORKER_NBYTES).feed(data)]


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    with scene.ours, scene.channel._socket:
        yield scene


def block(page: int, nbytes: int) -> Handle:
    return Handle(OUTBOX, page * P, nbytes, page)


def test_memory_that_came_with_credit_is_not_requested(scene: Scene) -> None:
    scene.send(Credit(1, 4, [block(1, 5000), block(3, 5000)]))
    first, second = scene.task.allocate(5000), scene.task.allocate(4000)
    assert scene.received() == []
    assert scene.task.find_handle(first) == block(1, 5000)
    assert scene.task.find_handle(second) == block(3, 4000)


def test_memory_that_is_too_small_or_in_use_is_requested(scene: Scene) -> None:
    scene.send(Credit(1, 4, [block(1, 5000)]))
    assert scene.task.find_handle(scene.allocate(6000, block(3, 6000))) == block(3, 6000)
    assert scene.task.find_handle(scene.task.allocate(5000)) == block(1, 5000)
    assert scene.task.find_handle(scene.allocate(5000, block(5, 5000))) == block(5, 5000)


def test_memory_that_comes_with_credit_for_another_task_is_not_used(scene: Scene) -> None:
    scene.send(Credit(9, 4, [block(1, 5000)]))
    assert scene.task.find_handle(scene.allocate(5000, block(3, 5000))) == block(3, 5000)


def test_a_cancel_that_has_arrived_ends_an_allocation(scene: Scene) -> None:
    scene.send(Cancel(1))
    with pytest.raises(TaskCancelled):
        scene.task.allocate(5000)
