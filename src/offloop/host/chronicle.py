"""Who watches the pool, and what they have not read yet; and what is worth a line in the log.

A reader that is slow or asleep never holds anything up: what it does not read in time it misses, and is told how much.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from ..core.journal import Journal
from ..history import BreakerMoved, PoolEvent, WorkerCrashed
from .readiness import Signal

__all__ = ["Chronicle", "Reader"]

_log = logging.getLogger("offloop.supervisor")

_KEPT = 10_000  # events for a reader that is behind
_CONSEQUENCES = {
    "closed": "dead workers are replaced again",
    "open": "dead workers are not replaced for a while",
    "half-open": "one worker is started on probation",
}


class Reader:
    """One who watches: an async iterator of events, from the moment it was made until the pool is gone."""

    def __init__(self, chronicle: Chronicle) -> None:
        self.missed = 0  # events that came while it was too far behind
        self._chronicle = chronicle
        self._unread: deque[PoolEvent] = deque()
        self._came = Signal()
        self._over = False

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> PoolEvent:
        while not self._unread:
            if self._over:
                raise StopAsyncIteration
            self._came = Signal()
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

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._readers: list[Reader] = []

    def watch(self) -> Reader:
        """Somebody wants to know what happens from now on."""
        reader = Reader(self)
        self._readers.append(reader)
        self._journal.watched = True
        return reader

    def leave(self, reader: Reader) -> None:
        """And does not any more."""
        if reader in self._readers:
            self._readers.remove(reader)
        self._journal.watched = bool(self._readers)

    def publish(self, events: Sequence[PoolEvent]) -> None:
        """Tell everybody, and the log."""
        for event in events:
            if isinstance(event, WorkerCrashed):
                _log.warning("worker %d (process %s) %s", event.slot, event.report.pid, event.report.cause)
            elif isinstance(event, BreakerMoved):
                _log.warning("the breaker was %s and is %s: %s", event.before, event.after, _CONSEQUENCES[event.after])
            for reader in self._readers:
                reader.tell(event)

    def close(self) -> None:
        """The pool is gone: readers read to the end, and stop."""
        for reader in self._readers:
            reader.end()
