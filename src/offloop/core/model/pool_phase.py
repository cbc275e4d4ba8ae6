"""Where the pool itself stands."""

from __future__ import annotations

from enum import Enum

__all__ = ["PoolPhase"]


class PoolPhase(Enum):
    """The pool's own life; it only goes forward."""

    OPEN = "open"
    DRAINING = "draining"  # nothing new is taken
    CLOSING = "closing"  # and what is held ends
