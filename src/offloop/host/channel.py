"""The supervisor's end of a worker's pipe: a socket that never blocks the loop.

What can be sent at once is sent in the caller's own turn, without waking a task for it; only what a full pipe refuses waits for
the writer task. What arrives is read in one go and decoded frame by frame.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import anyio

from ..wire.framing import MAX_FROM_WORKER_NBYTES, FrameReader
from ..wire.messages import FromSupervisor, FromWorker, decode_from_worker, encode_frame
from .readiness import Signal, when_readable

__all__ = ["Channel"]

_READ_NBYTES = 32 * 1024  # a larger buffer is mapped and unmapped for each read, which costs more than all the rest

_REST_NBYTES = 512 * 1024  # more than a socket holds


class Channel:
    """One worker's messages. Belongs to the task that serves the worker; `send` may be called from any task of the loop."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._frames = FrameReader(MAX_FROM_WORKER_NBYTES)
        self._unsent = bytearray()
        self._unsent_grew = Signal()

    def send(self, message: FromSupervisor) -> None:
        """Send now, or let `write_unsent` do it. A peer that is gone is noticed by `receive`, not here."""
        frame = encode_frame(message)
        sent = 0 if self._unsent else self._send_nowait(frame)
        if sent < len(frame):
            self._unsent += memoryview(frame)[sent:]
            self._unsent_grew.set()

    async def write_unsent(self) -> None:
        """Keep writing what `send` could not. Runs until it is cancelled."""
        while True:
            await self._unsent_grew.wait()
            while self._unsent:
                await anyio.wait_writable(self._socket)
                del self._unsent[: self._send_nowait(self._unsent)]
            self._unsent_grew = Signal()

    async def receive(self, handle: Callable[[FromWorker], None]) -> None:
        """Hand over every message as it comes, in the loop's own turn; returns at the end of the stream.

        Raises:
            ProtocolError: the worker sent something else than messages.
        """

        def read() -> bool:
            data = self._receive_nowait()
            if data:
                for frame in self._frames.feed(data):
                    handle(decode_from_worker(frame))
            return data != b""

        await when_readable(self._socket.fileno(), read)

    def receive_rest(self) -> list[FromWorker]:
        """What a dead worker had sent and nobody has read yet."""
        messages: list[FromWorker] = []
        for _ in range(_REST_NBYTES // _READ_NBYTES):  # its own children may hold the other end, and go on sending
            data = self._receive_nowait()
            if not data:
                break
            messages += map(decode_from_worker, self._frames.feed(data))
        return messages

    def _receive_nowait(self) -> bytes | None:
        """Empty at the end of the stream, None when there is nothing yet."""
        try:
            return self._socket.recv(_READ_NBYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Hang up: the worker hears of it as the end of its stream."""
        self._socket.close()

    def _send_nowait(self, data: bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the worker is gone; `receive` will say so
