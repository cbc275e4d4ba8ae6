"""What does a cluster cost for each task, and how well do two nodes share the work of one?

On loopback, with dask workers as subprocesses, each pinned to a CPU of its own:

- overhead: seconds for each of many no-ops in flight at once, by `ClusterPool` through the scheduler and directly, beside bare
  dask (`client.submit` of an async function that returns at once) and, as the floor, `Pool` in this process; in turns;
- thumbnails of pictures in a real S3 server (moto), results into the same server: one node, then two;
- simulated: nodes of eight workers with tasks of 20 ms, 100 ms and 1 s, when each task costs the scheduler 1 ms.

    python benchmarks/bench_cluster.py

Expected: a task through the scheduler costs less than three times a task of bare dask, and directly less than one; two nodes
on CPUs of their own make thumbnails at 1.7 times the rate of one. Client, scheduler and S3 server need CPUs, too: a machine
with two CPUs shows less.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import boto3
from cluster_processes import ClusterProcesses, cpu_seconds
from distributed import Client
from measuring import arguments
from moto.server import ThreadedMotoServer

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Noop
from offloop_dask import ClusterPool, Url
from offloop_vips import Resize, Webp

PHOTO = Path(__file__).parents[1] / "docs" / "photos" / "coffee.webp"
NODE = {"workers": 1, "memory_limit": "512MiB"}
FAULTS = "offloop.testing.faults:FaultsPlugin"
IN_FLIGHT = 16
SCHEDULER_S = 0.001  # the scheduler's time for each task
KEYS = {"access_key_id": "node", "secret_access_key": "secret", "region": "eu-central-1"}


async def many(call: Callable[[], Awaitable[object]], count: int) -> float:
    """Seconds for each of `count` calls, `IN_FLIGHT` at a time."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await call()

    started = perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return (perf_counter() - started) / count


async def nothing() -> None:
    """The work of a task of bare dask."""


async def compare_overhead(address: str, count: int, rounds: int) -> None:
    make: Any = Client
    async with (
        make(address, asynchronous=True, set_as_default=False) as client,
        ClusterPool(address, plugins=[FAULTS], node=NODE, linger=0) as cluster,
        ClusterPool(address, plugins=[FAULTS], node=NODE, linger=0, dispatch="direct") as direct,
        Pool(1, plugins=[FaultsPlugin]) as pool,
    ):
        numbers = iter(range(10**9))

        async def submit() -> None:
            await client.submit(nothing, key=f"bare-{next(numbers)}", pure=False)

        contenders: dict[str, Callable[[], Awaitable[object]]] = {
            "ClusterPool, through the scheduler": lambda: cluster.run(b"", [Noop()]),
            "ClusterPool, direct": lambda: direct.run(b"", [Noop()]),
            "bare dask": submit,
            "Pool (floor)": lambda: pool.run(b"", [Noop()]),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, call in contenders.items():
                await many(call, max(count // 20, 2))
                seconds[name].append(await many(call, count))
    bare = statistics.median(seconds["bare dask"])
    print(f"a no-op, {count:,} in {rounds} rounds, {IN_FLIGHT} in flight:")
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"  {name}: {median * 1e3:.2f} ms (least {min(found) * 1e3:.2f}), {median / bare:.2f} of bare dask")


@contextmanager
def s3_server(count: int) -> Generator[dict[str, str]]:
    """An S3 server with so many pictures in the bucket "sources". Yields options of obstore."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    library: Any = boto3  # without types
    credentials = {"aws_access_key_id": "node", "aws_secret_access_key": "secret", "region_name": KEYS["region"]}
    client: Any = library.client("s3", endpoint_url=endpoint, **credentials)
    for bucket in ("sources", "results"):
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": KEYS["region"]})
    picture = PHOTO.read_bytes()
    for number in range(count):
        client.put_object(Bucket="sources", Key=f"{number}.webp", Body=picture)
    try:
        yield {"endpoint": endpoint, "allow_http": "true", **KEYS}
    finally:
        client.close()
        server.stop()


async def make_thumbnails(processes: ClusterProcesses, nodes: int, count: int, options: dict[str, str]) -> float:
    """Thumbnails for each second, by so many nodes. Prints where the CPU time went."""
    sources = [Url(f"s3://sources/{number}.webp") for number in range(count)]

    def destination(source: Url) -> str:
        return f"s3://results/{source.url.rpartition('/')[2]}"

    async with ClusterPool(processes.address, plugins=["vips"], node=NODE, storage_options=options, linger=0) as pool:
        while len(pool.statistics().nodes) < nodes:
            await asyncio.sleep(0.05)
        before, own, started = processes.cpu_seconds(), cpu_seconds(os.getpid()), perf_counter()
        async with pool.map(sources, [Resize(160), Webp()], to=destination) as outcomes:
            async for outcome in outcomes:
                outcome.unwrap()
        seconds = perf_counter() - started
        used = {name: value - before[name] for name, value in processes.cpu_seconds().items()}
    used["client and S3 server"] = cpu_seconds(os.getpid()) - own
    shares = ", ".join(f"{name} {value / count * 1e3:.1f} ms" for name, value in used.items())
    print(f"  {nodes} node(s): {count / seconds:.1f} thumbnails a second; CPU time of each: {shares}")
    return count / seconds


def simulate(nodes: int, work_s: float, workers: int = 8) -> tuple[float, float]:
    """Tasks for each second, and the share of the workers that is busy, if each task passes the scheduler first."""
    offered = nodes * workers / work_s
    served = min(offered, 1 / SCHEDULER_S)
    return served, served / offered


def print_simulation() -> None:
    print(f"simulated, {SCHEDULER_S * 1e3:g} ms of the scheduler for each task, nodes of 8 workers:")
    for work_s in (0.02, 0.1, 1.0):
        parts: list[str] = []
        for nodes in (10, 100, 1000):
            rate, share = simulate(nodes, work_s)
            parts.append(f"{nodes:,} nodes {rate:,.0f} a second, {share:.0%} busy")
        print(f"  tasks of {work_s * 1e3:g} ms: {'; '.join(parts)}")


async def main() -> None:
    options = arguments(__doc__)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the S3 server's log of requests
    noops, pictures, rounds = (10, 6, 1) if options.smoke else (1000, 5000, min(options.rounds, 5))
    cpus = sorted(os.sched_getaffinity(0))
    print(f"{len(cpus)} CPUs, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, ClusterProcesses(Path(folder)) as processes:
        processes.start_node("one", cpus[0])
        await compare_overhead(processes.address, noops, rounds)
        print(f"{pictures:,} thumbnails from S3 to S3:")
        with s3_server(pictures) as storage:
            one = await make_thumbnails(processes, 1, pictures, storage)
            processes.start_node("two", cpus[-1])
            two = await make_thumbnails(processes, 2, pictures, storage)
        print(f"  two nodes: {two / one:.2f} times the rate of one, efficiency {two / one / 2:.0%}")
    print_simulation()


if __name__ == "__main__":
    asyncio.run(main())
