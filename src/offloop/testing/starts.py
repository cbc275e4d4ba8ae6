"""Workers whose start goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

from ..host.process import WorkerProcess, spawn
from .orders import Fault, Order, OrderError, Point

__all__ = ["FaultyStarts"]


class FaultyStarts:
    """A launcher of real processes that carries out orders for the point "starting", one for each of the first starts.

    pool_with(FaultyStarts("SIGSEGV at starting", None, "stop at starting"), workers=1)

    The process is struck from outside, before it has imported anything: by a signal, by "stop", or by "close". For a start that
    ends with an exit code see `scripted_pool(starts=...)`.
    """

    def __init__(self, *orders: str | None, launcher: Callable[[int, int], WorkerProcess] = spawn) -> None:
        """Take the orders; None is a start that goes well, as are all after the last.

        Raises:
            OrderError: one is no order, not for "starting", or cannot be carried out from outside.
        """
        self._orders = [None if order is None else _checked(order) for order in orders]
        self._launcher = launcher
        self.started = 0  # processes so far
        self._lock = threading.Lock()

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> WorkerProcess:
        with self._lock:  # several are started at once
            order = self._orders[self.started] if self.started < len(self._orders) else None
            self.started += 1
        worker = self._launcher(inbox_fd, outbox_fd)
        if order is not None and order.fault is Fault.CLOSE:
            worker.channel.shutdown(socket.SHUT_RDWR)
        elif order is not None:
            assert order.number is not None
            os.kill(worker.pid, order.number)  # it is our child, and nobody has reaped it yet
        return worker


def _checked(text: str) -> Order:
    order = Order.parse(text)
    if order.point is not Point.STARTING:
        raise OrderError(text, "a start has no point but starting")
    if order.fault is Fault.STOP:
        return Order(Fault.SIGNAL, order.point, signal.SIGSTOP.value)
    if order.fault not in (Fault.SIGNAL, Fault.CLOSE):
        raise OrderError(text, f"nobody can make a process {order.fault.value} from outside")
    return order
