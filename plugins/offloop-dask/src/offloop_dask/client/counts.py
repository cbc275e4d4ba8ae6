"""Counts the tasks of a client by outcome, and makes the statistics of a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from offloop import Histogram, OffloopError, Statistics, TaskFailed
from offloop.statistics import Health

from .nodes.node_link import NodeLink

__all__ = ["ClusterStatistics", "NodeStatistics", "OutcomeCounts", "statistics_of"]

_OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "worker_died", "refused")
_BREAKERS = ("closed", "half-open", "open")  # the worst one last
_MAX_CODES = 60  # as in a pool of one machine
_OTHERS = "(others)"
_EMPTY = Histogram(count=0, sum_s=0.0, max_s=0.0, buckets=())


class NodeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one node."""

    address: str  # of the dask worker
    concurrency: int  # maximum number of running tasks
    running: int  # tasks of all clients in a worker, by the last report
    waiting: int  # tasks of all clients that wait there, by the last report
    own: int  # tasks of this client that have no outcome yet
    free_bytes: int  # bytes that admission has left, by the last report
    pool: Statistics | None  # statistics of its pool, at most about a second old; None: it has sent none yet


class ClusterStatistics(Statistics, frozen=True, kw_only=True):
    """Statistics of a `ClusterPool`.

    Tasks and outcomes are those of this client, of one consistent moment. The rest is the sum over the nodes' pools, with the
    tasks of all clients; a second old at most. Histograms are empty: see `nodes`.
    """

    nodes: dict[str, NodeStatistics]  # nodes that can take tasks, by name
    refused_nodes: dict[str, str]  # reasons why other nodes cannot be used, by address

    @property
    def health(self) -> Health:
        """Whether the cluster can do work: "failing" without a node that can, "degraded" if one is not well."""
        if not self.nodes:
            return Health("failing", ("no node can take tasks",))
        reasons = [f"{address}: {reason}" for address, reason in self.refused_nodes.items()]
        failing = 0
        for name, node in self.nodes.items():
            if node.pool is not None:
                health = node.pool.health
                failing += health.status == "failing"
                reasons += [f"{name}: {reason}" for reason in health.reasons]
        if failing == len(self.nodes):
            return Health("failing", tuple(reasons))
        return Health("degraded" if reasons else "ok", tuple(reasons))


class OutcomeCounts:
    """Counts the tasks of one client."""

    def __init__(self) -> None:
        self.submitted = 0
        self.running = 0  # tasks that are on a node
        self.retried = 0
        self.ended: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()  # by code, or by type

    @property
    def unsettled(self) -> int:
        """Number of tasks without an outcome."""
        return self.submitted - self.ended.total()

    def begin(self) -> None:
        """A task was submitted."""
        self.submitted += 1

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        """A task has its outcome."""
        self.ended[outcome] += 1
        if isinstance(error, OffloopError):
            name = error.code if isinstance(error, TaskFailed) else type(error).__name__
            self.errors[name if name in self.errors or len(self.errors) < _MAX_CODES else _OTHERS] += 1


def statistics_of(counts: OutcomeCounts, links: Iterable[NodeLink], refused: Mapping[str, OffloopError]) -> ClusterStatistics:
    """The statistics of this moment."""
    links = tuple(links)
    pools = [link.statistics for link in links if link.statistics is not None]
    groups = {
        f"{link.name}/{name}": group for link in links if link.statistics for name, group in link.statistics.groups.items()
    }
    sums: dict[str, Any] = {name: sum(getattr(pool, name) for pool in pools) for name in _SUMS}
    sums |= {name: counts.ended[name] for name in _OUTCOMES}
    sums |= {name: _sum([getattr(pool, name) for pool in pools]) for name in _SUMS_BY_KEY}
    return ClusterStatistics(
        **sums,
        submitted=counts.submitted,
        errors=dict(counts.errors),
        waiting=counts.unsettled - counts.running,
        running=counts.running,
        retried=counts.retried + sum(pool.retried for pool in pools),
        wait=_EMPTY,
        run=_EMPTY,
        time_by_estimate=_EMPTY,
        memory_by_estimate=_EMPTY,
        groups=groups,
        breaker=max((pool.breaker for pool in pools), key=_BREAKERS.index, default="closed"),
        last_start_failure=next((pool.last_start_failure for pool in pools if pool.last_start_failure), None),
        concurrency=sum(link.load.concurrency for link in links),
        nodes={
            link.name: NodeStatistics(
                address=link.address,
                concurrency=link.load.concurrency,
                running=link.load.running,
                waiting=link.load.waiting,
                own=link.load.own,
                free_bytes=link.load.free_bytes,
                pool=link.statistics,
            )
            for link in links
        },
        refused_nodes={address: str(error) for address, error in refused.items()},
    )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


_SUMS = (
    "coalesced",
    "waiting_bytes",
    "waiting_cost_s",
    "quarantined",
    "spares",
    "worker_starts",
    "worker_crashes",
    "workers_abandoned",
    "worker_recycled",
    "start_failures",
    "memory_limit_bytes",
    "memory_running_bytes",
    "memory_workers_bytes",
    "memory_reserved_bytes",
    "memory_used_bytes",
    "shared_memory_limit_bytes",
    "would_have_waited",
    "would_have_been_refused",
)
_SUMS_BY_KEY = ("waiting_by_tenant", "waiting_by_priority", "workers", "leases")
