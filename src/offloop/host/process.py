"""Starting a worker process and hearing of its death.

`subprocess.Popen` runs in a thread, on every loop alike: it waits for the child's exec. The child is reaped through its
pidfd by us and nobody else, so a pid is never signalled after it could have been given to another process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.to_thread

__all__ = ["WorkerProcess", "spawn"]


class WorkerProcess:
    """A child, from spawn to reap."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, lifeline_fd: int, log_fd: int) -> None:
        self.channel = channel  # our end
        self.log_fd = log_fd  # what it writes to stdout and stderr comes out here
        self._process = process
        self._lifeline_fd = lifeline_fd  # closing it kills the child
        self._pidfd = _maybe_pidfd(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL; a no-op once it is dead."""
        if self._pidfd is None:
            self._process.send_signal(signal.SIGKILL)
        else:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self, threads: anyio.CapacityLimiter) -> int:
        """Its exit code, negative for a signal, once it is dead and reaped; what it started itself is killed with it."""
        if self._pidfd is None:
            return await anyio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True, limiter=threads)
        await anyio.wait_readable(self._pidfd)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
        return self._process.wait()  # returns at once: the pidfd said so

    def close(self) -> None:
        """Close our descriptors, after it was reaped."""
        for descriptor in (self._lifeline_fd, self.log_fd, self._pidfd):
            if descriptor is not None:
                os.close(descriptor)
        self.channel.close()


def _maybe_pidfd(pid: int) -> int | None:
    """None where there is no such thing: macOS, and containers whose seccomp filter does not know it. A thread waits there."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def spawn(inbox_fd: int, outbox_fd: int) -> WorkerProcess:
    """Start a worker that inherits these two segments. Blocks for a few milliseconds: call it in a thread.

    Raises:
        OSError: no process, descriptor or memory could be had; nothing is left behind.
    """
    opened: list[Callable[[], None]] = []
    try:
        ours, theirs = socket.socketpair()
        opened += [ours.close, theirs.close]
        lifeline_reader, lifeline = _pipe(opened)
        log, log_writer = _pipe(opened)
        inherited = (theirs.fileno(), lifeline_reader, inbox_fd, outbox_fd)
        process = subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", "-m", "offloop.worker", *map(str, inherited)],
            stdin=subprocess.DEVNULL,
            stdout=log_writer,
            stderr=log_writer,
            pass_fds=inherited,
            start_new_session=True,  # a terminal's signals are for the server
        )
    except BaseException:
        for close in opened:
            close()
        raise
    theirs.close()
    os.close(lifeline_reader)
    os.close(log_writer)
    os.set_blocking(log, False)
    return WorkerProcess(process, ours, lifeline, log)


def _pipe(opened: list[Callable[[], None]]) -> tuple[int, int]:
    reader, writer = os.pipe()  # closed on exec, unless passed on
    opened += [lambda: os.close(reader), lambda: os.close(writer)]
    return reader, writer
