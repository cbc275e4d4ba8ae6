"""Publishes pool events to subscriptions and observers, and logs the important ones.

A slow subscription never delays the pool: beyond a limit it drops its oldest unread events, and counts them.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from ...core.telemetry.event_log import EventLog
from ...pool_events import BreakerMoved, PluginUnavailable, PoolEvent, SandboxReported, WorkerCrashed, WorkerMemoryTooSmall
from ..loop.futures import OneShotEvent
from .observers import Observers
from .safe_logging import SafeLogger

__all__ = ["EventStream", "EventSubscription"]

_log = SafeLogger("offloop.supervisor")

_MAX_UNREAD_EVENTS = 10_000  # unread events that one subscription keeps
_BREAKER_TEXTS = {
    "closed": "dead workers are replaced again",
    "open": "dead workers are not replaced for a while",
    "half-open": "one worker is started on probation",
}


class EventSubscription:
    """Async iterator of pool events, from its creation until the pool is closed."""

    def __init__(self, event_stream: EventStream, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self.dropped = 0  # number of unread events that were dropped
        self._event_stream = event_stream
        self._unread: deque[PoolEvent] = deque()
        self._arrived = OneShotEvent(loop)
        self._has_ended = False

    def __aiter__(self) -> EventSubscription:
        return self

    async def __anext__(self) -> PoolEvent:
        while not self._unread:
            if self._has_ended:
                raise StopAsyncIteration
            if self._arrived.is_set:  # not set: another task waits for the same event
                self._arrived = OneShotEvent(self._loop)
            with self._event_stream.keep_alive(self):
                await self._arrived.wait()
        return self._unread.popleft()

    def close(self) -> None:
        """End the subscription. Unread events can still be read."""
        self._event_stream.unsubscribe(self)
        self.end()

    async def aclose(self) -> None:
        """Close the subscription, as `close` does."""
        self.close()

    def push(self, event: PoolEvent) -> None:
        """Append an event, and drop the oldest one if there are too many."""
        if len(self._unread) >= _MAX_UNREAD_EVENTS:
            self._unread.popleft()
            self.dropped += 1
        self._unread.append(event)
        self._arrived.set()

    def end(self) -> None:
        """End the iteration after the unread events."""
        self._has_ended = True
        self._arrived.set()


class EventStream:
    """Publishes events to all subscriptions and observers, and to the log."""

    def __init__(self, event_log: EventLog, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._event_log = event_log
        # weak references, so that a subscription that was never closed can be garbage collected
        self._subscriptions: weakref.WeakSet[EventSubscription] = weakref.WeakSet()
        self._waiting: list[EventSubscription] = []  # strong references to subscriptions that tasks wait for
        self.observers = Observers()

    def attach(self, observers: Observers) -> None:
        """Publish to these observers, which change while the pool runs."""
        self.observers = observers
        observers.on_change(self._record_if_watched)

    def subscribe(self) -> EventSubscription:
        """Return a new subscription to the events from now on."""
        subscription = EventSubscription(self, self._loop)
        self._subscriptions.add(subscription)
        self._record_if_watched()
        return subscription

    def unsubscribe(self, subscription: EventSubscription) -> None:
        """Remove a subscription."""
        self._subscriptions.discard(subscription)
        self._record_if_watched()

    @contextmanager
    def keep_alive(self, subscription: EventSubscription) -> Generator[None]:
        """Refer to a subscription while a task waits for its next event, because nothing else may refer to that task."""
        self._waiting.append(subscription)
        try:
            yield
        finally:
            self._waiting.remove(subscription)

    def publish(self, events: Sequence[PoolEvent]) -> None:
        """Push events to all subscriptions, and log crashes, breaker changes, postures and too small memory limits."""
        for event in events:
            if isinstance(event, WorkerCrashed):
                _log.log(logging.WARNING, "worker %d (process %s) %s", event.slot, event.report.pid, event.report.cause)
            elif isinstance(event, BreakerMoved):
                text = "the breaker was %s and is %s: %s"
                _log.log(logging.WARNING, text, event.before, event.after, _BREAKER_TEXTS[event.after])
            elif isinstance(event, WorkerMemoryTooSmall):
                text = "%s is %d bytes, and a worker had %d after its first task: workers are replaced all the time"
                _log.log(logging.WARNING, text, event.limited_by, event.limit_bytes, event.private_bytes)
            elif isinstance(event, PluginUnavailable):
                _log.log(logging.ERROR, "plugin %s: %s", event.plugin, event.reason)
            elif isinstance(event, SandboxReported):
                level = logging.WARNING if event.posture.missing else logging.INFO
                _log.log(level, "sandbox of the worker group %s: %s", event.group, event.posture)
            for subscription in self._subscriptions:
                subscription.push(event)
            self.observers.publish(event)
        self._record_if_watched()

    def _record_if_watched(self) -> None:
        """Have events of tasks and of every step recorded while there is a subscription or an observer for them."""
        has_subscriptions = bool(self._subscriptions)
        self._event_log.has_subscribers = has_subscriptions or self.observers.need_worker_moves
        self._event_log.watches_tasks = has_subscriptions or self.observers.are_there

    def close(self) -> None:
        """End all subscriptions after their unread events."""
        for subscription in self._subscriptions:
            subscription.end()
