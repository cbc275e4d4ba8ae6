"""Fair queue: decides which tenant is served next, by weighted fair queueing.

Each tenant with waiting tasks has a tag: the virtual time at which its next task would start if every tenant had a worker of
its own, as fast as its weight. The tenant with the lowest tag is next. A task advances the tag of its tenant by its cost,
divided by the tenant's weight. So while two tenants compete, their shares differ by no more than one task each, even if
one tenant's tasks cost far more than the other's.

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
    """Tag of one tenant."""

    def __init__(self, at: float) -> None:
        self.at = at  # virtual time of the tenant's next task
        self.floor = at  # virtual time at which the tenant last began to wait; no correction lowers the tag below it


class FairQueue:
    """The tags of the tenants, and the virtual time."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._virtual_time = 0.0
        self._tags: dict[str | None, _Tag] = {}
        self._weight_sum = 0.0  # sum of the weights of all tenants with a tag
        self._tag_sum = 0.0  # sum of all tags, each multiplied by its tenant's weight
        self._waiting: LazyHeap[str | None] = LazyHeap()  # tenants with a waiting task, by their tags
        self._inactive: LazyHeap[str | None] = LazyHeap()  # tenants without a waiting task, by their tags

    @property
    def next_tenant(self) -> str | None:
        """The waiting tenant with the lowest tag; an IndexError if no tenant waits."""
        return self._waiting.first

    def tenants_near_turn(self, count: int) -> Iterator[str | None]:
        """At most `count` waiting tenants: all of them if there are no more, else some with low tags."""
        if len(self._waiting) <= count:
            return iter(self._waiting)
        first = self.next_tenant
        near = self._waiting.near_first(8 * count)
        return islice(chain((first,), (tenant for tenant in near if tenant != first)), count)

    def activate(self, tenant: str | None) -> None:
        """The tenant has its first waiting task."""
        tag = self._tags.get(tenant)
        if tag is None:
            tag = self._add_tag(tenant)
        self._set_tag(tenant, tag, max(tag.at, self._virtual_time))
        tag.floor = self._virtual_time
        self._inactive.discard(tenant)
        self._waiting.set(tenant, tag.at)

    def deactivate(self, tenant: str | None) -> None:
        """The tenant has no waiting task any more."""
        self._waiting.discard(tenant)
        self._remove_when_passed(tenant, self._tags[tenant])
        self._advance()

    def charge(self, tenant: str | None, cost_s: float) -> None:
        """A task of a waiting tenant starts, with an estimated cost in seconds."""
        self._advance()  # before the charge: a later correction to less would be a loss for tenants that join in between
        tag = self._tags[tenant]
        self._set_tag(tenant, tag, tag.at + cost_s / self._weight(tenant))
        self._waiting.set(tenant, tag.at)

    def correct(self, tenant: str | None, more_s: float) -> None:
        """A charged task took `more_s` seconds more than estimated; fewer if negative."""
        tag = self._tags.get(tenant)
        if tag is None:
            if more_s <= 0.0:
                return
            tag = self._add_tag(tenant)  # it had no debt, and has one now
        self._set_tag(tenant, tag, max(tag.at + more_s / self._weight(tenant), tag.floor))
        if tenant in self._waiting:
            self._waiting.set(tenant, tag.at)
        else:
            self._remove_when_passed(tenant, tag)
        self._advance()

    def _weight(self, tenant: str | None) -> float:
        return 1.0 if tenant is None else self._weights.get(tenant, 1.0)

    def _add_tag(self, tenant: str | None) -> _Tag:
        tag = self._tags[tenant] = _Tag(self._virtual_time)
        weight = self._weight(tenant)
        self._weight_sum += weight
        self._tag_sum += weight * tag.at
        return tag

    def _set_tag(self, tenant: str | None, tag: _Tag, at: float) -> None:
        self._tag_sum += self._weight(tenant) * (at - tag.at)
        tag.at = at

    def _remove_tag(self, tenant: str | None, tag: _Tag) -> None:
        del self._tags[tenant]
        self._inactive.discard(tenant)
        if self._tags:
            weight = self._weight(tenant)
            self._weight_sum -= weight
            self._tag_sum -= weight * tag.at
        else:  # so that no rounding error remains
            self._weight_sum = self._tag_sum = 0.0

    def _remove_when_passed(self, tenant: str | None, tag: _Tag) -> None:
        """Remove a tag once the virtual time has passed it, because a tenant that comes back begins at the virtual time."""
        if tag.at <= self._virtual_time:
            self._remove_tag(tenant, tag)
        else:
            self._inactive.set(tenant, tag.at)

    def _advance(self) -> None:
        """Set the virtual time, and remove the tags that it has passed. Only corrections to less decrease it."""
        if self._tags:
            self._virtual_time = self._tag_sum / self._weight_sum
        while self._inactive.lowest <= self._virtual_time:
            tenant = self._inactive.pop()
            self._remove_tag(tenant, self._tags[tenant])
