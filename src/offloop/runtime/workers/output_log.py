"""Copies a worker's stdout and stderr to the server's log, with limits, and keeps the last bytes for the crash report.

The pipe is always drained, so a worker never waits on it for long. Bytes beyond a line's maximum length are dropped; lines
beyond the limit per second are dropped and counted. After each burst the drain pauses, so that a flood of output does not block
the event loop: the pipe fills, and the worker waits.

Output belongs to the task during which it was written. A worker writes all that a task printed before it answers, so bytes that
are in the pipe when the next task is sent belong to earlier tasks. `begin_task` records the position in the stream where they
end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import termios
from collections import deque
from collections.abc import Mapping
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
_PIPE_NBYTES = 1024 * 1024  # maximum capacity of a pipe
_TAIL_NBYTES = 4096  # last bytes of output, kept for the crash report
_LINE_NBYTES = 2048  # maximum length of a logged line
_LINES_PER_SECOND = 50  # more than a traceback has
_BURST_NBYTES = 1024 * 1024  # bytes read without a pause: some 0.5 ms of the loop
_MIN_CHARGE_NBYTES = 16 * 1024  # for each read, because reading one byte costs nearly as much as reading thousands
_NOTHING_UNREAD = bytearray(4)  # FIONREAD result for an empty pipe
_NO_LABELS: Mapping[str, str] = {}
_PAUSE_S = 0.025  # seconds between bursts: at most 40 MiB a second, and 2 % of the loop


class OutputLog:
    """Reads one worker's output pipe and logs its lines."""

    def __init__(self, slot: int, descriptor: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop  # the running loop; None: trio's
        self._slot = slot
        self._fd = descriptor
        self._tail = b""
        self._partial_line = b""
        self._second: int = 0
        self._lines_left = _LINES_PER_SECOND
        self._dropped = 0
        self._has_ended = False
        self._burst_left = 0
        self._read_nbytes = 0  # bytes read from the stream in total
        self._unread_nbytes = bytearray(_NOTHING_UNREAD)  # buffer for FIONREAD
        self._task_id: int | None = None  # task whose output is being read; None: before the first task
        self._labels = _NO_LABELS  # labels of that task
        # (stream position, task id, labels) of task starts in the unread part
        self._task_starts: deque[tuple[int, int, Mapping[str, str]]] = deque()

    def begin_task(self, task_id: int, labels: Mapping[str, str] = _NO_LABELS) -> None:
        """Record that output from now on belongs to this task. Called before the task is sent."""
        ioctl(self._fd, termios.FIONREAD, self._unread_nbytes)
        if not self._task_starts and self._unread_nbytes == _NOTHING_UNREAD:
            self._begin_section(task_id, labels)
            return
        position = self._read_nbytes + int.from_bytes(self._unread_nbytes, sys.byteorder)
        if self._task_starts and self._task_starts[-1][0] == position:  # the previous task has written nothing
            self._task_starts.pop()
        self._task_starts.append((position, task_id, labels))

    @property
    def tail(self) -> str:
        """The last output of the current task, safe to print."""
        text = without_markers(self._tail).decode("utf-8", "backslashreplace").strip()
        return printable(text, _TAIL_NBYTES * 4)  # because an escaped byte has 4 characters

    async def drain(self) -> None:
        """Read until the end of the stream: all processes that inherited the pipe have closed it."""
        while True:
            self._burst_left = _BURST_NBYTES
            await when_readable(self._loop, self._fd, self._drain_burst)
            if self._has_ended:
                return
            await anyio.sleep(_PAUSE_S)

    def _drain_burst(self) -> bool:
        return self.drain_nowait() and self._burst_left > 0

    def drain_rest(self) -> None:
        """Read the rest of a dead worker's output. Bounded, because the worker's own children may keep the pipe open."""
        for _ in range(_PIPE_NBYTES // _READ_NBYTES + 1):
            if not self.drain_nowait():
                return

    def drain_nowait(self) -> bool:
        """Read once, without blocking. Returns False at the end of the stream."""
        try:
            data = os.read(self._fd, _READ_NBYTES)
        except BlockingIOError:
            return True
        if not data:
            self._reset_line_limit()
            self._emit([self._partial_line][: self._lines_left])
            self._partial_line = b""
            self._has_ended = True
            return False
        self._burst_left -= max(len(data), _MIN_CHARGE_NBYTES)
        self._reset_line_limit()
        while self._task_starts and self._task_starts[0][0] <= self._read_nbytes + len(data):
            position, task_id, labels = self._task_starts.popleft()
            nbytes = position - self._read_nbytes
            self._append(data[:nbytes])
            self._begin_section(task_id, labels)
            data = data[nbytes:]
        self._append(data)
        return True

    def _append(self, data: bytes) -> None:
        """Log the complete lines of one task's output, and keep the tail."""
        self._read_nbytes += len(data)
        self._tail = (self._tail + data)[-_TAIL_NBYTES:]
        *lines, rest = (self._partial_line + data).split(b"\n", self._lines_left)
        self._emit(lines)
        self._dropped += rest.count(b"\n")  # not split into lines, because a flood may be nothing but line ends
        rest = rest[rest.rfind(b"\n") + 1 :]
        self._partial_line = rest[:_LINE_NBYTES]  # a longer line is truncated

    def _begin_section(self, task_id: int, labels: Mapping[str, str]) -> None:
        """Begin the output of a task. An unfinished line of the previous task is logged as a line."""
        self._tail = b""
        if self._partial_line:
            self._emit([self._partial_line][: self._lines_left])
            self._partial_line = b""
        self._task_id = task_id
        self._labels = labels

    @property
    def _origin(self) -> str:
        """First words of each logged line. Not kept, because few tasks print."""
        texts = [f"{name}={ascii(value)[1:-1]}" for name, value in self._labels.items()]
        task = [] if self._task_id is None else [f"task {self._task_id}"]
        return ", ".join([f"worker {self._slot}", *task, *texts])

    def _reset_line_limit(self) -> None:
        second = int(monotonic())
        if second != self._second:
            if self._dropped:
                WORKER_LOGGER.log(logging.WARNING, "worker %d: %d lines were dropped", self._slot, self._dropped)
            self._second, self._lines_left, self._dropped = second, _LINES_PER_SECOND, 0

    def _emit(self, lines: list[bytes]) -> None:
        nonempty = [line for line in lines if line]
        self._lines_left -= len(nonempty)
        origin = self._origin if nonempty else ""
        for line in nonempty:
            for level, part in split_levels(line[:_LINE_NBYTES]):
                text = ascii(part.decode("utf-8", "backslashreplace"))[1:-1]
                extra = {"worker": self._slot, "task_id": self._task_id, "labels": self._labels}
                WORKER_LOGGER.log(level, "%s: %s", origin, text, extra=extra)
