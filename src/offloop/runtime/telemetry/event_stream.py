"""Who watches the pool, and what they have not read yet; and what is worth a line in the log.

A reader that is slow or asleep never holds anything up: what it does not read in time it misses, and is told how much.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from ...core.telemetry.event_log import Journal
from ...pool_events import BreakerMoved, PoolEvent, WorkerCrashed, WorkerMemoryTooSmall
from ..loop.oneshot_event import Signal
from .safe_logging import UserLog

__all__ = ["Chronicle", "Reader"]

_log = UserLog("offloop.supervisor")

_KEPT = 10_000  # events for a reader that is behind
_CONSEQUENCES = {
    "closed": "dead workers are replaced again",
    "open": "dead workers are not replaced for a while",
    "half-open": "one worker is started on probation",
}


class Reader:
    """One who watches: an async iterator of events, from the moment it was made until the pool is gone."""

    def __init__(self, chronicle: Chronicle, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self.missed = 0  # events that came while it was too far behind
        self._chronicle = chronicle
        self._unread: deque[PoolEvent] = deque()
        self._came = Signal(loop)
        self._over = False

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> PoolEvent:
        while not self._unread:
            if self._over:
                raise StopAsyncIteration
            if self._came.is_set:  # else another task waits for the same news
                self._came = Signal(self._loop)
            with self._chronicle.awaited(self):
                await self._came.wait()
        return self._unread.popleft()

    def close(self) -> None:
        """Watch no longer; what is unread can still be read."""
        self._chronicle.leave(self)
        self.end()

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def tell(self, event: PoolEvent) -> None:
        """Something happened."""
        if len(self._unread) >= _KEPT:
            self._unread.popleft()
            self.missed += 1
        self._unread.append(event)
        self._came.set()

    def end(self) -> None:
        """Nothing more will."""
        self._over = True
        self._came.set()


class Chronicle:
    """Hands what happens to all who watch."""

    def __init__(self, journal: Journal, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._journal = journal
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()  # one that was left behind unclosed keeps nothing
        self._awaited: list[Reader] = []  # these live: perhaps nobody else holds the task that waits

    def watch(self) -> Reader:
        """Somebody wants to know what happens from now on."""
        reader = Reader(self, self._loop)
        self._readers.add(reader)
        self._journal.watched = True
        return reader

    def leave(self, reader: Reader) -> None:
        """And does not any more."""
        self._readers.discard(reader)
        self._journal.watched = bool(self._readers)

    @contextmanager
    def awaited(self, reader: Reader) -> Generator[None]:
        """Inside, a task waits for what this reader will be told."""
        self._awaited.append(reader)
        try:
            yield
        finally:
            self._awaited.remove(reader)

    def publish(self, events: Sequence[PoolEvent]) -> None:
        """Tell everybody, and the log."""
        for event in events:
            if isinstance(event, WorkerCrashed):
                _log.write(logging.WARNING, "worker %d (process %s) %s", event.slot, event.report.pid, event.report.cause)
            elif isinstance(event, BreakerMoved):
                moved = "the breaker was %s and is %s: %s"
                _log.write(logging.WARNING, moved, event.before, event.after, _CONSEQUENCES[event.after])
            elif isinstance(event, WorkerMemoryTooSmall):
                small = "%s is %d bytes, and a worker had %d after its first task: workers are replaced all the time"
                _log.write(logging.WARNING, small, event.limited_by, event.limit_bytes, event.private_bytes)
            for reader in self._readers:
                reader.tell(event)
        self._journal.watched = bool(self._readers)

    def close(self) -> None:
        """The pool is gone: readers read to the end, and stop."""
        for reader in self._readers:
            reader.end()
