"""Workers whose start goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

import anyio

from ..runtime.workers.launcher import LaunchedWorker, Launcher
from ..runtime.workers.process import WorkerProcess, spawn
from .orders import Fault, Order, OrderError, Point

__all__ = ["FaultyStarts", "UnkillableWorkers"]


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


class UnkillableWorkers:
    """A launcher of real processes of which the first ones cannot be killed before `release`, as in an uninterruptible sleep.

    pool_with(UnkillableWorkers(1), workers=2)
    """

    def __init__(self, number: int = 1, *, launcher: Launcher = spawn) -> None:
        self._left = number
        self._launcher = launcher
        self._workers: list[_Unkillable] = []
        self._lock = threading.Lock()

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
        worker = self._launcher(inbox_fd, outbox_fd)
        with self._lock:
            if not self._left:
                return worker
            self._left -= 1
            self._workers.append(_Unkillable(worker))
            return self._workers[-1]

    def release(self) -> None:
        """Whatever was sent SIGKILL dies now, and so does whatever is sent it later."""
        with self._lock:
            for worker in self._workers:
                worker.release()


class _Unkillable:
    """A process whose SIGKILL is held back."""

    def __init__(self, worker: LaunchedWorker) -> None:
        self._worker = worker
        self._held, self._was_killed = True, False
        self.channel, self.log_fd = worker.channel, worker.log_fd

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    def kill(self) -> None:
        self._was_killed = True
        if not self._held:
            self._worker.kill()

    def release(self) -> None:
        self._held = False
        if self._was_killed:
            self._worker.kill()

    async def wait(self, threads: anyio.CapacityLimiter) -> int | None:
        return await self._worker.wait(threads)

    def reap(self, timeout_s: float, /) -> int | None:
        return self._worker.reap(timeout_s)

    def close(self) -> None:
        self._worker.close()
