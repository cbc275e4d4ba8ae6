"""Tasks in the order of their ranks, and how much work lies before a rank. Fast with a hundred thousand.

A sorted list in pieces of bounded length: one is found by its last entry, changed in place, and cut in two when it has grown
too long.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import chain

__all__ = ["RankedTasks"]

_Entry = tuple[float, int, float]  # rank, task's number, cost in seconds

_MAX_PIECE_LENGTH = 512  # entries of a piece: moving so many pointers takes less than finding the place


class RankedTasks:
    """Who is before whom."""

    def __init__(self) -> None:
        self._pieces: list[list[_Entry]] = []
        self._lasts: list[_Entry] = []  # of each piece
        self._costs_s: list[float] = []  # of each piece, summed up
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        """The tasks' numbers, the lowest rank first."""
        return (task_id for _, task_id, _ in chain.from_iterable(self._pieces))

    @property
    def first(self) -> int:
        """The number of the task with the lowest rank."""
        return self._pieces[0][0][1]

    @property
    def cost_s(self) -> float:
        """Of all tasks together."""
        return sum(self._costs_s, 0.0)

    def add(self, rank: float, task_id: int, cost_s: float) -> None:
        """Enter a task; of equal ranks, the lower number is first."""
        entry = (rank, task_id, cost_s)
        self._length += 1
        if not self._pieces:
            self._pieces, self._lasts, self._costs_s = [[entry]], [entry], [cost_s]
            return
        at = min(bisect_left(self._lasts, entry), len(self._pieces) - 1)
        piece = self._pieces[at]
        insort(piece, entry)
        self._lasts[at] = piece[-1]
        self._costs_s[at] += cost_s
        if len(piece) > _MAX_PIECE_LENGTH:
            self._split(at)

    def remove(self, rank: float, task_id: int, cost_s: float) -> None:
        """Take a task out that was entered so."""
        entry = (rank, task_id, cost_s)
        at = bisect_left(self._lasts, entry)
        piece = self._pieces[at]
        del piece[bisect_left(piece, entry)]
        self._length -= 1
        if piece:
            self._lasts[at] = piece[-1]
            self._costs_s[at] -= cost_s
        else:
            del self._pieces[at], self._lasts[at], self._costs_s[at]

    def ahead_s(self, rank: float) -> float:
        """The cost of all tasks of a lower rank."""
        entry = (rank, -1, 0.0)
        at = bisect_left(self._lasts, entry)
        if at == len(self._pieces):
            return sum(self._costs_s, 0.0)
        piece = self._pieces[at]
        ahead = (cost_s for _, _, cost_s in piece[: bisect_left(piece, entry)])
        return sum(ahead, sum(self._costs_s[:at], 0.0))

    def _split(self, at: int) -> None:
        piece = self._pieces[at]
        halves = [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
        self._pieces[at : at + 1] = halves
        self._lasts[at : at + 1] = [half[-1] for half in halves]
        self._costs_s[at : at + 1] = [sum((cost_s for _, _, cost_s in half), 0.0) for half in halves]
