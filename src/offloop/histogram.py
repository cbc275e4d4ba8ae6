"""Histogram of durations: a snapshot at one moment.

There is no reset, because a pool may have several readers, and a scraped counter must never decrease. For the histogram of a
period, take a snapshot at its start and one at its end, and subtract: `later - earlier`.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import inf
from typing import Any

import msgspec

__all__ = ["Histogram"]


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Durations, counted in buckets from a microsecond to an hour. A bucket's upper bound is at most 1/8 above its lower
    bound."""

    count: int  # number of durations
    sum_s: float  # sum of all durations in seconds
    max_s: float  # longest duration in seconds; of a difference, up to 1/8 too high unless it is the longest of the pool
    # (upper bound in seconds, number of durations below it), ascending; without empty buckets, and without bounds above an hour
    buckets: tuple[tuple[float, int], ...]

    def percentile(self, percent: float) -> float:
        """Returns the duration in seconds that `percent` of the durations did not exceed. It is never too low, and at most 1/8
        or a microsecond too high.

        Above an hour, it is the longest duration. It is 0.0 if the histogram is empty.

        Raises:
            ValueError: `percent` is not from 0 to 100.
        """
        if not 0 <= percent <= 100:  # noqa: PLR2004 (a percentage)
            raise ValueError(f"percentile({percent!r}): must be from 0 to 100")
        rank = max(percent * self.count / 100, 1)
        return next((min(bound, self.max_s) for bound, number in self.buckets if number >= rank), self.max_s)

    def below(self, seconds: float) -> int:
        """Returns the number of durations below `seconds`. It is exact at a bucket's bound. Every power of two of a second,
        from a microsecond to 4,096 seconds, is one. Elsewhere the durations in the bucket of `seconds` are not counted."""
        index = bisect_right(self.buckets, seconds, key=lambda bucket: bucket[0])
        return self.buckets[index - 1][1] if index else 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types; `buckets` is a list of [bound in seconds, number below it]."""
        return msgspec.to_builtins(self)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """Returns the histogram of the durations since `earlier`, a histogram of the same quantity of the same pool.

        Raises:
            ValueError: `earlier` contains durations that this histogram does not contain.
        """
        if not isinstance(earlier, Histogram):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
            return NotImplemented
        own = self._counts
        for bound, number in earlier._counts.items():
            own[bound] = own.get(bound, 0) - number
        if any(number < 0 for number in own.values()):
            raise ValueError("a difference of two histograms is `later - earlier`, both of the same pool and the same thing")
        rising = [bound for bound, number in own.items() if number]
        longest = min(self.max_s, rising[-1]) if rising else 0.0
        finite = [bound for bound in rising if bound < inf]
        return Histogram(
            count=self.count - earlier.count,
            sum_s=self.sum_s - earlier.sum_s,
            max_s=max(longest, self.max_s if self.max_s > earlier.max_s else 0.0),
            buckets=tuple(zip(finite, accumulate(own[bound] for bound in finite), strict=True)),
        )

    @property
    def _counts(self) -> dict[float, int]:
        """Number of durations in each bucket, by its upper bound in seconds."""
        counts: dict[float, int] = {}
        below = 0
        for bound, number in (*self.buckets, (inf, self.count)):
            counts[bound], below = number - below, number
        return counts
