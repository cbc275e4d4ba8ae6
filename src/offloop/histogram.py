"""How long things took, as a picture at one moment.

There is no reset: two readers of one pool would fight over it, and what is scraped must never go down. Whoever asks about a
time of their own keeps the picture from its start and takes the difference: `later - earlier` is the histogram of what came
between.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import inf
from typing import Any

import msgspec

__all__ = ["Histogram"]


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How long things took, counted in buckets whose bounds lie an eighth apart at most, from a microsecond to an hour."""

    count: int  # how many things
    sum_s: float  # how long all of them together
    max_s: float  # how long the longest; of a difference, if it was not the longest ever: at most an eighth too high
    # (bound in seconds, how many took less than that), rising; bounds at which the number does not rise are left out, and so
    # are those beyond an hour
    buckets: tuple[tuple[float, int], ...]

    def percentile(self, percent: float) -> float:
        """The seconds that so many percent did not exceed: never too low; at most an eighth, or a microsecond, too high.

        Beyond an hour it is the longest time. 0.0 where nothing was counted.

        Raises:
            ValueError: `percent` is not from 0 to 100.
        """
        if not 0 <= percent <= 100:  # noqa: PLR2004 (a percentage)
            raise ValueError(f"percentile({percent!r}): must be from 0 to 100")
        rank = max(percent * self.count / 100, 1)
        return next((min(bound, self.max_s) for bound, number in self.buckets if number >= rank), self.max_s)

    def below(self, seconds: float) -> int:
        """How many took less than that. Exact where a bucket ends there, as it does at every whole power of two of a second (up
        to 4,096 and down to a microsecond); else those of the bucket in which `seconds` lies are left out."""
        place = bisect_right(self.buckets, seconds, key=lambda bucket: bucket[0])
        return self.buckets[place - 1][1] if place else 0

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types; `buckets` is a list of [bound in seconds, number below it]."""
        return msgspec.to_builtins(self)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """What came after `earlier`, a histogram of the same pool and the same thing.

        Raises:
            ValueError: `earlier` has counted what this has not.
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
        """How many in each bucket, by its bound."""
        counts: dict[float, int] = {}
        known = 0
        for bound, number in (*self.buckets, (inf, self.count)):
            counts[bound], known = number - known, number
        return counts
