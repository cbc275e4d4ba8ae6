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

READ_NBYTES = 512
"""Bytes of a read: about nine answers of short tasks. Their callers go on in the next iteration of the loop, which takes half a
millisecond for nine of them if each one submits another task. The rest stays in the socket until then."""

_MAX_LAST_MESSAGES = 64  # of a dead worker: twice the answers that it may owe, and otherwise it waits for answers itself
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
        """Read a few messages, or one long one, and call `handle` with them. Returns False at the end of the stream.

        Raises:
            ProtocolError: the worker sent something else than messages, or one in too many pieces.
        """
        try:
            data = self.socket.recv(READ_NBYTES)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        frames = self.frames.feed(data)
        if not frames and (missing_nbytes := self.frames.missing_nbytes):
            frames = self._receive_rest(missing_nbytes)
        if self.partial_frame is not None or self.frames.pending:
            self._note_partial_frame(completed=bool(frames))
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
        for _ in range(_MAX_LAST_MESSAGES):  # bounded, because the worker's own children may go on sending
            if not self.read(messages.extend) or len(messages) > _MAX_LAST_MESSAGES:
                break
        return messages

    def _receive_rest(self, nbytes: int) -> list[bytes | bytearray]:
        """Receive what has arrived of the rest of a long frame."""
        try:
            return self.frames.feed(self.socket.recv(nbytes))
        except (BlockingIOError, ConnectionResetError):
            return []

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
