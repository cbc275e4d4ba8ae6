"""Fair queue: decides which tenant is served next, by weighted fair queueing.

Each waiting tenant has a tag: the virtual time at which its next task would begin if every tenant had a worker of its own, as
fast as its weight. The lowest tag is next. A task moves the tag of its tenant by its cost over the tenant's weight. So while
two tenants compete, their shares differ by no more than a task each, whatever the tasks cost.

The virtual time that all tenants share follows WF2Q+ (Bennett and Zhang, 1997). It advances by the cost of each task over the
weights of all waiting tenants, and never stays behind the lowest tag. A tenant that begins to wait gets the virtual time as
its tag, or keeps its old tag if that is later: waiting saves nothing, and leaving cancels no debt.

The virtual time advances with the work done and not only with the tags, because tenants that are new would otherwise hold it
back: each of them begins at the virtual time, so the lowest tag would stay there for as long as new tenants come, tenants that
come again would starve, and no tag could ever be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import chain, islice

__all__ = ["Shares"]

_STALE_ENTRIES = 64  # entries of the heap of turns that may be out of date, beyond one for each waiting tenant


class _Tag:
    """Virtual time of one tenant."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.floor = at  # virtual time when the tenant last began to wait; a correction never lowers the tag below it
        self.turn = 0  # number of the valid entry in the heap of turns; 0: the tenant has nothing waiting
        self.ages = False  # whether the heap of ageing tags has an entry for it


class Shares:
    """Tags of tenants, and the virtual time."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._clock = 0.0
        self._tags: dict[str | None, _Tag] = {}
        self._waiting: dict[str | None, float] = {}  # weight of each tenant that has something waiting
        self._total_weight = 0.0  # of those
        self._turns: list[tuple[float, int, str | None]] = []  # heap of tags; only the last entry of each tenant is valid
        self._turn = 0
        self._ageing: list[tuple[float, int, str | None]] = []  # heap of tags without waiting tasks, to be forgotten

    @property
    def first(self) -> str | None:
        """The tenant that is next. Some tenant must be waiting."""
        while not self._is_valid(self._turns[0]):
            heappop(self._turns)
        return self._turns[0][2]

    def near(self, count: int) -> Iterator[str | None]:
        """At most `count` waiting tenants: all of them if there are not more, else some with low tags."""
        if len(self._waiting) <= count:
            return iter(self._waiting)
        first = self.first  # the top of the heap is valid now; entries near it have low tags
        near = (entry[2] for entry in islice(self._turns, 8 * count) if self._is_valid(entry))
        return islice(chain((first,), (tenant for tenant in near if tenant != first)), count)

    def join(self, tenant: str | None) -> None:
        """The tenant has a task waiting, and had none before."""
        tag = self._tags.get(tenant)
        if tag is None:
            tag = self._tags[tenant] = _Tag(self._clock)
        tag.at = max(tag.at, self._clock)
        tag.floor = self._clock
        weight = self._waiting[tenant] = self._weight(tenant)
        self._total_weight += weight
        self._push_turn(tenant, tag)

    def leave(self, tenant: str | None) -> None:
        """The tenant has no task waiting any more."""
        weight = self._waiting.pop(tenant)
        self._total_weight = self._total_weight - weight if self._waiting else 0.0
        tag = self._tags[tenant]
        tag.turn = 0
        self._let_age(tenant, tag)

    def charge(self, tenant: str | None, cost_s: float) -> None:
        """A task of a waiting tenant starts, and is estimated to take so many seconds."""
        tag = self._tags[tenant]
        weight = self._waiting[tenant]
        tag.at += cost_s / weight
        self._push_turn(tenant, tag)
        advanced = self._clock + cost_s / max(self._total_weight, weight)
        self._clock = max(advanced, self._tags[self.first].at)
        self._forget_aged()

    def correct(self, tenant: str | None, more_s: float) -> None:
        """A task that was charged took so many seconds more; fewer if negative."""
        tag = self._tags.get(tenant)
        if tag is None:
            if more_s <= 0.0:
                return
            tag = self._tags[tenant] = _Tag(self._clock)  # it was forgotten because it owed nothing, and now it owes this
        tag.at = max(tag.at + more_s / self._weight(tenant), tag.floor)
        if tag.turn:
            self._push_turn(tenant, tag)
        else:
            self._let_age(tenant, tag)

    def _weight(self, tenant: str | None) -> float:
        return 1.0 if tenant is None else self._weights.get(tenant, 1.0)

    def _is_valid(self, entry: tuple[float, int, str | None]) -> bool:
        tag = self._tags.get(entry[2])
        return tag is not None and tag.turn == entry[1]

    def _push_turn(self, tenant: str | None, tag: _Tag) -> None:
        self._turn += 1
        tag.turn = self._turn
        heappush(self._turns, (tag.at, self._turn, tenant))
        if len(self._turns) > 2 * len(self._waiting) + _STALE_ENTRIES:
            self._turns = [entry for entry in self._turns if self._is_valid(entry)]
            heapify(self._turns)

    def _let_age(self, tenant: str | None, tag: _Tag) -> None:
        if tag.ages:
            return
        if tag.at <= self._clock:
            del self._tags[tenant]
            return
        tag.ages = True
        self._turn += 1
        heappush(self._ageing, (tag.at, self._turn, tenant))

    def _forget_aged(self) -> None:
        """Forget the tags that the virtual time has passed: a tenant that comes back would begin there anyway."""
        while self._ageing and self._ageing[0][0] <= self._clock:
            tenant = heappop(self._ageing)[2]
            tag = self._tags[tenant]
            tag.ages = False
            if not tag.turn:
                self._let_age(tenant, tag)
