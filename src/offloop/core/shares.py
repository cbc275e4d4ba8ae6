"""Whose turn it is among tenants that have something waiting: start-time fair queueing (Goyal, Vin and Cheng, 1996).

Each tenant has a tag: the time, on a clock of its own, at which its next task would begin if tenants had workers of their own,
as fast as their weights. The lowest tag has the turn; a task moves its tenant's tag by its cost over its weight. So while two
tenants compete, what they get differs by no more than a task each, whatever their tasks cost, and finding the next one takes as
long for ten tenants as for ten thousand. (Deficit round robin has the same bound, but has to ask every tenant whether its next
task, which may cost a thousand times another's, is affordable yet.)

The clock that all share is the tag of whoever was served last. Who comes back begins there, or where it had got to, if that is
later: so nothing is saved by waiting, and no debt is lost by leaving.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import chain, islice

__all__ = ["Shares"]

_FORGET_BEYOND = 64  # tenants that have nothing waiting, and are remembered until the clock has passed their tags


class Shares:
    """The turns of tenants."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._clock = 0.0
        self._tags: dict[str | None, float] = {}
        self._turns: list[tuple[float, int, str | None]] = []  # a heap; only the last entry of each tenant counts
        self._entries: dict[str | None, int] = {}  # the number of that entry, of those who have something waiting
        self._number = 0

    @property
    def first(self) -> str | None:
        """The tenant whose turn it is; somebody waits."""
        while self._entries.get(self._turns[0][2]) != self._turns[0][1]:
            heappop(self._turns)
        return self._turns[0][2]

    def near(self, count: int) -> Iterator[str | None]:
        """Tenants that have something waiting, up to so many: all where there are not more, else some whose turn is near."""
        if len(self._entries) <= count:
            return iter(self._entries)
        first = self.first  # the top is a turn that counts; near it in a heap are early ones
        near = (who for _, number, who in islice(self._turns, 8 * count) if self._entries.get(who) == number)
        return islice(chain((first,), (who for who in near if who != first)), count)

    def join(self, tenant: str | None) -> None:
        """The tenant has something waiting, and had not before."""
        self._tags[tenant] = max(self._tags.get(tenant, 0.0), self._clock)
        self._enter(tenant)

    def leave(self, tenant: str | None) -> None:
        """It has not any more."""
        del self._entries[tenant]
        if len(self._tags) > 2 * len(self._entries) + _FORGET_BEYOND:
            self._tags = {who: tag for who, tag in self._tags.items() if tag > self._clock or who in self._entries}

    def charge(self, tenant: str | None, cost_s: float) -> None:
        """A task of a tenant that has something waiting begins, and is likely to take so long."""
        self._clock = max(self._clock, min(self._tags[tenant], self._tags[self.first]))
        self._move(tenant, cost_s)

    def correct(self, tenant: str | None, more_s: float) -> None:
        """A task that was charged for took so much more, or less if negative."""
        if tenant in self._tags:
            self._move(tenant, more_s)

    def _move(self, tenant: str | None, cost_s: float) -> None:
        weight = 1.0 if tenant is None else self._weights.get(tenant, 1.0)
        self._tags[tenant] = max(self._tags[tenant] + cost_s / weight, self._clock)
        if tenant in self._entries:
            self._enter(tenant)

    def _enter(self, tenant: str | None) -> None:
        self._number += 1
        self._entries[tenant] = self._number
        heappush(self._turns, (self._tags[tenant], self._number, tenant))
        if len(self._turns) > 2 * len(self._entries) + _FORGET_BEYOND:
            self._turns = sorted((self._tags[who], number, who) for who, number in self._entries.items())
