"""Pools of a cluster under test, and waits for what their nodes report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from offloop_dask import ClusterPool

__all__ = ["NODE", "PLUGINS", "pool_of", "running_on", "start_nodes", "until", "until_async"]

NODE: dict[str, Any] = {"workers": 1, "memory_limit": "256MiB"}
PLUGINS = ["offloop.testing.faults:FaultsPlugin", "functions", "vips"]

_LIMIT_S = 40.0


def pool_of(cluster: Any, **options: Any) -> ClusterPool:
    """A pool with the operations of faults, whose nodes close at once after it."""
    given: dict[str, Any] = {"plugins": PLUGINS[:1], "node": NODE, "linger": 0, "node_timeout": 10.0, **options}
    return ClusterPool(cluster.address, **given)


async def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition is true, and return what it has returned."""
    async with asyncio.timeout(_LIMIT_S):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


async def until_async(ask: Callable[[], Any], accept: Callable[[Any], bool]) -> None:
    """Wait until an answer is accepted."""
    async with asyncio.timeout(_LIMIT_S):
        while not accept(await ask()):
            await asyncio.sleep(0.02)


async def start_nodes(cluster: Any, pool: ClusterPool, *names: str) -> None:
    """Start nodes that do not run yet, and wait until the pool has all of them."""
    for name in names:
        if name not in cluster.nodes:
            cluster.start_node(name=name)
    await until(lambda: set(names) <= set(pool.statistics().nodes))


def running_on(pool: ClusterPool, count: int) -> Callable[[], bool]:
    """Whether so many tasks run on the nodes, by their own reports."""
    return lambda: sum(node.running for node in pool.statistics().nodes.values()) == count
