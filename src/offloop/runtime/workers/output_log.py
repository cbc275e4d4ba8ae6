"""A worker's output: its lines go to the server's log, bounded and with their levels; its end goes into the report of a death.

The pipe is always drained, so a worker never waits on it for long; what exceeds a line's length or a second's share is counted
and dropped. A flood must not take the loop from everybody else: after so much was read there is a pause, in which the pipe is
full and the worker that floods it waits.

Output belongs to the task during which it was written. A worker writes all that a task printed before it answers, so what is in
the pipe when the next task is sent is of those before. `begin_task` notes the position in the stream where they end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import termios
from collections import deque
from fcntl import ioctl
from time import monotonic

import anyio

from ...wire.log_lines import split_levels, without_markers
from ...wire.text import printable
from ..loop.io import when_readable
from ..telemetry.safe_logging import SafeLogger

__all__ = ["WORKER_LOGGER", "OutputLog"]

WORKER_LOGGER = SafeLogger("offloop.worker")

_READ_NBYTES = 64 * 1024
_PIPE_NBYTES = 1024 * 1024  # the most that a pipe can hold
_TAIL_NBYTES = 4096  # kept for the report of a crash
_LINE_NBYTES = 2048
_LINES_PER_SECOND = 50  # a traceback is shorter
_BURST_NBYTES = 1024 * 1024  # read without a pause: some 0.5 ms of the loop
_LEAST_CHARGE_NBYTES = 16 * 1024  # a read of one byte costs the loop nearly as much as one of thousands
_NOTHING_UNREAD = bytearray(4)  # what FIONREAD says of an empty pipe
_PAUSE_S = 0.025  # between bursts, which makes it 40 MiB a second and 2 % of the loop


class OutputLog:
    """Drains one worker's output."""

    def __init__(self, slot: int, descriptor: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop  # the running one; None: trio's
        self._slot = slot
        self._fd = descriptor
        self._tail = b""
        self._line = b""
        self._second: int = 0
        self._lines_left = _LINES_PER_SECOND
        self._dropped = 0
        self._ended = False
        self._burst_left = 0
        self._read_nbytes = 0  # of the stream
        self._unread_nbytes = bytearray(_NOTHING_UNREAD)  # for FIONREAD to write to
        self._task_id: int | None = None  # whose output is read; None: before the first task
        self._begins: deque[tuple[int, int]] = deque()  # where in the unread part of the stream which task begins

    def begin_task(self, task_id: int) -> None:
        """The worker is about to be sent a task: what it has written until now is not that task's."""
        ioctl(self._fd, termios.FIONREAD, self._unread_nbytes)
        if not self._begins and self._unread_nbytes == _NOTHING_UNREAD:
            self._begin_section(task_id)
            return
        position = self._read_nbytes + int.from_bytes(self._unread_nbytes, sys.byteorder)
        if self._begins and self._begins[-1][0] == position:  # the last task has written nothing
            self._begins.pop()
        self._begins.append((position, task_id))

    @property
    def tail(self) -> str:
        """The end of what it wrote since it was sent its last task, made safe to print."""
        text = without_markers(self._tail).decode("utf-8", "backslashreplace").strip()
        return printable(text, _TAIL_NBYTES * 4)  # an escaped byte is 4

    async def drain(self) -> None:
        """Read until the worker and all that inherited its output have closed it."""
        while True:
            self._burst_left = _BURST_NBYTES
            await when_readable(self._loop, self._fd, self._drain_burst)
            if self._ended:
                return
            await anyio.sleep(_PAUSE_S)

    def _drain_burst(self) -> bool:
        return self.drain_nowait() and self._burst_left > 0

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
            self._renew_share()
            self._emit([self._line][: self._lines_left])
            self._line = b""
            self._ended = True
            return False
        self._burst_left -= max(len(data), _LEAST_CHARGE_NBYTES)
        self._renew_share()
        while self._begins and self._begins[0][0] <= self._read_nbytes + len(data):
            position, task_id = self._begins.popleft()
            nbytes = position - self._read_nbytes
            self._take_in(data[:nbytes])
            self._begin_section(task_id)
            data = data[nbytes:]
        self._take_in(data)
        return True

    def _take_in(self, data: bytes) -> None:
        """Log whole lines, and keep the end, of output that is all of one task."""
        self._read_nbytes += len(data)
        self._tail = (self._tail + data)[-_TAIL_NBYTES:]
        *lines, rest = (self._line + data).split(b"\n", self._lines_left)
        self._emit(lines)
        self._dropped += rest.count(b"\n")  # never cut into lines: a flood may be nothing but line ends
        rest = rest[rest.rfind(b"\n") + 1 :]
        self._line = rest[:_LINE_NBYTES]  # a longer line loses its end

    def _begin_section(self, task_id: int) -> None:
        """The output of a task begins. A line that the last task has not finished is a line of its own."""
        self._tail = b""
        if self._line:
            self._emit([self._line][: self._lines_left])
            self._line = b""
        self._task_id = task_id

    def _renew_share(self) -> None:
        second = int(monotonic())
        if second != self._second:
            if self._dropped:
                WORKER_LOGGER.log(logging.WARNING, "worker %d: %d lines were dropped", self._slot, self._dropped)
            self._second, self._lines_left, self._dropped = second, _LINES_PER_SECOND, 0

    def _emit(self, lines: list[bytes]) -> None:
        origin = f"worker {self._slot}" if self._task_id is None else f"worker {self._slot}, task {self._task_id}"
        taken = [line for line in lines if line]
        self._lines_left -= len(taken)
        for line in taken:
            for level, part in split_levels(line[:_LINE_NBYTES]):
                text = ascii(part.decode("utf-8", "backslashreplace"))[1:-1]
                WORKER_LOGGER.log(level, "%s: %s", origin, text)
