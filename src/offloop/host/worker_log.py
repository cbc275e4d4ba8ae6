"""What a worker prints, and where it goes: to logging, bounded, and its end into the report of a death.

The pipe is always drained, so a worker that floods it never blocks on it; what exceeds a line's length or a second's share is
counted and dropped.
"""

from __future__ import annotations

import logging
import os
from time import monotonic

from .readiness import when_readable

__all__ = ["WorkerLog"]

_log = logging.getLogger("offloop.worker")

_READ_NBYTES = 64 * 1024
_PIPE_NBYTES = 1024 * 1024  # the most that a pipe can hold
_TAIL_NBYTES = 4096  # kept for the report of a crash
_LINE_NBYTES = 2048
_LINES_PER_SECOND = 50  # a traceback is shorter


class WorkerLog:
    """Drains one worker's output."""

    def __init__(self, slot: int, descriptor: int) -> None:
        self._slot = slot
        self._fd = descriptor
        self._tail = b""
        self._line = b""
        self._second = 0
        self._lines_left = _LINES_PER_SECOND
        self._dropped = 0

    @property
    def tail(self) -> str:
        """The last that it wrote, made safe to print."""
        text = self._tail.decode("utf-8", "backslashreplace").strip()
        return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)

    async def drain(self) -> None:
        """Read until the worker and all that inherited its output have closed it."""
        await when_readable(self._fd, self.drain_nowait)

    def drain_rest(self) -> None:
        """Read what a dead worker left behind; its own children may keep the pipe open, so there may be no end."""
        for _ in range(_PIPE_NBYTES // _READ_NBYTES + 1):
            if not self.drain_nowait():
                return

    def drain_nowait(self) -> bool:
        """Read what is there; False at the end of the stream."""
        try:
            data = os.read(self._fd, _READ_NBYTES)
        except BlockingIOError:
            return True
        if not data:
            self._emit([self._line])
            return False
        self._tail = (self._tail + data)[-_TAIL_NBYTES:]
        *lines, rest = (self._line + data).split(b"\n")
        self._emit(lines)
        self._line = rest[:_LINE_NBYTES]  # a longer line loses its end
        return True

    def _emit(self, lines: list[bytes]) -> None:
        second = int(monotonic())
        if second != self._second:
            if self._dropped:
                _log.warning("worker %d: %d lines were dropped", self._slot, self._dropped)
            self._second, self._lines_left, self._dropped = second, _LINES_PER_SECOND, 0
        taken = [line for line in lines[: self._lines_left] if line]
        self._lines_left -= len(taken)
        self._dropped += max(len(lines) - len(taken), 0)
        for line in taken:
            _log.info("worker %d: %s", self._slot, ascii(line[:_LINE_NBYTES].decode("utf-8", "backslashreplace"))[1:-1])
