"""Placement: which node gets a task, and the order of those that wait. Pure, without a cluster."""

from __future__ import annotations

import asyncio

import pytest

from offloop import PoolClosed
from offloop_dask.client.nodes.placement import NodeLoad, choose
from offloop_dask.client.nodes.waiting_tasks import WaitingTasks
from offloop_dask.client.transfer_limit import TransferLimit

pytestmark = pytest.mark.anyio


def load(address: str, **fields: int) -> NodeLoad:
    return NodeLoad(address, **{"concurrency": 2, "free_bytes": 1000, **fields})


def test_the_least_full_node_with_enough_memory_is_chosen() -> None:
    loads = [load("a", running=2), load("b", running=1), load("c", running=0, free_bytes=10)]
    assert choose(loads, 100) is loads[1]
    assert choose(loads, 0) is loads[2]
    assert choose(loads, 5000) is loads[2]  # no node has so much: the task waits on the least full one
    assert choose(loads, 100, frozenset({"b"})) is loads[0]
    assert choose([loads[1]], 100, frozenset({"b"})) is loads[1]
    assert choose([], 0) is None


def test_a_node_takes_twice_its_concurrency_from_one_client() -> None:
    only = load("a")
    for _ in range(4):
        found = choose([only], 0)
        assert found is not None
        assert found is only
        found.begin(0)
    assert choose([only], 0) is None
    only.end()
    assert choose([only], 0) is only


def test_what_was_sent_since_the_last_report_counts() -> None:
    one, two = load("a"), load("b")
    one.begin(600)
    assert choose([one, two], 500) is two
    one.report(1, 0, 400, 2)
    assert (one.fullness, one.unreported_bytes) == (0.5, 0)
    assert choose([one, two], 500) is two
    two.report(2, 3, 1000, 2)
    assert choose([one, two], 100) is one


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_waiting_tasks_get_nodes_by_priority_then_in_order(anyio_backend: object) -> None:
    only = load("a", concurrency=1)
    waiting = WaitingTasks(lambda: [only])
    order: list[str] = []

    async def wait(name: str, priority: int) -> None:
        await waiting.place(0, priority, frozenset())
        order.append(name)

    tasks = [asyncio.ensure_future(wait(name, 0)) for name in ("first", "second", "third")]
    tasks.append(asyncio.ensure_future(wait("urgent", 5)))
    while len(order) < 2:
        await asyncio.sleep(0)
    assert (bool(waiting), len(waiting)) == (True, 2)
    tasks[2].cancel()
    for _ in range(2):
        only.end()
        waiting.give()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["first", "second", "urgent"]
    assert (only.own, bool(waiting), len(waiting)) == (1, False, 0)
    refused = [asyncio.ensure_future(wait("late", 0)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting.refuse(PoolClosed())
    kinds = [type(found) for found in await asyncio.gather(*refused, return_exceptions=True)]
    assert kinds.count(PoolClosed) == 2  # one had room


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_transfers_share_their_bytes_in_order(anyio_backend: object) -> None:
    limit = TransferLimit(100)
    running: list[str] = []

    async def transfer(name: str, nbytes: int, end: asyncio.Event) -> None:
        async with limit.room(nbytes):
            running.append(name)
            await end.wait()
            running.remove(name)

    ends = {name: asyncio.Event() for name in "abcd"}
    sizes = {"a": 60, "b": 500, "c": 10, "d": 10}
    tasks = {name: asyncio.ensure_future(transfer(name, sizes[name], ends[name])) for name in "abcd"}
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert running == ["a"]  # c and d wait behind b, which needs all
    tasks["b"].cancel()
    while len(running) < 3:
        await asyncio.sleep(0)
    assert running == ["a", "c", "d"]
    for end in ends.values():
        end.set()
    await asyncio.wait(tasks.values())
    async with limit.room(100):
        pass
