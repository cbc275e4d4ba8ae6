"""Fair queue: decides which tenant is served next, by weighted fair queueing.

Each waiting tenant has a tag: the virtual time at which its next task would begin if every tenant had a worker of its own, as
fast as its weight. The lowest tag is next. A task moves the tag of its tenant by its cost over the tenant's weight. So while
two tenants compete, their shares differ by no more than a task each, however different the costs of the tasks are.

The virtual time is the weighted mean of all tags. So it advances by the work charged over the weights of the tenants that share
it, as in an ideal fair system (generalized processor sharing, Parekh and Gallager, 1993). A tenant that begins to wait gets the
virtual time as its tag, or keeps its old tag if that is later: waiting saves nothing, and leaving cancels no debt. A tenant
without waiting tasks is forgotten once the virtual time has passed its tag.

The virtual time is not the lowest tag (start-time fair queueing), because new tenants would hold that back: each of them begins
at the virtual time, so the lowest tag would stay there for as long as new tenants come. Tenants that come again would starve,
and no tag could ever be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice

from ..model.lazy_heap import LazyHeap

__all__ = ["FairQueue"]


class _Tag:
    """Virtual time of one tenant."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.floor = at  # virtual time when the tenant last began to wait; a correction never lowers the tag below it


class FairQueue:
    """Tags of tenants, and the virtual time."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._virtual_time = 0.0
        self._start_tags: dict[str | None, _Tag] = {}
        self._weight_sum = 0.0  # of all tenants with a tag
        self._tag_sum = 0.0  # of all tags, each times the weight of its tenant
        self._waiting: LazyHeap[str | None] = LazyHeap()  # tenants with a waiting task, by their tags
        self._ageing: LazyHeap[str | None] = LazyHeap()  # tenants without a waiting task, by their tags

    @property
    def next_tenant(self) -> str | None:
        """The tenant that is next. Some tenant must be waiting."""
        return self._waiting.first

    def tenants_near_turn(self, count: int) -> Iterator[str | None]:
        """At most `count` waiting tenants: all of them if there are not more, else some with low tags."""
        if len(self._waiting) <= count:
            return iter(self._waiting)
        first = self.next_tenant
        near = self._waiting.near_first(8 * count)
        return islice(chain((first,), (tenant for tenant in near if tenant != first)), count)

    def activate(self, tenant: str | None) -> None:
        """The tenant has a task waiting, and had none before."""
        tag = self._start_tags.get(tenant)
        if tag is None:
            tag = self._remember(tenant)
        self._move(tenant, tag, max(tag.at, self._virtual_time))
        tag.floor = self._virtual_time
        self._ageing.discard(tenant)
        self._waiting.set(tenant, tag.at)

    def deactivate(self, tenant: str | None) -> None:
        """The tenant has no task waiting any more."""
        self._waiting.discard(tenant)
        self._let_age(tenant, self._start_tags[tenant])
        self._advance()

    def charge(self, tenant: str | None, cost_s: float) -> None:
        """A task of a waiting tenant starts, and is estimated to take so many seconds."""
        self._advance()  # without the charge, because that may be corrected to less, and tenants that join meanwhile would lose
        tag = self._start_tags[tenant]
        self._move(tenant, tag, tag.at + cost_s / self._weight(tenant))
        self._waiting.set(tenant, tag.at)

    def correct(self, tenant: str | None, more_s: float) -> None:
        """A task that was charged took so many seconds more; fewer if negative."""
        tag = self._start_tags.get(tenant)
        if tag is None:
            if more_s <= 0.0:
                return
            tag = self._remember(tenant)  # it was forgotten because it owed nothing, and now it owes this
        self._move(tenant, tag, max(tag.at + more_s / self._weight(tenant), tag.floor))
        if tenant in self._waiting:
            self._waiting.set(tenant, tag.at)
        else:
            self._let_age(tenant, tag)
        self._advance()

    def _weight(self, tenant: str | None) -> float:
        return 1.0 if tenant is None else self._weights.get(tenant, 1.0)

    def _remember(self, tenant: str | None) -> _Tag:
        tag = self._start_tags[tenant] = _Tag(self._virtual_time)
        weight = self._weight(tenant)
        self._weight_sum += weight
        self._tag_sum += weight * tag.at
        return tag

    def _move(self, tenant: str | None, tag: _Tag, at: float) -> None:
        self._tag_sum += self._weight(tenant) * (at - tag.at)
        tag.at = at

    def _forget(self, tenant: str | None, tag: _Tag) -> None:
        del self._start_tags[tenant]
        self._ageing.discard(tenant)
        if self._start_tags:
            weight = self._weight(tenant)
            self._weight_sum -= weight
            self._tag_sum -= weight * tag.at
        else:  # no rounding error is carried on
            self._weight_sum = self._tag_sum = 0.0

    def _let_age(self, tenant: str | None, tag: _Tag) -> None:
        """Forget a tag that the virtual time has passed, now or later: a tenant that comes back would begin there anyway."""
        if tag.at <= self._virtual_time:
            self._forget(tenant, tag)
        else:
            self._ageing.set(tenant, tag.at)

    def _advance(self) -> None:
        """Set the virtual time, and forget the tags that it has passed. Only corrections to less put it back."""
        if self._start_tags:
            self._virtual_time = self._tag_sum / self._weight_sum
        while self._ageing.lowest <= self._virtual_time:
            tenant = self._ageing.pop()
            self._forget(tenant, self._start_tags[tenant])
