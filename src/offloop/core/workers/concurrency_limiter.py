"""Fewer tasks at once while the machine is short of memory, and all of them again when it is not.

The budget bounds what this pool takes; others take memory too. Each time that the machine is measured (about once a second),
the number that may run is halved if memory is short, and raised by one if it is plentiful: down at once, up slowly. Between the
two lies a band in which nothing changes, so the number does not swing.
"""

from __future__ import annotations

__all__ = ["AimdLimiter"]

_SHORT_SHARE, _PLENTY_SHARE = 0.05, 0.10  # of all memory: available
_SHORT_STALL, _PLENTY_STALL = 0.20, 0.05  # of the time: some task of the machine stood still for want of memory (PSI)
_PAUSE_S = 2.0  # between two changes: what has changed must be felt first


class AimdLimiter:
    """How many tasks the machine bears."""

    def __init__(self) -> None:
        self.limit: int | None = None  # tasks at once; None: as many as the pool may
        self._not_before = 0.0

    def observe(self, available_share: float, stalled_share: float, at_most: int, now: float) -> None:
        """The machine was looked at.

        Args:
            available_share: memory that could be had without swapping, of all that there is.
            stalled_share: of the last ten seconds, in which a process waited for memory. 0 where the kernel does not say.
            at_most: tasks that may run at once without pressure.
        """
        if now < self._not_before:
            return
        allowed = at_most if self.limit is None else min(self.limit, at_most)
        if available_share < _SHORT_SHARE or stalled_share > _SHORT_STALL:
            self._set_limit(max(allowed // 2, 1), at_most, now)
        elif available_share > _PLENTY_SHARE and stalled_share < _PLENTY_STALL:
            self._set_limit(allowed + 1, at_most, now)

    def _set_limit(self, allowed: int, at_most: int, now: float) -> None:
        before = self.limit
        self.limit = None if allowed >= at_most else allowed
        if self.limit != before:
            self._not_before = now + _PAUSE_S
