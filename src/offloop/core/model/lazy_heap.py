"""Priority queue whose keys can be moved and removed: a binary heap with lazy deletion.

A heap cannot find an entry in its middle without a search. So the entry of a key that is moved or removed stays in the heap, as
a stale entry. It is dropped when it is the lowest, or when more than half of the heap is stale.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from math import inf
from typing import Generic, TypeVar

__all__ = ["LazyHeap"]

_Key = TypeVar("_Key", bound=Hashable)

_MAX_STALE_ENTRIES = 64  # stale entries that are tolerated, in addition to one for each key


class LazyHeap(Generic[_Key]):
    """Keys with a priority each. The lowest priority is first; of equal priorities, the one that was set first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Key]] = []  # priority, number of the entry, key
        self.entry_numbers: dict[_Key, int] = {}
        """Number of each key's valid entry, in the order in which the keys were added. Read only."""
        self._last_number = 0

    def __len__(self) -> int:
        return len(self.entry_numbers)

    def __contains__(self, key: object) -> bool:
        return key in self.entry_numbers

    def __iter__(self) -> Iterator[_Key]:
        """All keys, in the order in which they were added."""
        return iter(self.entry_numbers)

    def set(self, key: _Key, priority: float) -> None:
        """Add a key, or give it another priority."""
        self._last_number += 1
        self.entry_numbers[key] = self._last_number
        heappush(self._heap, (priority, self._last_number, key))
        if len(self._heap) > 2 * len(self.entry_numbers) + _MAX_STALE_ENTRIES:
            self._heap = [entry for entry in self._heap if self._is_valid(entry)]
            heapify(self._heap)

    def discard(self, key: _Key) -> None:
        """Remove a key. A key that is not there is ignored."""
        if self.entry_numbers.pop(key, None) is not None and not self.entry_numbers:
            self._heap.clear()

    def clear(self) -> None:
        """Remove all keys."""
        self.entry_numbers.clear()
        self._heap.clear()

    @property
    def first(self) -> _Key:
        """The key with the lowest priority; an IndexError if there is none."""
        self._drop_stale()
        return self._heap[0][2]

    @property
    def lowest(self) -> float:
        """The lowest priority; infinity if there is no key."""
        if not self.entry_numbers:
            return inf
        self._drop_stale()
        return self._heap[0][0] if self._heap else inf

    def pop(self) -> _Key:
        """Remove and return the key with the lowest priority; an IndexError if there is none."""
        self._drop_stale()
        key = heappop(self._heap)[2]
        del self.entry_numbers[key]
        return key

    def near_first(self, entries: int) -> Iterator[_Key]:
        """Keys with low priorities, in no order: those among the first `entries` of the heap, stale entries included."""
        return (entry[2] for entry in islice(self._heap, entries) if self._is_valid(entry))

    def _is_valid(self, entry: tuple[float, int, _Key]) -> bool:
        return self.entry_numbers.get(entry[2]) == entry[1]

    def _drop_stale(self) -> None:
        while self._heap and not self._is_valid(self._heap[0]):
            heappop(self._heap)
