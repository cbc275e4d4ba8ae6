"""A node whose disk or shared memory is really full, whose network is really cut, or that is slow: the other node goes on."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_pools import pool_of, running_on, start_nodes, until
from node_namespaces import OwnNetwork, can_isolate, with_small_file_system

from offloop import MemoryLimitExceeded, QueueTimeout, TaskFailed
from offloop.testing import assert_books_balance
from offloop.testing.faults import Allocate, Echo, HoldOn
from offloop_dask import NodeDied

from .conftest import Cluster

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
def isolation() -> None:
    if not can_isolate():
        pytest.skip("namespaces need root, and the programs unshare and ip")


def fill(folder: Path, *, leaving: int) -> Path:
    """Write a file until its file system is full, but for so many bytes."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while file.write(bytes(64 * 1024)):
                pass
        file.truncate(file.tell() - leaving)
    return path


async def test_a_full_disk_of_one_node_fails_the_results_that_it_writes(
    own_cluster: Cluster, tmp_path: Path, isolation: None
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    own_cluster.start_node(name="full", prefix=with_small_file_system(results, "1m"))
    async with pool_of(own_cluster) as pool:
        inside = Path("/proc", str(own_cluster.nodes["full"].popen.pid), "root", *results.parts[1:])
        with pytest.raises(TaskFailed, match="No space left") as caught:
            await pool.run(bytes(3 * MIB), [Echo()], to=f"file://{results}/long")
        assert caught.value.code == "cannot_write"
        assert list(inside.iterdir()) == []  # nothing is left of the attempt
        short = await pool.run(b"short", [Echo()], to=f"file://{results}/short")
        assert short.node == "full"
        assert (inside / "short").read_bytes() == b"short"
        await start_nodes(own_cluster, pool, "other")
        pairs: list[Any] = [(bytes([n]) * 3 * MIB, [Echo()]) for n in range(8)]
        async with pool.map(pairs, to=lambda source: f"file://{results}/{source[0]}") as batch:
            outcomes = [outcome async for outcome in batch]
        assert sorted(outcome.index for outcome in outcomes) == list(range(8))
        failed = {outcome.index for outcome in outcomes if outcome.error is not None}
        assert failed, "the full node has had none of them"
        assert {getattr(outcome.error, "code", None) for outcome in outcomes if outcome.error} == {"cannot_write"}
        written = set(range(8)) - failed
        assert sorted(os.listdir(results)) == sorted(map(str, written))
        assert all((results / str(n)).read_bytes() == bytes([n]) * 3 * MIB for n in written)
        assert sorted(os.listdir(inside)) == ["short"]
        assert_books_balance(pool.statistics())


async def test_a_node_with_a_full_shared_memory_fails_only_what_it_cannot_hold(
    own_cluster: Cluster, isolation: None, tmp_path: Path
) -> None:
    own_cluster.start_node(name="full", prefix=with_small_file_system("/dev/shm", "64m"))
    async with pool_of(own_cluster) as pool:
        assert pool.statistics().nodes["full"].free_bytes <= 64 * MIB  # placement knows of the small file system
        filler = fill(Path("/proc", str(own_cluster.nodes["full"].popen.pid), "root", "dev", "shm"), leaving=4 * MIB)
        with pytest.raises(MemoryLimitExceeded):
            await pool.run(bytes(12 * MIB), [Echo()])
        with pytest.raises(MemoryLimitExceeded):
            await pool.run(b"", [Allocate(12 * MIB)])
        holding = asyncio.ensure_future(pool.run(b"small", [HoldOn(str(tmp_path / "gate")), Echo()]))
        await until(running_on(pool, 1))
        with pytest.raises(QueueTimeout, match=r"0\.3 s for memory"):
            await pool.run(bytes(12 * MIB), [Echo()], queue_timeout=0.3)
        await start_nodes(own_cluster, pool, "other")
        elsewhere = await pool.run(bytes(12 * MIB), [Echo()])
        assert elsewhere.node == "other"
        (tmp_path / "gate").touch()
        assert (await holding).node == "full"
        filler.unlink()
        own_cluster.kill_node("other")
        await until(lambda: set(pool.statistics().nodes) == {"full"})
        async with asyncio.timeout(20):  # the node asks the system again, a second after a refusal
            while True:
                try:
                    again = await pool.run(bytes(12 * MIB), [Echo()])
                except MemoryLimitExceeded:
                    continue
                break
        assert again.node == "full"
        assert_books_balance(pool.statistics())


@pytest.fixture
def reachable_cluster(isolation: None, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose scheduler listens on all networks. Afterwards nothing of a pool may be left on a node."""
    cluster = Cluster(tmp_path, "0.0.0.0")
    cluster.address = f"tcp://127.0.0.1:{cluster.address.rpartition(':')[2]}"
    yield cluster
    cluster.assert_nothing_left()
    cluster.close()


async def test_a_node_behind_a_cut_cable_is_gone_for_both_sides_and_comes_back(
    reachable_cluster: Cluster, tmp_path: Path
) -> None:
    cluster, network = reachable_cluster, OwnNetwork(tmp_path)
    port = cluster.address.rpartition(":")[2]
    cluster.start_node(*("--host", network.node), name="far", prefix=network.prefix, scheduler=f"tcp://{network.host}:{port}")
    far = cluster.nodes["far"]
    network.connect(far.popen.pid)
    async with pool_of(cluster, node_timeout=5.0) as pool:
        lost = asyncio.ensure_future(pool.run(b"lost", [HoldOn(str(tmp_path / "never"))]))
        retried = asyncio.ensure_future(pool.run(b"retried", [HoldOn("gate"), Echo()], retries=3))
        await until(running_on(pool, 1))
        await start_nodes(cluster, pool, "near")
        network.cut()
        with pytest.raises(NodeDied, match="far"):
            await lost
        await until(lambda: not far.leftovers())  # the node has noticed, too: it has stopped its tasks and closed its pool
        (cluster.nodes["near"].folder / "gate").touch()
        assert (await retried).node == "near"
        network.mend()
        await start_nodes(cluster, pool, "far", "near")  # it is a member again
        (far.folder / "gate").touch()
        async with pool.map([(b"%d" % n, [HoldOn("gate"), Echo()]) for n in range(20)]) as batch:
            outcomes = [outcome async for outcome in batch]
        assert sorted(int(bytes(outcome.unwrap())) for outcome in outcomes) == list(range(20))
        assert {getattr(outcome.result, "node", None) for outcome in outcomes} == {"far", "near"}
        assert_books_balance(pool.statistics())


async def test_a_slow_node_keeps_only_what_it_has_begun(own_cluster: Cluster) -> None:
    """Each node waits for a file in its own folder. The slow one gets it when the quick one has done all the rest."""
    own_cluster.start_node(name="slow")
    async with pool_of(own_cluster) as pool:
        await start_nodes(own_cluster, pool, "slow", "quick")
        (own_cluster.nodes["quick"].folder / "gate").touch()
        nodes: Counter[str] = Counter()
        seen: list[int] = []
        async with pool.map([(b"%d" % n, [HoldOn("gate"), Echo()]) for n in range(60)], timeout=None) as batch:
            async for outcome in batch:
                seen.append(outcome.index)
                nodes[getattr(outcome.unwrap(), "node", "none")] += 1
                if len(seen) == 58:
                    (own_cluster.nodes["slow"].folder / "gate").touch()
        assert sorted(seen) == list(range(60))
        assert nodes == {"quick": 58, "slow": 2}  # twice what it can run at once was on its way
        assert_books_balance(pool.statistics())
