"""Carries out an order inside a worker, at the order's point.

Some points are in the code of a processor; `obey` calls `_Failpoint.reach` there. The others are in the code of the worker: for
them, `_Failpoint` replaces one method of the worker in this process when the order arrives.

The order is written to stderr before it is carried out, so it is in the log and in a `WorkerDied`'s `stderr_tail`.
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

_MAX_ORDER_NBYTES = 200  # maximum length of an order's line in bytes
_IDLE_MS = 20  # time without a task at which the point IDLE is reached
_GARBAGE = b"\xff" * 4096  # announces a frame of 4 GiB at any position of a frame


def obey(_operation: Operation, payload: Payload, task: Task) -> Payload:
    """Carry out the order in the source's first line. Returns the unchanged source.

    Raises:
        InvalidTask: the line is not a valid order, or the order cannot be carried out here.
    """
    source = memoryview(payload.data)
    order = Order.parse(bytes(source[:_MAX_ORDER_NBYTES]).partition(b"\n")[0])
    if order.point is Point.STARTING:
        raise InvalidTask(f"{str(order)!r}: a task has no point 'starting'; use offloop.testing.FaultyStarts")
    if not isinstance(task, RunningTask):
        raise InvalidTask(f"{str(order)!r}: orders are for the worker of a pool, and there is none")
    return _echo(source, task, _Failpoint(order, task._channel))


def _echo(source: memoryview, task: RunningTask, failpoint: _Failpoint) -> Payload:
    half = source.nbytes // 2
    failpoint.reach(Point.ACCEPTED)
    data = bytearray(source[:half])
    failpoint.reach(Point.MID_INPUT)
    data += source[half:]
    task.allocate(1)  # uses up the preallocated block, so that the next block has to be requested
    block = task.allocate(len(data))
    failpoint.reach(Point.WHILE_GRANTED)
    block[:half] = data[:half]
    failpoint.reach(Point.MID_PIXELS)
    block[half:] = data[half:]
    return Encoded(block)


class _Failpoint:
    """Carries out an order once, when the worker reaches the order's point."""

    def __init__(self, order: Order, channel: Channel) -> None:
        self._order = order
        self._channel = channel
        self._socket: socket.socket = channel._socket
        self._is_reached = False
        self._send, self._next_message = channel.send, channel.next_message
        match order.point:
            case Point.BEFORE_ACCEPT:
                self._patch_before(TaskRunner, "run")
            case Point.IDLE:
                channel.next_message = self._next_message_unless_idle
            case _:
                channel.send = self._send_in_pieces

    def reach(self, point: Point) -> None:
        if point is self._order.point and not self._is_reached:
            self._is_reached = True
            os.write(2, f"offloop.testing: {self._order}\n".encode())
            self._inject_fault()

    def _patch_before(self, kind: type[Any], name: str) -> None:
        original = getattr(kind, name)

        def method(instance: Any, *arguments: Any) -> Any:
            self.reach(self._order.point)
            return original(instance, *arguments)

        setattr(kind, name, method)

    def _next_message_unless_idle(self) -> FromSupervisor:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if not self._channel._received and not poller.poll(_IDLE_MS):
            self.reach(Point.IDLE)
        return self._next_message()

    def _send_in_pieces(self, message: FromWorker) -> None:
        if self._is_reached or not isinstance(message, Done | Failed):
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

    def _inject_fault(self) -> None:
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
                all(repeat(object()))  # loops in C and never releases the GIL
            case Fault.CLOSE:
                self._socket.shutdown(socket.SHUT_WR)  # only one half, because the worker would exit after SHUT_RD
                _sleep_for_ever()
            case Fault.GARBAGE:
                self._socket.sendall(_GARBAGE)
                _sleep_for_ever()


def _sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(3600)
