"""What of a channel needs no waiting: a message is sent or kept, and what has come is cut into frames and handed over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from socket import send_fds

from ...wire.codec import decode_from_worker, encode_frame
from ...wire.framing import MAX_FROM_WORKER_NBYTES, FrameReader, ProtocolError
from ...wire.messages import FromSupervisor, FromWorker
from ..loop.oneshot_event import OneShotEvent

__all__ = ["FramedSocket"]

_READ_NBYTES = 32 * 1024  # a larger buffer is mapped and unmapped for each read, which costs more than all the rest

_REST_NBYTES = 512 * 1024  # more than a socket holds
_MAX_UNREAD = 64  # messages in one read: a worker waits for an answer to nearly every one, so honest ones have three at most
_MAX_PIECES = 4096  # reads for one frame: the longest, sent in one go, comes in some dozens


class _PartialFrame:
    """The frame that has begun and is not complete."""

    def __init__(self) -> None:
        self.pieces = 1


class FramedSocket:
    """The supervisor's end of one worker's socket."""

    def __init__(self, end: socket.socket, loop: asyncio.AbstractEventLoop | None) -> None:
        end.setblocking(False)
        self.socket = end
        self.frames = FrameReader(MAX_FROM_WORKER_NBYTES)
        self.unsent = bytearray()  # what a full pipe has refused
        self.backlog_changed = OneShotEvent(loop)
        self.partial_frame: _PartialFrame | None = None  # a frame that has begun
        self.partial_started = OneShotEvent(loop)

    def send(self, message: FromSupervisor) -> None:
        """Send now, or keep it for whoever writes `unsent`. A peer that is gone is noticed by `read`, not here."""
        frame = encode_frame(message)
        sent = 0 if self.unsent else self._send_nowait(frame)
        if sent < len(frame):
            self.unsent += frame[sent:]
            self.backlog_changed.set()

    def send_with_descriptor(self, message: FromSupervisor, descriptor: int) -> None:
        """Send a message and, with it, a descriptor, now or not at all: the worker waits for it, so there is room.

        Raises:
            ProtocolError: there is none. The worker asked for the message and does not read.
            OSError: the system does not pass the descriptor, because too many are on their way.
        """
        frame = encode_frame(message)
        try:
            sent = 0 if self.unsent else send_fds(self.socket, [frame], [descriptor])
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            return  # the worker is gone; `read` will say so
        if sent < len(frame):
            raise ProtocolError("it asked for its file, and does not read")

    def send_unsent(self) -> None:
        """As much of it as the pipe takes now."""
        del self.unsent[: self._send_nowait(self.unsent)]

    def read(self, handle: Callable[[FromWorker], None]) -> bool:
        """Hand over what there is now. Returns whether there may be more one day.

        Raises:
            ProtocolError: the worker sent something else than messages, or too many of them, or one in too many pieces.
        """
        try:
            data = self.socket.recv(_READ_NBYTES)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        frames = self.frames.feed(data)
        if self.partial_frame is not None or self.frames.pending:
            self._note_partial_frame(completed=bool(frames))
        if len(frames) > _MAX_UNREAD:
            raise ProtocolError(f"it sent {len(frames):,} messages without waiting for an answer; the limit is {_MAX_UNREAD}")
        for frame in frames:
            handle(decode_from_worker(frame))
        return True

    def drain(self) -> list[FromWorker]:
        """What a dead worker had sent and nobody has read yet."""
        messages: list[FromWorker] = []
        for _ in range(_REST_NBYTES // _READ_NBYTES):  # its own children may hold the other end, and go on sending
            if not self.read(messages.append) or len(messages) > _MAX_UNREAD:
                break
        return messages

    def _note_partial_frame(self, *, completed: bool) -> None:
        if not self.frames.pending:
            self.partial_frame = None
        elif self.partial_frame is None or completed:
            self.partial_frame = _PartialFrame()
            self.partial_started.set()
        else:
            self.partial_frame.pieces += 1
            if self.partial_frame.pieces > _MAX_PIECES:
                raise ProtocolError(f"it sent a frame in more than {_MAX_PIECES:,} pieces")

    def _send_nowait(self, data: bytes | bytearray) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the worker is gone; `read` will say so
