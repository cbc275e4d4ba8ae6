"""A set of integers held as disjoint half-open ranges: which bytes are free, which pages are reserved."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["RangeSet"]


class RangeSet:
    """Sorted, disjoint, never touching: [0, 4) and [4, 8) are kept as [0, 8)."""

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0  # how many integers are in the set

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def add(self, start: int, end: int) -> None:
        """Put [start, end) in; what is already there stays there."""
        first = bisect_left(self._ends, start)  # the first range that touches or follows
        last = bisect_right(self._starts, end)  # one past the last range that touches or precedes
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self.total += (end - start) - sum(self._ends[i] - self._starts[i] for i in range(first, last))
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take [start, end) out, as far as it is there."""
        for low, high in self.overlaps(start, end):
            index = bisect_right(self._starts, low) - 1
            outer_start, outer_end = self._starts[index], self._ends[index]
            pieces = [(a, b) for a, b in ((outer_start, low), (high, outer_end)) if a < b]
            self._starts[index : index + 1] = [a for a, _ in pieces]
            self._ends[index : index + 1] = [b for _, b in pieces]
            self.total -= high - low

    def overlaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are in the set, in order."""
        parts: list[tuple[int, int]] = []
        index = bisect_right(self._ends, start)
        while index < len(self._starts) and self._starts[index] < end:
            parts.append((max(start, self._starts[index]), min(end, self._ends[index])))
            index += 1
        return parts

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are not in the set, in order."""
        parts: list[tuple[int, int]] = []
        for low, high in self.overlaps(start, end):
            if start < low:
                parts.append((start, low))
            start = high
        if start < end:
            parts.append((start, end))
        return parts
