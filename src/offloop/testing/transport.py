"""A bad line between supervisor and worker: it splits what is sent, holds it up, and breaks."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import threading
from contextlib import suppress
from math import inf

import anyio
import anyio.to_thread
import msgspec

from ..runtime.workers.launcher import LaunchedWorker, Launcher
from ..runtime.workers.process import spawn

__all__ = ["Traffic", "Transport"]

_READ_NBYTES = 32 * 1024
_LOOK_S = 0.0002  # between looks whether a piece has been read
_LAST_WORDS_S = 5.0  # for what a dead worker had sent


class Traffic(msgspec.Struct, frozen=True):
    """What happens to the bytes of one direction."""

    split_nbytes: int | None = None
    """At most so many arrive at once: the next are sent when the last have been read. None: as they come."""

    delay_s: float = 0.0
    """Each piece is held up for so long."""

    cut_after_nbytes: int | None = None
    """The line breaks, in both directions, when so many have passed. None: never."""


_UNDISTURBED = Traffic()


class Transport:
    """A launcher that puts a bad line between the supervisor and what another launcher starts.

    pool_with(Transport(from_worker=Traffic(split_nbytes=1)), workers=2)
    """

    def __init__(
        self,
        *,
        to_worker: Traffic = _UNDISTURBED,
        from_worker: Traffic = _UNDISTURBED,
        starts: int | None = None,
        launcher: Launcher = spawn,
    ) -> None:
        """Say what happens.

        Args:
            to_worker, from_worker: to the bytes of the two directions.
            starts: only so many of the first workers have the bad line. None: every one.
            launcher: what starts the workers. Default: real processes.
        """
        self._to_worker = to_worker
        self._from_worker = from_worker
        self._left = inf if starts is None else starts
        self._lock = threading.Lock()
        self._launcher = launcher

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
        with self._lock:  # several are started at once
            self._left -= 1
            disturbed = self._left >= 0
        if not disturbed:
            return self._launcher(inbox_fd, outbox_fd)
        ends = socket.socketpair()  # first: it may fail, and then no worker must be there
        try:
            return _Relayed(self._launcher(inbox_fd, outbox_fd), ends, self._to_worker, self._from_worker)
        except BaseException:
            for end in ends:
                end.close()
            raise


class _Relayed:
    """A worker behind a relay: two threads, one for each direction."""

    def __init__(
        self, worker: LaunchedWorker, ends: tuple[socket.socket, socket.socket], to_worker: Traffic, from_worker: Traffic
    ) -> None:
        self._worker = worker
        self.log_fd = worker.log_fd
        self.channel, self._end = ends
        self._over = threading.Event()  # nobody waits for the other side any more
        self._pumps = [
            threading.Thread(target=self._pump, args=(source, target, traffic), name="offloop-transport", daemon=True)
            for source, target, traffic in ((self._end, worker.channel, to_worker), (worker.channel, self._end, from_worker))
        ]
        for pump in self._pumps:
            pump.start()

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    def kill(self) -> None:
        self._worker.kill()

    async def wait(self, threads: anyio.CapacityLimiter) -> int | None:
        exit_code = await self._worker.wait(threads)
        self._over.set()
        await anyio.to_thread.run_sync(self._pumps[1].join, _LAST_WORDS_S, limiter=threads)
        return exit_code

    def reap(self, timeout_s: float) -> int | None:
        exit_code = self._worker.reap(timeout_s)
        self._over.set()
        return exit_code

    def close(self) -> None:
        self._cut()
        for pump in self._pumps:
            pump.join()
        self._end.close()
        self.channel.close()
        self._worker.close()

    def _pump(self, source: socket.socket, target: socket.socket, traffic: Traffic) -> None:
        left = traffic.cut_after_nbytes
        with suppress(OSError):  # the other pump, or `close`, has cut the line
            while True:
                data, descriptors, *_ = socket.recv_fds(source, _READ_NBYTES, 1, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    break
                for piece in _pieces(data, traffic.split_nbytes):
                    self._over.wait(traffic.delay_s)
                    passing = piece if left is None else piece[:left]
                    _send_all(target, passing, descriptors)
                    if left is not None:
                        left -= len(passing)
                        if left <= 0:
                            self._cut()
                            return
                    if traffic.split_nbytes is not None:
                        self._wait_until_read(target)
            target.shutdown(socket.SHUT_WR)

    def _wait_until_read(self, target: socket.socket) -> None:
        while _unread_nbytes(target) and not self._over.wait(_LOOK_S):
            pass

    def _cut(self) -> None:
        self._over.set()
        for end in (self._end, self._worker.channel):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _send_all(target: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Send bytes, and with the first of them the descriptors, which are closed and forgotten."""
    sent = 0
    if descriptors:
        try:
            sent = socket.send_fds(target, [data], descriptors)
        finally:
            while descriptors:
                os.close(descriptors.pop())
    target.sendall(data[sent:])


def _pieces(data: bytes, nbytes: int | None) -> list[bytes]:
    step = nbytes or len(data)
    return [data[start : start + step] for start in range(0, len(data), step)]


def _unread_nbytes(end: socket.socket) -> int:
    """What was sent and is still on its way."""
    (nbytes,) = struct.unpack("i", fcntl.ioctl(end, termios.TIOCOUTQ, bytes(4)))
    return int(nbytes)
