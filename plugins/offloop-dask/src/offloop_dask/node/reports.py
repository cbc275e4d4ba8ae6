"""Report of a node: what placement needs to know, and now and then all statistics."""

from __future__ import annotations

import msgspec

from offloop import Pool

from ..wire.messages import NodeReport

__all__ = ["measure"]


def measure(pool: Pool, *, with_statistics: bool) -> NodeReport:
    """The state of a pool at this moment."""
    statistics = pool.statistics()
    admission = statistics.memory_used_bytes + statistics.memory_running_bytes + statistics.memory_workers_bytes
    free_bytes = min(  # a small /dev/shm may be the narrower limit
        statistics.memory_limit_bytes - admission, statistics.shared_memory_limit_bytes - statistics.memory_used_bytes
    )
    return NodeReport(
        running=statistics.running,
        waiting=statistics.waiting,
        free_bytes=max(free_bytes, 0),
        concurrency=statistics.concurrency,
        statistics=msgspec.msgpack.encode(statistics) if with_statistics else None,
    )
