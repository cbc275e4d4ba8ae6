"""Async message channel to one worker, with time limits for unread messages and incomplete frames.

Messages are sent directly by the caller, without waking a task. Only bytes that a full socket refuses wait for the writer
task. Incoming bytes are read in one call and decoded frame by frame.

The worker may be malicious or stopped. So a frame that has begun must be complete in time, and refused bytes must be sent in
time. Each limit has a timer that runs only then. Time in which the event loop itself was blocked is not counted, because a
server that pauses for seconds must not kill its workers for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import anyio

from ...wire.framing import ProtocolError
from ...wire.messages import FromWorker
from ..loop.futures import OneShotEvent
from ..loop.io import when_readable
from .framed_socket import FramedSocket

__all__ = ["STALL_LIMIT_S", "Channel"]

STALL_LIMIT_S = 5.0  # seconds for a frame or a backlog: it takes microseconds, or a second or two on a machine that swaps
_CHECKS_PER_LIMIT = 10  # timer checks within a limit; a pause of the loop counts as one check interval at most


class Channel:
    """Duplex message channel to one worker. `WorkerConnection` runs its tasks; any task of the loop may call `send`."""

    def __init__(self, end: socket.socket, stall_limit_s: float, loop: asyncio.AbstractEventLoop | None) -> None:
        """`loop` is the running loop; None: trio's."""
        self._loop = loop
        self._stall_limit_s = stall_limit_s
        self._check_interval_s = stall_limit_s / _CHECKS_PER_LIMIT
        self.socket = FramedSocket(end, loop)
        self.send = self.socket.send
        """Send a message now, or leave it to `write_unsent`. A closed connection is noticed by `receive`, not here."""
        self.send_soon = self.socket.send_soon
        """Send a message in the next iteration of the loop, together with other ones."""
        self.drain = self.socket.drain
        """Return the unread messages of a dead worker."""

    async def write_unsent(self) -> None:
        """Write the bytes that `send` could not. Runs until it is cancelled.

        Raises:
            ProtocolError: the worker did not read all of them in time.
        """
        while True:
            await self.socket.backlog_changed.wait()
            await self._write_backlog()
            self.socket.backlog_changed = OneShotEvent(self._loop)

    async def _write_backlog(self) -> None:
        left_s, framed = self._stall_limit_s, self.socket
        while framed.unsent:
            if left_s <= 0:
                unread = f"{len(framed.unsent):,} bytes for it are unsent"
                raise ProtocolError(f"it does not read: after {self._stall_limit_s:g} s {unread}")
            before = anyio.current_time()
            with anyio.move_on_after(min(left_s, self._check_interval_s)):
                await anyio.wait_writable(framed.socket)
            left_s -= min(anyio.current_time() - before, self._check_interval_s)
            framed.send_unsent()

    async def time_frames(self) -> None:
        """Enforce the time limit of frames that have begun. Runs until it is cancelled.

        Raises:
            ProtocolError: a frame was not complete in time.
        """
        while True:
            await self.socket.partial_started.wait()
            self.socket.partial_started = OneShotEvent(self._loop)
            await self._time_partial_frames()

    async def _time_partial_frames(self) -> None:
        framed = self.socket
        partial_frame, left_s = framed.partial_frame, self._stall_limit_s
        while partial_frame is not None:
            if left_s <= 0:
                received = f"only {len(framed.frames.pending):,} bytes of it had come"
                raise ProtocolError(f"it began a frame, and after {self._stall_limit_s:g} s {received}")
            before = anyio.current_time()
            await anyio.sleep(min(left_s, self._check_interval_s))
            left_s -= min(anyio.current_time() - before, self._check_interval_s)
            if framed.partial_frame is not partial_frame:
                partial_frame, left_s = framed.partial_frame, self._stall_limit_s

    async def receive(self, handle: Callable[[list[FromWorker]], None]) -> None:
        """Call `handle` with the messages of each read, in a loop callback. Returns at the end of the stream.

        Raises:
            ProtocolError: the worker sent something else than messages.
        """
        await when_readable(self._loop, self.socket.socket.fileno(), partial(self.socket.read, handle))

    def drain_last(self) -> tuple[FromWorker, ...]:
        """Return the unread messages of a dead worker; none if it has sent something else."""
        try:
            return tuple(self.drain())
        except ProtocolError:
            return ()

    def close(self) -> None:
        """Close the socket. The worker reads the end of the stream."""
        self.socket.socket.close()
