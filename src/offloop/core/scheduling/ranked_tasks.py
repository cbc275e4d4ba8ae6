"""Ranked tasks: a sorted list of task ids by rank, with the sum of costs before a rank. Fast with a hundred thousand tasks.

The list is stored in pieces of bounded length. A piece is found by its last entry, changed in place, and split when it is too
long.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import chain

__all__ = ["RankedTasks"]

_Entry = tuple[float, int, float]  # rank, task id, cost in seconds

_MAX_PIECE_LENGTH = 512  # entries; to move so many pointers takes less time than the search for the place


class RankedTasks:
    """Task ids, the lowest rank first; of equal ranks, the lower id first."""

    def __init__(self) -> None:
        self._pieces: list[list[_Entry]] = []
        self._lasts: list[_Entry] = []  # last entry of each piece
        self._costs_s: list[float] = []  # sum of the costs of each piece, in seconds
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        """The task ids, the lowest rank first."""
        return (task_id for _, task_id, _ in chain.from_iterable(self._pieces))

    @property
    def first(self) -> int:
        """The id of the task with the lowest rank."""
        return self._pieces[0][0][1]

    @property
    def cost_s(self) -> float:
        """Sum of the costs of all tasks, in seconds."""
        return sum(self._costs_s, 0.0)

    def add(self, rank: float, task_id: int, cost_s: float) -> None:
        """Add a task."""
        entry = (rank, task_id, cost_s)
        self._length += 1
        if not self._pieces:
            self._pieces, self._lasts, self._costs_s = [[entry]], [entry], [cost_s]
            return
        index = min(bisect_left(self._lasts, entry), len(self._pieces) - 1)
        piece = self._pieces[index]
        insort(piece, entry)
        self._lasts[index] = piece[-1]
        self._costs_s[index] += cost_s
        if len(piece) > _MAX_PIECE_LENGTH:
            self._split(index)

    def remove(self, rank: float, task_id: int, cost_s: float) -> None:
        """Remove a task that was added with these values."""
        entry = (rank, task_id, cost_s)
        index = bisect_left(self._lasts, entry)
        piece = self._pieces[index]
        del piece[bisect_left(piece, entry)]
        self._length -= 1
        if piece:
            self._lasts[index] = piece[-1]
            self._costs_s[index] -= cost_s
        else:
            del self._pieces[index], self._lasts[index], self._costs_s[index]

    def ahead_s(self, rank: float) -> float:
        """Sum of the costs of all tasks with a lower rank, in seconds."""
        entry = (rank, -1, 0.0)
        index = bisect_left(self._lasts, entry)
        if index == len(self._pieces):
            return sum(self._costs_s, 0.0)
        piece = self._pieces[index]
        ahead = (cost_s for _, _, cost_s in piece[: bisect_left(piece, entry)])
        return sum(ahead, sum(self._costs_s[:index], 0.0))

    def _split(self, index: int) -> None:
        piece = self._pieces[index]
        halves = [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
        self._pieces[index : index + 1] = halves
        self._lasts[index : index + 1] = [half[-1] for half in halves]
        self._costs_s[index : index + 1] = [sum((cost_s for _, _, cost_s in half), 0.0) for half in halves]
