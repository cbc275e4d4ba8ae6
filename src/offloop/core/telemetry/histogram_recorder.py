"""Histogram recorder: counts durations in buckets, for the percentiles of a pool.

Bounds are whole ticks of 1/1,048,576 second, a little less than a microsecond. Each power of two is divided into eight buckets,
as in HdrHistogram, so from 16 ticks on a bucket is no wider than an eighth of its lower bound. A second has 2**20 ticks, so
that a second, a half and a quarter are bounds of buckets, and a latency limit of this kind is counted exactly.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from ...histogram import Histogram

__all__ = ["BOUNDS", "Recorder"]

_TICKS = 1 << 20  # ticks in a second
_FINE = 8  # buckets in a power of two; below 16 ticks each tick has a bucket
_OCTAVES = 28  # powers of two from 16 ticks on, up to 2**32 ticks (4,096 seconds)

BOUNDS: Final = (
    *((tick + 1) / _TICKS for tick in range(2 * _FINE)),
    *(((_FINE + step + 1) << octave) / _TICKS for octave in range(1, _OCTAVES + 1) for step in range(_FINE)),
)
"""Upper bound of each bucket in seconds, exclusive. One more bucket has all longer times."""


class Recorder:
    """Counts durations in constant memory."""

    __slots__ = ("_counts", "_max_s", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum_s = 0.0
        self._max_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration, which must not be negative."""
        self._counts[bisect_right(BOUNDS, seconds)] += 1
        self._sum_s += seconds
        if seconds > self._max_s:  # noqa: PLR1730 (max() is slower, and this runs twice for each task)
            self._max_s = seconds

    def snapshot(self) -> Histogram:
        """The histogram of all durations until now."""
        counts = tuple(self._counts)  # a copy in one step, because the caller may be in another thread
        buckets: list[tuple[float, int]] = []
        total = 0
        for bound, count in zip(BOUNDS, counts, strict=False):
            if count:
                total += count
                buckets.append((bound, total))
        return Histogram(count=total + counts[-1], sum_s=self._sum_s, max_s=self._max_s, buckets=tuple(buckets))
