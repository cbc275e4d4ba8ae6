"""Phases of a pool's life."""

from __future__ import annotations

from enum import Enum

__all__ = ["PoolPhase"]


class PoolPhase(Enum):
    """Phase of a pool. It only moves forward."""

    OPEN = "open"
    DRAINING = "draining"  # new tasks are refused
    CLOSING = "closing"  # new tasks are refused, and unsettled tasks end
