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

from ...core.telemetry.event_log import EventLog
from ...pool_events import BreakerMoved, PoolEvent, WorkerCrashed, WorkerMemoryTooSmall
from ..loop.oneshot_event import OneShotEvent
from .safe_logging import SafeLogger

__all__ = ["EventStream", "EventSubscription"]

_log = SafeLogger("offloop.supervisor")

_MAX_UNREAD_EVENTS = 10_000  # events for a reader that is behind
_LOG_LEVELS = {
    "closed": "dead workers are replaced again",
    "open": "dead workers are not replaced for a while",
    "half-open": "one worker is started on probation",
}


class EventSubscription:
    """One who watches: an async iterator of events, from the moment it was made until the pool is gone."""

    def __init__(self, event_stream: EventStream, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self.dropped = 0  # events that came while it was too far behind
        self._event_stream = event_stream
        self._unread: deque[PoolEvent] = deque()
        self._came = OneShotEvent(loop)
        self._over = False

    def __aiter__(self) -> EventSubscription:
        return self

    async def __anext__(self) -> PoolEvent:
        while not self._unread:
            if self._over:
                raise StopAsyncIteration
            if self._came.is_set:  # else another task waits for the same news
                self._came = OneShotEvent(self._loop)
            with self._event_stream.has_waiting_reader(self):
                await self._came.wait()
        return self._unread.popleft()

    def close(self) -> None:
        """Watch no longer; what is unread can still be read."""
        self._event_stream.unsubscribe(self)
        self.end()

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def push(self, event: PoolEvent) -> None:
        """Something happened."""
        if len(self._unread) >= _MAX_UNREAD_EVENTS:
            self._unread.popleft()
            self.dropped += 1
        self._unread.append(event)
        self._came.set()

    def end(self) -> None:
        """Nothing more will."""
        self._over = True
        self._came.set()


class EventStream:
    """Hands what happens to all who watch."""

    def __init__(self, event_log: EventLog, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._event_log = event_log
        self._subscriptions: weakref.WeakSet[EventSubscription] = (
            weakref.WeakSet()
        )  # one that was left behind unclosed keeps nothing
        self._awaited: list[EventSubscription] = []  # these live: perhaps nobody else holds the task that waits

    def subscribe(self) -> EventSubscription:
        """Somebody wants to know what happens from now on."""
        reader = EventSubscription(self, self._loop)
        self._subscriptions.add(reader)
        self._event_log.has_subscribers = True
        return reader

    def unsubscribe(self, reader: EventSubscription) -> None:
        """And does not any more."""
        self._subscriptions.discard(reader)
        self._event_log.has_subscribers = bool(self._subscriptions)

    @contextmanager
    def has_waiting_reader(self, reader: EventSubscription) -> Generator[None]:
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
                _log.log(logging.WARNING, "worker %d (process %s) %s", event.slot, event.report.pid, event.report.cause)
            elif isinstance(event, BreakerMoved):
                moved = "the breaker was %s and is %s: %s"
                _log.log(logging.WARNING, moved, event.before, event.after, _LOG_LEVELS[event.after])
            elif isinstance(event, WorkerMemoryTooSmall):
                small = "%s is %d bytes, and a worker had %d after its first task: workers are replaced all the time"
                _log.log(logging.WARNING, small, event.limited_by, event.limit_bytes, event.private_bytes)
            for reader in self._subscriptions:
                reader.push(event)
        self._event_log.has_subscribers = bool(self._subscriptions)

    def close(self) -> None:
        """The pool is gone: readers read to the end, and stop."""
        for reader in self._subscriptions:
            reader.end()
