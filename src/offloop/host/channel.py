"""The supervisor's end of a worker's pipe: a socket that never blocks the loop.

What can be sent at once is sent in the caller's own turn, without waking a task for it; only what a full pipe refuses waits for
the writer task. What arrives is read in one go and decoded frame by frame.

The other end may be an enemy, or stopped. A frame that has begun must come to its end in time, and what a full pipe refused
must go through in time; there is a clock for each, which runs only then. Both clocks stand still while the loop itself is held
up: a server that pauses for seconds must not find its workers guilty of it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

import anyio

from ..wire.framing import MAX_FROM_WORKER_NBYTES, FrameReader, ProtocolError
from ..wire.messages import FromSupervisor, FromWorker, decode_from_worker, encode_frame
from .readiness import Signal, when_readable

__all__ = ["STALL_LIMIT_S", "Channel"]

STALL_LIMIT_S = 5.0  # it takes microseconds, or on a machine that swaps a second or two
_LOOKS = 10  # during that time; a pause of the loop is held against the worker as one of them at most

_READ_NBYTES = 32 * 1024  # a larger buffer is mapped and unmapped for each read, which costs more than all the rest

_REST_NBYTES = 512 * 1024  # more than a socket holds
_MAX_UNREAD = 64  # messages in one read: a worker waits for an answer to nearly every one, so honest ones have three at most
_MAX_PIECES = 4096  # reads for one frame: the longest, sent in one go, comes in some dozens


class Channel:
    """One worker's messages. Belongs to the tasks that serve the worker; `send` may be called from any task of the loop."""

    def __init__(self, end: socket.socket, stall_limit_s: float) -> None:
        end.setblocking(False)
        self._stall_limit_s = stall_limit_s
        self._look_s = stall_limit_s / _LOOKS
        self._socket = end
        self._frames = FrameReader(MAX_FROM_WORKER_NBYTES)
        self._unsent = bytearray()
        self._unsent_grew = Signal()
        self._half: _HalfFrame | None = None  # a frame that has begun
        self._half_came = Signal()

    def send(self, message: FromSupervisor) -> None:
        """Send now, or let `write_unsent` do it. A peer that is gone is noticed by `receive`, not here."""
        frame = encode_frame(message)
        sent = 0 if self._unsent else self._send_nowait(frame)
        if sent < len(frame):
            self._unsent += memoryview(frame)[sent:]
            self._unsent_grew.set()

    async def write_unsent(self) -> None:
        """Keep writing what `send` could not. Runs until it is cancelled.

        Raises:
            ProtocolError: the worker does not read.
        """
        while True:
            await self._unsent_grew.wait()
            await self._write_backlog()
            self._unsent_grew = Signal()

    async def _write_backlog(self) -> None:
        left_s = self._stall_limit_s
        while self._unsent:
            if left_s <= 0:
                unread = f"{len(self._unsent):,} bytes for it are unsent"
                raise ProtocolError(f"it does not read: after {self._stall_limit_s:g} s {unread}")
            before = anyio.current_time()
            with anyio.move_on_after(min(left_s, self._look_s)):
                await anyio.wait_writable(self._socket)
            left_s -= min(anyio.current_time() - before, self._look_s)
            del self._unsent[: self._send_nowait(self._unsent)]

    async def time_frames(self) -> None:
        """Watch over frames that have begun. Runs until it is cancelled.

        Raises:
            ProtocolError: one was not complete in time.
        """
        while True:
            await self._half_came.wait()
            self._half_came = Signal()
            await self._time_half_frames()

    async def _time_half_frames(self) -> None:
        half, left_s = self._half, self._stall_limit_s
        while half is not None:
            if left_s <= 0:
                came = f"only {len(self._frames.pending):,} bytes of it had come"
                raise ProtocolError(f"it began a frame, and after {self._stall_limit_s:g} s {came}")
            before = anyio.current_time()
            await anyio.sleep(min(left_s, self._look_s))
            left_s -= min(anyio.current_time() - before, self._look_s)
            if self._half is not half:
                half, left_s = self._half, self._stall_limit_s

    async def receive(self, handle: Callable[[FromWorker], None]) -> None:
        """Hand over every message as it comes, in the loop's own turn; returns at the end of the stream.

        Raises:
            ProtocolError: the worker sent something else than messages.
        """
        await when_readable(self._socket.fileno(), partial(self._read, handle))

    def receive_rest(self) -> list[FromWorker]:
        """What a dead worker had sent and nobody has read yet."""
        messages: list[FromWorker] = []
        for _ in range(_REST_NBYTES // _READ_NBYTES):  # its own children may hold the other end, and go on sending
            if not self._read(messages.append) or len(messages) > _MAX_UNREAD:
                break
        return messages

    def _read(self, handle: Callable[[FromWorker], None]) -> bool:
        """Hand over what there is now. Returns whether there may be more one day."""
        try:
            data = self._socket.recv(_READ_NBYTES)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        frames = self._frames.feed(data)
        if self._half is not None or self._frames.pending:
            self._note_half_frame(completed=bool(frames))
        if len(frames) > _MAX_UNREAD:
            raise ProtocolError(f"it sent {len(frames):,} messages without waiting for an answer; the limit is {_MAX_UNREAD}")
        for frame in frames:
            handle(decode_from_worker(frame))
        return True

    def _note_half_frame(self, *, completed: bool) -> None:
        if not self._frames.pending:
            self._half = None
        elif self._half is None or completed:
            self._half = _HalfFrame()
            self._half_came.set()
        else:
            self._half.pieces += 1
            if self._half.pieces > _MAX_PIECES:
                raise ProtocolError(f"it sent a frame in more than {_MAX_PIECES:,} pieces")

    def close(self) -> None:
        """Hang up: the worker hears of it as the end of its stream."""
        self._socket.close()

    def _send_nowait(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the worker is gone; `receive` will say so


class _HalfFrame:
    """The frame that has begun and is not complete."""

    def __init__(self) -> None:
        self.pieces = 1
