"""Launchers of workers that carry out orders, fail at their start, or cannot be killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

import anyio

from ..runtime.workers.command_line import WorkerProgram
from ..runtime.workers.launcher import LaunchedWorker, Launcher
from ..runtime.workers.process import ProcessLauncher, WorkerProcess, spawn
from .orders import Fault, Order, OrderError, Point

__all__ = ["FaultyStarts", "FaultyWorkers", "UnkillableWorkers"]


class FaultyWorkers(ProcessLauncher):
    """Launcher of real processes that carry out every order of `offloop.testing.faults.Obey`.

    pool_with(FaultyWorkers(), 2, plugins=[FaultsPlugin])

    The processes run subclasses of the worker's parts, see `offloop.testing.fault_worker`.
    """

    def __init__(self) -> None:
        super().__init__(WorkerProgram(module="offloop.testing.fault_worker"))


class FaultyStarts:
    """Launcher of real processes that carries out an order for the point "starting" in each of the first starts.

    pool_with(FaultyStarts("SIGSEGV at starting", None, "stop at starting"), workers=1)

    The fault comes from outside, before the process has imported a module: a signal, "stop", or "close". For a start that ends
    with an exit code see `scripted_pool(starts=...)`.
    """

    def __init__(self, *orders: str | None, launcher: Callable[[int, int], WorkerProcess] = spawn) -> None:
        """Set the orders.

        Args:
            orders: an order for each of the first starts. None: a start without a fault, as all starts after the last order.
            launcher: starts the processes.

        Raises:
            OrderError: an order is invalid, not for "starting", or cannot be carried out from outside.
        """
        self._orders = [None if order is None else _checked(order) for order in orders]
        self._launcher = launcher
        self.started = 0  # number of started processes
        self._lock = threading.Lock()

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> WorkerProcess:
        with self._lock:  # because several processes may be started at once
            order = self._orders[self.started] if self.started < len(self._orders) else None
            self.started += 1
        worker = self._launcher(inbox_fd, outbox_fd)
        if order is not None and order.fault is Fault.CLOSE:
            worker.channel.shutdown(socket.SHUT_RDWR)
        elif order is not None:
            assert order.number is not None
            os.kill(worker.pid, order.number)  # the pid is valid, because the process is our child and not yet reaped
        return worker


def _checked(text: str) -> Order:
    order = Order.parse(text)
    if order.point is not Point.STARTING:
        raise OrderError(text, "the only point of a start is starting")
    if order.fault is Fault.STOP:
        return Order(Fault.SIGNAL, order.point, signal.SIGSTOP.value)
    if order.fault not in (Fault.SIGNAL, Fault.CLOSE):
        raise OrderError(text, f"{order.fault.value!r} cannot be done to a process from outside")
    return order


class UnkillableWorkers:
    """Launcher of real processes. The first ones cannot be killed before `release`, like a process in uninterruptible sleep.

    pool_with(UnkillableWorkers(1), workers=2)
    """

    def __init__(self, number: int = 1, *, launcher: Launcher = spawn) -> None:
        self._remaining = number  # number of unkillable workers that are not yet started
        self._launcher = launcher
        self._workers: list[_Unkillable] = []
        self._lock = threading.Lock()

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
        worker = self._launcher(inbox_fd, outbox_fd)
        with self._lock:
            if not self._remaining:
                return worker
            self._remaining -= 1
            self._workers.append(_Unkillable(worker))
            return self._workers[-1]

    def release(self) -> None:
        """Send SIGKILL to the workers that were killed before. Workers can be killed from now on."""
        with self._lock:
            for worker in self._workers:
                worker.release()


class _Unkillable:
    """A process that gets SIGKILL only after `release`."""

    def __init__(self, worker: LaunchedWorker) -> None:
        self._worker = worker
        self._is_released, self._was_killed = False, False
        self.channel, self.log_fd = worker.channel, worker.log_fd

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    def kill(self) -> None:
        self._was_killed = True
        if self._is_released:
            self._worker.kill()

    def release(self) -> None:
        self._is_released = True
        if self._was_killed:
            self._worker.kill()

    async def wait(self, threads: anyio.CapacityLimiter) -> int | None:
        return await self._worker.wait(threads)

    def reap(self, timeout_s: float, /) -> int | None:
        return self._worker.reap(timeout_s)

    def close(self) -> None:
        self._worker.close()
