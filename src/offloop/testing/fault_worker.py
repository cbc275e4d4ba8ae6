"""A worker that carries out orders: subclasses of the worker's channel, task and task runner. `FaultyWorkers` starts it.

Some points are in the code of the faults plugin's processor, which calls `Failpoint.reach` there. Every worker passes these
points. The other points are in the code of the worker, and `FaultyChannel` reaches them.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from itertools import repeat
from typing import NoReturn

from ..errors import InvalidTask
from ..processor import Task
from ..wire.codec import encode_frame
from ..wire.messages import Done, Failed, FromSupervisor, FromWorker, Need, Run
from ..worker import main
from ..worker.channel import Channel
from ..worker.task import RunningTask
from ..worker.task_runner import TaskRunner
from .orders import Fault, Order, Point

__all__ = ["Failpoint", "arm", "run_from_command_line"]

_IDLE_MS = 20  # time without a task at which the point IDLE is reached
_GARBAGE = b"\xff" * 4096  # announces a frame of 4 GiB at any position of a frame


def run_from_command_line() -> None:
    """Run the worker, see `offloop.worker.main`."""
    main.run_from_command_line(FaultyChannel, FaultyTaskRunner)


def arm(order: Order, task: Task) -> Failpoint:
    """Returns the failpoint for the order, which replaces the worker's last one.

    Raises:
        InvalidTask: the order cannot be carried out by this worker.
    """
    if order.point is Point.STARTING:
        raise InvalidTask(f"{str(order)!r}: a task has no point 'starting'; use offloop.testing.FaultyStarts")
    if isinstance(task, FaultyTask):
        return task.arm(order)
    if not isinstance(task, RunningTask):
        raise InvalidTask(f"{str(order)!r}: orders are for the worker of a pool, and there is none")
    if order.needs_faulty_worker:
        raise InvalidTask(f"{str(order)!r}: this worker has no such fault; use pool_with(offloop.testing.FaultyWorkers(), ...)")
    return Failpoint(order, None)


class Failpoint:
    """Carries out an order once, when the worker reaches the order's point.

    The order is written to stderr before it is carried out, so it is in the log and in a `WorkerDied`'s `stderr_tail`.
    """

    def __init__(self, order: Order, channel: socket.socket | None) -> None:
        """Set the order.

        Args:
            order: the fault and its point.
            channel: the worker's socket to the supervisor. None: the order does not need it.
        """
        self.point = order.point
        self._order = order
        self._channel = channel
        self._is_reached = False

    def reach(self, point: Point) -> None:
        """Carry out the order if it is for this point, and was not carried out before."""
        if point is self.point and not self._is_reached:
            self._is_reached = True
            os.write(2, f"offloop.testing: {self._order}\n".encode())
            self._inject_fault()

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
                assert self._channel is not None
                self._channel.shutdown(socket.SHUT_WR)  # only one half, because the worker would exit after SHUT_RD
                _sleep_for_ever()
            case Fault.GARBAGE:
                assert self._channel is not None
                self._channel.sendall(_GARBAGE)
                _sleep_for_ever()


class FaultyChannel(Channel):
    """Channel with the points at which a worker receives and sends messages."""

    _failpoint: Failpoint | None = None

    def arm(self, order: Order) -> Failpoint:
        """Returns a failpoint for the order, which this channel reaches."""
        self._failpoint = failpoint = Failpoint(order, self._socket)
        return failpoint

    def next_message(self) -> FromSupervisor:
        failpoint = self._failpoint
        if failpoint is None:
            return super().next_message()
        if failpoint.point is Point.IDLE and not (self._received or self._runs) and not self._is_readable_within(_IDLE_MS):
            failpoint.reach(Point.IDLE)
        message = super().next_message()
        if isinstance(message, Run):
            failpoint.reach(Point.BEFORE_ACCEPT)
        return message

    def send(self, message: FromWorker) -> None:
        failpoint = self._failpoint
        if failpoint is None:
            super().send(message)
        elif isinstance(message, Done | Failed):
            self._send_in_pieces(encode_frame(message), failpoint)
        else:
            super().send(message)
            if isinstance(message, Need):
                failpoint.reach(Point.WAITING_FOR_GRANT)

    def _send_in_pieces(self, frame: bytes, failpoint: Failpoint) -> None:
        sent = 0
        for point, nbytes in (
            (Point.BEFORE_REPLY, 0),
            (Point.REPLY_BYTE_1, 1),
            (Point.REPLY_HALF, len(frame) // 2),
            (Point.REPLY_LAST, len(frame) - 1),
            (Point.AFTER_REPLY, len(frame)),
        ):
            if point is failpoint.point:
                self._socket.sendall(frame[:nbytes])
                sent = nbytes
                failpoint.reach(point)
        self._socket.sendall(frame[sent:])

    def _is_readable_within(self, timeout_ms: int) -> bool:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(timeout_ms))


class FaultyTask(RunningTask):
    """Task that lets the processor arm its worker's channel."""

    def arm(self, order: Order) -> Failpoint:
        """Returns a failpoint for the order, which the channel and the processor reach."""
        assert isinstance(self._channel, FaultyChannel)
        return self._channel.arm(order)


class FaultyTaskRunner(TaskRunner):
    """Task runner of faulty tasks."""

    task_type = FaultyTask


def _sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(3600)
