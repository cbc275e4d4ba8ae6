"""What has happened and is not told yet.

Records of every step are made only while somebody watches. Crashes and the breaker are always recorded: they go into the log.
"""

from __future__ import annotations

from ...pool_events import PoolEvent

__all__ = ["Journal"]


class Journal:
    """What has happened since it was last read."""

    def __init__(self) -> None:
        self.watched = False  # whether anybody wants to know
        self.now = 0.0
        self.entries: list[PoolEvent] = []

    def enter(self, entry: PoolEvent) -> None:
        """Write down, if anybody wants to know."""
        if self.watched:
            self.entries.append(entry)

    def report(self, entry: PoolEvent) -> None:
        """Write down, whoever wants to know: it is rare, and it goes into the log."""
        self.entries.append(entry)

    def take(self) -> list[PoolEvent]:
        """Read, and empty."""
        entries, self.entries = self.entries, []
        return entries
