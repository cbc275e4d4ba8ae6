"""An unreliable connection between supervisor and worker: it splits, delays and cuts the stream."""

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

_READ_NBYTES = 32 * 1024  # maximum bytes of a read
_POLL_INTERVAL_S = 0.0002  # seconds between two checks whether a piece has been read
_DRAIN_TIMEOUT_S = 5.0  # maximum seconds to relay the last bytes of a dead worker


class Traffic(msgspec.Struct, frozen=True):
    """Faults of one direction of a connection."""

    split_nbytes: int | None = None
    """Maximum bytes of a piece. The next piece is sent when the last one has been read. None: pieces as they are sent."""

    delay_s: float = 0.0
    """Delay of each piece in seconds."""

    cut_after_nbytes: int | None = None
    """Bytes after which the connection is cut in both directions. None: never."""


_FAULTLESS = Traffic()


class Transport:
    """Launcher that puts an unreliable connection between the supervisor and the workers of another launcher.

    pool_with(Transport(from_worker=Traffic(split_nbytes=1)), workers=2)
    """

    def __init__(
        self,
        *,
        to_worker: Traffic = _FAULTLESS,
        from_worker: Traffic = _FAULTLESS,
        starts: int | None = None,
        launcher: Launcher = spawn,
    ) -> None:
        """Set the faults.

        Args:
            to_worker, from_worker: faults of the two directions.
            starts: number of workers, from the first, with the unreliable connection. None: all workers.
            launcher: starts the workers. Default: real processes.
        """
        self._to_worker = to_worker
        self._from_worker = from_worker
        self._remaining = inf if starts is None else starts  # number of further workers with the unreliable connection
        self._lock = threading.Lock()
        self._launcher = launcher

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
        with self._lock:  # because several workers may be started at once
            self._remaining -= 1
            is_relayed = self._remaining >= 0
        if not is_relayed:
            return self._launcher(inbox_fd, outbox_fd)
        ends = socket.socketpair()  # before the worker is started, because it may fail
        try:
            return _Relayed(self._launcher(inbox_fd, outbox_fd), ends, self._to_worker, self._from_worker)
        except BaseException:
            for end in ends:
                end.close()
            raise


class _Relayed:
    """A worker whose stream two threads relay, one for each direction."""

    def __init__(
        self, worker: LaunchedWorker, ends: tuple[socket.socket, socket.socket], to_worker: Traffic, from_worker: Traffic
    ) -> None:
        self._worker = worker
        self.log_fd = worker.log_fd
        self.channel, self._end = ends
        self._is_over = threading.Event()  # set when the threads must not wait for the other side any more
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
        self._is_over.set()
        await anyio.to_thread.run_sync(self._pumps[1].join, _DRAIN_TIMEOUT_S, limiter=threads)
        return exit_code

    def reap(self, timeout_s: float) -> int | None:
        exit_code = self._worker.reap(timeout_s)
        self._is_over.set()
        return exit_code

    def close(self) -> None:
        self._cut()
        for pump in self._pumps:
            pump.join()
        self._end.close()
        self.channel.close()
        self._worker.close()

    def _pump(self, source: socket.socket, target: socket.socket, traffic: Traffic) -> None:
        remaining = traffic.cut_after_nbytes
        with suppress(OSError):  # the other thread, or `close`, has cut the connection
            while True:
                data, descriptors, *_ = socket.recv_fds(source, _READ_NBYTES, 1, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    break
                for piece in _pieces(data, traffic.split_nbytes):
                    self._is_over.wait(traffic.delay_s)
                    piece = piece if remaining is None else piece[:remaining]  # noqa: PLW2901 (the cut piece)
                    _send_all(target, piece, descriptors)
                    if remaining is not None:
                        remaining -= len(piece)
                        if remaining <= 0:
                            self._cut()
                            return
                    if traffic.split_nbytes is not None:
                        self._wait_until_read(target)
            target.shutdown(socket.SHUT_WR)

    def _wait_until_read(self, target: socket.socket) -> None:
        while _unread_nbytes(target) and not self._is_over.wait(_POLL_INTERVAL_S):
            pass

    def _cut(self) -> None:
        self._is_over.set()
        for end in (self._end, self._worker.channel):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _send_all(target: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Send bytes, and the descriptors with the first byte. The descriptors are closed and removed from the list."""
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
    """Returns the number of bytes that were sent and not yet read."""
    (nbytes,) = struct.unpack("i", fcntl.ioctl(end, termios.TIOCOUTQ, bytes(4)))
    return int(nbytes)
