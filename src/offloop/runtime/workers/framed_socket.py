"""Non-blocking framed socket: sends or buffers outgoing frames, parses incoming bytes into messages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from socket import send_fds

from ...wire.codec import decode_from_worker, encode_frame
from ...wire.framing import MAX_FROM_WORKER_NBYTES, FrameReader, ProtocolError
from ...wire.messages import FromSupervisor, FromWorker
from ..loop.futures import OneShotEvent

__all__ = ["FramedSocket"]

_READ_NBYTES = 32 * 1024  # because malloc maps and unmaps a larger buffer for each read, which costs more than the read

_DRAIN_NBYTES = 512 * 1024  # more than a socket buffers
_MAX_MESSAGES_PER_READ = 64  # a worker waits for an answer to nearly every message, so a correct one has at most three unread
_MAX_BATCH = 8  # messages that are sent together: more would leave the worker idle for longer than a write takes
_MAX_PIECES = 4096  # reads for one frame; the longest frame, sent at once, arrives in a few


class _PartialFrame:
    """An incomplete frame, and the number of reads that it has taken."""

    def __init__(self) -> None:
        self.pieces = 1


class FramedSocket:
    """The supervisor's end of one worker's socket."""

    def __init__(self, end: socket.socket, loop: asyncio.AbstractEventLoop | None) -> None:
        end.setblocking(False)
        self.socket = end
        self.frames = FrameReader(MAX_FROM_WORKER_NBYTES)
        self.unsent = bytearray()  # bytes that a full socket has refused
        self._loop = loop
        self._batch: list[bytes] = []  # frames that are sent together in the next iteration of the loop
        self.backlog_changed = OneShotEvent(loop)  # set when `unsent` grows
        self.partial_frame: _PartialFrame | None = None  # the incomplete incoming frame, if any
        self.partial_started = OneShotEvent(loop)  # set when an incoming frame is incomplete

    def send(self, message: FromSupervisor) -> None:
        """Send a message now, or append it to `unsent`. A closed connection is noticed by `read`, not here."""
        frame = encode_frame(message)
        if self._batch:
            self._batch.append(frame)
            self.send_batch()
        else:
            self._send_frame(frame)

    def send_soon(self, message: FromSupervisor) -> None:
        """Send a message with others in one write, in the next iteration of the loop or when there are eight; on trio now."""
        if self._loop is None:
            self.send(message)
            return
        if not self._batch:
            self._loop.call_soon(self.send_batch)
        self._batch.append(encode_frame(message))
        if len(self._batch) >= _MAX_BATCH:
            self.send_batch()

    def send_batch(self) -> None:
        """Send the messages of `send_soon`."""
        if self._batch:
            frames, self._batch = self._batch, []
            self._send_frame(b"".join(frames))

    def _send_frame(self, frame: bytes) -> None:
        sent = 0 if self.unsent else self._send_nowait(frame)
        if sent < len(frame):
            self.unsent += frame[sent:]
            self.backlog_changed.set()

    def send_with_descriptor(self, message: FromSupervisor, descriptor: int) -> None:
        """Send a message and a descriptor now. A correct worker waits for them, so its socket is empty.

        Raises:
            ProtocolError: the socket is full, because the worker asked for the message and does not read.
            OSError: the system does not pass the descriptor, because too many are in flight.
        """
        self.send_batch()
        frame = encode_frame(message)
        try:
            sent = 0 if self.unsent else send_fds(self.socket, [frame], [descriptor])
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            return  # the worker has closed the socket; `read` reports it
        if sent < len(frame):
            raise ProtocolError("it asked for its file, and does not read")

    def send_unsent(self) -> None:
        """Send as much of `unsent` as the socket takes now."""
        del self.unsent[: self._send_nowait(self.unsent)]

    def read(self, handle: Callable[[list[FromWorker]], None]) -> bool:
        """Read once, and call `handle` with the messages that are complete, if any. Returns False at the end of the stream.

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
        if len(frames) > _MAX_MESSAGES_PER_READ:
            raise ProtocolError(
                f"it sent {len(frames):,} messages without waiting for an answer; the limit is {_MAX_MESSAGES_PER_READ}"
            )
        messages: list[FromWorker] = []
        try:
            for frame in frames:
                messages.append(decode_from_worker(frame))  # noqa: PERF401 (those before an undecodable one are kept)
        finally:
            if messages:
                handle(messages)
        return True

    def drain(self) -> list[FromWorker]:
        """Return the unread messages of a dead worker."""
        messages: list[FromWorker] = []
        for _ in range(_DRAIN_NBYTES // _READ_NBYTES):  # bounded, because the worker's own children may go on sending
            if not self.read(messages.extend) or len(messages) > _MAX_MESSAGES_PER_READ:
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
            return len(data)  # the worker has closed the socket; `read` reports it
