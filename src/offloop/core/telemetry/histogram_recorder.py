"""How long things took, counted as they end: what a pool's percentiles are made of.

Bounds are whole ticks of 1/1,048,576 second, a little less than a microsecond. Each power of two of them is cut into eight
buckets, as HdrHistogram does it, so from 16 ticks on a bucket is no wider than an eighth of where it begins. There are 2**20
ticks to a second, so that a second, a half and a quarter are bounds of buckets: a limit on latency is counted exactly.
"""

from __future__ import annotations

from bisect import bisect_right

from ...histogram import Histogram

__all__ = ["BOUNDS", "Recorder"]

_TICKS = 1 << 20  # in a second
_FINE = 8  # buckets to a power of two; below 16 ticks there is one to a tick
_OCTAVES = 28  # beyond those: to 2**32 ticks, which is 4,096 seconds

BOUNDS = (
    *((tick + 1) / _TICKS for tick in range(2 * _FINE)),
    *(((_FINE + part + 1) << octave) / _TICKS for octave in range(1, _OCTAVES + 1) for part in range(_FINE)),
)
"""What each bucket's times are less than, in seconds; one more bucket has all that are not."""


class Recorder:
    """Counts times, in as much memory for one as for a million."""

    __slots__ = ("_counts", "_max_s", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum_s = 0.0
        self._max_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one time; it is not negative."""
        self._counts[bisect_right(BOUNDS, seconds)] += 1
        self._sum_s += seconds
        if seconds > self._max_s:  # noqa: PLR1730 (max() takes longer, and this runs twice for each task)
            self._max_s = seconds

    def snapshot(self) -> Histogram:
        """What was counted until now."""
        counts = tuple(self._counts)  # in one piece: whoever asks may be in another thread
        buckets: list[tuple[float, int]] = []
        total = 0
        for bound, count in zip(BOUNDS, counts, strict=False):
            if count:
                total += count
                buckets.append((bound, total))
        return Histogram(count=total + counts[-1], sum_s=self._sum_s, max_s=self._max_s, buckets=tuple(buckets))
