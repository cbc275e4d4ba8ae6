"""Nodes, schedulers and clients that die, hang or are cut off: each task has one outcome, and nothing is left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dask.config
import pytest
from cluster_pools import NODE, PLUGINS, pool_of, running_on, start_nodes, until, until_async
from distributed import Client

from offloop import InvalidTask, Outcome, PoolClosed
from offloop.testing import assert_books_balance
from offloop.testing.faults import Echo, Hang, HoldOn, KillOnce, Noop
from offloop_dask import ClusterPool, NodeDied, SchedulerLost, Url, VersionMismatch

from .conftest import Cluster

pytestmark = pytest.mark.anyio


async def test_a_dead_node_fails_its_tasks_by_its_name_and_others_go_on(own_cluster: Cluster, tmp_path: Path) -> None:
    own_cluster.start_node(name="first")
    async with pool_of(own_cluster) as pool:
        gate = tmp_path / "gate"
        lost = asyncio.ensure_future(pool.run(b"lost", [HoldOn(str(gate))]))
        await until(running_on(pool, 1))
        await start_nodes(own_cluster, pool, "second")
        retried = asyncio.ensure_future(pool.run(b"again", [HoldOn(str(gate))], retries=1))
        await until(running_on(pool, 2))
        placed = {name: node.own for name, node in pool.statistics().nodes.items()}
        assert placed == {"first": 1, "second": 1}
        own_cluster.kill_node("first")
        with pytest.raises(NodeDied) as caught:
            await lost
        assert caught.value.node == "first"
        assert "first" in str(caught.value)
        assert "first" not in caught.value.public_message
        await start_nodes(own_cluster, pool, "third")
        own_cluster.kill_node("second")
        await until(running_on(pool, 1))
        gate.touch()
        assert bytes(await retried) == b"again"
        assert retried.result().node == "third"
        assert_books_balance(pool.statistics())
        assert pool.statistics().worker_died == 1


async def test_nodes_join_and_leave_while_a_map_runs(own_cluster: Cluster, tmp_path: Path) -> None:
    own_cluster.start_node(name="first")
    async with pool_of(own_cluster) as pool:
        gate = tmp_path / "gate"
        nodes: Counter[str] = Counter()
        outcomes: list[Outcome[Any]] = []
        pairs: list[Any] = [(b"%d" % n, [HoldOn(str(gate)), Echo()]) for n in range(40)]
        async with pool.map(pairs, retries=2) as batch:
            await until(running_on(pool, 1))
            await start_nodes(own_cluster, pool, "second")
            await until(lambda: pool.statistics().nodes["second"].own)
            gate.touch()
            async for outcome in batch:
                outcomes.append(outcome)
                nodes[getattr(outcome.result, "node", "none")] += 1
                if len(outcomes) == 4:
                    own_cluster.nodes.pop("first").stop()
        assert sorted(int(bytes(outcome.unwrap())) for outcome in outcomes) == list(range(40))
        assert set(nodes) == {"first", "second"}
        assert set(pool.statistics().nodes) == {"second"}
        assert_books_balance(pool.statistics())


async def test_a_dead_scheduler_is_a_typed_error_and_the_pool_connects_again(own_cluster: Cluster, tmp_path: Path) -> None:
    own_cluster.start_node(name="first")
    async with pool_of(own_cluster, reconnect_timeout=30.0) as pool:
        lost = asyncio.ensure_future(pool.run(b"", [HoldOn(str(tmp_path / "never"))]))
        await until(running_on(pool, 1))
        port = int(own_cluster.address.rpartition(":")[2])
        own_cluster.scheduler.kill()
        with pytest.raises(SchedulerLost) as caught:
            await lost
        assert caught.value.address == own_cluster.address
        waiting = asyncio.ensure_future(pool.run(b"later", [Echo()]))
        await until(lambda: own_cluster.nodes["first"].popen.poll() is not None)  # a dask worker ends without its scheduler
        own_cluster.nodes.pop("first")
        await asyncio.to_thread(own_cluster.start_scheduler, port)
        own_cluster.start_node(name="second")
        assert bytes(await waiting) == b"later"
        assert_books_balance(pool.statistics())


async def test_a_node_that_is_ended_while_it_leaves_a_dead_scheduler_ends(own_cluster: Cluster) -> None:
    """The second signal comes while the node closes its pool, which a task without end delays by its grace."""
    own_cluster.start_node(name="first")
    async with pool_of(own_cluster) as pool:
        lost = asyncio.ensure_future(pool.run(b"", [Hang()], timeout=None))
        await until(running_on(pool, 1))
        own_cluster.scheduler.popen.terminate()
        with pytest.raises(SchedulerLost):
            await lost
        await asyncio.to_thread(own_cluster.nodes.pop("first").stop)


async def test_tasks_end_with_an_error_if_there_is_no_node_for_long(own_cluster: Cluster) -> None:
    own_cluster.start_node(name="first")
    async with pool_of(own_cluster, reconnect_timeout=30.0) as pool:
        pool._settings = pool._membership._settings = type(pool._settings)(
            max_source_bytes=1, max_transfer_bytes=1, node_timeout_s=10.0, reconnect_timeout_s=0.5
        )
        own_cluster.kill_node("first")
        await until(lambda: not pool.statistics().nodes)
        with pytest.raises(SchedulerLost, match="no worker"):
            await pool.run(b"", [Noop()])
        assert pool.statistics().health.status == "failing"


class Proxy:
    """Forwards the connections to a node, and can stop to, as a cut cable does: nothing is closed."""

    def __init__(self) -> None:
        self.port = 0  # of the node
        self.is_cut = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[int]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.port)
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.create_task(self._forward(source, sink))
            self._tasks.add(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self.is_cut.is_set():
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_both_sides_of_a_partition_end_the_task(own_cluster: Cluster, tmp_path: Path, unused_port: int) -> None:
    proxy = Proxy()
    proxy.port = unused_port
    async with proxy.listening() as port:
        own_cluster.start_node(
            *("--listen-address", f"tcp://127.0.0.1:{unused_port}", "--contact-address", f"tcp://127.0.0.1:{port}"), name="far"
        )
        async with pool_of(own_cluster, node_timeout=2.0) as pool:
            task = asyncio.ensure_future(pool.run(b"", [HoldOn(str(tmp_path / "never"))]))
            await until(running_on(pool, 1))
            proxy.is_cut.set()
            with pytest.raises(NodeDied, match="far"):
                await task
            # the node has not heard of the client either; it ends its task, and closes its pool
            await until(lambda: not own_cluster.nodes["far"].pool_workers())


async def test_a_node_that_hangs_counts_as_gone(own_cluster: Cluster, tmp_path: Path) -> None:
    own_cluster.start_node(name="slow")
    async with pool_of(own_cluster, node_timeout=2.0) as pool:
        task = asyncio.ensure_future(pool.run(b"once", [HoldOn(str(tmp_path / "gate"))], retries=1))
        await until(running_on(pool, 1))
        own_cluster.nodes["slow"].popen.send_signal(signal.SIGSTOP)
        own_cluster.start_node(name="quick")
        (tmp_path / "gate").touch()
        assert bytes(await task) == b"once"
        assert task.result().node == "quick"
        own_cluster.nodes["slow"].popen.send_signal(signal.SIGCONT)
        await start_nodes(own_cluster, pool, "slow", "quick")  # it is a member again


def old_distribution(folder: Path) -> dict[str, str]:
    """Environment of a node that has another version of offloop-dask."""
    folder /= "old"  # not the working directory of the other nodes
    metadata = folder / "offloop_dask-0.0.9.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: offloop-dask\nVersion: 0.0.9\n")
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parent}"}


async def test_a_node_with_other_versions_is_refused_and_both_are_named(own_cluster: Cluster, tmp_path: Path) -> None:
    environment = old_distribution(tmp_path)
    own_cluster.start_node(name="old", environment=environment)
    with pytest.raises(VersionMismatch, match=r"offloop-dask: [0-9.]+ here, 0\.0\.9 there") as caught:
        async with pool_of(own_cluster):
            pass
    assert caught.value.node == "old"
    own_cluster.kill_node("old")
    own_cluster.start_node(name="new")
    async with pool_of(own_cluster) as pool:
        own_cluster.start_node(name="late", environment=environment)
        await until(lambda: pool.statistics().refused_nodes)
        assert set(pool.statistics().nodes) == {"new"}
        assert pool.statistics().health.status == "degraded"
        assert bytes(await pool.run(b"goes on", [Echo()])) == b"goes on"


async def test_a_client_of_the_caller_is_used_and_left_open(cluster: Cluster) -> None:
    make: Any = Client
    async with make(cluster.address, asynchronous=True, set_as_default=False) as client:
        async with ClusterPool(client, plugins=PLUGINS[:1], node=NODE, linger=0) as pool:
            assert bytes(await pool.run(b"by hand", [Echo()])) == b"by hand"
            assert pool.statistics().nodes
        assert client.status == "running"
        with pytest.raises(PoolClosed):
            await pool.run(b"", [Noop()])
    with pytest.raises(TypeError, match="asynchronous"):
        ClusterPool(object())  # pyright: ignore[reportArgumentType] (the mistake is the subject)


async def test_an_address_without_a_scheduler_is_a_typed_error(unused_port: int) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        with pytest.raises(SchedulerLost, match=str(unused_port)):
            async with ClusterPool(f"tcp://127.0.0.1:{unused_port}", plugins=PLUGINS[:1]):
                pass


async def test_sources_beyond_the_limit_must_be_urls(cluster: Cluster, tmp_path: Path) -> None:
    async with pool_of(cluster, max_source_bytes="1MiB") as pool:
        with pytest.raises(InvalidTask, match="max_source_bytes is 1,048,576"):
            await pool.run(bytes(1_048_577), [Echo()])
        (tmp_path / "long").write_bytes(bytes(1_048_577))
        with pytest.raises(InvalidTask, match="Url"):
            await pool.run(tmp_path / "long", [Echo()])
        assert (await pool.run(Url(f"file://{tmp_path}/long"), [Echo()])).nbytes == 1_048_577


async def test_a_storm_of_cancellations_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    async with pool_of(cluster, node={**NODE, "workers": 2}) as pool:
        await until(lambda: len(pool.statistics().nodes) == 2)
        tasks = [asyncio.ensure_future(pool.run(b"x", [HoldOn(str(tmp_path / "never"))])) for _ in range(1000)]
        await until(running_on(pool, 4))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert Counter(map(type, ended)) == {asyncio.CancelledError: 1000}
        statistics = pool.statistics()
        assert_books_balance(statistics)
        assert statistics.cancelled == 1000
        await until(running_on(pool, 0))
        assert bytes(await pool.run(b"after it", [Echo()])) == b"after it"
        # the scheduler has forgotten the dask tasks of all of them
        scheduler: Any = pool._membership.client.scheduler
        await until_async(scheduler.who_has, lambda keys: not [key for key in keys if key.startswith("offloop")])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
async def test_a_client_that_vanishes_leaves_no_task(cluster: Cluster, tmp_path: Path, how: signal.Signals) -> None:
    program = f"""
import asyncio
from offloop.testing.faults import HoldOn
from offloop_dask import ClusterPool
async def main():
    async with ClusterPool({cluster.address!r}, plugins={PLUGINS[:1]!r}, node={NODE!r}, linger=0, node_timeout=2) as pool:
        tasks = [asyncio.ensure_future(pool.run(b"", [HoldOn({str(tmp_path / "never")!r})], timeout=None)) for _ in range(8)]
        while sum(node.running for node in pool.statistics().nodes.values()) < 2:
            await asyncio.sleep(0.01)
        print("running", flush=True)
        await asyncio.gather(*tasks)
asyncio.run(main())
"""
    client = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, cwd=tmp_path)
    assert client.stdout is not None
    assert await asyncio.to_thread(client.stdout.readline) == b"running\n"
    assert all(node.pool_workers() for node in cluster.nodes.values())
    client.send_signal(how)
    try:
        await asyncio.to_thread(cluster.assert_nothing_left)
    finally:
        client.kill()
        client.wait()
        client.stdout.close()


async def test_a_worker_that_dies_does_not_end_its_node(cluster: Cluster, tmp_path: Path) -> None:
    async with pool_of(cluster) as pool:
        result = await pool.run(b"again", [KillOnce(str(tmp_path / "mark")), Echo()], retries=1)
        assert bytes(result) == b"again"
        assert set(cluster.nodes) >= set(pool.statistics().nodes)


async def test_sources_and_results_by_url(cluster: Cluster, tmp_path: Path) -> None:
    async with pool_of(cluster) as pool:
        (tmp_path / "source").write_bytes(b"far away")
        assert bytes(await pool.run(Url(f"file://{tmp_path}/source"), [Echo()])) == b"far away"
