"""Carrying out an order inside a worker, at the point that it names.

Some points lie in a processor's own code; `obey` passes them itself. Others lie in the worker's: there a trap is laid around
the one method that the point belongs to, in this process only, when the order comes. The worker knows nothing of it.

What is about to be done is said on stderr first, so it is in the log and in a `WorkerDied`'s `stderr_tail`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from itertools import repeat
from typing import Any, NoReturn

from ..errors import InvalidTask
from ..operation import Operation
from ..processor import Encoded, Payload, Task
from ..wire.codec import encode_frame
from ..wire.messages import Done, Failed, FromSupervisor, FromWorker, Need
from ..worker.channel import Channel
from ..worker.task import RunningTask
from ..worker.task_runner import TaskRunner
from .orders import Fault, Order, Point

__all__ = ["obey"]

_LONGEST_ORDER_NBYTES = 200
_IDLE_MS = 20
_GARBAGE = b"\xff" * 4096  # announces a frame of 4 GiB, wherever in a frame it begins


def obey(_operation: Operation, payload: Payload, task: Task) -> Payload:
    """Carry out the order in the source's first line; return the whole source as it came.

    Raises:
        InvalidTask: there is no order, or nothing that could carry it out.
    """
    source = memoryview(payload.data)
    order = Order.parse(bytes(source[:_LONGEST_ORDER_NBYTES]).partition(b"\n")[0])
    if order.point is Point.STARTING:
        raise InvalidTask(f"{str(order)!r}: no task can have that; use offloop.testing.FaultyStarts")
    if not isinstance(task, RunningTask):
        raise InvalidTask(f"{str(order)!r}: orders are for the worker of a pool, and there is none")
    return _echo(source, task, _Trap(order, task._channel))


def _echo(source: memoryview, task: RunningTask, trap: _Trap) -> Payload:
    half = source.nbytes // 2
    trap.reach(Point.ACCEPTED)
    data = bytearray(source[:half])
    trap.reach(Point.MID_INPUT)
    data += source[half:]
    task.allocate(1)  # takes what the task began with, so that the next has to be asked for
    block = task.allocate(len(data))
    trap.reach(Point.WHILE_GRANTED)
    block[:half] = data[:half]
    trap.reach(Point.MID_PIXELS)
    block[half:] = data[half:]
    return Encoded(block)


class _Trap:
    """Waits for its point and carries out its order there, once."""

    def __init__(self, order: Order, channel: Channel) -> None:
        self._order = order
        self._channel = channel
        self._socket: socket.socket = channel._socket
        self._sprung = False
        self._send, self._next_message = channel.send, channel.next_message
        match order.point:
            case Point.BEFORE_ACCEPT:
                self._lay_before(TaskRunner, "run")
            case Point.OPENING:
                self._lay_before(TaskRunner, "_load")
            case Point.IDLE:
                channel.next_message = self._wait_for_idleness
            case _:
                channel.send = self._send_with_care

    def reach(self, point: Point) -> None:
        if point is self._order.point and not self._sprung:
            self._sprung = True
            os.write(2, f"offloop.testing: {self._order}\n".encode())
            self._spring()

    def _lay_before(self, kind: type[Any], name: str) -> None:
        original = getattr(kind, name)

        def method(instance: Any, *arguments: Any) -> Any:
            self.reach(self._order.point)
            return original(instance, *arguments)

        setattr(kind, name, method)

    def _wait_for_idleness(self) -> FromSupervisor:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if not self._channel._received and not poller.poll(_IDLE_MS):
            self.reach(Point.IDLE)
        return self._next_message()

    def _send_with_care(self, message: FromWorker) -> None:
        if self._sprung or not isinstance(message, Done | Failed):
            self._send(message)
            if isinstance(message, Need):
                self.reach(Point.WAITING_FOR_GRANT)
            return
        self.reach(Point.BEFORE_REPLY)
        frame = encode_frame(message)
        sent = 0
        for point, nbytes in (
            (Point.REPLY_BYTE_1, 1),
            (Point.REPLY_HALF, len(frame) // 2),
            (Point.REPLY_LAST, len(frame) - 1),
            (Point.AFTER_REPLY, len(frame)),
        ):
            if point is self._order.point:
                self._socket.sendall(frame[:nbytes])
                sent = nbytes
                self.reach(point)
        self._socket.sendall(frame[sent:])

    def _spring(self) -> None:
        match self._order.fault:
            case Fault.EXIT:
                os._exit(self._order.number or 0)
            case Fault.SIGNAL:
                assert self._order.number is not None
                signal.raise_signal(self._order.number)
            case Fault.STOP:
                signal.raise_signal(signal.SIGSTOP)
            case Fault.HANG:
                _sleep_for_ever()
            case Fault.SPIN:
                all(repeat(object()))  # in C, and without a look at anything else
            case Fault.CLOSE:
                self._socket.shutdown(socket.SHUT_WR)  # not the other half: the worker would leave by itself
                _sleep_for_ever()
            case Fault.GARBAGE:
                self._socket.sendall(_GARBAGE)
                _sleep_for_ever()


def _sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(3600)
