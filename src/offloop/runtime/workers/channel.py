"""The supervisor's end of a worker's pipe: a socket that never blocks the loop.

What can be sent at once is sent in the caller's own turn, without waking a task for it; only what a full pipe refuses waits for
the writer task. What arrives is read in one go and decoded frame by frame.

The other end may be an enemy, or stopped. A frame that has begun must come to its end in time, and what a full pipe refused
must go through in time; there is a clock for each, which runs only then. Both clocks stand still while the loop itself is held
up: a server that pauses for seconds must not find its workers guilty of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import anyio

from ...wire.framing import ProtocolError
from ...wire.messages import FromWorker
from ..loop.io import when_readable
from ..loop.oneshot_event import OneShotEvent
from .framed_socket import FramedSocket

__all__ = ["LOAD_LIMIT_S", "STALL_LIMIT_S", "Channel"]

STALL_LIMIT_S = 5.0  # it takes microseconds, or on a machine that swaps a second or two
LOAD_LIMIT_S = 60.0  # a large model takes tens of seconds to load, and holds the GIL for some of them
_CHECKS_PER_LIMIT = 10  # during that time; a pause of the loop is held against the worker as one of them at most


class Channel:
    """One worker's messages. Belongs to the tasks that serve the worker; `send` may be called from any task of the loop."""

    def __init__(self, end: socket.socket, stall_limit_s: float, loop: asyncio.AbstractEventLoop | None) -> None:
        """`loop` is the running one; None: trio's."""
        self._loop = loop
        self._stall_limit_s = stall_limit_s
        self.write_limit_s = stall_limit_s
        """Seconds in which the worker must have read what is unsent. Longer while it loads plugins and cannot read."""
        self._check_interval_s = stall_limit_s / _CHECKS_PER_LIMIT
        self.socket = line = FramedSocket(end, loop)
        self.send = line.send
        """Send now, or let `write_unsent` do it. A peer that is gone is noticed by `receive`, not here."""
        self.drain = line.drain
        """What a dead worker had sent and nobody has read yet."""

    async def write_unsent(self) -> None:
        """Keep writing what `send` could not. Runs until it is cancelled.

        Raises:
            ProtocolError: the worker does not read.
        """
        while True:
            await self.socket.backlog_changed.wait()
            await self._write_backlog()
            self.socket.backlog_changed = OneShotEvent(self._loop)

    async def _write_backlog(self) -> None:
        left_s, line = self.write_limit_s, self.socket
        while line.unsent:
            if left_s <= 0:
                unread = f"{len(line.unsent):,} bytes for it are unsent"
                raise ProtocolError(f"it does not read: after {self.write_limit_s:g} s {unread}")
            before = anyio.current_time()
            with anyio.move_on_after(min(left_s, self._check_interval_s)):
                await anyio.wait_writable(line.socket)
            left_s -= min(anyio.current_time() - before, self._check_interval_s)
            line.send_unsent()

    async def time_frames(self) -> None:
        """Watch over frames that have begun. Runs until it is cancelled.

        Raises:
            ProtocolError: one was not complete in time.
        """
        while True:
            await self.socket.partial_started.wait()
            self.socket.partial_started = OneShotEvent(self._loop)
            await self._time_partial_frames()

    async def _time_partial_frames(self) -> None:
        line = self.socket
        half, left_s = line.partial_frame, self._stall_limit_s
        while half is not None:
            if left_s <= 0:
                came = f"only {len(line.frames.pending):,} bytes of it had come"
                raise ProtocolError(f"it began a frame, and after {self._stall_limit_s:g} s {came}")
            before = anyio.current_time()
            await anyio.sleep(min(left_s, self._check_interval_s))
            left_s -= min(anyio.current_time() - before, self._check_interval_s)
            if line.partial_frame is not half:
                half, left_s = line.partial_frame, self._stall_limit_s

    async def receive(self, handle: Callable[[FromWorker], None]) -> None:
        """Hand over every message as it comes, in the loop's own turn; returns at the end of the stream.

        Raises:
            ProtocolError: the worker sent something else than messages.
        """
        await when_readable(self._loop, self.socket.socket.fileno(), partial(self.socket.read, handle))

    def close(self) -> None:
        """Hang up: the worker hears of it as the end of its stream."""
        self.socket.socket.close()
