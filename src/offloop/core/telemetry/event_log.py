"""What has happened and is not told yet.

Records of every step are made only while somebody watches. Crashes and the breaker are always recorded: they go into the log.
"""

from __future__ import annotations

from ...pool_events import PoolEvent

__all__ = ["EventLog"]


class EventLog:
    """What has happened since it was last read."""

    def __init__(self) -> None:
        self.has_subscribers = False  # whether anybody wants to know
        self.now = 0.0
        self.entries: list[PoolEvent] = []

    def append_if_watched(self, entry: PoolEvent) -> None:
        """Write down, if anybody wants to know."""
        if self.has_subscribers:
            self.entries.append(entry)

    def append(self, entry: PoolEvent) -> None:
        """Write down, whoever wants to know: it is rare, and it goes into the log."""
        self.entries.append(entry)

    def drain(self) -> list[PoolEvent]:
        """Read, and empty."""
        entries, self.entries = self.entries, []
        return entries
