"""What the host asks of whatever starts workers.

A pool's workers are processes (`process.spawn`); a test's may be scripts, or processes at the end of a bad line.
"""

from __future__ import annotations

import socket
from typing import Protocol

import anyio

__all__ = ["LaunchedWorker", "Launcher"]


class LaunchedWorker(Protocol):
    """A worker, from its start to its burial."""

    channel: socket.socket
    """The supervisor's end of the duplex stream of frames."""

    log_fd: int
    """What the worker prints can be read here; does not block."""

    @property
    def pid(self) -> int | None:
        """The number of its process; None: it is none."""
        ...

    def kill(self) -> None:
        """End it, whatever it does; a no-op once it is dead."""
        ...

    async def wait(self, threads: anyio.CapacityLimiter) -> int | None:
        """Its exit code, negative for a signal, None if nobody knows, once it is dead: from then on it touches no memory and
        sends nothing more."""
        ...

    def reap(self, timeout_s: float, /) -> int | None:
        """As `wait`, after `kill`, but blocking: for an event loop that ends. None also if it is not dead in time."""
        ...

    def close(self) -> None:
        """Close the supervisor's descriptors, after `wait` or `reap` has returned."""
        ...


class Launcher(Protocol):
    """Starts workers."""

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
        """Start a worker that may read the one segment and write the other. Called in a thread; may block for a moment.

        Raises:
            OSError: it could not be started; nothing is left behind.
        """
        ...
