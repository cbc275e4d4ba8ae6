"""What does a cluster cost for each task, and how well do two nodes share the work of one?

On loopback, with dask workers as subprocesses, each pinned to a CPU of its own:

- overhead: seconds for each of many no-ops in flight at once, by `ClusterPool` through the scheduler and directly, beside bare
  dask (`client.submit` of an async function that returns at once) and, as the floor, `Pool` in this process; in turns;
- thumbnails of pictures in a real S3 server (moto), results into the same server: one node, then two, with the CPU time of each
  process. Client, scheduler and S3 server are kept off the node's CPU when there is one node. Two nodes on two CPUs leave them
  none, so the limit of the ratio on this machine is computed from the CPU times;
- the same, when each node may use a third of its CPU only, so that the rest of both is there for client, scheduler and S3
  server, as it is in a cluster. This needs control groups that may be written;
- simulated: nodes of eight workers with tasks of 20 ms, 100 ms and 1 s, when each task costs the scheduler 1 ms.

    python benchmarks/bench_cluster.py

Expected: a task through the scheduler costs less than three times a task of bare dask, and directly less than one; two nodes
on CPUs of their own make thumbnails at 1.7 times the rate of one.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from time import perf_counter
from typing import Any

import boto3
import msgspec
from cluster_processes import ClusterProcesses, CpuShare, cpu_seconds
from distributed import Client
from measuring import arguments

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Noop
from offloop_dask import ClusterPool, Url
from offloop_vips import Resize, Webp

PHOTO = Path(__file__).parents[1] / "docs" / "photos" / "coffee.webp"
NODE = {"workers": 1, "memory_limit": "512MiB"}
FAULTS = "offloop.testing.faults:FaultsPlugin"
IN_FLIGHT = 16
SHARE = 1 / 3  # of its CPU, for each node of the last comparison
SCHEDULER_S = 0.001  # the scheduler's time for each task
WORKERS = 8  # of a simulated node
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


async def compare_overhead(processes: ClusterProcesses, count: int, rounds: int) -> None:
    make: Any = Client
    address = processes.address
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
        used: dict[str, dict[str, float]] = {name: {} for name in contenders}
        for _ in range(rounds):
            for name, call in contenders.items():
                await many(call, max(count // 20, 2))
                before = cpu_times(processes)
                seconds[name].append(await many(call, count))
                for process, value in cpu_times(processes).items():
                    used[name][process] = used[name].get(process, 0.0) + (value - before.get(process, 0.0)) / count / rounds
    bare = statistics.median(seconds["bare dask"])
    print(f"a no-op, {count:,} in {rounds} rounds, {IN_FLIGHT} in flight; CPU time of each process in brackets:")
    for name, found in seconds.items():
        median = statistics.median(found)
        parts = ", ".join(f"{process} {value * 1e3:.2f}" for process, value in used[name].items())
        print(f"  {name}: {median * 1e3:.2f} ms (least {min(found) * 1e3:.2f}), {median / bare:.2f} of bare dask ({parts})")


def cpu_times(processes: ClusterProcesses) -> dict[str, float]:
    """CPU time of all processes in seconds, with this one as "client"."""
    return {**processes.cpu_seconds(), "client": cpu_seconds(os.getpid())[0]}


def fill_storage(endpoint: str, count: int) -> dict[str, str]:
    """Put so many pictures into the bucket "sources" of an S3 server. Returns options of obstore."""
    library: Any = boto3  # without types
    credentials = {"aws_access_key_id": "node", "aws_secret_access_key": "secret", "region_name": KEYS["region"]}
    client: Any = library.client("s3", endpoint_url=endpoint, **credentials)
    for bucket in ("sources", "results"):
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": KEYS["region"]})
    picture = PHOTO.read_bytes()
    for number in range(count):
        client.put_object(Bucket="sources", Key=f"{number}.webp", Body=picture)
    client.close()
    return {"endpoint": endpoint, "allow_http": "true", **KEYS}


class Run(msgspec.Struct, frozen=True):
    """Thumbnails by so many nodes."""

    rate: float  # thumbnails for each second
    node_s: float  # CPU time of the nodes for a thumbnail, with their workers
    other_s: float  # CPU time of client, scheduler and S3 server for a thumbnail


async def make_thumbnails(processes: ClusterProcesses, nodes: int, count: int, options: dict[str, str], mode: Any) -> Run:
    """Make thumbnails, and print where the CPU time went."""
    sources = [Url(f"s3://sources/{number}.webp") for number in range(count)]

    def destination(source: Url) -> str:
        return f"s3://results/{source.url.rpartition('/')[2]}"

    async with ClusterPool(
        processes.address, plugins=["vips"], node=NODE, storage_options=options, linger=0, dispatch=mode
    ) as pool:
        while len(pool.statistics().nodes) < nodes:
            await asyncio.sleep(0.05)
        before, started = cpu_times(processes), perf_counter()
        async with pool.map(sources, [Resize(160), Webp()], to=destination) as outcomes:
            async for outcome in outcomes:
                outcome.unwrap()
        seconds = perf_counter() - started
        used = {name: (value - before.get(name, 0.0)) / count for name, value in cpu_times(processes).items()}
    parts = ", ".join(f"{name} {value * 1e3:.1f}" for name, value in used.items())
    print(f"  {nodes} node(s), {mode}: {count / seconds:.1f} thumbnails a second; CPU time of each in ms: {parts}")
    others = used["client"] + used["scheduler"] + used["storage"]
    return Run(count / seconds, sum(used.values()) - others, others)


async def compare_nodes(
    processes: ClusterProcesses, count: int, options: dict[str, str], mode: str, share: float | None = None
) -> None:
    """Make thumbnails with one node, then with two."""
    cpus = sorted(os.sched_getaffinity(0))
    shares = [CpuShare(name, share) for name in ("one", "two")] if share is not None else []
    if not all(one.is_available for one in shares):
        print("  control groups may not be written here, so no node has a share of a CPU")
        return
    try:
        with_share = dict(zip(("one", "two"), shares, strict=False))
        processes.start_node("one", cpus[0], with_share.get("one"))
        keep_together(processes, cpus[1:] or cpus)
        one = await make_thumbnails(processes, 1, count, options, mode)
        processes.start_node("two", cpus[-1], with_share.get("two"))
        keep_together(processes, cpus[2:] or cpus)
        two = await make_thumbnails(processes, 2, count, options, mode)
    finally:
        for name in ("two", "one"):
            processes.stop(name)
        for group in shares:
            group.close()
        keep_together(processes, cpus)
    print(f"  two nodes: {two.rate / one.rate:.2f} times the rate of one, efficiency {two.rate / one.rate / 2:.0%}")
    if share is None and len(cpus) == 2:
        # alone, a node has one CPU, and the others have the second one; two nodes share both with the others
        limit = 2 * max(one.node_s, one.other_s) / (two.node_s + two.other_s)
        print(
            f"  on two CPUs the limit is {limit:.2f}: a thumbnail takes {two.node_s * 1e3:.1f} ms of a node, and "
            f"{two.other_s * 1e3:.1f} ms of client, scheduler and S3 server"
        )


def keep_together(processes: ClusterProcesses, cpus: Collection[int]) -> None:
    """Have client, scheduler and S3 server run on these CPUs."""
    for name in ("scheduler", "storage"):
        processes.pin(name, cpus)
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cpus)


class Simulated(msgspec.Struct, frozen=True):
    """What the scheduler means for a cluster."""

    rate: float  # tasks for each second
    busy: float  # share of the workers that is busy
    wait_s: float  # mean time that a task waits for the scheduler


def simulate(nodes: int, work_s: float, tasks: int = 40_000) -> Simulated:
    """Run a client that keeps twice as many tasks in flight as all workers can run. Each task takes the scheduler's time first,
    one after the other, then goes to the worker that is free first."""
    in_flight = 2 * nodes * WORKERS
    tasks = max(tasks, 4 * in_flight)
    submitted = [0.0] * in_flight  # times at which tasks are submitted: a heap
    free = [0.0] * (nodes * WORKERS)  # times at which workers are free: a heap
    scheduler_free = waited = begun_at = 0.0
    counted = 0
    for number in range(tasks):
        came = heapq.heappop(submitted)
        start = max(came, scheduler_free)
        scheduler_free = start + SCHEDULER_S
        ended = max(heapq.heappop(free), scheduler_free) + work_s
        heapq.heappush(free, ended)
        heapq.heappush(submitted, ended)
        if number == tasks // 2:  # the first half fills the cluster
            begun_at = scheduler_free
        elif number > tasks // 2:
            waited += start - came
            counted += 1
    rate = counted / (scheduler_free - begun_at)
    return Simulated(rate, rate * work_s / (nodes * WORKERS), waited / counted)


def print_simulation() -> None:
    print(f"simulated, {SCHEDULER_S * 1e3:g} ms of the scheduler for each task, nodes of {WORKERS} workers:")
    for work_s in (0.02, 0.1, 1.0):
        parts: list[str] = []
        for nodes in (10, 100, 1000):
            found = simulate(nodes, work_s)
            parts.append(f"{nodes:,} nodes {found.rate:,.0f} a second, {found.busy:.0%} busy, {found.wait_s:.2g} s waited")
        print(f"  tasks of {work_s * 1e3:g} ms: {'; '.join(parts)}")


async def main() -> None:
    options = arguments(__doc__)
    noops, pictures, rounds = (10, 6, 1) if options.smoke else (1000, 5000, min(options.rounds, 5))
    print(f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, ClusterProcesses(Path(folder)) as processes:
        processes.start_node("one", min(os.sched_getaffinity(0)))
        await compare_overhead(processes, noops, rounds)
        processes.stop("one")
        storage = await asyncio.to_thread(lambda: fill_storage(processes.start_storage(), pictures))
        for mode in ("dask", "direct"):
            print(f"{pictures:,} thumbnails from S3 to S3, each node on a CPU of its own, dispatch={mode!r}:")
            await compare_nodes(processes, pictures, storage, mode)
        few = min(pictures, 1000)
        print(f"{few:,} thumbnails, each node with {SHARE:.0%} of a CPU of its own:")
        await compare_nodes(processes, few, storage, "dask", SHARE)
    print_simulation()


if __name__ == "__main__":
    asyncio.run(main())
