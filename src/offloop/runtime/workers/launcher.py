"""Interfaces of a worker launcher and of the workers that it starts.

`ProcessLauncher` starts processes. Launchers of `offloop.testing` start scripted workers, or processes behind a faulty socket.
"""

from __future__ import annotations

import socket
import threading
from typing import Protocol

import anyio

__all__ = ["LaunchedWorker", "Launcher", "reap_late"]

_MAX_POLL_S = 1e6  # eleven days, in practice no limit; poll() accepts not much more


class LaunchedWorker(Protocol):
    """A started worker, until its process was reaped and its descriptors closed."""

    channel: socket.socket
    """The supervisor's end of the duplex stream of frames."""

    log_fd: int
    """Non-blocking descriptor for reading the worker's stdout and stderr."""

    @property
    def pid(self) -> int | None:
        """The process id; None: the worker is not a process."""
        ...

    def kill(self) -> None:
        """End the worker at once. Does nothing after the worker has exited."""
        ...

    async def wait(self, threads: anyio.CapacityLimiter) -> int | None:
        """Wait until the worker has exited. From then on it accesses no shared memory and sends nothing.

        Returns the exit code, negative for a signal; None if it is unknown.
        """
        ...

    def reap(self, timeout_s: float, /) -> int | None:
        """As `wait`, but blocking, for an event loop that ends. To be called after `kill`. None also after a time-out."""
        ...

    def close(self) -> None:
        """Close the supervisor's descriptors, after `wait` or `reap` has returned."""
        ...


class Launcher(Protocol):
    """Function that starts a worker."""

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
        """Start a worker that may read the inbox and write the outbox. Called in a thread; may block for a moment.

        Raises:
            OSError: it could not be started; no process or descriptor is left.
        """
        ...


def reap_late(process: LaunchedWorker) -> None:
    """Start a thread that waits for a process that did not exit after SIGKILL. The interpreter does not wait for the thread."""

    def reap() -> None:
        process.reap(_MAX_POLL_S)
        process.close()

    try:
        threading.Thread(target=reap, name="offloop-reaper", daemon=True).start()
    except RuntimeError:  # no thread can be started, or the interpreter exits: init reaps the process
        process.close()
