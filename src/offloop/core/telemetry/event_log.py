"""Event log: pool events that were not delivered yet.

Events of every step are recorded only while there is a subscriber. Crashes and changes of the breaker are always recorded,
because they are also written to the logger.
"""

from __future__ import annotations

from ...pool_events import PoolEvent

__all__ = ["EventLog"]


class EventLog:
    """The pool events since the last `drain`."""

    def __init__(self) -> None:
        self.has_subscribers = False  # whether events of every step of a worker are recorded
        self.watches_tasks = False  # whether retries and ends of tasks are recorded
        self.entries: list[PoolEvent] = []
        self.now = 0.0  # time of the event that the core handles

    def append_if_watched(self, entry: PoolEvent) -> None:
        """Record an event if there is a subscriber."""
        if self.has_subscribers:
            self.entries.append(entry)

    def append(self, entry: PoolEvent) -> None:
        """Record a rare event, also without a subscriber."""
        self.entries.append(entry)

    def drain(self) -> list[PoolEvent]:
        """Remove and return all events."""
        entries, self.entries = self.entries, []
        return entries
