"""Range set: a set of integers as sorted, disjoint, half-open ranges, for free bytes and reserved pages."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["RangeSet"]


class RangeSet:
    """Sorted, disjoint ranges that never touch: [0, 4) and [4, 8) are stored as [0, 8)."""

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0  # number of integers in the set

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def add(self, start: int, end: int) -> None:
        """Add [start, end)."""
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)  # the first range that touches or follows
        last = bisect_right(starts, end, first)  # one past the last range that touches or precedes
        if first == last:
            starts.insert(first, start)
            ends.insert(first, end)
            self.total += end - start
            return
        start, end = min(start, starts[first]), max(end, ends[last - 1])
        self.total += end - start
        for index in range(first, last):
            self.total -= ends[index] - starts[index]
        starts[first:last] = [start]
        ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Remove [start, end), as far as it is in the set."""
        starts, ends = self._starts, self._ends
        first = bisect_right(ends, start)  # the first range that ends behind the start
        last = bisect_left(starts, end, first)  # one past the last range that begins before the end
        if first == last or start == end:
            return
        left, right = starts[first], ends[last - 1]
        for index in range(first, last):
            self.total -= ends[index] - starts[index]
        starts[first:last] = ends[first:last] = []
        if end < right:
            starts.insert(first, end)
            ends.insert(first, right)
            self.total += right - end
        if left < start:
            starts.insert(first, left)
            ends.insert(first, start)
            self.total += start - left

    def covered(self, start: int, end: int) -> int:
        """Number of integers of [start, end) in the set."""
        starts, ends = self._starts, self._ends
        index, count = bisect_right(ends, start), 0
        while index < len(starts) and (low := starts[index]) < end:
            high = ends[index]
            count += (high if high < end else end) - (low if low > start else start)  # noqa: FURB136 (min and max are slower)
            index += 1
        return count

    def overlaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are in the set, in order."""
        found: list[tuple[int, int]] = []
        index = bisect_right(self._ends, start)
        while index < len(self._starts) and self._starts[index] < end:
            found.append((max(start, self._starts[index]), min(end, self._ends[index])))
            index += 1
        return found

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are not in the set, in order."""
        found: list[tuple[int, int]] = []
        for low, high in self.overlaps(start, end):
            if start < low:
                found.append((start, low))
            start = high
        if start < end:
            found.append((start, end))
        return found
