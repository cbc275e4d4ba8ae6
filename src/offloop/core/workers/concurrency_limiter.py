"""Concurrency limiter (AIMD: additive increase, multiplicative decrease) for times when the machine is short of memory.

The budget bounds the memory of this pool only; other processes of the machine need memory, too. The machine is measured about
once a second. The limit is halved if memory is short, and raised by one if it is plentiful. It does not change between these
two thresholds, so that it does not oscillate.
"""

from __future__ import annotations

__all__ = ["AimdLimiter"]

_SHORT_SHARE, _PLENTY_SHARE = 0.05, 0.10  # available memory, as a share of all memory
_SHORT_STALL, _PLENTY_STALL = 0.20, 0.05  # share of the time in which some process of the machine waited for memory (PSI)
_PAUSE_S = 2.0  # seconds between two changes, because a change has its effect first


class AimdLimiter:
    """The number of tasks that may run at once with the machine's present memory."""

    def __init__(self) -> None:
        self.limit: int | None = None  # tasks at once; None: no limit beside the configured one
        self._not_before = 0.0

    def observe(self, available_share: float, stalled_share: float, max_concurrency: int, now: float) -> None:
        """Adjust the limit to a measurement of the machine.

        Args:
            available_share: memory that is available without swapping, as a share of all memory.
            stalled_share: share of the last ten seconds in which a process waited for memory; 0 if it is unknown.
            max_concurrency: tasks that may run at once without memory pressure.
            now: seconds.
        """
        if now < self._not_before:
            return
        limit = max_concurrency if self.limit is None else min(self.limit, max_concurrency)
        if available_share < _SHORT_SHARE or stalled_share > _SHORT_STALL:
            self._set_limit(max(limit // 2, 1), max_concurrency, now)
        elif available_share > _PLENTY_SHARE and stalled_share < _PLENTY_STALL:
            self._set_limit(limit + 1, max_concurrency, now)

    def _set_limit(self, limit: int, max_concurrency: int, now: float) -> None:
        before = self.limit
        self.limit = None if limit >= max_concurrency else limit
        if self.limit != before:
            self._not_before = now + _PAUSE_S
